import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.inventory import scan
from sticker_pipeline.media.sidecars import MAX_BYTES, captions_of, owned_captions, read_captions

LIMITS = MediaSettings()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images a.png, b.png and sub/a.png; no caption yet."""
    (tmp_path / "art/sub").mkdir(parents=True)
    for name in ("a.png", "b.png", "sub/a.png"):
        Image.new("RGB", (16, 16), "red").save(tmp_path / "art" / name)
    return tmp_path


def captions(folder: Path) -> dict[str, tuple[str, str]]:
    table = read_captions(folder, scan(folder, ["art"], LIMITS))
    return {row.path: (row.caption_file, row.caption) for row in table.itertuples()}


def test_a_text_beside_an_image_is_its_caption_and_no_other_text_is(folder: Path) -> None:
    (folder / "art/a.txt").write_text("smile, red hair\n")
    (folder / "art/LICENSE.txt").write_text("Do as you like.")
    (folder / "art/notes.md").write_text("a, b")
    assert captions(folder) == {"art/a.png": ("art/a.txt", "smile, red hair")}
    inventory = scan(folder, ["art"], LIMITS).set_index("path")
    assert inventory.loc["art/a.txt", ["status", "reason"]].tolist() == ["ignored", "the caption of art/a.png"]
    assert inventory.loc["art/LICENSE.txt", "reason"].startswith("text that is no image's caption")
    assert inventory.loc["art/notes.md", "reason"] == "text, such as notes"


def test_the_caption_named_after_the_whole_file_goes_first_and_txt_before_caption(folder: Path) -> None:
    for name in ("a.txt", "a.caption", "a.png.caption", "b.caption", "b.txt"):
        (folder / "art" / name).write_text(name)
    assert captions(folder) == {
        "art/a.png": ("art/a.png.caption", "a.png.caption"),
        "art/b.png": ("art/b.txt", "b.txt"),
    }


def test_lines_without_a_word_are_left_out_and_a_byte_order_mark_is_no_letter(folder: Path) -> None:
    (folder / "art/a.txt").write_bytes("\ufeffsmile,\r\n\r\n red hair ,\n, \n".encode())
    (folder / "art/b.txt").write_text(" \n,\n")
    (folder / "art/sub/a.txt").write_text("")
    assert captions(folder) == {"art/a.png": ("art/a.txt", "smile,\nred hair ,")}
    reasons = scan(folder, ["art"], LIMITS).set_index("path")["reason"]
    assert reasons["art/sub/a.txt"] == "an empty text: art/sub/a.png has no caption"


@pytest.mark.parametrize(
    ("data", "caption"),
    [
        ("smile,\u00a0sitting, red\u00a0scarf".encode(), "smile, sitting, red scarf"),
        ("笑顔,\u3000赤いマフラー".encode(), "笑顔, 赤いマフラー"),
        ("\u200bsmile, 👩\u200d🎨".encode(), "smile, 👩\u200d🎨"),
        ("smile, sitting".encode("utf-16"), "smile, sitting"),
        ("smile, sitting".encode("utf-32"), "smile, sitting"),
        (b"smile,\r\nsitting\r\n\x1a", "smile,\nsitting"),
        (b"x" * 4095 + "é".encode(), "x" * 4095 + "é"),
    ],
)
def test_spaces_joiners_and_marked_encodings_are_read(folder: Path, data: bytes, caption: str) -> None:
    (folder / "art/a.txt").write_bytes(data)
    assert captions(folder) == {"art/a.png": ("art/a.txt", caption)}


@pytest.mark.parametrize("data", ["笑顔".encode("shift_jis"), b"a fox, " * 700 + b"caf\xe9", b"smile\0"])
def test_a_caption_that_cannot_be_read_is_refused_as_that_images_and_nothing_else_stops(
    folder: Path, data: bytes
) -> None:
    (folder / "art/a.txt").write_bytes(data)
    (folder / "art/b.txt").write_text("smile")
    assert captions(folder) == {"art/b.png": ("art/b.txt", "smile")}
    row = scan(folder, ["art"], LIMITS).set_index("path").loc["art/a.txt"]
    assert row["status"] == "rejected"
    assert row["reason"].startswith("the caption of art/a.png cannot be read: ")
    assert row["reason"].endswith("save it as UTF-8")


def test_a_text_without_a_word_or_that_cannot_be_read_gives_way_to_one_that_has_words(folder: Path) -> None:
    contents = {"a.txt": b"", "a.caption": b"smile", "b.png.txt": b"caf\xe9", "b.txt": b"frown", "sub/a.txt": b"\n,"}
    for name, data in contents.items():
        (folder / "art" / name).write_bytes(data)
    assert captions(folder) == {"art/a.png": ("art/a.caption", "smile"), "art/b.png": ("art/b.txt", "frown")}
    table = scan(folder, ["art"], LIMITS).set_index("path")
    assert (
        table.loc[["art/a.txt", "art/sub/a.txt"], ["status", "remark"]].values.tolist()
        == [["ignored", "it holds no word"]] * 2
    )
    assert table.loc["art/b.png.txt", "status"] == "rejected"
    assert table["reason"].to_dict() == {
        "art/a.caption": "the caption of art/a.png",
        "art/a.png": "",
        "art/a.txt": "an empty text: the caption of art/a.png is art/a.caption",
        "art/b.png": "",
        "art/b.png.txt": "byte 3 is not UTF-8: save it as UTF-8: the caption of art/b.png is art/b.txt",
        "art/b.txt": "the caption of art/b.png",
        "art/sub/a.png": "",
        "art/sub/a.txt": "an empty text: art/sub/a.png has no caption",
    }


def test_the_caption_of_an_image_that_is_not_taken_is_called_so(folder: Path) -> None:
    (folder / "art/b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "art/photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    Image.new("RGB", (9, 9), "red").save(folder / "art/a_thumb.png")
    for name in ("b.txt", "photo.heic.caption", "a_thumb.txt", "a.txt"):
        (folder / "art" / name).write_text("smile")
    (folder / "art/photo.txt").write_bytes(b"caf\xe9")
    (folder / "art/a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")  # a.txt is that of a.png
    reasons = scan(folder, ["art"], LIMITS).set_index("path")["reason"]
    assert reasons["art/a.txt"] == "the caption of art/a.png"
    assert reasons["art/b.txt"] == "the caption of art/b.png, which is refused"
    assert reasons["art/photo.heic.caption"] == "the caption of art/photo.heic, which is refused"
    assert reasons["art/a_thumb.txt"] == "the caption of art/a_thumb.png, which is ignored"
    assert reasons["art/photo.txt"] == "byte 3 is not UTF-8: save it as UTF-8"
    assert set(captions(folder)) == {"art/a.png"}


def test_a_wordless_text_is_that_images_where_there_is_no_other() -> None:
    assert owned_captions(["a.png"], ["a.txt", "A.CAPTION"], {"a.txt"}) == {"a.png": "A.CAPTION"}
    assert owned_captions(["a.png"], ["a.txt", "A.CAPTION"], {"a.txt", "A.CAPTION"}) == {"a.png": "a.txt"}
    assert owned_captions(["a.png", "a.gif"], ["a.txt", "a.gif.txt"], {"a.txt"}) == {
        "a.png": "a.txt",
        "a.gif": "a.gif.txt",
    }


NO_CAPTIONS = {
    "version https://git-lfs.github.com/spec/v1": "text that stands for a file kept in Git LFS",
    "/annex/objects/x": "text that stands for a file kept in git-annex",
    "<!DOCTYPE html>404": "a web page",
    "\n <title>404</title>": "a web page",
    '<div class="tags">smile</div>': "a web page",
    '<?xml version="1.0"?>\n<annotation/>': "an XML document",
    "{\\rtf1 a}": "it is a document",
    '{"tags": []}': "it is JSON",
    '{\n  "tags": "smile, hat",\n  "rating": "g"\n}\n': "it is JSON",
    '{ "tags": ["smile",': "it is JSON",  # cut off
    '{"tag": "a"}\n{"tag": "b"}': "it is JSON",
    '["smile", "hat"]': "it is JSON",
    '[\n  {"tag": "smile"}\n]': "it is JSON",
    "{}": "it is JSON",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(("text", "kind"), NO_CAPTIONS.items())
def test_what_stands_for_something_else_is_no_caption(folder: Path, text: str, kind: str, encoding: str) -> None:
    (folder / "art/a.txt").write_text(text, encoding=encoding)
    assert captions(folder) == {}
    row = scan(folder, ["art"], LIMITS).set_index("path").loc["art/a.txt"]
    assert row["status"] == "rejected"
    assert row["reason"].startswith(f"the caption of art/a.png cannot be read: {kind}")


@pytest.mark.parametrize(
    "text",
    [
        "[{smile|frown}], hat",
        "{red|blue} hair",
        "[smile]",
        "[smile, hat]",
        '"smile"',
        "2025",
        "<lora:luma:1>, smile",
        "<s1><s2>, smile",
        "<b>, smile",
        "<3, heart",
        "[" * 9000,
    ],
)
def test_a_text_that_begins_as_code_does_is_a_caption(folder: Path, text: str) -> None:
    (folder / "art/a.txt").write_text(text)
    assert captions(folder) == {"art/a.png": ("art/a.txt", text)}


def test_names_that_differ_in_case_or_composition_alone_belong_together() -> None:
    composed, apart = (unicodedata.normalize(form, "ガール") for form in ("NFC", "NFD"))
    images = [f"s/{composed}.png", "s/B.PNG", "s/Dscn1.PNG", "s/ok.png", "s/e.png", "S/e.png"]
    texts = [f"s/{apart}.txt", "s/B.TXT", "s/dscn1.txt", "s/ok.txt", "s/OK.txt", "s/E.txt"]
    assert owned_captions(images, texts) == {
        f"s/{composed}.png": f"s/{apart}.txt",
        "s/B.PNG": "s/B.TXT",
        "s/Dscn1.PNG": "s/dscn1.txt",
        "s/ok.png": "s/ok.txt",
        "s/e.png": "s/E.txt",  # and not S/e.png, in another folder
    }


def test_a_text_of_another_spelling_is_nobodys_where_two_images_or_texts_would_share_it() -> None:
    assert owned_captions(["a.png", "A.png"], ["A.TXT"]) == {}
    assert owned_captions(["a.png"], ["A.txt", "a.TXT"]) == {}
    assert owned_captions(["a.png", "a.gif"], ["A.txt"]) == {"a.png": "A.txt", "a.gif": "A.txt"}
    assert owned_captions(["a.png", "A.png"], ["a.txt"]) == {"a.png": "a.txt"}


def test_a_text_called_like_two_images_is_that_ones_whose_name_without_the_ending_it_is() -> None:
    """As sd-scripts reads it: the last ending of the image's name gives way to .txt."""
    images, texts = ["s/fox.png", "s/fox.png.jpg"], ["s/fox.txt", "s/fox.png.txt"]
    assert owned_captions(images, texts) == {"s/fox.png": "s/fox.txt", "s/fox.png.jpg": "s/fox.png.txt"}
    assert owned_captions(images, texts[1:]) == {"s/fox.png.jpg": "s/fox.png.txt"}
    assert owned_captions(images[:1], texts) == {"s/fox.png": "s/fox.png.txt"}
    assert owned_captions(["fox", "fox.png"], ["fox.txt"]) == {"fox": "fox.txt", "fox.png": "fox.txt"}


def test_a_story_is_no_caption(folder: Path) -> None:
    (folder / "art/a.txt").write_text("x" * (MAX_BYTES + 1))
    assert captions_of(scan(folder, ["art"], LIMITS)) == {}


def test_a_caption_that_changed_since_is_an_error_that_names_it(folder: Path) -> None:
    (folder / "art/a.txt").write_text("smile")
    inventory = scan(folder, ["art"], LIMITS)
    (folder / "art/a.txt").write_text("frown")
    with pytest.raises(MediaError, match=r"art/a\.txt: it has changed since"):
        read_captions(folder, inventory)
