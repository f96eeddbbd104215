"""The settings that a sweep tries: weights of the adapters, steps and guidance, each a cell of a grid.

How good a cell is belongs to benchmark, how fast it draws to timing.py.
"""

import math
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from sticker_pipeline.core.settings import GenerationSettings, SweepSettings
from sticker_pipeline.core.texts import UserError


class SweepError(UserError):
    """A sweep that cannot be begun; the message says which key of `sweep` to change."""


@dataclass(frozen=True)
class Cell:
    """One setting. A weight of 0 stands for no such adapter; a guidance scale of 1 for none."""

    style_weight: float
    character_weight: float
    lcm_weight: float
    steps: int
    guidance_scale: float


@dataclass(frozen=True)
class Adapters:
    """LoRA files that a cell has weights for: the character's, and its style's and the LCM-LoRA, None for none."""

    character: Path
    style: Path | None = None
    lcm: Path | None = None


def grid(settings: SweepSettings, *, style: bool, lcm: bool) -> list[Cell]:
    """Every combination of the axes in `settings`, the last axis changing fastest. Where there is no LoRA of the style,
    or no LCM-LoRA, its axis is the weight 0 alone."""
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
    """The cell that `cell` is held against: the same style and character, drawn as the profile draws, without LCM."""
    return Cell(cell.style_weight, cell.character_weight, 0.0, generation.steps, generation.guidance_scale)


def drawn_with(cell: Cell, generation: GenerationSettings) -> GenerationSettings:
    """The profile's `generation` with the cell's steps and guidance; an LCM-LoRA has a sampler of its own."""
    changes: dict[str, Any] = {"steps": cell.steps, "guidance_scale": cell.guidance_scale}
    return generation.model_copy(update=changes | ({"scheduler": "lcm"} if cell.lcm_weight else {}))


def loras_of(cell: Cell, adapters: Adapters) -> list[tuple[Path, float]]:
    """(file, strength) of the LoRAs that the cell uses, in the order in which they are applied."""
    weights = (cell.style_weight, cell.character_weight, cell.lcm_weight)
    files = (adapters.style, adapters.character, adapters.lcm)
    return [(path, weight) for path, weight in zip(files, weights, strict=True) if path and weight]


def check_size(cells: int, images: int, settings: SweepSettings) -> None:
    """Raise SweepError where `cells` of `images` each are more than `most_images`."""
    if cells * images > settings.most_images:
        raise SweepError(
            f"The sweep would draw {cells} settings of {images} images each, {cells * images} in all, and "
            f"sweep.most_images is {settings.most_images}. Give its axes fewer values, or raise that."
        )
