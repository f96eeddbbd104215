"""Requests for generated candidates: the release's trigger, and a slot's tags."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sticker_pipeline.core.profile import Profile
from sticker_pipeline.generation.prompts import PromptError, Request, join_tags, request_seed
from sticker_pipeline.packing.slots import Slot, prompt_for

STICKER = "sticker"  # the medium whose prompts are used if the release has it


@dataclass(frozen=True)
class SlotRequest:
    """An image to generate for a slot.

    `attributes`: the tags that it must show.
    """

    slot: str
    attributes: str
    request: Request


def pack_requests(
    beginnings: Mapping[str, Sequence[str]],
    profile: Profile,
    slots: Sequence[Slot],
    known_tags: Collection[str],
    seeds: int,
) -> list[SlotRequest]:
    """Return `seeds` requests for each slot, slot by slot.

    beginnings: medium -> first tags, as a release records them. known_tags: the tagger's. A slot's seeds depend on its
    name alone: other slots change nothing. Raises PromptError where the profile has no tags of the medium.
    """
    medium = STICKER if STICKER in beginnings else min(beginnings, default=STICKER)
    if medium not in profile.benchmark.medium_tags:
        raise PromptError(f"Profile {profile.name!r} has no benchmark.medium_tags for {medium!r}: add it there.")
    found = []
    for slot in slots:
        attributes = prompt_for(slot, known_tags)
        text = join_tags([*beginnings.get(medium, ()), profile.benchmark.medium_tags[medium], attributes])
        for number in range(seeds):
            seed = request_seed(f"pack/{slot.name}", medium, 0, number)
            found.append(SlotRequest(slot.name, attributes, Request(medium, text, seed)))
    return found
