from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sticker_pipeline.tagging.captions import (
    LIGHTEST,
    SEPARATOR,
    cut_weights,
    escaped_prompt,
    format_caption,
    habits,
    misread_weights,
    parse_caption,
    plain_text,
)

TAGS = st.text("ab (:)\\1.2", min_size=1, max_size=9).filter(lambda tag: tag == tag.strip())


@pytest.mark.parametrize(
    ("tags", "weights", "caption"),
    [
        (["hsr_a", "smile"], {}, "hsr_a, smile"),
        (["hsr_a", "star (symbol)"], {}, "hsr_a, star (symbol)"),
        (["hsr_a", "star (symbol)"], {"hsr_a": 1.2}, r"(hsr_a:1.2), star \(symbol\)"),
        (["hsr_a", "star (symbol)"], {"star (symbol)": 0.5}, r"hsr_a, (star \(symbol\):0.5)"),
        (["hsr_a"], {"hsr_a": 1.0, "not here": 1.3}, "hsr_a"),
        (["(a:1.5)"], {}, r"\(a:1.5\)"),
        (["(a:1.5)", "b (c)"], {"b (c)": 2}, r"\(a:1.5\), (b \(c\):2.0)"),
        ([r"\o/", r"\(a", "smile"], {}, r"\\o/, \\\(a, smile"),
        ([r"\o/", ":(", "12"], {}, r"\o/, :(, 12"),
    ],
)
def test_written_and_read(tags: list[str], weights: dict[str, float], caption: str) -> None:
    assert format_caption(tags, weights) == caption
    assert parse_caption(caption) == [(tag, weights.get(tag, 1.0)) for tag in tags]


@given(st.lists(st.tuples(TAGS, st.one_of(st.just(1.0), st.floats(1e-9, 2))), max_size=6, unique_by=lambda one: one[0]))
def test_reading_inverts_writing(items: list[tuple[str, float]]) -> None:
    assert parse_caption(format_caption([tag for tag, _ in items], dict(items))) == items


@given(st.lists(TAGS, max_size=6, unique=True), st.dictionaries(TAGS, st.floats(0.01, 2)), st.randoms())
def test_items_are_read_alike_in_any_order_and_number(tags: list[str], weights: dict[str, float], random: Any) -> None:
    items = format_caption(tags, weights).split(SEPARATOR)
    chosen = random.sample(list(zip(tags, items, strict=True)) if tags else [], random.randint(0, len(tags)))
    expected = [(tag, weights.get(tag, 1.0)) for tag, _ in chosen]
    assert parse_caption(SEPARATOR.join(item for _, item in chosen)) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("( smile:1.2), hat", [("smile", 1.2), ("hat", 1.0)]),
        ("(smile : 1.2 ),hat,", [("smile", 1.2), ("hat", 1.0)]),
        ("(one, two:1.2), three", [("one", 1.2), ("two", 1.2), ("three", 1.0)]),
        ("((one:1.5), two:.5)", [("one", 0.75), ("two", 0.5)]),
        (r"(star \(symbol\):1.1), heart \(symbol\), \[x\], a\\b", None),
        ("(2b (nier automata):1.1)", [("2b (nier automata)", 1.1)]),
        ("red (hair:1.2) long", [("red hair long", 1.2)]),
        ("(smile:1.2)(hat:0.5), x(y:1.5)z", [("smile hat", 0.5), ("x y z", 1.5)]),
        ("star (symbol), :), >:(, (a)", [("star (symbol)", 1.0), (":)", 1.0), (">:(", 1.0), ("(a)", 1.0)]),
        (":(, (smile:1.2), :)", [(":(", 1.0), ("smile", 1.2), (":)", 1.0)]),
        (r"\o/, \m/, <lora:x:1>", [(r"\o/", 1.0), (r"\m/", 1.0), ("<lora:x:1>", 1.0)]),
        ("(12:45), (smile:3), (x:-1), (:3)", [(item, 1.0) for item in ("(12:45)", "(smile:3)", "(x:-1)", "(:3)")]),
        ("(:3:1.2), (x:1e-05), (x:0), (y:2)", [(":3", 1.2), ("x", 1e-05), ("(x:0)", 1.0), ("y", 2.0)]),
        ("((((a:2):2):2):2), ((b:1e-200):1e-200)", [("a", 2.0), ("b", LIGHTEST)]),
        ("(unclosed:1.2, x", [("(unclosed:1.2", 1.0), ("x", 1.0)]),
        ("", []),
        (" , ,", []),
    ],
)
def test_what_people_write(caption: str, expected: list[tuple[str, float]] | None) -> None:
    brackets = [("star (symbol)", 1.1), ("heart (symbol)", 1.0), ("[x]", 1.0), (r"a\b", 1.0)]
    assert parse_caption(caption) == (brackets if expected is None else expected)


@given(st.one_of(st.text("ab (:)\\1.2,[]", max_size=30), st.text(max_size=30)))
def test_reading_what_was_read_and_written_is_stable(text: str) -> None:
    read = dict(parse_caption(text))
    written = format_caption(read, read)
    assert parse_caption(written) == list(read.items())
    assert format_caption(*(lambda pairs: ([tag for tag, _ in pairs], dict(pairs)))(parse_caption(written))) == written


def test_a_long_row_of_brackets_takes_no_longer_for_each() -> None:
    deep = "(" * 20_000 + "a" + ":1.1)" * 20_000
    assert parse_caption(deep) == [("a", 2.0)]


def test_a_long_number_takes_no_longer_for_each_digit() -> None:
    text = "x:" + "1" * 200_000
    assert parse_caption(text) == [(text, 1.0)]


@pytest.mark.parametrize(
    ("caption", "named"),
    [
        ("(12:45), (smile:3), (hat:1.5), :3, (:3)", ["(12:45)", "(smile:3)", "(:3)"]),
        ("(smile:1.2, hat", ["(smile:1.2"]),
        (r"\(smile:1.2\), star (symbol), smile:1.2", []),
        ("((a:1.5), b:0.5), (c (d):1.1)", []),
        ("(smile, hat:3), (smile , hat:1.2)", ["(smile, hat:3)"]),
        (r"(star \(symbol\):3), (star (symbol):3)", [r"(star \(symbol\):3)", "(star (symbol):3)"]),
        (r"(star \(symbol\):1.2", [r"(star \(symbol\):1.2"]),
        ("hat, smile:1.2), :3), cat", ["smile:1.2)"]),
        ("（smile:1.2）, (hat：1.2), （cat：1.2)", ["（smile:1.2）", "(hat：1.2)", "（cat：1.2)"]),
        ("(cat, :3), (cat, 猫：笑顔)", []),
        ("((a:3):3), ((b:1.2):3)", ["(a:3)", "((b:1.2):3)"]),
        ("(smile:1.2, hat:1.1)", []),
    ],
)
def test_a_weight_that_was_not_read_as_one_is_named(caption: str, named: list[str]) -> None:
    assert misread_weights(caption) == named


def test_weights_that_multiply_to_more_than_is_taken_are_named() -> None:
    assert cut_weights("((smile:1.5):1.5), ((hat:1.5):1.2), ((a:1.5), b:2), c") == ["smile", "a"]
    assert dict(parse_caption("((smile:1.5):1.5)")) == {"smile": 2.0}


def test_brackets_in_thousands_take_no_longer_for_each() -> None:
    assert misread_weights("(" * 9000 + "a" + ":3)" * 3000) == ["(a:3)"]


@pytest.mark.parametrize("weight", [0, -1.0, 2.01, float("nan")])
def test_a_weight_that_could_not_be_read_back_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 2"):
        format_caption(["a"], {"a": weight})


@pytest.mark.parametrize("tag", ["", "a,b", " a", "a\n"])
def test_tags_that_cannot_be_read_back_are_refused(tag: str) -> None:
    with pytest.raises(ValueError, match="cannot stand in a caption"):
        format_caption(["ok", tag], {})


@pytest.mark.parametrize(
    ("prompt", "comfyui", "a1111"),
    [
        ("miku_(vocaloid), smile", r"miku_\(vocaloid\), smile", r"miku_\(vocaloid\), smile"),
        ("(smile:1.2), [x]", "(smile:1.2), [x]", r"(smile:1.2), \[x\]"),
        (r"(star \(symbol\):1.2)", r"(star \(symbol\):1.2)", r"(star \(symbol\):1.2)"),
        ("(a, (b:0.5):1.5)", "(a:1.5), (b:0.75)", "(a:1.5), (b:0.75)"),
        ("(smile:3)", r"\(smile:3\)", r"\(smile:3\)"),
        (r"\o/", r"\o/", r"\\o/"),
        ("", "", ""),
    ],
)
def test_prompts_as_other_programs_read_them(prompt: str, comfyui: str, a1111: str) -> None:
    assert escaped_prompt(prompt) == comfyui
    assert escaped_prompt(prompt, "\\()[]") == a1111


def test_words_without_weights() -> None:
    assert plain_text(r"(a, b:1.2), star \(symbol\), c") == "a, b, star (symbol), c"


@pytest.mark.parametrize(
    ("prompt", "part"),
    [
        ("smile, <lora:anki:0.8>", "<lora:anki:0.8>"),
        ("<hypernet:x>", "<hypernet:x>"),
        ("smile BREAK hat", "BREAK"),
        ("a cat AND a dog", "AND"),
        ("[cat:dog:0.5], hat", "[cat:dog:0.5]"),
        ("smile, [hat]", "[hat]"),
        ("((smile)), hat", "((smile))"),
        ("(smile)", "(smile)"),
        ("{red|blue} hair", "{red|blue}"),
        ("__colour__ hair", "__colour__"),
        ("embedding:easynegative", "embedding:easynegative"),
    ],
)
def test_habits_of_other_programs_are_told(prompt: str, part: str) -> None:
    (sentence,) = habits(prompt)
    assert sentence.startswith(f"{part!r} ")


@pytest.mark.parametrize(
    "prompt",
    [
        "smile, hat",
        "star (symbol)",
        "(smile:1.2)",
        r"\(smile\)",
        ":(, :)",
        "(o)_(o)",
        "breakfast, sand",
        "a_b",
        "[",
        "(:",
    ],
)
def test_plain_prompts_have_no_habits(prompt: str) -> None:
    assert habits(prompt) == []
