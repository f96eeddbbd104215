"""Folders of packs: complete for each platform, equal for equal input, and right by the verifier."""

import hashlib
import io
import json
import tarfile
import zipfile
from dataclasses import replace

import pytest
import yaml

from sticker_pipeline.packing.bundle import PackFile, plain_name, write_bundle
from sticker_pipeline.packing.cut_texts import cut_texts
from sticker_pipeline.packing.errors import PackError
from sticker_pipeline.packing.pack_record import read_pack, read_stickers
from sticker_pipeline.packing.pack_texts import PackTexts
from sticker_pipeline.packing.platforms import platform_kinds
from sticker_pipeline.packing.verify_set import members, verify_folder
from sticker_pipeline_tests.packing.files import png, webp
from sticker_pipeline_tests.packing.packs import PARTS, STILL, TEXTS, stickers, written


def everything(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("platform", STILL)
def test_written_sets_have_no_fault(tmp_path, platform):
    bundle = written(tmp_path, platform)
    assert bundle.left_out == ()
    assert bundle.sets
    for folder in bundle.sets:
        assert [str(fault) for fault in verify_folder(folder, TEXTS)] == []


@pytest.mark.parametrize("platform", STILL)
def test_equal_input_has_equal_bytes(tmp_path, platform):
    first, second = written(tmp_path / "1", platform), written(tmp_path / "2", platform)
    assert everything(first.folder) == everything(second.folder)


@pytest.mark.parametrize("platform", STILL)
def test_pack_json_names_the_files(tmp_path, platform):
    for folder in written(tmp_path, platform).sets:
        record = read_pack(folder)
        assert (record.platform, record.name) == (platform, folder.name)
        assert [hashlib.sha256(data).hexdigest() for data in read_stickers(folder, record)] == [
            one.sha256 for one in record.stickers
        ]
        assert all(one.text == "Waves" and one.generated is (platform != "kakao") for one in record.stickers)


@pytest.mark.parametrize("platform", STILL)
def test_instructions_name_sets_and_policy(tmp_path, platform):
    bundle = written(tmp_path, platform)
    text = (bundle.folder / "INSTRUCTIONS.md").read_text(encoding="utf-8")
    kind = next(kind for kind in platform_kinds().values() if kind.platform == platform)
    assert text.startswith(f"# Nyx: {kind.title}\n")
    assert kind.handing_over.strip() in text
    assert kind.rules.policy.value.text in text
    assert all(f"| {folder.name} |" in text for folder in bundle.sets)


def test_sets_keep_their_names_when_others_come(tmp_path):
    few = written(tmp_path / "few", "whatsapp", stills=8, animations=0)
    many = written(tmp_path / "many", "whatsapp", stills=40, animations=3)
    assert [folder.name for folder in few.sets] == ["nyx_static"]
    assert [folder.name for folder in many.sets] == ["nyx_static", "nyx_static_2", "nyx_animated"]
    assert [read_pack(folder).title for folder in many.sets] == ["Nyx", "Nyx 2", "Nyx"]


def test_left_out_stickers_are_said(tmp_path):
    bundle = written(tmp_path, "line", stills=10, animations=0)
    assert [one.slot for one, _ in bundle.left_out] == ["wave 8", "wave 9"]
    text = (bundle.folder / "INSTRUCTIONS.md").read_text(encoding="utf-8")
    assert "- wave 9: a set has 8/16/24/32/40 stickers, and there are 10" in text


def test_whatsapp_has_what_its_sample_app_reads(tmp_path):
    bundle = written(tmp_path, "whatsapp", stills=3, animations=3)
    contents = json.loads((bundle.folder / "contents.json").read_text(encoding="utf-8"))
    still, moving = contents["sticker_packs"]
    assert (still["identifier"], still["animated_sticker_pack"]) == ("nyx_static", False)
    assert (moving["identifier"], moving["animated_sticker_pack"]) == ("nyx_animated", True)
    assert still["stickers"][0] == {
        "image_file": "01_wave_0.webp",
        "emojis": ["👋", "😀", "❤️"],
        "accessibility_text": "Waves",
    }
    for pack in (still, moving):
        folder = bundle.folder / pack["identifier"]
        assert all((folder / one["image_file"]).is_file() for one in pack["stickers"])
        assert (folder / pack["tray_image_file"]).read_bytes() == PARTS["tray"]
    with zipfile.ZipFile(bundle.sets[0] / "nyx_static.wastickers") as archive:
        assert archive.namelist()[:3] == ["title.txt", "author.txt", "tray.png"]
        assert archive.read("author.txt") == b"Ada"
        assert {one.date_time for one in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.testzip() is None


def test_version_of_whatsapps_images_follows_the_images(tmp_path):
    def version(folder, data):
        made = [PackFile(f"s{number}", data, "static", ("👋",)) for number in range(3)]
        bundle = write_bundle(folder, "whatsapp", TEXTS, made, PARTS)
        return json.loads((bundle.folder / "contents.json").read_text())["sticker_packs"][0]["image_data_version"]

    first = version(tmp_path / "1", webp(512, 512))
    assert first == version(tmp_path / "2", webp(512, 512))
    assert first != version(tmp_path / "3", webp(512, 510))


def test_line_zip_holds_main_tab_and_numbers(tmp_path):
    bundle = written(tmp_path, "line")
    for folder, main in zip(bundle.sets, ("main", "animated_main"), strict=True):
        held = members((folder / f"{folder.name}.zip").read_bytes(), 10**7)
        assert list(held) == ["main.png", "tab.png", *(f"{number:02d}.png" for number in range(1, 9))]
        assert held["main.png"] == PARTS[main]


def test_signal_has_cover_and_emoji(tmp_path):
    folder = written(tmp_path, "signal", stills=2, animations=0).sets[0]
    about = yaml.safe_load((folder / "pack.yaml").read_text(encoding="utf-8"))
    assert (about["title"], about["author"]) == ("Nyx", "Ada")
    assert about["stickers"] == [{"file": "01_wave_0.webp", "emoji": "👋"}, {"file": "02_wave_1.webp", "emoji": "👋"}]
    assert (folder / about["cover"]).read_bytes() == (folder / "01_wave_0.webp").read_bytes()


def test_discord_has_names_and_tags(tmp_path):
    folder = written(tmp_path, "discord", stills=1, animations=0).sets[0]
    assert json.loads((folder / "stickers.json").read_text(encoding="utf-8")) == [
        {"file": "wave_0.png", "name": "wave_0", "description": "Waves", "tags": "wave"}
    ]


def test_imessage_has_an_asset_catalogue(tmp_path):
    folder = written(tmp_path, "imessage", stills=1, animations=0).sets[0]
    catalogue = folder / "Stickers.xcstickers" / "Sticker Pack.stickerpack"
    about = json.loads((catalogue / "Contents.json").read_text())
    assert about["properties"] == {"grid-size": "large"}
    (name,) = [one["filename"] for one in about["stickers"]]
    sticker = json.loads((catalogue / name / "Contents.json").read_text())["properties"]
    assert sticker["accessibility-label"] == "Waves"
    assert (catalogue / name / sticker["filename"]).read_bytes() == STILL["imessage"][1]


def test_matrix_events_have_shortcodes_and_sizes(tmp_path):
    folder = written(tmp_path, "matrix", stills=1, animations=0).sets[0]
    event = json.loads((folder / "m.room.image_pack.json").read_text(encoding="utf-8"))
    old = json.loads((folder / "im.ponies.room_emotes.json").read_text(encoding="utf-8"))
    assert (event["type"], old["type"]) == ("m.room.image_pack", "im.ponies.room_emotes")
    assert event["content"] == old["content"]
    assert event["content"]["pack"] == {"display_name": "Nyx", "usage": ["sticker"], "attribution": "Ada"}
    data = STILL["matrix"][1]
    assert event["content"]["images"] == {
        "nyx_wave_0": {
            "url": "nyx_wave_0.webp",
            "body": "Waves",
            "info": {"w": 512, "h": 512, "size": len(data), "mimetype": "image/webp"},
        }
    }


def test_mastodon_archive_is_a_gzipped_tar(tmp_path):
    folder = written(tmp_path, "mastodon", stills=1, animations=1).sets[0]
    with tarfile.open(fileobj=io.BytesIO((folder / "emoji.tar.gz").read_bytes()), mode="r:gz") as archive:
        assert archive.getnames() == ["nyx_wave_0.png", "nyx_dance_0.gif"]
        assert {(one.mtime, one.uid, one.uname, one.mode) for one in archive.getmembers()} == {(0, 0, "", 0o644)}
        assert archive.extractfile("nyx_wave_0.png").read() == STILL["mastodon"][1]


def test_misskey_zip_has_its_list(tmp_path):
    folder = written(tmp_path, "misskey", stills=1, animations=0).sets[0]
    held = members((folder / "emoji.zip").read_bytes(), 10**7)
    assert list(held) == ["meta.json", "nyx_wave_0.webp"]
    meta = json.loads(held["meta.json"])
    assert meta["metaVersion"] == 2
    assert meta["emojis"] == [
        {
            "downloaded": True,
            "fileName": "nyx_wave_0.webp",
            "emoji": {"name": "nyx_wave_0", "category": "Nyx", "aliases": ["hello", "wave"]},
        }
    ]


def test_names_of_files_are_plain_and_differ(tmp_path):
    made = [PackFile(slot, png(128, 128), "emoji") for slot in ("Hé llo!", "he_llo", "漢字", "💤")]
    folder = write_bundle(tmp_path / "slack", "slack", TEXTS, made).sets[0]
    names = [one.file for one in read_pack(folder).stickers]
    assert names == ["nyx_he_llo.png", "nyx_he_llo_02.png", "nyx_sticker.png", "nyx_sticker_04.png"]
    assert verify_folder(folder, TEXTS) == []


def test_keywords_and_emoji_are_cut_to_what_fits(tmp_path):
    words = tuple(f"word{number:03d}" for number in range(30))  # 7 characters each: 9 make 63
    made = [PackFile("hi", webp(512, 512), "static", ("👋",) * 25, words)]
    folder = write_bundle(tmp_path / "telegram", "telegram", TEXTS, made).sets[0]
    (record,) = read_pack(folder).stickers
    assert record.keywords == words[:9]
    assert len(record.emoji) == 20


@pytest.mark.parametrize("text", ["", "漢", "!!!", "_", "-"])
def test_plain_name_is_never_empty(text):
    assert plain_name(text) == "sticker"


def test_generated_art_is_refused_where_the_platform_refuses_it(tmp_path):
    with pytest.raises(PackError, match=r"accepted no generated art.* Generated are: wave 0"):
        write_bundle(tmp_path / "kakao", "kakao", TEXTS, stickers("kakao", 32, 0, generated=True))
    assert not (tmp_path / "kakao").exists()


@pytest.mark.parametrize(
    ("platform", "change", "message"),
    [
        ("myspace", {}, "There is no platform 'myspace'"),
        ("telegram", {"stickers": [PackFile("a", b"", "gif")]}, "no stickers of the kind 'gif'"),
        ("whatsapp", {"stickers": [PackFile("a", png(96, 96), "tray")]}, "no stickers of the kind 'tray'"),
        ("telegram", {"texts": TEXTS.model_copy(update={"name": "Nyx-1"})}, "The pack's name 'Nyx-1'"),
        ("whatsapp", {"parts": {}}, "whatsapp needs a 'tray'"),
        ("whatsapp", {"parts": {"tray": webp(96, 96)}}, "must be a PNG"),
        ("line", {"parts": {"main": png(240, 240)}}, "line needs a 'tab'"),
        ("matrix", {"stickers": [PackFile("a", b"GIF8", "sticker")]}, "The sticker nyx_a.gif cannot be packed"),
    ],
)
def test_unusable_input_is_refused(tmp_path, platform, change, message):
    given = {"texts": TEXTS, "stickers": stickers(platform) if platform in STILL else [], "parts": PARTS} | change
    with pytest.raises(PackError, match=message):
        write_bundle(tmp_path / "new", platform, given["texts"], given["stickers"], given["parts"])


def test_folder_with_files_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(PackError, match="has files already"):
        write_bundle(tmp_path, "slack", TEXTS, stickers("slack"))
    assert [one.name for one in tmp_path.iterdir()] == ["mine.txt"]


def test_pack_without_stickers_has_instructions_alone(tmp_path):
    bundle = write_bundle(tmp_path / "line", "line", TEXTS, [])
    assert bundle.sets == ()
    assert list(everything(bundle.folder)) == ["INSTRUCTIONS.md"]


LONG = "Nyx the very long cat 🐈 " * 20


@pytest.mark.parametrize("platform", STILL)
@pytest.mark.parametrize("slot", ["a", "wave_" * 30])
@pytest.mark.parametrize("text", [LONG, "猫" * 400, "?"])
def test_long_and_short_texts_are_cut_to_what_fits(tmp_path, platform, slot, text):
    texts = PackTexts(name="nyx" * 12, title=text, author=text, description=text, copyright=text)
    given = [
        replace(one, slot=f"{slot}{number}" if number else slot, text=text)
        for number, one in enumerate(stickers(platform, 32, 0))
    ]
    bundle = write_bundle(tmp_path / platform, platform, texts, given, PARTS)
    fitting = cut_texts(texts, [kind for (name, _), kind in platform_kinds().items() if name == platform])
    assert bundle.sets
    assert [fault for each in bundle.sets for fault in verify_folder(each, fitting)] == []


def test_words_are_cut_whole_and_further_sets_keep_their_number(tmp_path):
    texts = TEXTS.model_copy(update={"title": "Nyx and the seven " + "letters " * 20})
    bundle = write_bundle(tmp_path / "whatsapp", "whatsapp", texts, stickers("whatsapp", 40, 0), PARTS)
    titles = [read_pack(each).title for each in bundle.sets]
    assert titles == [
        f"Nyx and the seven {' '.join(['letters'] * 13)}",
        f"Nyx and the seven {' '.join(['letters'] * 13)} 2",
    ]


def test_what_is_cut_is_noted(tmp_path):
    texts = TEXTS.model_copy(update={"title": "Nyx, who is a cat that waves to all people", "author": "A" * 60})
    bundle = write_bundle(tmp_path / "line", "line", texts, stickers("line", 48, 0), PARTS)
    assert bundle.notes == (
        "the title is cut to 'Nyx, who is a cat that waves to all': at most 40 columns are taken.",
        f"the author is cut to '{'A' * 50}': at most 50 columns are taken.",
    )
    text = (bundle.folder / "INSTRUCTIONS.md").read_text(encoding="utf-8")
    assert "\n## Cut texts\n\n" + "".join(f"- {note}\n" for note in bundle.notes) in text
    assert written(tmp_path / "whole", "line", stills=8, animations=0).notes == ()


def test_cut_texts_of_a_set_and_of_stickers_are_noted(tmp_path):
    texts = TEXTS.model_copy(update={"title": "N" * 128})
    given = stickers("whatsapp", 40, 0)
    given[3] = replace(given[3], text=f"{'w' * 80} {'v' * 80}")
    assert write_bundle(tmp_path / "whatsapp", "whatsapp", texts, given, PARTS).notes == (
        f"the text of wave 3 is cut to '{'w' * 80}': at most 125 characters are taken.",
        f"the title of set 2 is cut to '{'N' * 119}… (10 more letters): at most 128 characters are taken.",
    )
    short = [replace(one, text="?") for one in stickers("discord", 1, 0)]
    assert write_bundle(tmp_path / "discord", "discord", TEXTS, short, PARTS).notes == (
        "the text of wave 0 '?' is left out: it must have 2 characters or more.",
    )
