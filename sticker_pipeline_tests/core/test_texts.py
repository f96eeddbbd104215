import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sticker_pipeline.core import texts
from sticker_pipeline.core.texts import (
    TextError,
    UserError,
    decoded,
    folded,
    hidden_letters,
    name_finder,
    quoted,
    shortened,
    tidy,
    tidy_lines,
    unescaped,
    visible,
    without_hidden,
)

TEXT = "smile, 笑顔, ガール 👩\u200d🎨"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf_8_is_read_with_and_without_a_mark(encoding: str) -> None:
    assert decoded(TEXT.encode(encoding)) == TEXT


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_encodings_are_read_by_their_mark_alone(encoding: str) -> None:
    assert decoded(("\ufeff" + TEXT).encode(encoding)) == TEXT
    with pytest.raises(TextError, match="save it as UTF-8"):
        decoded(TEXT.encode(encoding))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("笑顔".encode("shift_jis"), r"^byte 0 is not UTF-8: save it as UTF-8$"),
        (b"a" * 5000 + b"\xe9t\xe9", "^byte 5000 is not UTF-8"),
        (b"\xff\xfea", "^byte 2 is not UTF-16"),
        (b"smile\x00", r"^it holds the control character U\+0000: remove it, or save it as UTF-8$"),
        (b"\x1b[31mred", "U.001B"),
        ("\x9b31m".encode(), "U.009B"),
    ],
)
def test_what_is_no_text_is_named_with_the_remedy(data: bytes, message: str) -> None:
    with pytest.raises(TextError, match=message):
        decoded(data)


@pytest.mark.parametrize("space", ["\t", "\v", "\f", "\r\n", "\x85", "\xa0", "\u2003", "\u3000", "\u2028", "\x1f"])
def test_every_white_space_is_read_and_becomes_one_space(space: str) -> None:
    assert tidy(decoded(f"red{space}{space}hair{space}".encode())) == "red hair"


def test_nothing_is_invisible_but_what_joins() -> None:
    assert tidy("\ufeffsm\u200bi\u2060l\u00ade\u202e\x1a") == "smile"
    assert tidy("👩\u200d🎨 می\u200cخواهم 🏴\U000e0067\U000e0062\U000e007f") == (
        "👩\u200d🎨 می\u200cخواهم 🏴\U000e0067\U000e0062\U000e007f"
    )
    assert tidy("カ\u3099ール") == "ガール"
    assert tidy("luma\u200d, \u200csmile \u200d") == "luma, smile"  # nothing is joined


def test_lines_without_a_word_are_none() -> None:
    assert tidy_lines("smile,\r\n\r\n ,\u3000\n red  hair\u2028end") == ["smile,", "red hair", "end"]


def test_a_joiner_behind_a_virama_stays_at_the_end_of_a_word() -> None:
    assert tidy("അവന\u0d4d\u200d, smile, അവന\u0d4d\u200d") == "അവന\u0d4d\u200d, smile, അവന\u0d4d\u200d"
    assert tidy("ന\u0d4d\u200d\u200c\u200d") == "ന\u0d4d\u200d"
    assert tidy("GIF\u200cها 20\u200cساله می\u200c") == "GIF\u200cها 20\u200cساله می"


JOINED = st.text(st.sampled_from("a 0,é\u0301\u093c\u094d\u0d4dनന\u200c\u200d\u200b\n🎨\u3164می\x1b\u0338<"))


@given(st.text() | JOINED)
def test_tidying_twice_changes_nothing(text: str) -> None:
    assert tidy(tidy(text)) == tidy(text)


@given(st.text())
def test_every_text_without_control_characters_survives_its_encodings(text: str) -> None:
    kept = "".join(one for one in text if unicodedata.category(one) not in ("Cc", "Cs")).lstrip("\ufeff")
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        assert decoded(kept.encode(encoding)) == kept


def test_brackets_copied_from_other_uis_are_plain() -> None:
    assert unescaped(r"star \(symbol\)") == "star (symbol)"
    assert unescaped(r"\o/ \m/") == r"\o/ \m/"


def test_a_name_is_found_by_its_spelling_then_by_what_a_person_sees() -> None:
    composed, apart = "ガール.png", unicodedata.normalize("NFD", "ガール.png")
    assert composed != apart and folded(composed) == folded(apart)
    assert name_finder(["A.png", "a.PNG"])("a.PNG") == "a.PNG"
    assert name_finder([apart, "b"])(composed) == apart
    assert name_finder(["gifs", "stickers"])("GIFS") == "gifs"
    assert name_finder(["A.png", "a.PNG"])("a.png") is None  # either may be meant
    assert name_finder(["a"])("c") is None


def test_thousands_of_names_take_no_longer_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name is folded once, and once when it is looked for."""
    count = 0
    fold = texts.folded

    def counted(name: str) -> str:
        nonlocal count
        count += 1
        return fold(name)

    monkeypatch.setattr(texts, "folded", counted)
    names = [f"ガ{number}" for number in range(2000)]
    find = texts.name_finder(unicodedata.normalize("NFD", name) for name in names)
    assert [unicodedata.normalize("NFC", find(name) or "") for name in names] == names
    assert count == 4000


def test_a_run_of_joiners_is_read_once() -> None:
    """With time in proportion to its length: bench_growth.py."""
    assert tidy("a" + "\u200d" * 20_000 + "b") == "a" + "\u200d" * 20_000 + "b"
    assert tidy("a" + "\u200d" * 20_000 + " b") == "a b"
    assert tidy("a " + "\u200d" * 20_000 + "b") == "a b"


@given(st.text())
def test_folding_twice_changes_nothing(text: str) -> None:
    assert folded(folded(text)) == folded(text)


HIDDEN = {
    "\x00": "\\x00",
    "\x1b": "\\x1b",
    "\r": "\\r",
    "\b": "\\x08",
    "\x9b": "\\x9b",
    "\xad": "\\xad",
    "\u200b": "\\u200b",
    "\u202e": "\\u202e",
    "\u2066": "\\u2066",
    "\u2028": "\\u2028",
    "\ufeff": "\\ufeff",
    "\u3164": "\\u3164",
    "\udc9b": "\\udc9b",
    "\U000e0041": "\\U000e0041",
}


@pytest.mark.parametrize("letter", HIDDEN)
def test_a_letter_that_nobody_sees_is_shown_and_refused(letter: str) -> None:
    assert visible(f"a{letter}b") == f"a{HIDDEN[letter]}b"
    assert hidden_letters(f"a{letter}b{letter}") == HIDDEN[letter]
    with pytest.raises(ValueError, match="invisible characters"):
        without_hidden(f"a{letter}b")
    assert str(UserError(f"a{letter}b")) == f"a{HIDDEN[letter]}b"


@pytest.mark.parametrize(
    "text",
    [
        *("GIF\u200cها", "20\u200cساله", "T\u200cشرت", "ها\u200cGIF", "é\u200ca", "e\u0301\u200cها"),
        *("ന\u0d4d\u200d", "ന\u0d4d\u200d, smile", "अवन\u0d4d\u200d 2", "क\u094d\u200cष", "க\u0bcd\u200c"),
        *("🙂\u200d↔\ufe0f", "👩🏽\u200d🎨", "\U0001face\u200d🔥"),
        *("smile, 笑顔", "👩\u200d🎨", "می\u200cخواهم", "🏴\U000e0067\U000e0062\U000e007f", "❤\ufe0f\u200d🔥", "[/x]"),
    ],
)
def test_what_people_write_is_shown_as_it_is(text: str) -> None:
    assert visible(text) == without_hidden(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *("lu\u200cma", "\u200d🎨", "🎨\u200d", "🎨\u200d\u200d🎨", "a\U000e0067\U000e0062\U000e007f"),
        *("lu\u200dma", "2\u200c0", "می\u200c", "می\u200c خواهم", "\u200cها", "GIF\u200c، ها", ".\u200cها"),
        *("a\u200d🎨", "🎨\u200da", "\u3000\u200d\u3000", "、\u200dガ", "ガ\u200c\u3164", "\u200b\u200cها"),
        *("ന\u0d4d\u200d\u200d", "\u200d\u0d4d"),
    ],
)
def test_joiners_and_tags_that_join_nothing_are_hidden(text: str) -> None:
    assert visible(text) != text and hidden_letters(text)


def test_line_breaks_and_tabs_stay_in_a_message_and_not_in_what_it_quotes() -> None:
    assert visible("one\n\ttwo") == "one\n\ttwo"
    assert shortened("one\n\ttwo") == "one\\n\\ttwo"
    assert hidden_letters("one\ntwo") == "\\n"


def test_what_is_quoted_is_cut() -> None:
    assert shortened("x" * 120) == "x" * 120
    assert shortened("x" * 1_120) == "x" * 120 + "… (1,000 more letters)"
    assert shortened("\x1b" * 100, 40) == "\\x1b" * 10 + "… (90 more letters)"
    assert quoted(["a"] * 100, 5) == "['a',… (495 more letters)"


@given(st.text() | JOINED, st.integers(1, 50))
def test_what_is_shown_is_never_hidden(text: str, most: int) -> None:
    assert not hidden_letters(visible(text).replace("\n", "").replace("\t", ""))
    assert visible(visible(text)) == visible(text)
    assert len(shortened(text, most).partition("… (")[0]) <= most
