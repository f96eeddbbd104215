"""Characters of one style."""

from collections.abc import Iterable
from pathlib import Path

from sticker_pipeline.core.character import Character, Settings
from sticker_pipeline.core.profile import Profile, load_profile
from sticker_pipeline.roots.others import MOST_OTHERS, some_others
from sticker_pipeline.roots.style import of_its_style

PROFILE = load_profile("embedded", Path("models"))


def character(name: str, style: str | None) -> Character:
    settings = Settings.model_validate({"trigger": "x"} | ({"style": style} if style else {}))
    return Character(name, Path(name), settings, {})


def valid(characters: Iterable[Character]) -> list[tuple[Character, Profile]]:
    return [(one, PROFILE) for one in characters]


def names(characters: Iterable[Character]) -> list[str]:
    return [one.name for one in characters]


def test_only_characters_that_name_the_style_are_of_it() -> None:
    ada, bea, cid, dan = (character(name, style) for name, style in zip("abcd", ("x", "y", "x", None), strict=True))
    every = valid([ada, bea, cid, dan])
    assert names(of_its_style(ada, every)) == ["a", "c"]
    assert names(of_its_style(cid, every)) == ["c", "a"]
    assert names(of_its_style(bea, every)) == ["b"]
    assert names(of_its_style(dan, every)) == ["d"]
    assert names(of_its_style(ada, [])) == ["a"]


def test_of_very_many_a_few_are_looked_at_and_each_by_as_many() -> None:
    """The cost of a check does not grow with the style; a new character changes a few others' at most."""
    many = [character(f"c{number:03d}", "x") for number in range(3 * MOST_OTHERS)]
    before = {one.name: some_others(one.name, names(many)) for one in many}
    assert {len(others) for others in before.values()} == {MOST_OTHERS}
    assert all(name not in others for name, others in before.items())
    after = {one.name: some_others(one.name, [*names(many), "new"]) for one in many}
    assert sum(after[name] != before[name] for name in before) == MOST_OTHERS
    assert names(of_its_style(many[0], valid(many))) == ["c000", *before["c000"]]
