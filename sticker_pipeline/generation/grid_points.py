"""Points of the sampling grid: adapter weights, steps, guidance."""

import math
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from sticker_pipeline.core.settings import GenerationSettings, SamplingGridSettings
from sticker_pipeline.core.texts import UserError, counted


class SamplingGridError(UserError):
    """An impossible sampling grid; the message names the key of `sampling_grid` to change."""


@dataclass(frozen=True)
class GridPoint:
    """One setting of the grid.

    Weight 0: without that adapter. Guidance scale 1: no guidance.
    """

    style_weight: float
    character_weight: float
    lcm_weight: float
    steps: int
    guidance_scale: float


@dataclass(frozen=True)
class Adapters:
    """LoRA files of a point's weights: character, style, LCM-LoRA; None if absent."""

    character: Path
    style: Path | None = None
    lcm: Path | None = None


def grid(settings: SamplingGridSettings, *, style: bool, lcm: bool) -> list[GridPoint]:
    """All combinations of the axes, the last changing fastest.

    Without a style LoRA or LCM-LoRA, its axis is the weight 0.
    """
    return [GridPoint(*values) for values in product(*_axes(settings, style=style, lcm=lcm))]


def grid_size(settings: SamplingGridSettings, *, style: bool, lcm: bool) -> int:
    """Number of points of `grid`, without listing them."""
    return math.prod(len(axis) for axis in _axes(settings, style=style, lcm=lcm))


def _axes(settings: SamplingGridSettings, *, style: bool, lcm: bool) -> tuple[tuple[Any, ...], ...]:
    return (
        settings.style_weights if style else (0.0,),
        settings.character_weights,
        settings.lcm_weights if lcm else (0.0,),
        settings.steps,
        settings.guidance_scales,
    )


def reference_of(point: GridPoint, generation: GenerationSettings) -> GridPoint:
    """Point to compare `point` with.

    Its style and character weights, with the profile's steps and guidance, without LCM.
    """
    return GridPoint(point.style_weight, point.character_weight, 0.0, generation.steps, generation.guidance_scale)


def settings_at(point: GridPoint, generation: GenerationSettings) -> GenerationSettings:
    """`generation` with the point's steps, guidance and, for LCM, its sampler."""
    changes: dict[str, Any] = {"steps": point.steps, "guidance_scale": point.guidance_scale}
    return generation.model_copy(update=changes | ({"scheduler": "lcm"} if point.lcm_weight else {}))


def loras_at(point: GridPoint, adapters: Adapters) -> list[tuple[Path, float]]:
    """(file, strength) of the point's LoRAs, in order of application."""
    weights = (point.style_weight, point.character_weight, point.lcm_weight)
    files = (adapters.style, adapters.character, adapters.lcm)
    return [(path, weight) for path, weight in zip(files, weights, strict=True) if path and weight]


def check_size(points: int, images: int, settings: SamplingGridSettings) -> None:
    """Raise SamplingGridError where `points` of `images` each exceed `most_images`."""
    if points * images > settings.most_images:
        raise SamplingGridError(
            f"The sampling grid would generate {counted(points, 'setting')} of {counted(images, 'image')} each, "
            f"{points * images:,} in all, and sampling_grid.most_images is {settings.most_images:,}. Give its axes "
            "fewer values, or raise that."
        )
