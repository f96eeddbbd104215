from pathlib import Path

import pytest
from PIL import Image

from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.inventory import scan
from sticker_pipeline.media.sidecars import MAX_BYTES, captions_of, read_captions
from sticker_pipeline.settings import MediaSettings

LIMITS = MediaSettings()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures a.png, b.png and sub/a.png; no caption yet."""
    (tmp_path / "art/sub").mkdir(parents=True)
    for name in ("a.png", "b.png", "sub/a.png"):
        Image.new("RGB", (16, 16), "red").save(tmp_path / "art" / name)
    return tmp_path


def captions(folder: Path) -> dict[str, tuple[str, str]]:
    table = read_captions(folder, scan(folder, ["art"], LIMITS))
    return {row.path: (row.caption_file, row.caption) for row in table.itertuples()}


def test_a_text_beside_a_picture_is_its_caption_and_no_other_text_is(folder: Path) -> None:
    (folder / "art/a.txt").write_text("smile, red hair\n")
    (folder / "art/LICENSE.txt").write_text("Do as you like.")
    (folder / "art/notes.md").write_text("a, b")
    assert captions(folder) == {"art/a.png": ("art/a.txt", "smile, red hair")}
    inventory = scan(folder, ["art"], LIMITS).set_index("path")
    assert inventory.loc["art/a.txt", ["status", "reason"]].tolist() == ["ignored", "the caption of art/a.png"]
    assert inventory.loc["art/LICENSE.txt", "reason"] == "text, such as a caption or notes"


def test_the_caption_named_after_the_whole_file_goes_first_and_txt_before_caption(folder: Path) -> None:
    for name in ("a.txt", "a.caption", "a.png.caption", "b.caption", "b.txt"):
        (folder / "art" / name).write_text(name)
    assert captions(folder) == {
        "art/a.png": ("art/a.png.caption", "a.png.caption"),
        "art/b.png": ("art/b.txt", "b.txt"),
    }


def test_lines_are_joined_and_a_byte_order_mark_is_no_letter(folder: Path) -> None:
    (folder / "art/a.txt").write_bytes("\ufeffsmile,\r\n\r\n red hair ,\n, \n".encode())
    (folder / "art/b.txt").write_text(" \n,\n")
    assert captions(folder) == {"art/a.png": ("art/a.txt", "smile, red hair")}


def test_a_story_is_no_caption(folder: Path) -> None:
    (folder / "art/a.txt").write_text("x" * (MAX_BYTES + 1))
    assert captions_of(scan(folder, ["art"], LIMITS)) == {}


def test_a_caption_that_changed_since_is_an_error_that_names_it(folder: Path) -> None:
    (folder / "art/a.txt").write_text("smile")
    inventory = scan(folder, ["art"], LIMITS)
    (folder / "art/a.txt").write_text("frown")
    with pytest.raises(MediaError, match=r"art/a\.txt: it has changed since"):
        read_captions(folder, inventory)
