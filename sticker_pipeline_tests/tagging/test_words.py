import pytest

from sticker_pipeline.tagging.words import head_endings, pattern


@pytest.mark.parametrize(
    ("tag", "endings"),
    [
        ("white dress shirt", ["dress shirt", "shirt"]),
        ("sweater", []),
        ("mole under left eye", ["mole"]),
        ("short hair with long locks", ["short hair", "hair"]),
        ("from behind", []),
    ],
)
def test_head_endings(tag: str, endings: list[str]) -> None:
    assert head_endings(tag) == endings


def test_only_the_star_is_special_in_patterns() -> None:
    assert pattern("* (?)").fullmatch("a b (?)")
    assert not pattern("* (?)").fullmatch(" (?)")
    assert not pattern("a.c").fullmatch("abc")
