"""pack.json is read as it was written, and a wrong one is refused with its key."""

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.packing.pack_record import (
    PackError,
    PackRecord,
    StickerRecord,
    pack_json,
    read_pack,
    read_stickers,
    write_pack,
)

SHA = hashlib.sha256(b"pixels").hexdigest()


def record(**changes):
    sticker = StickerRecord(
        file="01.webp", slot="hello", emoji=("👋🏽",), keywords=("hi",), text="Waves", sha256=SHA, generated=True
    )
    values = {"platform": "telegram", "kind": "static", "name": "nyx", "title": "Nyx", "stickers": (sticker,)}
    return PackRecord(**{**values, **changes})


def test_written_pack_has_the_documented_keys(tmp_path):
    path = write_pack(record(), tmp_path)
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "platform": "telegram",
        "kind": "static",
        "name": "nyx",
        "title": "Nyx",
        "stickers": [
            {
                "file": "01.webp",
                "slot": "hello",
                "emoji": ["👋🏽"],
                "keywords": ["hi"],
                "text": "Waves",
                "sha256": SHA,
                "generated": True,
            }
        ],
    }
    assert [one.name for one in tmp_path.iterdir()] == ["pack.json"]


@settings(max_examples=25)
@given(st.text(min_size=1).filter(lambda text: text.isprintable()), st.lists(st.text(alphabet="añ漢😀 ", min_size=1)))
def test_read_pack_equals_the_written_one(tmp_path_factory, title, keywords):
    folder = tmp_path_factory.mktemp("pack")
    sticker = record().stickers[0].model_copy(update={"keywords": tuple(keywords)})
    written = record(title=title, stickers=(sticker,))
    write_pack(written, folder)
    assert read_pack(folder) == written


def test_equal_records_have_equal_bytes():
    assert pack_json(record()) == pack_json(record())


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"platfrom": "telegram"}, "unknown key 'platfrom'. Did you mean 'platform'"),
        ({"title": ""}, "'title' = ''"),
        ({"stickers": [{"file": "01.webp"}]}, "'stickers.0.slot' is missing"),
        ({"stickers": 5}, "'stickers' = 5"),
    ],
)
def test_wrong_value_is_named(tmp_path, change, key):
    data = json.loads(pack_json(record())) | change
    (tmp_path / "pack.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(PackError, match=r"pack\.json") as refused:
        read_pack(tmp_path)
    assert key in str(refused.value)


@pytest.mark.parametrize("name", ["../01.webp", "a/b.png", "a\\b.png", ".hidden", "", "c:d", "a\nb"])
def test_file_outside_the_folder_is_refused(name):
    with pytest.raises(ValueError, match="file"):
        StickerRecord(file=name, slot="hello", sha256=SHA, generated=False)


@pytest.mark.parametrize("same", ["file", "slot"])
def test_repeated_name_is_refused(same):
    first = record().stickers[0]
    second = StickerRecord(**{**first.model_dump(), "file": "02.webp", "slot": "bye", same: getattr(first, same)})
    with pytest.raises(ValueError, match=f"the {same} .* occurs twice"):
        record(stickers=(first, second))


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff\xfe\xfd", b"null", b"\x00"])
def test_other_files_are_refused(tmp_path, data):
    (tmp_path / "pack.json").write_bytes(data)
    with pytest.raises(PackError, match=r"pack\.json"):
        read_pack(tmp_path)


def test_missing_pack_is_named(tmp_path):
    with pytest.raises(PackError, match="is missing: build the pack again"):
        read_pack(tmp_path)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "pack.json").symlink_to(write_pack(record(), tmp_path))
    with pytest.raises(PackError, match=r"is a link that leaves the folder, to .*: put the file itself there"):
        read_pack(tmp_path / "set")


def test_stickers_are_read_in_order_and_a_changed_one_is_refused(tmp_path):
    (tmp_path / "01.webp").write_bytes(b"pixels")
    assert read_stickers(tmp_path, record()) == [b"pixels"]
    (tmp_path / "01.webp").write_bytes(b"others")
    with pytest.raises(PackError, match="SHA-256 differs"):
        read_stickers(tmp_path, record())
    (tmp_path / "01.webp").unlink()
    with pytest.raises(PackError, match="cannot be read"):
        read_stickers(tmp_path, record())
