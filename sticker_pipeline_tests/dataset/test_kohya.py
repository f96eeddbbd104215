"""Folder names and captions as sd-scripts reads them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sticker_pipeline.dataset.kohya import folder_repeats, folder_subject, own_syntax, read_caption_file, shared_syntax
from sticker_pipeline.tagging.captions import format_caption, parse_caption

TAGS = st.text("ab (:)[]\\1.2", min_size=1, max_size=9).filter(lambda tag: tag == tag.strip())
# Weights that a person writes; 1 is no weight.
CAPTIONS = st.lists(
    st.lists(st.tuples(TAGS, st.sampled_from([1.0, 1.0, 1.2, 0.5])), min_size=1, max_size=4), max_size=4
)


def emphasis(text: str) -> list[tuple[str, float]]:
    r"""Return the letters of a weighted caption with their weights, by sd-scripts' documented grammar.

    `\` escapes, ( ) multiplies by 1.1, (text:w) by w, [ ] divides by 1.1. Raises for open brackets: no export may have
    them.
    """
    letters: list[tuple[str, float]] = []
    stack: list[tuple[str, int]] = []
    position = 0
    while position < len(text):
        letter = text[position]
        weight = re.match(r":([+-]?[.\d]+)\)", text[position:])
        if letter == "\\":
            position += 1
            letters.append((text[position], 1.0))
        elif letter in "([":
            stack.append((letter, len(letters)))
        elif letter == "]" or letter == ")" or (weight and stack):
            opened, start = stack.pop()
            assert opened == ("[" if letter == "]" else "(")
            factor = float(weight[1]) if weight else 1 / 1.1 if letter == "]" else 1.1
            letters[start:] = [(one, value * factor) for one, value in letters[start:]]
            position += len(weight[0]) - 1 if weight else 0
        else:
            letters.append((letter, 1.0))
        position += 1
    assert not stack
    return letters


def meant(items: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """The letters that tags with weights should have."""
    letters: list[tuple[str, float]] = []
    for number, (tag, weight) in enumerate(items):
        letters += [(one, 1.0) for one in (", " if number else "")] + [(one, weight) for one in tag]
    return letters


@given(CAPTIONS)
def test_sd_scripts_reads_what_we_mean_and_we_read_back_what_we_wrote(sets):
    captions = [format_caption([tag for tag, _ in items], dict(items)) for items in sets]
    wanted = [parse_caption(caption) for caption in captions]  # a tag that comes twice has its last weight
    texts, weighted = shared_syntax(captions)
    if weighted:
        assert [emphasis(text) for text in texts] == [meant(items) for items in wanted]
    else:
        assert texts == captions
    assert own_syntax(texts) == captions


@pytest.mark.parametrize(
    ("captions", "texts", "weighted"),
    [
        (["a, gawr gura (hololive)", "a, :["], ["a, gawr gura (hololive)", "a, :["], False),
        (
            ["a, gawr gura (hololive)", "a, :[", r"a, (smile:1.2), star \(symbol\), :["],
            [r"a, gawr gura \(hololive\)", r"a, :\[", r"a, (smile:1.2), star \(symbol\), :\["],
            True,
        ),
    ],
)
def test_one_weight_makes_all_captions_weighted(captions, texts, weighted):
    assert shared_syntax(captions) == (texts, weighted)
    assert own_syntax(texts) == captions


@pytest.mark.parametrize(
    ("name", "repeats", "subject"),
    [
        ("10_luma", 10, "luma"), ("3_luma_art hat", 3, "luma_art hat"), ("7", 7, ""), ("0_off", 0, "off"),
        ("luma", None, ""), ("x10_luma", None, "luma"), ("1.5_luma", None, "luma"), ("-2_luma", -2, "luma"),
    ],
)  # fmt: skip
def test_folder_names(name, repeats, subject):
    assert folder_repeats(name) == repeats
    assert folder_subject(name) == subject


@pytest.mark.parametrize(
    ("data", "caption"),
    [
        (b"a, b", "a, b"),
        (b"  a, b \r\nmore\r\n", "a, b"),
        (b"a, b\rmore", "a, b"),
        ("\ufeffa, ü".encode(), "a, ü"),
        ("a\u2028b\u3000\nc".encode(), "a b"),
        (b"", ""),
        (b"\na", ""),
    ],
)
def test_the_first_line_is_the_caption(tmp_path, data, caption):
    (tmp_path / "a.txt").write_bytes(data)
    found = read_caption_file(tmp_path / "a.txt")
    assert (found.line, found.is_unreadable) == (caption, False)
    assert found.problem == ("" if caption else "its first line is empty")


@pytest.mark.parametrize(
    ("data", "is_cut"),
    [(b"a\nb", True), (b"a\r\n\r\n , \n", False), ("a\u2028b".encode(), False), (b"a\x0bb", False), (b"\nb", True)],
)
def test_what_sd_scripts_cuts_off_begins_with_a_line_end(tmp_path, data, is_cut):
    (tmp_path / "a.txt").write_bytes(data)
    assert read_caption_file(tmp_path / "a.txt").is_cut == is_cut


def test_a_caption_in_another_encoding_has_a_problem(tmp_path):
    (tmp_path / "a.txt").write_bytes("ü".encode("latin-1"))
    found = read_caption_file(tmp_path / "a.txt")
    assert (found.line, found.is_unreadable) == ("", True)
    assert found.problem == "byte 0 is not UTF-8: save it as UTF-8"
