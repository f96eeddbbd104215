"""Kohya folders as characters: weights are the repeats; an export is imported unchanged."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sticker_pipeline.core.character import CharacterError, load_character
from sticker_pipeline.core.settings import BucketSettings, MediaSettings
from sticker_pipeline.dataset.kohya_export import export_kohya
from sticker_pipeline.dataset.kohya_import import import_kohya
from sticker_pipeline.media.frames import pixel_sha256
from sticker_pipeline.media.inventory import scan
from sticker_pipeline.media.sidecars import read_captions
from sticker_pipeline_tests.dataset.small_set import SETTINGS, SmallSet, captions_of, draw_character, made, noise


def place(path: Path, number: int, caption: str | bytes | None = None, suffix: str = ".txt") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise(number).convert("RGB").save(path)
    if caption is not None:
        data = caption if isinstance(caption, bytes) else caption.encode()
        path.with_suffix(suffix).write_bytes(data)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder as people have them: repeats 10, 3 and 0, and things that sd-scripts passes over."""
    folder = tmp_path / "img"
    place(folder / "10_luma" / "a.png", 1, "skv_luma, smile")
    place(folder / "10_luma" / "b.jpg", 2, "skv_luma, hat\nsecond line\n", ".caption")
    place(folder / "3_art" / "c.PNG", 3, "\ufeffskv_luma,sitting\r\n".encode())
    place(folder / "3_art" / "d.webp", 4)
    place(folder / "0_off" / "e.png", 5)
    place(folder / "new ones" / "f.png", 6)
    place(folder / "10_luma" / "deeper" / "g.png", 7)
    place(folder / "loose.png", 8)
    (folder / "10_luma" / "a_sdxl.npz").write_bytes(b"PK\x03\x04")
    (folder / "3_art" / "nobody.txt").write_text("skv_luma")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pixels(path: Path) -> str:
    return pixel_sha256(np.asarray(Image.open(path).convert("RGBA")))


@pytest.mark.parametrize("link", [False, True])
def test_folders_become_groups_with_their_captions(source: Path, tmp_path: Path, link: bool):
    before = tree(source)
    created = import_kohya("luma", source, tmp_path / "characters", link=link)
    assert created.groups == {"10_luma": 2, "3_art": 2}
    assert created.trigger == "skv_luma"
    files = tree(created.folder)
    assert files.pop("character.yaml")
    assert files == {
        "10_luma/a.png": before["10_luma/a.png"], "10_luma/a.txt": b"skv_luma, smile\n",
        "10_luma/b.jpg": before["10_luma/b.jpg"], "10_luma/b.txt": b"skv_luma, hat\n",
        "3_art/c.PNG": before["3_art/c.PNG"], "3_art/c.txt": b"skv_luma,sitting\n",
        "3_art/d.webp": before["3_art/d.webp"],
    }  # fmt: skip
    assert (created.folder / "10_luma" / "a.png").is_symlink() == link
    assert tree(source) == before
    character = load_character(created.folder)
    assert {name: (group.share, group.medium, group.learned) for name, group in character.groups.items()} == {
        "10_luma": (10, "sticker", []), "3_art": (3, "art", []),
    }  # fmt: skip
    assert character.settings.media == {"merge": "none", "crop": "none"}
    assert character.settings.benchmark.holdout == 0.15


def test_all_that_was_left_out_is_named(source: Path, tmp_path: Path):
    notes = "\n".join(import_kohya("luma", source, tmp_path / "characters").notes)
    for words in (
        "left out: 0_off: sd-scripts ignores folders with repeats below 1",
        "left out: new ones: sd-scripts ignores folders not called <repeats>_<name>",
        "left out: loose.png: sd-scripts reads only files in <repeats>_<name> folders",
        "left out: 10_luma/deeper: sd-scripts does not look into folders inside it",
        "left out: 10_luma/a_sdxl.npz: a ZIP archive that is damaged or cut off",
        "left out: 3_art/nobody.txt: text that is no image's caption: no such name",
        "1 of 3_art (sd-scripts would call them 'art')",
        "captions of more than one line, of which only the first is read, as by sd-scripts: 10_luma/b.caption",
        "15 % of each group is held out from training by default, of large ones 10 % more for validation",
    ):
        assert words in notes


def test_what_no_export_wrote_is_named_and_what_is_hidden(source: Path, tmp_path: Path):
    (source / "dataset.toml").write_text("[general]\n")
    (source / ".DS_Store").write_bytes(b"\0")
    (source / "10_luma" / "metadata.json").write_text("{}")
    place(source / "10_luma" / "of_two_lines_here.png", 9, "skv_luma, one\u2028two")
    shutil.copy(source / "10_luma" / "a.png", source / "10_luma" / ".c.png")
    (source / "holdout" / "a").mkdir(parents=True)
    shutil.copy(source / "10_luma" / "a.png", source / "holdout" / "loose.png")
    notes = import_kohya("luma", source, tmp_path / "characters").notes
    for note in (
        "left out: dataset.toml: settings of sd-scripts, such as repeats and keep_tokens, do not count here",
        "left out: .DS_Store: a file of the operating system or hidden",
        "left out: 10_luma/.c.png: a file of the operating system or hidden",
        "left out: 10_luma/metadata.json: text, such as notes",
        "left out: holdout/loose.png: an export keeps held-out images in folders inside it",
        "captions of more than one line, of which only the first is read, as by sd-scripts: 10_luma/b.caption",
    ):
        assert note in notes


def test_captions_that_are_cut_are_named_up_to_eight(tmp_path: Path):
    for number in range(10):
        place(tmp_path / "img" / "2_a" / f"{number}.png", number, "yes, one\nyes, two")
    place(tmp_path / "img" / "2_a" / "x.png", 11, "yes, one\u2028two\r\n \r\n")
    notes = import_kohya("luma", tmp_path / "img", tmp_path / "characters").notes
    named = ", ".join(f"2_a/{number}.txt" for number in range(8))
    assert any(note.endswith(f"as by sd-scripts: {named} and 2 more") for note in notes)


def test_probabilities_are_the_repeats(tmp_path: Path):
    """Also of images that are there twice: kohya's trainer would show both."""
    for number in range(5):
        place(tmp_path / "img" / "7_a" / f"{number}.png", number, "yes")
    place(tmp_path / "img" / "2_b" / "one.png", 0, "yes")
    place(tmp_path / "img" / "2_b" / "two.png", 11, "yes")
    place(tmp_path / "img" / "1234567_c" / "three.png", 12, "yes")
    created = import_kohya("luma", tmp_path / "img", tmp_path / "characters")
    small = made(created.folder, tmp_path / "work", {})
    repeats = {"7_a": 7, "2_b": 2, "1234567_c": 1234567}
    total = 5 * 7 + 2 * 2 + 1234567
    assert small.frames["kept"].all()
    assert len(small.weights) == 8
    for row in small.weights.itertuples():
        assert row.probability == repeats[row.group] / total
    for row in small.frames.itertuples():
        assert row.pixel_sha256 == pixels(tmp_path / "img" / row.path)


def test_an_animation_counts_as_one_image_and_is_noted(tmp_path: Path):
    place(tmp_path / "img" / "4_a" / "still.png", 1, "yes")
    images = [noise(number) for number in (2, 3, 4)]
    images[0].save(tmp_path / "img" / "4_a" / "move.gif", save_all=True, append_images=images[1:])
    created = import_kohya("luma", tmp_path / "img", tmp_path / "characters")
    notes = "\n".join(created.notes)
    assert "4_a/move.gif: taken, though sd-scripts does not read .gif files" in notes
    assert "4_a/move.gif: sd-scripts reads the first of its 3 frames only" in notes
    small = made(created.folder, tmp_path / "work", {f"move.gif#{index}": "yes" for index in range(3)})
    assert small.weights.groupby("source_id")["probability"].sum().round(15).tolist() == [0.5, 0.5]


def test_one_folder_alone(source: Path, tmp_path: Path):
    created = import_kohya("luma", source / "10_luma", tmp_path / "characters")
    assert created.groups == {"10_luma": 2}
    assert load_character(created.folder).groups["10_luma"].share == 10


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"img/10_luma/a.png": "yes"},
            r"no folder called <repeats>_<name>.* There are some in .*/top/img: import that",
        ),
        ({"a.png": "yes"}, r"no folder called .* Put its images into a folder such as .*/top/1_top"),
        ({}, r"top has no folder called <repeats>_<name>, such as 10_luma\.$"),
        ({"10_luma/a.png": None}, "there are no captions: give the character's made-up trigger .* --trigger"),
        ({"10_a/a.png": "one, x", "10_a/b.png": "two, x"}, "do not all begin with one tag"),
        ({"10_a/a.png": "a cat, x"}, "'a cat', which every caption begins with, cannot be a trigger"),
        ({"10_a/a.png": ", x"}, "'', which every caption begins with, cannot be a trigger"),
    ],
)
def test_what_cannot_be_imported(tmp_path: Path, files, message):
    (tmp_path / "top").mkdir()
    for number, (name, caption) in enumerate(files.items()):
        place(tmp_path / "top" / name, number, caption)
    with pytest.raises(CharacterError, match=message):
        import_kohya("luma", tmp_path / "top", tmp_path / "characters")
    assert not list((tmp_path / "characters").glob("*"))


def test_bad_files_stop_nothing(tmp_path: Path):
    folder = tmp_path / "img" / "2_a"
    place(folder / "good.png", 1, "(yes:1.2), smile")
    (folder / "broken.png").write_bytes(b"GIF89a")
    (folder / "text.png").write_text("no image")
    place(folder / "latin.png", 2, "yes, grün".encode("latin-1"))
    place(folder / "empty.png", 3, "")
    place(folder / "story.png", 5, "yes, " + "long " * 4000)
    place(tmp_path / "img" / "3_none" / "x.txt.png", 4)
    (tmp_path / "img" / "3_none" / "x.txt.png").write_text("no image")
    (folder / "broken.txt").write_text("yes, broken")
    created = import_kohya("luma", tmp_path / "img", tmp_path / "characters")
    assert created.trigger == "yes"
    assert created.groups == {"2_a": 4}
    notes = "\n".join(created.notes)
    unread = "the caption of {0}.png cannot be read"
    for words in (
        f"2_a/story.txt: {unread.format('story')}: text of 20004 bytes: no caption, which has 20000 at most",
        f"2_a/latin.txt: {unread.format('latin')}: byte 7 is not UTF-8: save it as UTF-8",
        f"2_a/empty.txt: {unread.format('empty')}: its first line is empty",
        "2_a/broken.png",
        "2_a/broken.txt: the caption of broken.png, which is left out",
        "2_a/text.png: not an image",
        "images without a caption, which get one from the tagger: 3 of 2_a",
        "3_none: it holds no image",
    ):
        assert words in notes


@pytest.mark.timeout(60)
def test_pipes_devices_and_links_to_nothing_are_never_opened(tmp_path: Path):
    folder = tmp_path / "img" / "2_a"
    place(folder / "a.png", 1, "yes, smile")
    place(folder / "b.png", 2)
    place(folder / "c.png", 3)
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "b.txt")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "c.txt").symlink_to(tmp_path / "nowhere.txt")
    (folder / "fox.png").symlink_to(tmp_path / ".git/annex/objects/x/y")
    (folder / ".cat.png.icloud").write_bytes(b"bplist00")
    created = import_kohya("luma", tmp_path / "img", tmp_path / "characters")
    assert created.groups == {"2_a": 3}
    for note in (
        "left out: 2_a/pipe.png: a named pipe, which is never opened",
        "left out: 2_a/zero.png: a link that leaves the folder, to /dev/zero: copy the files, or give --follow-links",
        "left out: 2_a/gone.png: a link to a file that does not exist",
        "left out: 2_a/fox.png: kept in git-annex: fetch it with `git annex get`",
        "left out: 2_a/.cat.png.icloud: kept in iCloud: download it",
        "left out: 2_a/b.txt: the caption of b.png cannot be read: a named pipe, which is never opened",
        "left out: 2_a/c.txt: the caption of c.png cannot be read: a link to a file that does not exist",
    ):
        assert note in created.notes


def test_a_name_that_is_too_long_is_left_out_by_name(tmp_path: Path):
    """For two images of the same stem, captions are named after the whole file; a held-out group has a prefix."""
    longest = os.pathconf(tmp_path, "PC_NAME_MAX")
    stem, group = "x" * (longest - 4), "h" * longest
    place(tmp_path / "img" / "2_a" / "a.png", 1, "yes, smile")
    place(tmp_path / "img" / "2_a" / f"{stem}.png", 2, "yes, hat")
    place(tmp_path / "img" / "2_a" / f"{stem}.jpg", 3)
    place(tmp_path / "img" / "holdout" / group / "b.png", 4)
    created = import_kohya("luma", tmp_path / "img", tmp_path / "characters")
    assert created.groups == {"2_a": 1}
    reason = "its name, or that of its caption, is too long for this file system: rename it shorter"
    assert f"left out: holdout/{group}: {reason}" in created.notes
    assert f"left out: 2_a/{stem}.jpg, 2_a/{stem}.png: {reason}" in created.notes


def test_thumbnails_are_left_out_as_the_inventory_would_pass_them_over(tmp_path: Path):
    """Else benchmark.holdout would name a file that is no image of the character."""
    place(tmp_path / "img" / "5_a" / "one.png", 1, "yes, smile")
    for place_of, number in (("holdout/a/x.png", 2), ("5_a/y.webp", 3)):
        place(tmp_path / "img" / place_of, number, "yes, hat")
    for place_of in ("holdout/a/x_thumb.png", "5_a/y.webp_thumb.jpg"):
        noise(4).convert("RGB").resize((20, 20)).save(tmp_path / "img" / place_of)
        (tmp_path / "img" / place_of).with_suffix(".txt").write_text("yes, small")
    noise(5).convert("RGB").save(tmp_path / "img" / "5_a" / "lonely_thumb.png")
    created = import_kohya("luma", tmp_path / "img", tmp_path / "characters")
    assert created.groups == {"5_a": 3, "holdout_a": 1}
    assert load_character(created.folder).settings.benchmark.holdout == ["holdout_a/x.png"]
    table = scan(created.folder, list(created.groups), MediaSettings())
    assert sorted(table.loc[table["status"] == "accepted", "path"]) == [
        "5_a/lonely_thumb.png", "5_a/one.png", "5_a/y.webp", "holdout_a/x.png"
    ]  # fmt: skip
    passed = "it is ignored here"
    for note in (
        f"left out: holdout/a/x_thumb.png: the thumbnail of x.png: {passed}",
        f"left out: 5_a/y.webp_thumb.jpg: the thumbnail of y.webp: {passed}, though sd-scripts would train on it",
        "left out: 5_a/y.webp_thumb.txt: the caption of y.webp_thumb.jpg, which is left out",
    ):
        assert note in created.notes


def test_captions_that_cannot_be_read_are_named_where_there_is_no_trigger_for_them(tmp_path: Path):
    place(tmp_path / "img" / "2_a" / "a.png", 1, "yes, grün".encode("latin-1"))
    named = r"there are no captions: [^\n]*\nleft out: 2_a/a\.txt: the caption of a\.png"
    with pytest.raises(CharacterError, match=named):
        import_kohya("luma", tmp_path / "img", tmp_path / "characters")


def test_of_two_caption_files_one_is_taken_and_the_other_named(tmp_path: Path):
    place(tmp_path / "img" / "2_a" / "a.png", 1, "yes, first")
    (tmp_path / "img" / "2_a" / "a.caption").write_text("yes, second")
    created = import_kohya("luma", tmp_path / "img", tmp_path / "characters")
    assert (created.folder / "2_a" / "a.txt").read_text() == "yes, first\n"
    assert any("2_a/a.caption" in note for note in created.notes)


def test_a_given_trigger_wins_and_a_broken_record_is_named(source: Path, tmp_path: Path):
    assert import_kohya("luma", source, tmp_path / "characters", "other").trigger == "other"
    (source / "sticker_pipeline.json").write_text("{")
    with pytest.raises(CharacterError, match=r"sticker_pipeline\.json cannot be read"):
        import_kohya("luma_2", source, tmp_path / "characters")
    (source / "sticker_pipeline.json").write_text('{"folders": {"10_luma": {"medium": "photo"}}}')
    with pytest.raises(CharacterError, match=r"folders\.10_luma\.medium"):
        import_kohya("luma_2", source, tmp_path / "characters")


def export(one: SmallSet, target: Path) -> Path:
    options = {"batch_size": 8, "resolution": 96, "buckets": BucketSettings(shape="square"), "max_error": 0}
    return export_kohya(one.rows, one.frames, one.images, one.character, target, **options).folder


SPECIAL = {
    "plain": {},
    "brackets": {"2.png#0": "skv_luma, luma_sticker, gawr gura (hololive), :["},
    "weights": {
        "2.png#0": "skv_luma, luma_sticker, gawr gura (hololive), :[",
        "a.gif#1": r"skv_luma, (luma_sticker:1.2), star \(symbol\), :[, back\\slash",
        "b.gif#2": r"skv_luma, luma_sticker, (blush:0.8)",  # held out
    },
    "a weight on the trigger": {"a.gif#1": "(skv_luma:1.1), luma_sticker, smile"},
}


@pytest.mark.parametrize("special", SPECIAL.values(), ids=SPECIAL.keys())
@pytest.mark.parametrize("holdout", ["[stickers/3.png, gifs/b.gif, art/1.png]", "[]"], ids=["holdout", "none"])
def test_an_export_comes_back_as_it_was(tmp_path: Path, special: dict[str, str], holdout: str):
    """Pixels, captions, probabilities and split, for every image; and the second export is the first."""
    settings = SETTINGS.replace("[stickers/3.png, gifs/b.gif, art/1.png]", holdout)
    folder = draw_character(tmp_path / "luma", settings)
    before = made(folder, tmp_path / "work", captions_of(folder, special))
    first = export(before, tmp_path / "out" / "first")
    shutil.rmtree(folder)  # whatever comes back, comes from the export
    created = import_kohya("again", first, tmp_path / "characters")
    after = made(created.folder, tmp_path / "work2", {})
    assert [note for note in created.notes if "captions have weights" not in note] == []
    assert load_character(created.folder).settings.benchmark.validation == 0

    def by_name(one: SmallSet, names) -> dict[str, tuple]:
        lineage = one.frames.set_index("frame_id")
        return {
            names(row.frame_id, lineage.loc[row.frame_id, "path"]): (
                lineage.loc[row.frame_id, "pixel_sha256"], row.caption, row.split, row.probability,
            )
            for row in one.rows.itertuples()
        }  # fmt: skip

    old = by_name(before, lambda frame, path: frame)
    new = by_name(after, lambda frame, path: Path(path).stem)
    assert old.keys() == new.keys()
    for name, (*what, probability) in old.items():
        assert new[name][:-1] == tuple(what)
        assert new[name][-1] == pytest.approx(probability, rel=1e-15, abs=0)
    styles = {name: group.medium for name, group in load_character(created.folder).groups.items()}
    assert set(styles) == {path.name for path in first.glob("[0-9]*_*")} | {
        f"holdout_{p.name}" for p in first.glob("holdout/*")
    }
    assert {name for name, style in styles.items() if style == "art"} == {
        name for name in styles if name.endswith("_art")
    }

    second = export(after, tmp_path / "out" / "second")
    one, two = tree(first), tree(second)
    for name in ("dataset.toml", "sticker_pipeline.json"):  # these name places
        texts = [one.pop(name).decode(), two.pop(name).decode()]
        if name == "dataset.toml":
            assert texts[0].replace("/out/first", "/out/second").replace("set of luma", "set of again") == texts[1]
    assert one == two


def test_a_caption_stays_with_its_image_where_two_are_called_alike(tmp_path: Path):
    folder = tmp_path / "img" / "10_x"
    place(folder / "fox.png", 1)
    place(folder / "other.png", 2, "yes, other")
    Image.open(folder / "other.png").convert("RGB").save(folder / "fox.jpg")
    (folder / "fox.png.txt").write_text("yes, first")
    created = import_kohya("luma", tmp_path / "img", tmp_path / "characters")
    said = {path.name: path.read_text() for path in (created.folder / "10_x").glob("*.txt")}
    assert said == {"fox.png.txt": "yes, first\n", "other.txt": "yes, other\n"}


def test_captions_of_images_called_like_others_with_an_ending_more(tmp_path: Path):
    folder = tmp_path / "img" / "10_x"
    for number, name in enumerate(("fox.png", "fox.png.jpg", "fox.bmp")):
        place(folder / name, number)
    (folder / "fox.txt").write_text("yes, one")
    (folder / "fox.png.txt").write_text("yes, two")
    created = import_kohya("luma", tmp_path / "img", tmp_path / "characters")
    table = scan(created.folder, list(created.groups), MediaSettings())
    said = read_captions(created.folder, table).set_index("path")["caption"].to_dict()
    assert said == {"10_x/fox.png": "yes, one", "10_x/fox.png.jpg": "yes, two", "10_x/fox.bmp": "yes, one"}


def test_a_caption_without_a_word_gives_way_to_one_that_has_words(tmp_path: Path):
    folder = tmp_path / "img" / "10_x"
    for number, name in enumerate(("a", "b", "c", "d")):
        place(folder / f"{name}.png", number, {"a": "", "b": b"caf\xe9", "c": " ,\nmore", "d": ""}[name])
    for name in ("a", "b", "c"):
        (folder / f"{name}.caption").write_text(f"yes, {name}")
    created = import_kohya("luma", tmp_path / "img", tmp_path / "characters")
    said = {path.name: path.read_text() for path in (created.folder / "10_x").glob("*.txt")}
    assert said == {f"{name}.txt": f"yes, {name}\n" for name in ("a", "b", "c")}
    for note in (
        "left out: 10_x/a.txt: its first line is empty: the caption of a.png is a.caption",
        "left out: 10_x/b.txt: byte 3 is not UTF-8: save it as UTF-8: the caption of b.png is b.caption",
        "left out: 10_x/c.txt: its first line is empty: the caption of c.png is c.caption",
        "left out: 10_x/d.txt: the caption of d.png cannot be read: its first line is empty",
    ):
        assert note in created.notes


def test_what_is_no_caption_is_left_out_as_that_images(tmp_path: Path):
    place(tmp_path / "img" / "10_x" / "a.png", 1, "yes, a")
    place(tmp_path / "img" / "10_x" / "b.png", 2, "version https://git-lfs.github.com/spec/v1")
    created = import_kohya("luma", tmp_path / "img", tmp_path / "characters")
    assert any(
        "the caption of b.png cannot be read: text that stands for a file kept in Git LFS" in n for n in created.notes
    )
    assert not (created.folder / "10_x" / "b.txt").exists()
