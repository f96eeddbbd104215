"""Settings recommended by a sweep, as LoRA files and generation settings.

The choice of settings: `benchmark/recommend.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sticker_pipeline.core.settings import GenerationSettings
from sticker_pipeline.generation.sampling_config import Adapters, Cell, drawn_with, loras_of


@dataclass(frozen=True)
class Recommended:
    """Settings and LoRAs, in order of application, for at most `budget` steps."""

    budget: int
    loras: list[tuple[Path, float]]
    settings: GenerationSettings


def recommended(
    value: Mapping[str, Any], adapters: Adapters, strength: float, generation: GenerationSettings
) -> list[Recommended]:
    """Return the recommendations in the root `value` for the LoRA adapters.character.

    Fewest steps first. Those equal to the profile's own `generation` with this LoRA alone at `strength` are omitted: it
    is generated anyway.
    """
    found = []
    for each in value["settings"]:
        cell = Cell(**each["cell"])
        loras = loras_of(cell, adapters)
        settings = drawn_with(cell, generation).model_copy(update={"scheduler": each["scheduler"]})
        if (loras, settings) != ([(adapters.character, strength)], generation):
            found.append(Recommended(each["budget"], loras, settings))
    return found
