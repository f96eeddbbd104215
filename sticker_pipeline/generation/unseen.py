"""Prompts about invented characters, with traits that none of a style has."""

from collections.abc import Collection, Sequence

from sticker_pipeline.core.settings import StyleSettings
from sticker_pipeline.generation.prompts import Prompt, PromptError, join_tags

STYLE = "unseen"  # `medium` of prompts and requests: separates their seeds from the benchmark's
CHOICE_CHARACTERS, GOAL_CHARACTERS = (0, 2, 4, 6), (1, 3, 5, 7)  # numbers of invented characters, disjoint


def invented_characters(traits: Sequence[Sequence[str]], taken: Collection[str], count: int) -> list[list[str]]:
    """`count` characters, each with a free trait of each list.

    Traits in `taken` are omitted, and lists without others. Characters may repeat before all combinations are used: the
    first 64 of INVENTED_TRAITS with none taken differ. Raises PromptError where nothing is left.
    """
    free = [[trait for trait in slot if trait not in taken] for slot in traits]
    left = [slot for slot in free if slot]
    if not left:
        raise PromptError("The characters of the style have every trait of `style.traits`: add others in the profile.")
    return [
        [slot[(number + place * (number // len(slot))) % len(slot)] for place, slot in enumerate(left)]
        for number in range(count)
    ]


def unseen_prompts(settings: StyleSettings, taken: Collection[str], numbers: Sequence[int]) -> list[Prompt]:
    """Prompt for each of `settings.attributes` per invented character.

    `numbers`: the characters, from 0. A prompt's `attributes`, checked in its images, are the traits and
    `settings.attributes`. It has no trigger word: the LoRA must generate in the style without one.
    """
    characters = invented_characters(settings.traits, taken, max(numbers) + 1)
    return [
        Prompt(STYLE, join_tags([settings.begin, asked]), asked)
        for number in numbers
        for asked in (join_tags([*characters[number], attributes]) for attributes in settings.attributes)
    ]


def sampled_prompts(settings: StyleSettings, taken: Collection[str], most: int) -> list[str]:
    """Prompts of training samples: the first for each of `most` CHOICE_CHARACTERS."""
    first = settings.model_copy(update={"attributes": settings.attributes[:1]})
    return [prompt.text for prompt in unseen_prompts(first, taken, CHOICE_CHARACTERS[:most])]
