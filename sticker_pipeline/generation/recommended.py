"""Settings recommended by the sampling grid, as configurations to generate with."""

from collections.abc import Mapping
from typing import Any

from sticker_pipeline.core.settings import GenerationSettings
from sticker_pipeline.generation.grid_points import Adapters, GridPoint, loras_at, settings_at
from sticker_pipeline.generation.sampling_config import SamplingConfig


def at_most(budget: int) -> str:
    """Name of the configuration for at most `budget` steps."""
    return f"at most {budget} step{'s' if budget != 1 else ''}"


def recommended(
    value: Mapping[str, Any], adapters: Adapters, strength: float, generation: GenerationSettings
) -> dict[int, SamplingConfig]:
    """Configuration per budget, fewest steps first.

    `value`: the root, for the LoRA adapters.character. Those equal to the profile's `generation` with this LoRA alone
    at `strength` are omitted: it is generated anyway.
    """
    found = {}
    for each in value["settings"]:
        point = GridPoint(**each["point"])
        loras = loras_at(point, adapters)
        settings = settings_at(point, generation).model_copy(update={"scheduler": each["scheduler"]})
        if (loras, settings) != ([(adapters.character, strength)], generation):
            found[each["budget"]] = SamplingConfig(at_most(each["budget"]), loras, settings)
    return found
