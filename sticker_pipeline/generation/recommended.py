"""What a sweep recommends, as files and settings to generate with.

Which settings count, and why others do not, belongs to benchmark/recommend.py; it is observed with the character.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sticker_pipeline.core.settings import GenerationSettings
from sticker_pipeline.generation.sampling_config import Adapters, Cell, drawn_with, loras_of


@dataclass(frozen=True)
class Recommended:
    """A way to generate in at most `budget` steps: LoRA files with their strengths, in the order in which they are
    applied, and everything else."""

    budget: int
    loras: list[tuple[Path, float]]
    settings: GenerationSettings


def recommended(
    value: Mapping[str, Any], adapters: Adapters, strength: float, generation: GenerationSettings
) -> list[Recommended]:
    """What the root `value` recommends for the LoRA adapters.character, the fewest steps first.

    But for what comes to generating as the profile does (`generation`), with this LoRA alone at `strength`: that is
    generated anyway.
    """
    found = []
    for each in value["settings"]:
        cell = Cell(**each["cell"])
        loras = loras_of(cell, adapters)
        settings = drawn_with(cell, generation).model_copy(update={"scheduler": each["scheduler"]})
        if (loras, settings) != ([(adapters.character, strength)], generation):
            found.append(Recommended(each["budget"], loras, settings))
    return found
