"""Emoji: suggested for slots and tags, valid, and counted as they are shown."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sticker_pipeline.packing import emoji as module
from sticker_pipeline.packing.emoji import FALLBACK, emoji_name, emoji_pattern, is_emoji, suggest, tags_of

FAMILY = "👨‍👩‍👧‍👦"
SCOTLAND = "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
EMOJI = [
    "😀",
    "❤️",
    "❤",
    "👍🏽",
    FAMILY,
    "🏳️‍🌈",
    "❤️‍🔥",
    "🇯🇵",
    SCOTLAND,
    "1️⃣",
    "#⃣",
    "👩🏽‍🚀",
    "🧑🏻‍🤝‍🧑🏿",
    "🫩",
    "☝🏿",
    "©️",
    "👨‍👩‍👧‍👦",
    "🇩🇪",
    "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "☺️",
    "⭐",
    "🧑🏿‍🦰",
    "ℹ️",
    "㊗️",
    "Ⓜ️",
    "‼️",
    "↔️",
    "🫠",
    "🫱🏻‍🫲🏿",
    "▶️",
    "🀄",
    "🅰️",
]
OTHERS = ["", "a", "1", "#", "😀😀", "😀 ", ":)", "🇯", "🏽😀", "‍", "️", "漢", "😀‍", "⃣", "★", "smile", "<b>"]


@pytest.mark.parametrize("emoji", EMOJI)
def test_one_emoji_counts_one(emoji):
    assert is_emoji(emoji)
    assert re.findall(emoji_pattern(), emoji) == [emoji]


@pytest.mark.parametrize("text", OTHERS)
def test_other_texts_are_no_emoji(text):
    assert not is_emoji(text)


@given(st.text(st.characters(categories=["L", "Z", "Po", "Cc", "Cs", "Mn"]), max_size=4))
def test_letters_and_marks_are_no_emoji(text):
    assert not is_emoji(text) or text[0] in "\u203c\u2049\u2139\u303d"


@given(st.lists(st.sampled_from(EMOJI), max_size=6))
def test_emoji_in_a_row_are_told_apart(emoji):
    assert re.findall(emoji_pattern(), " ".join(emoji)) == emoji
    assert re.findall(emoji_pattern(), "".join(emoji)) == emoji


def test_skin_tone_alone_is_an_emoji_and_after_a_hand_a_part_of_it():
    assert is_emoji("🏽")
    assert re.findall(emoji_pattern(), "👍🏽👍") == ["👍🏽", "👍"]


@pytest.mark.parametrize(
    ("slot", "tags", "first"),
    [
        ("thumbs_up", [], "👍"),
        ("hello", ["smile"], "👋"),
        ("good morning", [], "🌅"),
        ("custom_17", ["1girl", "solo", "crying"], "😢"),
        ("sleeping", [], "😴"),
        ("angry", [], "😠"),
        ("heart", [], "❤️"),
        ("big-laugh", [], "😂"),
        ("", ["Thank You"], "🙏"),
        ("custom", ["one_eye_closed", "smile"], "😉"),
    ],
)
def test_first_suggestion(slot, tags, first):
    assert suggest(slot, tags)[0] == first


@given(st.text(max_size=20), st.lists(st.text(max_size=12), max_size=5), st.integers(0, 5))
def test_suggestions_are_never_empty_nor_too_many(slot, tags, most):
    found = suggest(slot, tags, most)
    assert 1 <= len(found) <= max(1, most)
    assert all(map(is_emoji, found))
    assert len(set(found)) == len(found)


def test_suggestion_without_a_match():
    assert suggest("x17", ["1girl", "simple_background"]) == (FALLBACK,)


def test_each_row_is_one_emoji_with_a_name_and_tags():
    rows = module._rows()
    assert len({row["emoji"] for row in rows}) == len({row["name"] for row in rows}) == len(rows)
    for row in rows:
        assert is_emoji(row["emoji"]), row
        assert row["name"].replace("_", "").isalnum() and row["name"].isascii(), row
        assert tags_of(row["tags"]), row


def test_no_tag_has_the_same_emoji_twice():
    for tag, emoji in module._by_tag().items():
        assert len(set(emoji)) == len(emoji), tag


@pytest.mark.parametrize(
    ("emoji", "name"),
    [
        ("👍", "thumbsup"),
        ("👍🏽", "thumbsup"),
        ("❤️", "heart"),
        ("❤", "heart"),
        ("🦩", "flamingo"),
        ("🙂", "slight_smile"),
    ],
)
def test_names(emoji, name):
    assert emoji_name(emoji) == name


@given(st.text(max_size=5))
def test_names_are_never_empty(text):
    assert emoji_name(text).strip()


def test_emoji_of_rich_are_emoji():
    """A table of another project, of Unicode 13.

    It has single letters of flags too, and a helm that has not the property.
    """
    codes = pytest.importorskip("rich._emoji_codes").EMOJI
    refused = {name for name, one in codes.items() if not is_emoji(one)}
    assert len(codes) > 3000
    assert {name for name in refused if not name.startswith("regional_indicator")} <= {"helm_symbol"}


def test_ranges_equal_those_of_the_regex_package():
    regex = pytest.importorskip("regex")
    everything = "".join(map(chr, range(0x80, 0x1F1E6))) + "".join(map(chr, range(0x1F200, 0x20000)))
    theirs = set(regex.findall(r"\p{Emoji}", everything.replace("\ud800", "")))
    ours = set(re.findall(emoji_pattern(), " ".join(everything)))
    assert len(ours ^ theirs) < 30  # it may be of an older or newer Unicode
    assert {"😀", "🪿", "🫨"} <= theirs
