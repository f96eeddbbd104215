import pytest
from hypothesis import given
from hypothesis import strategies as st

from sticker_pipeline.tagging.captions import format_caption, parse_caption

TAGS = st.text("ab (:)\\1.2", min_size=1, max_size=9).filter(lambda tag: tag == tag.strip())


@pytest.mark.parametrize(
    ("tags", "weights", "caption"),
    [
        (["hsr_a", "smile"], {}, "hsr_a, smile"),
        (["hsr_a", "star (symbol)"], {}, "hsr_a, star (symbol)"),
        (["hsr_a", "star (symbol)"], {"hsr_a": 1.2}, r"(hsr_a:1.2), star \(symbol\)"),
        (["hsr_a", "star (symbol)"], {"star (symbol)": 0.5}, r"hsr_a, (star \(symbol\):0.5)"),
        (["hsr_a"], {"hsr_a": 1.0, "not here": 1.3}, "hsr_a"),
        (["(a:1.5)"], {}, r"(\(a:1.5\):1.0)"),
    ],
)
def test_written_and_read(tags: list[str], weights: dict[str, float], caption: str) -> None:
    assert format_caption(tags, weights) == caption
    assert parse_caption(caption) == [(tag, weights.get(tag, 1.0)) for tag in tags]


@given(st.lists(st.tuples(TAGS, st.one_of(st.just(1.0), st.floats(1e-9, 2))), max_size=6, unique_by=lambda one: one[0]))
def test_reading_inverts_writing(items: list[tuple[str, float]]) -> None:
    assert parse_caption(format_caption([tag for tag, _ in items], dict(items))) == items


@pytest.mark.parametrize("tag", ["", "a,b", " a", "a\n"])
def test_tags_that_cannot_be_read_back_are_refused(tag: str) -> None:
    with pytest.raises(ValueError, match="cannot stand in a caption"):
        format_caption(["ok", tag], {})
