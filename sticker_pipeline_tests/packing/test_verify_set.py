"""The verifier of sets: for each rule, a set that breaks it and no other."""

import hashlib
import io
import zipfile

import pytest

from sticker_pipeline.packing.bundle import PackFile, write_bundle
from sticker_pipeline.packing.pack_record import PackRecord, pack_json, read_pack, write_pack
from sticker_pipeline.packing.platforms import platform_kinds
from sticker_pipeline.packing.verify_set import members, verify_folder, verify_set
from sticker_pipeline_tests.packing.files import gif, padded_png, png, webm, webp
from sticker_pipeline_tests.packing.packs import ARCHIVES, MOVING, PARTS, STILL, TEXTS, stickers, written


def small_set(platform, count=8, moving=False):
    kind, data = (MOVING if moving else STILL)[platform]
    one = {"slot": "", "emoji": ["👋"], "keywords": [], "text": "Waves", "generated": False}
    ending = (
        "webm" if data[:1] == b"\x1a" else "webp" if data[:4] == b"RIFF" else "gif" if data[:3] == b"GIF" else "png"
    )
    made = [
        one | {"file": f"s{number}.{ending}", "slot": f"s{number}", "sha256": hashlib.sha256(data).hexdigest()}
        for number in range(count)
    ]
    record = PackRecord(platform=platform, kind=kind, name="nyx", title="Nyx", stickers=made)
    return record, {one["file"]: data for one in made}


def changed(record, number=0, **change):
    made = list(record.stickers)
    made[number] = made[number].model_copy(update=change)
    return record.model_copy(update={"stickers": tuple(made)})


def codes(record, files, texts=TEXTS):
    return [fault.rule for fault in verify_set(record, files, texts)]


def test_right_set_has_no_fault():
    for platform in ("telegram", "signal", "discord", "slack", "imessage", "matrix"):
        record, files = small_set(platform)
        assert codes(record, files) == []


@pytest.mark.parametrize(
    ("platform", "count", "expected"),
    [("telegram", 121, ["count"]), ("telegram", 120, []), ("signal", 201, ["count"]), ("discord", 61, ["count"])],
)
def test_number_of_stickers(platform, count, expected):
    assert codes(*small_set(platform, count)) == expected


@pytest.mark.parametrize(
    ("platform", "change", "rule"),
    [
        ("telegram", {"emoji": ()}, "emoji"),
        ("telegram", {"emoji": ("👋",) * 21}, "emoji"),
        ("telegram", {"emoji": ("hi",)}, "emoji"),
        ("signal", {"emoji": ("👋", "😀")}, "emoji"),
        ("telegram", {"keywords": ("a",) * 21}, "keywords"),
        ("telegram", {"keywords": ("a" * 65,)}, "keywords"),
        ("discord", {"text": "x"}, "texts.text"),
        ("discord", {"text": "x" * 101}, "texts.text"),
        ("imessage", {"text": "x" * 151}, "texts.text"),
        ("telegram", {"sha256": "0" * 64}, "changed"),
    ],
)
def test_wrong_sticker_of_a_set(platform, change, rule):
    record, files = small_set(platform)
    (fault,) = verify_set(changed(record, 3, **change), files, TEXTS)
    assert (fault.rule, fault.file) == (rule, record.stickers[3].file)


def test_limits_of_texts_are_exact():
    record, files = small_set("telegram")
    assert codes(changed(record, emoji=("👋",) * 20, keywords=("a" * 4,) * 16), files) == []
    record, files = small_set("discord")
    assert codes(changed(record, text="x" * 100), files) == codes(changed(record, text=""), files) == []


@pytest.mark.parametrize(
    ("platform", "change", "rule"),
    [
        ("telegram", {"name": "nyx__1"}, "texts.name"),
        ("telegram", {"name": "n" * 65}, "texts.name"),
        ("telegram", {"title": "n" * 65}, "texts.title"),
    ],
)
def test_wrong_name_of_a_set(platform, change, rule):
    record, files = small_set(platform)
    assert codes(record.model_copy(update=change), files) == [rule]


def test_name_of_an_emoji_is_checked():
    record, files = small_set("slack")
    files["Wave.png"] = files["s0.png"]
    assert codes(changed(record, file="Wave.png"), files) == ["texts.sticker_name"]


def test_wrong_and_missing_files_are_named():
    record, files = small_set("telegram")
    data = webp(512, 513)
    files |= {"s1.webp": data}
    del files["s2.webp"]
    found = verify_set(changed(record, 1, sha256=hashlib.sha256(data).hexdigest()), files, TEXTS)
    assert [(fault.rule, fault.file) for fault in found] == [("canvas", "s1.webp"), ("missing", "s2.webp")]


def test_stills_and_animations_of_telegrams_emoji_are_apart():
    still, moving = webp(100, 100), webm(100, 100)
    record, _ = small_set("telegram", 2)
    record = record.model_copy(update={"kind": "emoji"})
    for number, data in enumerate((still, moving)):
        record = changed(record, number, sha256=hashlib.sha256(data).hexdigest())
    assert codes(record, {"s0.webp": still, "s1.webp": moving}) == ["mixed"]


def kakao_set(moving):
    still, animation = png(360, 360), gif(360, 360, [90, 90])
    record, _ = small_set("kakao", 24)
    record = record.model_copy(update={"kind": "animated"})
    files = {}
    for number in range(24):
        files[f"s{number}.png"] = data = animation if number < moving else still
        record = changed(record, number, sha256=hashlib.sha256(data).hexdigest())
    return record, files


def test_kakao_wants_three_animations_and_no_generated_art():
    assert codes(*kakao_set(3)) == []
    assert codes(*kakao_set(4)) == ["animations_in_set"]
    record, files = kakao_set(3)
    (fault,) = verify_set(changed(record, generated=True), files, TEXTS)
    assert (fault.rule, fault.value, fault.source.confidence) == ("policy", "1 generated sticker", "secondary")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"title": "x" * 41}, "texts.title"),
        ({"title": "漢" * 21}, "texts.title"),
        ({"description": ""}, "texts.description"),
        ({"description": "x" * 161}, "texts.description"),
        ({"author": "x" * 51}, "texts.author"),
        ({"copyright": "漢" * 26}, "texts.copyright"),
    ],
)
def test_texts_of_line(tmp_path, change, rule):
    texts = TEXTS.model_copy(update=change)
    folder = write_bundle(tmp_path / "line", "line", TEXTS, stickers("line", 8, 0), PARTS).sets[0]
    write_pack(read_pack(folder).model_copy(update={"title": texts.title}), folder)  # as nobody has cut it
    assert [fault.rule for fault in verify_folder(folder, texts)] == [rule]


def test_line_zip_that_is_too_large(tmp_path):
    data = padded_png(png(370, 320), 900_000)
    made = [PackFile(f"s{number}", data, "static") for number in range(24)]
    folder = write_bundle(tmp_path / "line", "line", TEXTS, made, PARTS).sets[0]
    assert [fault.rule for fault in verify_folder(folder, TEXTS)] == ["max_zip_bytes"]


def test_line_count_and_parts(tmp_path):
    folder = write_bundle(tmp_path / "line", "line", TEXTS, stickers("line", 8, 0), PARTS | {"tab": png(74, 96)}).sets[
        0
    ]
    assert [(fault.rule, fault.file) for fault in verify_folder(folder, TEXTS)] == [("canvas", "tab.png")]


@pytest.mark.parametrize("platform", ARCHIVES)
def test_archive_is_compared_with_the_folder(tmp_path, platform):
    folder = written(tmp_path, platform, stills=8, animations=0).sets[0]
    archive = folder / ARCHIVES[platform].format(folder.name)
    whole = archive.read_bytes()
    assert [fault.rule for fault in verify_folder(folder, TEXTS)] == []
    archive.write_bytes(whole[: len(whole) // 2])
    assert [(fault.rule, fault.file) for fault in verify_folder(folder, TEXTS)] == [("damaged", archive.name)]
    other = written(tmp_path / "other", platform, stills=9 if platform != "line" else 16, animations=0).sets[0]
    archive.write_bytes((other / archive.name).read_bytes())
    assert [(fault.rule, fault.file) for fault in verify_folder(folder, TEXTS)] == [("contents", archive.name)]
    archive.unlink()
    assert [(fault.rule, fault.file) for fault in verify_folder(folder, TEXTS)] == [("missing", archive.name)]


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"sticker_packs": 5}', b'{"sticker_packs": []}', b"\xff\xfe\x00"]
)
def test_other_contents_of_whatsapp_are_a_fault(tmp_path, data):
    folder = written(tmp_path, "whatsapp", stills=3, animations=0).sets[0]
    (folder.parent / "contents.json").write_bytes(data)
    assert [(fault.rule, fault.file) for fault in verify_folder(folder, TEXTS)] == [("contents", "contents.json")]
    (folder.parent / "contents.json").unlink()
    assert [fault.rule for fault in verify_folder(folder, TEXTS)] == ["contents"]


def test_changed_record_is_found_in_whatsapps_contents(tmp_path):
    folder = written(tmp_path, "whatsapp", stills=3, animations=0).sets[0]
    record = changed(read_pack(folder), emoji=("😀",))
    (folder / "pack.json").write_bytes(pack_json(record))
    assert [fault.rule for fault in verify_folder(folder, TEXTS)] == ["contents"]


def test_archive_that_unpacks_to_much_is_no_archive():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(5_000_000))
    assert members(buffer.getvalue(), 4_000_000) is None
    assert members(buffer.getvalue(), 6_000_000) == {"a": bytes(5_000_000)}


def test_each_text_with_a_limit_is_checked_somewhere():
    """`verify_set` has the texts of the pack, of the record, and of a sticker."""
    known = {*TEXTS.named(), "name", "title", "text", "sticker_name"}
    assert {name for kind in platform_kinds().values() for name in kind.rules.texts} <= known
