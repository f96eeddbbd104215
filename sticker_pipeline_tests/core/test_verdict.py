from sticker_pipeline.core.verdict import listed


def test_names_are_listed_once_and_not_without_end() -> None:
    assert listed(["a", "b", "a"]) == "a, b"
    assert listed("abcdefga") == "a, b, c, d, e and 2 more"
