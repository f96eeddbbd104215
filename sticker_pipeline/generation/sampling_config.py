"""Settings that a sweep tries: a grid of adapter weights, steps, guidance.

Quality: `benchmark/`. Speed: `timing.py`.
"""

import math
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from sticker_pipeline.core.settings import GenerationSettings, SweepSettings
from sticker_pipeline.core.texts import UserError


class SweepError(UserError):
    """An impossible sweep; the message names the key of `sweep` to change."""


@dataclass(frozen=True)
class Cell:
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
    """LoRA files of a cell's weights: character, style, LCM-LoRA; None if absent."""

    character: Path
    style: Path | None = None
    lcm: Path | None = None


def grid(settings: SweepSettings, *, style: bool, lcm: bool) -> list[Cell]:
    """Return all combinations of the axes, the last changing fastest.

    Without a style LoRA or LCM-LoRA, its axis is the weight 0.
    """
    return [Cell(*values) for values in product(*_axes(settings, style=style, lcm=lcm))]


def grid_size(settings: SweepSettings, *, style: bool, lcm: bool) -> int:
    """Return the number of cells of `grid`, without listing them."""
    return math.prod(len(axis) for axis in _axes(settings, style=style, lcm=lcm))


def _axes(settings: SweepSettings, *, style: bool, lcm: bool) -> tuple[tuple[Any, ...], ...]:
    return (
        settings.style_weights if style else (0.0,),
        settings.character_weights,
        settings.lcm_weights if lcm else (0.0,),
        settings.steps,
        settings.guidance_scales,
    )


def reference_of(cell: Cell, generation: GenerationSettings) -> Cell:
    """Return the cell to compare `cell` with.

    Its style and character weights, with the profile's steps and guidance, without LCM.
    """
    return Cell(cell.style_weight, cell.character_weight, 0.0, generation.steps, generation.guidance_scale)


def drawn_with(cell: Cell, generation: GenerationSettings) -> GenerationSettings:
    """Return `generation` with the cell's steps, guidance and, for LCM, its sampler."""
    changes: dict[str, Any] = {"steps": cell.steps, "guidance_scale": cell.guidance_scale}
    return generation.model_copy(update=changes | ({"scheduler": "lcm"} if cell.lcm_weight else {}))


def loras_of(cell: Cell, adapters: Adapters) -> list[tuple[Path, float]]:
    """Return (file, strength) of the cell's LoRAs, in order of application."""
    weights = (cell.style_weight, cell.character_weight, cell.lcm_weight)
    files = (adapters.style, adapters.character, adapters.lcm)
    return [(path, weight) for path, weight in zip(files, weights, strict=True) if path and weight]


def check_size(cells: int, images: int, settings: SweepSettings) -> None:
    """Raise SweepError where `cells` of `images` each exceed `most_images`."""
    if cells * images > settings.most_images:
        raise SweepError(
            f"The sweep would draw {cells} settings of {images} images each, {cells * images} in all, and "
            f"sweep.most_images is {settings.most_images}. Give its axes fewer values, or raise that."
        )
