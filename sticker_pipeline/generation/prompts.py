"""Prompts from a character's settings, and requests that add seeds."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sticker_pipeline.core.character import Character
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.settings import MAX_TOKENS, ConsistencySettings
from sticker_pipeline.core.texts import UserError, counted
from sticker_pipeline.tagging.captions import format_caption, parse_caption

SHOWN = 160  # letters of a prompt in a message
SEED_BITS = 31  # accepted as a seed by every user interface


class PromptError(UserError):
    """An impossible or truncated prompt; the message has it and a remedy."""


@dataclass(frozen=True)
class Prompt:
    """A prompt; `attributes`: its part that no group of the character fixes."""

    medium: str
    text: str
    attributes: str


@dataclass(frozen=True)
class Request:
    """An image to generate; equal for all models, so images pair up."""

    medium: str
    prompt: str
    seed: int


def benchmark_prompts(character: Character, profile: Profile) -> list[Prompt]:
    """The character's benchmark prompts by medium, in the order of attributes.

    For each medium of its groups: trigger, the groups' learned tags, the base model's tag for the medium
    (`profile.benchmark.medium_tags`), and free attributes: the character's own (`benchmark.prompts` in character.yaml),
    else the profile's. Each tag occurs once. Raises PromptError where the profile lacks a medium of the character.
    """
    return prompts_beginning(character, profile, beginnings(character))


def beginnings(character: Character) -> dict[str, list[str]]:
    """Starts of prompts by medium: the trigger and the groups' learned tags."""
    found = {medium: [character.trigger] for medium in _mediums(character)}
    for group in character.groups.values():
        found[group.medium] += [tag for tag in group.learned if tag not in found[group.medium]]
    return found


def prompts_beginning(
    character: Character, profile: Profile, beginnings: Mapping[str, Sequence[str]], otherwise: Sequence[str] = ()
) -> list[Prompt]:
    """The same prompts for a model with other trigger words.

    `beginnings`: by medium; `otherwise`: for other mediums (empty: without trigger). Raises PromptError as
    `benchmark_prompts`.
    """
    return _prompts(character, profile, {medium: beginnings.get(medium, otherwise) for medium in _mediums(character)})


def _mediums(character: Character) -> list[str]:
    return sorted({group.medium for group in character.groups.values()})


def _prompts(character: Character, profile: Profile, beginnings: Mapping[str, Sequence[str]]) -> list[Prompt]:
    prompts = []
    for medium in _mediums(character):
        own = character.settings.benchmark.prompts
        _check_medium(profile, medium, needs_prompts=not own)
        for attributes in own or profile.benchmark.prompts[medium]:
            text = join_tags([*beginnings[medium], profile.benchmark.medium_tags[medium], attributes])
            prompts.append(Prompt(medium, text, attributes))
    return prompts


def join_tags(parts: Sequence[str]) -> str:
    """Tags of `parts`, each once, with its first weight.

    Parts are parsed as captions.
    """
    weights: dict[str, float] = {}
    for tag, weight in (pair for part in parts for pair in parse_caption(part)):
        weights.setdefault(tag, weight)
    return format_caption(weights, weights)


def too_long(prompts: Sequence[str], count: Callable[[Sequence[str]], Sequence[int]]) -> list[str]:
    """Sentence on each prompt with more than MAX_TOKENS tokens.

    `count`: gives the tokens of each prompt.
    """
    distinct = list(dict.fromkeys(prompts))
    return [
        f"This prompt has {length} tokens, and {MAX_TOKENS} are read: {_shortened(prompt)!r}. Shorten "
        "benchmark.prompts or the learned tags in character.yaml."
        for prompt, length in zip(distinct, count(distinct), strict=True)
        if length > MAX_TOKENS
    ]


def _shortened(prompt: str) -> str:
    return prompt if len(prompt) <= SHOWN else prompt[:SHOWN] + "…"


def requests_for(prompts: Sequence[Prompt], seeds_per_prompt: int, purpose: str = "benchmark") -> list[Request]:
    """`seeds_per_prompt` requests for each prompt, prompt by prompt.

    Seeds depend only on purpose, medium, prompt number within the medium and seed number: they are equal for all models
    and characters and unchanged when mediums are added. Another purpose, such as choosing an epoch, has other seeds.
    """
    numbers: dict[str, int] = {}
    requests = []
    for prompt in prompts:
        number = numbers[prompt.medium] = numbers.get(prompt.medium, -1) + 1
        for index in range(seeds_per_prompt):
            requests.append(Request(prompt.medium, prompt.text, request_seed(purpose, prompt.medium, number, index)))
    return requests


def first_of_each_medium(prompts: Sequence[Prompt], mediums: Iterable[str], most: int) -> list[Prompt]:
    """First `most` prompts of each of `mediums`, medium by medium."""
    return [found for medium in mediums for found in [one for one in prompts if one.medium == medium][:most]]


def request_seed(purpose: str, medium: str, prompt_number: int, seed_number: int) -> int:
    """Seed in [0, 2³¹), spread evenly by SHA-256."""
    text = f"{purpose}/{medium}/{prompt_number}/{seed_number}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> (32 - SEED_BITS)


def _check_medium(profile: Profile, medium: str, *, needs_prompts: bool) -> None:
    keys: dict[str, Mapping[str, object]] = {"medium_tags": profile.benchmark.medium_tags}
    if needs_prompts:
        keys["prompts"] = profile.benchmark.prompts
    for key, values in keys.items():
        if medium not in values:
            raise PromptError(
                f"Profile {profile.name!r} has no benchmark.{key} for the medium {medium!r}: add it there."
            )


def prompts_of_words(words: Sequence[Sequence[str]], omitted: float, count: int, seed: int) -> list[str]:
    """`count` different prompts, with one entry of each list of `words`.

    Lists keep their order; each is omitted with probability `omitted`. A larger `count` extends the same prompts.
    Raises PromptError where the words do not give enough.
    """
    rng = np.random.default_rng(seed)
    prompts: dict[str, None] = {}
    for _ in range(100 * count):
        said = [str(rng.choice(entries)) for entries in words if rng.random() >= omitted]
        if said:
            prompts[join_tags(said)] = None
        if len(prompts) == count:
            return list(prompts)
    raise PromptError(
        f"These lists of words do not give {counted(count, 'different prompt')}. Add words, or ask for fewer."
    )


def distillation_prompts(settings: ConsistencySettings) -> tuple[list[str], list[str]]:
    """Prompts of `settings`' words: to measure an LCM-LoRA, to train it."""
    count = settings.measured_prompts
    prompts = prompts_of_words(settings.words, settings.omitted, count + settings.images, settings.seed)
    return prompts[:count], prompts[count:]


def requests_of_texts(texts: Sequence[str], seeds_per_prompt: int, purpose: str) -> list[Request]:
    """`requests_for` prompts without medium, free as a whole."""
    return requests_for([Prompt("", text, text) for text in texts], seeds_per_prompt, purpose)
