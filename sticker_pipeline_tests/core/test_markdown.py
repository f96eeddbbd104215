"""Other people's texts show their letters, in a CommonMark parser with GitHub's additions."""

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sticker_pipeline.core.markdown import bullets, code, code_block, letters, literal

markdown_it = pytest.importorskip("markdown_it")  # rich brings it

ATTACKS = [
    "![x](http://127.0.0.1:9/a.png)", "[![x](http://127.0.0.1:9/a.png)](http://127.0.0.1:9)",
    "<img src=//127.0.0.1:9/a>", "<script>alert(1)</script>", "![x][y]\n\n[y]: http://127.0.0.1:9/a.png",
    "[click](javascript:alert(1))", "http://127.0.0.1:9/a www.example.org me@example.org", "<http://127.0.0.1:9/a>",
    "&lt;img src=x&gt;", "# a", "- a", "1. a", "1) a", "+ a", "> a", "===", "---", "    a", "\ta", "a\n===",
    "```\na\n```", "| a |\n| - |\n| b |", "a  \nb", "\\![x](http://127.0.0.1:9)", "`![x](http://127.0.0.1:9)`",
    "``` `` `", "~~a~~ **b** __c__ _d_ $e$", "[^1]: a", "- [ ] a", "<!-- --><img src=x>", "a<br>b", "x\\", "`", "\\`",
    "HTTPS://127.0.0.1:9", "http<!-- -->://127.0.0.1:9",
]  # fmt: skip
hostile = st.text(st.sampled_from("ab1\\`*_{}[]<>&~|$#!^-+=.():/@ \n\thtpwsmg\"'%?;,\u00e9\u3042"), max_size=40)


def rendered(markdown: str) -> list[Any]:
    return markdown_it.MarkdownIt("gfm-like", {"linkify": False}).parse(markdown)


def shown(inline: Any) -> str:
    """The letters that an inline token shows; nothing else but our comment may be there."""
    seen = ""
    for child in inline.children:
        if child.type == "html_inline":
            assert child.content == "<!-- -->"
            continue
        assert child.type in ("text", "text_special"), (child.type, child.content)
        seen += child.content
    return seen


def run_together(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip(" ")


def check_literal(text: str) -> None:
    tokens = rendered(literal(text))
    assert [token.type for token in tokens] in (["paragraph_open", "inline", "paragraph_close"], [])
    assert "".join(shown(token) for token in tokens if token.type == "inline") == run_together(text)
    (_, _, _, inline, *_) = rendered(f"- {literal(text)} end")
    assert shown(inline) == f"{run_together(text)} end".lstrip(" ")


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_shown_as_it_is_written(attack: str) -> None:
    check_literal(attack)
    assert letters(literal(attack)) == run_together(attack)


@given(hostile | st.text(max_size=40).filter(lambda text: "\0" not in text and text == text.strip()))
@example("a_b c__d _e_ __f g_")
@example("1. a")
@example("@<img src=//127.0.0.1:9/a>")  # a line that begins with a comment is HTML to its end
def test_any_text_is_shown_as_it_is_written(text: str) -> None:
    if re.search(r"[^\S \n\t]", text):
        return  # other white space is kept, and the parser trims it
    check_literal(text)


@given(st.text(max_size=60))
def test_the_letters_come_back(text: str) -> None:
    assert letters(literal(text)) == re.sub("[ \t\n\v\f\r\x1c-\x1f\x85\u2028\u2029]+", " ", text).strip(" ")


@given(hostile)
def test_a_code_span_shows_its_letters(text: str) -> None:
    tokens = rendered(f"a {code(text)} b")
    (inline,) = [token for token in tokens if token.type == "inline"]
    if not run_together(text):
        return
    (span,) = [child for child in inline.children if child.type == "code_inline"]
    assert span.content == run_together(text)
    assert [child.type for child in inline.children] == ["text", "code_inline", "text"]


@given(st.lists(hostile, max_size=4))
def test_a_block_of_code_ends_where_it_should(lines: list[str]) -> None:
    tokens = rendered(code_block(lines) + "\n\nend")
    assert [token.type for token in tokens] == ["fence", "paragraph_open", "inline", "paragraph_close"]
    assert tokens[0].content.rstrip("\n") == "\n".join(lines).rstrip("\n")


@given(st.lists(hostile.filter(run_together), min_size=1, max_size=4))
def test_each_sentence_is_an_entry_of_the_list(sentences: list[str]) -> None:
    tokens = rendered(bullets(sentences))
    assert [shown(token) for token in tokens if token.type == "inline"] == [run_together(one) for one in sentences]
    assert sum(token.type == "list_item_open" for token in tokens) == len(sentences)


def test_nothing_is_said_where_there_is_nothing() -> None:
    assert bullets([]) == "nothing"
    assert code("  ") == ""


@pytest.mark.parametrize("address", ["http://a.example/x", "https://a.example", "www.a.example", "me@a.example"])
def test_an_address_is_broken_for_those_who_link_bare_ones(address: str) -> None:
    assert "<!-- -->" in literal(address)
    assert not re.search(r"https?://|www\.|\w@", literal(address))
