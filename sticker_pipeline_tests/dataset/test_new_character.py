"""A folder of media becomes a character; existing files are not touched."""

import gzip
import hashlib
import os
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from sticker_pipeline.cli.commands import main
from sticker_pipeline.core.character import CharacterError, load_character
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.dataset.kohya_import import import_kohya
from sticker_pipeline.dataset.new_character import _free, create
from sticker_pipeline.media.inventory import scan
from sticker_pipeline.media.sidecars import read_captions
from sticker_pipeline_tests.media.makers import noise, video


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Make a loose still and animation, two groups, one with a caption, and files that are no images."""
    folder = tmp_path / "downloads"
    (folder / "art" / "2025").mkdir(parents=True)
    (folder / "my: stickers").mkdir()
    (folder / "papers").mkdir()
    still, other = Image.new("RGBA", (20, 20), "red"), Image.new("RGBA", (20, 20), "blue")
    still.save(folder / "hello.png")
    still.save(folder / "wave.gif", save_all=True, append_images=[other])
    still.save(folder / "art" / "2025" / "a.png")
    still.save(folder / "my: stickers" / "b.webp")
    (folder / "my: stickers" / "b.txt").write_text("smile")
    (folder / "papers" / "notes.txt").write_text("no images here")
    (folder / "broken.gif").write_bytes(b"GIF89a")
    (folder / ".hidden.png").write_bytes((folder / "hello.png").read_bytes())
    return folder


def tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("link", [False, True])
def test_files_are_sorted_into_groups(source: Path, tmp_path: Path, link: bool) -> None:
    before = tree(source)
    created = create("luma", source, tmp_path / "characters", "skv_luma", link=link)
    assert created.groups == {"art": 1, "gifs": 1, "my: stickers": 1, "stickers": 1}
    assert created.notes == [
        "left out: .hidden.png: a file of the operating system or hidden",
        "left out: broken.gif: the GIF is cut off inside its header",
        "left out: papers/notes.txt: text that is no image's caption: no such name, or another is taken",
    ]
    files = tree(created.folder)
    assert files.pop("character.yaml")
    names = {
        "stickers/hello.png": "hello.png", "gifs/wave.gif": "wave.gif", "art/2025/a.png": "art/2025/a.png",
        "my: stickers/b.webp": "my: stickers/b.webp", "my: stickers/b.txt": "my: stickers/b.txt",
    }  # fmt: skip
    assert files == {new: before[old] for new, old in names.items()}
    assert (created.folder / "stickers" / "hello.png").is_symlink() == link
    assert tree(source) == before


def test_loose_videos_move_and_huge_files_are_not_opened(source: Path, tmp_path: Path) -> None:
    (source / "dance.mp4").write_bytes(video("mp4", noise(3, 20, 20), "-c:v", "libx264rgb"))
    with (source / "film.mkv").open("wb") as film:
        film.truncate(MediaSettings().max_bytes + 1)
    created = create("luma", source, tmp_path / "characters", "skv_luma")
    assert (created.folder / "gifs" / "dance.mp4").is_file()
    assert created.groups["gifs"] == 2
    assert (
        "left out: film.mkv: 200000001 bytes: more than 200000000 (the limit max_bytes of the profile)" in created.notes
    )


def test_a_loose_file_never_replaces_one_of_a_group(source: Path, tmp_path: Path) -> None:
    (source / "gifs").mkdir()
    (source / "gifs" / "Wave.gif").write_bytes((source / "wave.gif").read_bytes() + b"other")
    before = tree(source)
    files = tree(create("luma", source, tmp_path / "characters", "yes").folder)
    assert files["gifs/Wave.gif"] == before["gifs/Wave.gif"]
    assert files["gifs/wave_2.gif"] == before["wave.gif"]
    assert load_character(tmp_path / "characters" / "luma").trigger == "yes"


def test_captions_beside_loose_images_come_along_under_the_names_of_their_images(source: Path, tmp_path: Path) -> None:
    (source / "gifs").mkdir(exist_ok=True)
    (source / "gifs" / "Wave.gif").write_bytes((source / "wave.gif").read_bytes() + b"other")
    (source / "wave.txt").write_text("waving")
    (source / "wave.gif.caption").write_text("waving back")
    (source / "readme.txt").write_text("not a caption")
    folder = create("luma", source, tmp_path / "characters", "yes").folder
    assert (folder / "gifs" / "wave_2.gif.caption").read_text() == "waving back"
    assert not (folder / "gifs" / "wave_2.txt").exists()  # an image has one caption
    assert not any("readme" in name for name in tree(folder))


def test_an_empty_caption_gives_way_to_one_that_has_words(source: Path, tmp_path: Path) -> None:
    (source / "hello.txt").write_text("")
    (source / "hello.caption").write_text("smile")
    (source / "wave.txt").write_text(" \n")
    created = create("luma", source, tmp_path / "characters", "yes")
    assert (created.folder / "stickers" / "hello.png.caption").read_text() == "smile"
    assert list(created.folder.glob("*/*.txt")) == [created.folder / "my: stickers" / "b.txt"]
    assert "left out: hello.txt: an empty text: the caption of hello.png is hello.caption" in created.notes
    assert "left out: wave.txt: an empty text: wave.gif has no caption" in created.notes


def test_every_file_that_is_not_taken_is_named_with_why(source: Path, tmp_path: Path) -> None:
    (source / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (source / "a.tgs").write_bytes(gzip.compress(b'{"tgs": 1}'))
    (source / "empty.png").write_bytes(b"")
    (source / "gone.png").symlink_to(source / "nowhere.png")
    (source / "art" / "drawing.psd").write_bytes(b"8BPS" + bytes(20))
    for folder in ("@eaDir", "rivals", "regularisation"):
        (source / folder).mkdir()
        (source / folder / "thumb.png").write_bytes((source / "hello.png").read_bytes())
    (source / "character.yaml").write_text("trigger: other")
    created = create("luma", source, tmp_path / "characters", "yes")
    assert sorted(created.groups) == ["art", "gifs", "my: stickers", "stickers"]
    notes = "\n".join(created.notes)
    for name, reason in {
        "IMG_1.HEIC": "HEIC", "a.tgs": "an animated sticker of Telegram", "empty.png": "the file is empty",
        "gone.png": "a link to a file that does not exist", "art/drawing.psd": "a Photoshop drawing",
        "@eaDir": "a folder of the system", "rivals": "is for other people's LoRAs: rename it",
        "regularisation": "is for images of no character: rename it", "character.yaml": "a character's settings",
    }.items():  # fmt: skip
        assert re.search(f"left out: [^:]*{re.escape(name)}[^:]*: [^\n]*{reason}", notes), name
    assert load_character(created.folder).trigger == "yes"
    assert not (created.folder / "art" / "drawing.psd").exists()


def test_a_caption_stays_with_its_image_whatever_else_is_called_alike(tmp_path: Path) -> None:
    source = tmp_path / "downloads"
    (source / "stickers").mkdir(parents=True)
    captions = {
        "fox.png": "loose",
        "A.png": "large A",
        "a.png": "small a",
        "a_2.jpg": "another",
        "stickers/fox.jpg": "old",
    }
    for number, (name, caption) in enumerate(captions.items()):
        Image.new("RGB", (20, 20), (40 * number, 0, 0)).save(source / name)
        (source / name).with_suffix(".txt").write_text(caption)
    Image.new("RGB", (20, 20), "white").save(source / "Fox.gif")  # moves nothing, and has no caption
    before = {hashlib.sha256((source / name).read_bytes()).hexdigest(): text for name, text in captions.items()}
    folder = create("luma", source, tmp_path / "characters", "yes").folder
    table = scan(folder, ["stickers"], MediaSettings()).set_index("path")
    said = read_captions(folder, table.reset_index()).set_index("path")["caption"]
    assert {table.loc[path, "sha256"]: caption for path, caption in said.items()} == before
    assert (folder / "stickers" / "fox.txt").read_text() == "old"


def test_a_name_that_is_too_long_is_left_out_by_name_and_the_rest_goes_on(source: Path, tmp_path: Path) -> None:
    """The caption of a loose image is named after the whole file, and a second `a.png` gets a number."""
    longest = os.pathconf(tmp_path, "PC_NAME_MAX")
    captioned, plain, twice = "c" * (longest - 4), "p" * (longest - 4), "t" * (longest - 4)
    for name in (captioned, plain, twice):
        shutil.copy(source / "hello.png", source / f"{name}.png")
    (source / f"{captioned}.txt").write_text("smile")
    (source / f"{twice.upper()}.png").write_bytes((source / "hello.png").read_bytes())
    created = create("luma", source, tmp_path / "characters", "yes")
    names = [path.name for path in (created.folder / "stickers").iterdir()]
    assert sorted(names) == sorted(["hello.png", f"{plain}.png", f"{twice.upper()}.png"])
    assert created.groups["stickers"] == 3
    assert [note for note in created.notes if "too long" in note] == [
        f"left out: {captioned}.png, {twice}.png: its name, or that of its caption, is too long for this file system: "
        "rename it shorter"
    ]
    assert f"left out: {captioned}.txt: the caption of {captioned}.png" in created.notes


@pytest.mark.parametrize("group", ["", "stickers"])
def test_an_image_called_like_another_with_an_ending_more_has_its_own_caption(tmp_path: Path, group: str) -> None:
    """`fox.png.txt` is the caption of `fox.png.jpg`, whose name without the ending it is."""
    source = tmp_path / "downloads"
    (source / group).mkdir(parents=True)
    captions = {"fox.png": "one", Path(group, "fox.png.jpg"): "two", "a.png": "three"}
    for number, name in enumerate(captions):
        Image.new("RGB", (20, 20), (40 * number, 0, 0)).save(source / name)
    (source / "fox.txt").write_text("one")
    (source / group / "fox.png.txt").write_text("two")
    (source / "a.png.txt").write_text("three")
    digests = {hashlib.sha256((source / name).read_bytes()).hexdigest(): text for name, text in captions.items()}
    folder = create("luma", source, tmp_path / "characters", "yes").folder
    table = scan(folder, ["stickers"], MediaSettings()).set_index("path")
    said = read_captions(folder, table.reset_index()).set_index("path")["caption"]
    assert {table.loc[path, "sha256"]: caption for path, caption in said.items()} == digests


def test_names_that_yaml_does_not_print_are_written_with_escapes(source: Path, tmp_path: Path) -> None:
    names = ["a\ufffeb", "a\ue000b", 'a"b', "ガール", "👩\u200d🎨"]
    for name in names:
        (source / name).mkdir()
        shutil.copy(source / "hello.png", source / name)
    assert set(names) <= set(load_character(create("luma", source, tmp_path / "characters", "yes").folder).groups)


@pytest.mark.parametrize("letter", ["\x7f", "\x1b", "\n", "\u2028", "\x85", "\u202e", "\U000e0001"])
def test_a_folder_whose_name_holds_hidden_letters_is_named_and_stops_nothing(
    source: Path, tmp_path: Path, letter: str
) -> None:
    bad = source / f"a{letter}b"
    bad.mkdir()
    shutil.copy(source / "hello.png", bad)
    created = create("luma", source, tmp_path / "characters", "yes")
    shown = letter.encode("unicode_escape").decode()
    why = f"the name of its folder holds invisible characters ({shown}): rename it"
    assert f"left out: a{shown}b/hello.png: {why}" in created.notes
    assert list(load_character(created.folder).groups) == list(created.groups)


def test_a_folder_whose_name_is_not_utf_8_is_named_and_stops_nothing(source: Path, tmp_path: Path) -> None:
    bad = source / os.fsdecode(b"\x83dir")
    bad.mkdir()
    shutil.copy(source / "hello.png", bad)
    created = create("luma", source, tmp_path / "characters", "yes")
    assert r"left out: \x83dir/hello.png: its name is not UTF-8: rename it" in created.notes
    shutil.copytree(bad, created.folder / bad.name)
    assert sorted(load_character(created.folder).groups) == ["art", "gifs", "my: stickers", "stickers"]


def test_thousands_of_names_that_differ_in_case_alone_take_no_longer_for_each() -> None:
    taken, stems = set[str](), set[str]()
    numbers: dict[str, int] = {}
    names = {_free(Path("stickers/A.png"), taken, stems, numbers).name for _ in range(20_000)}
    assert len(names) == 20_000 and "A_20000.png" in names


def test_caches_thumbnails_and_licences_are_not_copied(source: Path, tmp_path: Path) -> None:
    art = source / "art"
    (art / "a_sd.npy").write_bytes(b"\x93NUMPY")
    (art / "LICENSE.md").write_text("as you like")
    Image.new("RGB", (40, 40), "green").save(art / "b.webp")
    Image.new("RGB", (20, 20), "green").save(art / "b.webp_thumb.jpg")
    created = create("luma", source, tmp_path / "characters", "yes")
    assert sorted(path.name for path in (created.folder / "art").iterdir()) == ["2025", "b.webp"]
    assert "left out: art/LICENSE.md: text, such as notes" in created.notes
    assert "left out: art/a_sd.npy: a trainer's cache (a NumPy array)" in created.notes
    assert "left out: art/b.webp_thumb.jpg: the thumbnail of art/b.webp" in created.notes


def test_many_files_left_out_for_one_reason_are_one_note(source: Path, tmp_path: Path) -> None:
    for number in range(12):
        (source / f"{number:02}.psd").write_bytes(b"8BPS")
    notes = create("luma", source, tmp_path / "characters", "yes").notes
    shown = ", ".join(f"{number:02}.psd" for number in range(8))
    assert f"left out: {shown} and 4 more: a Photoshop drawing: export it as PNG" in notes


def test_kohyas_folders_are_pointed_to_the_command_for_them(source: Path, tmp_path: Path) -> None:
    (source / "10_luma").mkdir()
    (source / "10_luma" / "a.png").write_bytes((source / "hello.png").read_bytes())
    created = create("luma", source, tmp_path / "characters", "yes")
    assert any(note.startswith("10_luma: called as kohya's folders are") for note in created.notes)


@pytest.mark.parametrize("images", ["img", "image", "train", "zz"])
@pytest.mark.parametrize("others", ["reg", "Regularization", "reg_images"])
def test_a_project_of_kohyas_is_known_by_the_folders_in_it(source: Path, tmp_path: Path, images, others) -> None:
    for folder in (f"{images}/10_luma", f"{others}/1_girl", "log", "model"):
        (tmp_path / "project" / folder).mkdir(parents=True)
        shutil.copy(source / "hello.png", tmp_path / "project" / folder)
    with pytest.raises(CharacterError, match=rf"import-kohya NAME .*project/{images}`"):
        create("other", tmp_path / "project", tmp_path / "characters", "yes")
    with pytest.raises(CharacterError, match=rf"There are some in .*project/{images}: import that"):
        import_kohya("other", tmp_path / "project", tmp_path / "characters")
    assert not (tmp_path / "characters" / "other").exists()


def test_folders_that_begin_with_a_number_inside_a_group_are_taken_and_told(source: Path, tmp_path: Path) -> None:
    """They may as well be months; only `img` is kohya's own name."""
    (source / "img" / "10_luma").mkdir(parents=True)
    with pytest.raises(CharacterError, match=r"is a project of kohya's"):
        create("luma", source, tmp_path / "characters", "yes")
    shutil.rmtree(source / "img")
    for folder in ("2025/01_january", "2024/12_december"):
        (source / folder).mkdir(parents=True)
        shutil.copy(source / "hello.png", source / folder)
    created = create("luma", source, tmp_path / "characters", "yes")
    assert {"2024", "2025"} <= created.groups.keys()
    assert any(note.startswith("2024, 2025: folders in it are called as kohya's are") for note in created.notes)


def test_the_written_settings_are_valid_and_what_they_show_is_the_default(source: Path, tmp_path: Path) -> None:
    character = load_character(create("luma", source, tmp_path / "characters", "skv_luma").folder)
    assert character.trigger == "skv_luma"
    assert {name: group.medium for name, group in character.groups.items()} == {
        "art": "art", "gifs": "sticker", "my: stickers": "sticker", "stickers": "sticker"
    }  # fmt: skip
    text = (character.folder / "character.yaml").read_text()
    commented = "\n".join(
        line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ") and ":" in line
    )
    for section in ("curation:", "  min_images: 2", "benchmark:", "  holdout: 0.15"):
        assert section in commented


def test_what_exists_is_never_overwritten(source: Path, tmp_path: Path) -> None:
    create("luma", source, tmp_path / "characters", "skv_luma")
    before = tree(tmp_path / "characters")
    with pytest.raises(CharacterError, match="exists already; nothing was changed"):
        create("luma", source, tmp_path / "characters", "other")
    assert tree(tmp_path / "characters") == before


def test_faults_leave_nothing_behind(source: Path, tmp_path: Path) -> None:
    characters = tmp_path / "characters"
    with pytest.raises(CharacterError, match="cannot be a character's name"):
        create("Luma!", source, characters, "a")
    with pytest.raises(CharacterError, match="'trigger' = 'two words'"):
        create("luma", source, characters, "two words")
    with pytest.raises(CharacterError, match="holds no image or video that can be read"):
        create("luma", source / "papers", characters, "a")
    with pytest.raises(CharacterError, match="contains"):
        create("luma", tmp_path, characters, "a")
    assert list(characters.glob("*")) == []


def test_the_command_says_what_to_do_next(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STICKER_CHARACTERS", str(tmp_path / "characters"))
    result = CliRunner().invoke(main, ["new-character", "luma", str(source)])
    assert result.exit_code == 0, result.output
    for words in ("4 files", "luma_char", "sticker-pipeline update luma", "broken.gif"):
        assert words in result.output
    again = CliRunner().invoke(main, ["new-character", "luma", str(source)])
    assert again.exit_code == 1
    assert "exists already" in again.output
