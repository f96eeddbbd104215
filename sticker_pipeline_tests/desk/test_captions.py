"""Changes of captions, and the bytes that are written for them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.desk.captions import CaptionFile, Captions, Files, add, edited, remove, replace, set_to
from sticker_pipeline.desk.edits import EditError, apply
from sticker_pipeline.media.sidecars import owned_captions
from sticker_pipeline.tagging.captions import parse_caption


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        (add(["hat, scarf"]), "smile", "smile, hat, scarf"),
        (add(["Red_Hat"]), "red hat, smile", "red hat, smile"),
        (add(["hat"]), "", "hat"),
        (add(["hat"]), "A fox. It smiles,", "A fox. It smiles, hat"),
        (add(["star (symbol)"]), "smile", "smile, star (symbol)"),
        (remove(["smile"]), "Smile, (hat:1.2), scarf", "(hat:1.2), scarf"),
        (remove(["tail"]), "a ,b", "a ,b"),
        (replace("hat", "red hat"), "smile, (hat:1.2)", "smile, (red hat:1.2)"),
        (replace("hat", "red hat"), "red hat, hat", "red hat"),
        (set_to("  a ,b \n\n c"), "x", "a ,b\nc"),
        (add(["hat"]), "skv, a\nskv, b", "skv, a, hat\nskv, b, hat"),
        (remove(["a"]), "skv, a\nskv, b", "skv\nskv, b"),
    ],
)
def test_changes(change, before: str, after: str) -> None:
    assert change(before) == after


tags = st.lists(st.sampled_from(["smile", "red hat", "star (symbol)", "a\\b", "1girl"]), unique=True)


@settings(deadline=None)
@given(tags, tags.filter(bool))
def test_what_is_added_is_there_and_what_is_removed_is_not(before: list[str], new: list[str]) -> None:
    text = ", ".join(before)
    longer = add(new)(text)
    assert {tag for tag, _ in parse_caption(longer)} >= {tag for one in new for tag, _ in parse_caption(one)}
    assert remove(new)(longer) == remove(new)(text)


@pytest.mark.parametrize("tags", [("hat, scarf", "x"), ("hat", "x, y"), ("", "x")])
def test_one_tag_is_replaced_by_one(tags: tuple[str, str]) -> None:
    with pytest.raises(EditError, match="one tag by one tag"):
        replace(*tags)


@pytest.mark.parametrize("text", ["", " ,\n", "a\u202eb", "a\x00"])
def test_a_caption_without_a_word_or_with_hidden_letters_is_refused(text: str) -> None:
    with pytest.raises(EditError):
        set_to(text)


def captions(folder, images, by_file=None) -> Captions:
    return Captions(folder, Files(frozenset(images), by_file or {}), {"gifs": ["skv"]})


@pytest.mark.parametrize(
    ("images", "texts", "image", "file"),
    [
        (["gifs/a.png"], [], "gifs/a.png", "gifs/a.txt"),
        (["gifs/a.png"], ["gifs/A.caption"], "gifs/a.png", "gifs/A.caption"),
        (["gifs/a.png"], ["gifs/a.png.txt"], "gifs/a.png", "gifs/a.png.txt"),
        (["gifs/b.png", "gifs/b.gif"], [], "gifs/b.png", "gifs/b.png.txt"),  # b.txt would be of both
        (["gifs/b.png", "gifs/b.gif"], ["gifs/b.txt"], "gifs/b.png", "gifs/b.txt"),
        (["gifs/c.png", "gifs/c.png.jpg"], [], "gifs/c.png", "gifs/c.txt"),
        (["gifs/c.png", "gifs/c.png.jpg"], [], "gifs/c.png.jpg", "gifs/c.png.txt"),
        (["d.png"], [], "d.png", "d.txt"),
    ],
)
def test_the_text_of_an_image(tmp_path, images: list[str], texts: list[str], image: str, file: str) -> None:
    (tmp_path / "gifs").mkdir()
    for text in texts:
        (tmp_path / text).write_text("smile")
    of = captions(tmp_path, images)
    assert of.file_of(image) == file
    (tmp_path / file).write_text("smile")
    assert owned_captions(images, [*texts, file])[image] == file  # as an update reads it


def test_no_text_is_written_for_the_wrong_image_or_over_another_text(tmp_path) -> None:
    (tmp_path / "gifs").mkdir()
    three = ["gifs/a.png", "gifs/a.webp", "gifs/a.png.jpg"]
    with pytest.raises(EditError, match="rename"):
        captions(tmp_path, three).file_of("gifs/a.png")  # a.txt is of both, a.png.txt of a.png.jpg
    (tmp_path / "gifs/b.txt").write_text("a story, " * 4_000)
    assert captions(tmp_path, ["gifs/b.png"]).file_of("gifs/b.png") == "gifs/b.png.txt"


def test_texts_of_several_images_are_named(tmp_path) -> None:
    (tmp_path / "gifs").mkdir()
    (tmp_path / "gifs/b.txt").write_text("smile")
    of = captions(tmp_path, ["gifs/b.png", "gifs/b.gif", "gifs/c.png"])
    assert of.shared("gifs/b.png") == ["gifs/b.gif"]
    assert of.shared("gifs/c.png") == []


def test_without_a_text_the_tags_common_to_the_frames_are_the_caption(tmp_path) -> None:
    (tmp_path / "gifs").mkdir()
    of = captions(tmp_path, ["gifs/a.gif"], {"gifs/a.gif": ["skv, smile, up", "skv, smile, down"]})
    assert of.of("gifs/a.gif") == CaptionFile("gifs/a.gif", "gifs/a.txt", None, "smile")
    edit = edited(tmp_path, of.of("gifs/a.gif"), add(["hat"]))
    assert edit is not None
    assert apply([edit]) == ([edit], [])
    assert (tmp_path / "gifs/a.txt").read_bytes() == b"smile, hat\n"
    assert captions(tmp_path, ["gifs/a.gif"]).in_training("gifs/a.gif") == "skv, smile, hat"
    with pytest.raises(EditError, match="no image"):
        of.of("../x.png")


def test_what_changes_no_word_writes_nothing_and_no_caption_loses_all_words(tmp_path) -> None:
    (tmp_path / "gifs").mkdir()
    of = captions(tmp_path, ["gifs/a.gif"], {"gifs/a.gif": ["skv, smile"]}).of("gifs/a.gif")
    assert edited(tmp_path, of, remove(["hat"])) is None
    assert edited(tmp_path, of, set_to("smile")) is None
    with pytest.raises(EditError, match="no tag would be left"):
        edited(tmp_path, of, remove(["smile"]))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"smile", b"smile, hat"),
        (b"smile\n", b"smile, hat\n"),
        (b"smile\r\n", b"smile, hat\r\n"),
        (b"a\r\nb\r\n", b"a, hat\r\nb, hat\r\n"),
        (b"\xef\xbb\xbfsmile\n", b"\xef\xbb\xbfsmile, hat\n"),
        ("smile é\n".encode("utf-16"), "smile é, hat\n".encode("utf-16")),
        (b"\xfe\xff" + "smile\n".encode("utf-16-be"), b"\xfe\xff" + "smile, hat\n".encode("utf-16-be")),
        ("smile".encode("utf-32"), "smile, hat".encode("utf-32")),
    ],
)
def test_encoding_mark_and_line_ends_stay(tmp_path, before: bytes, after: bytes) -> None:
    (tmp_path / "gifs").mkdir()
    (tmp_path / "gifs/a.txt").write_bytes(before)
    edit = edited(tmp_path, captions(tmp_path, ["gifs/a.png"]).of("gifs/a.png"), add(["hat"]))
    assert edit is not None
    assert edit.after == after


def test_an_unreadable_or_too_long_caption_is_refused(tmp_path) -> None:
    (tmp_path / "gifs").mkdir()
    (tmp_path / "gifs/a.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(EditError, match=r"gifs/a\.txt"):
        captions(tmp_path, ["gifs/a.png"]).of("gifs/a.png")
    (tmp_path / "gifs/a.txt").write_bytes(b"smile")
    of = captions(tmp_path, ["gifs/a.png"])
    with pytest.raises(EditError, match="20000"):
        edited(tmp_path, of.of("gifs/a.png"), set_to("a" * 20_001))
    assert edited(tmp_path, of.of("gifs/a.png"), add(["smile"])) is None
