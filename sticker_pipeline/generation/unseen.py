"""Prompts about characters that nobody has drawn: traits put together so that no character of a style has any of them.

Which tags a character of the style has is found out by the stage `dataset` (style_set.own_traits).
"""

from collections.abc import Collection, Sequence

from sticker_pipeline.core.settings import StyleSettings
from sticker_pipeline.generation.prompts import Prompt, PromptError, join_tags

STYLE = "unseen"  # what prompts and requests name as their style: it keeps their seeds apart from the benchmark's
CHOICE_CHARACTERS, GOAL_CHARACTERS = (0, 2, 4, 6), (1, 3, 5, 7)  # numbers of invented characters: never the same ones


def invented_characters(traits: Sequence[Sequence[str]], taken: Collection[str], count: int) -> list[list[str]]:
    """`count` characters, each with one trait of each list of `traits` of which any is left once those that are `taken`
    are left out. No two are the same as long as there are combinations. Raises PromptError where nothing is left."""
    free = [[trait for trait in slot if trait not in taken] for slot in traits]
    left = [slot for slot in free if slot]
    if not left:
        raise PromptError("The characters of the style have every trait of `style.traits`: add others in the profile.")
    return [
        [slot[(number + place * (number // len(slot))) % len(slot)] for place, slot in enumerate(left)]
        for number in range(count)
    ]


def unseen_prompts(settings: StyleSettings, taken: Collection[str], numbers: Sequence[int]) -> list[Prompt]:
    """For each of the invented characters of these `numbers` (from 0) a prompt for each of `settings.attributes`. A
    prompt's `attributes`, which are looked for in its images, are the traits and what is asked beside them. No word
    names the style: the LoRA is to draw in it without one."""
    characters = invented_characters(settings.traits, taken, max(numbers) + 1)
    return [
        Prompt(STYLE, join_tags([settings.begin, asked]), asked)
        for number in numbers
        for asked in (join_tags([*characters[number], attributes]) for attributes in settings.attributes)
    ]


def sampled_prompts(settings: StyleSettings, taken: Collection[str], most: int) -> list[str]:
    """The first prompt about each of the first `most` characters of CHOICE_CHARACTERS, for samples of a training."""
    first = settings.model_copy(update={"attributes": settings.attributes[:1]})
    return [prompt.text for prompt in unseen_prompts(first, taken, CHOICE_CHARACTERS[:most])]
