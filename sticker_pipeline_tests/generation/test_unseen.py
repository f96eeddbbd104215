"""Invented characters share no trait with any character of the medium."""

import pytest

from sticker_pipeline.core.settings import INVENTED_TRAITS, StyleSettings
from sticker_pipeline.generation.prompts import Prompt, PromptError
from sticker_pipeline.generation.unseen import invented_characters, unseen_prompts

SLOTS = [["twintails", "bob cut", "ponytail"], ["red hair", "blue hair"], ["hat"]]


def test_no_trait_of_the_medium_is_used() -> None:
    assert invented_characters(SLOTS, {"bob cut", "hat"}, 3) == [
        ["twintails", "red hair"],
        ["ponytail", "blue hair"],
        ["twintails", "blue hair"],
    ]
    with pytest.raises(PromptError, match="every trait"):
        invented_characters([["hat"]], {"hat"}, 1)


def test_combinations_do_not_repeat_before_they_must() -> None:
    found = invented_characters([["a", "b"], ["c", "d"]], (), 4)
    assert sorted(map(tuple, found)) == [("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")]
    assert len(set(map(tuple, invented_characters(INVENTED_TRAITS, (), 64)))) == 64


def test_a_prompt_says_traits_and_attributes_and_no_medium() -> None:
    settings = StyleSettings(begin="1girl", traits=tuple(map(tuple, SLOTS)), attributes=("smile", "angry"))
    assert unseen_prompts(settings, {"hat"}, [1]) == [
        Prompt("unseen", "1girl, bob cut, blue hair, smile", "bob cut, blue hair, smile"),
        Prompt("unseen", "1girl, bob cut, blue hair, angry", "bob cut, blue hair, angry"),
    ]
