"""Images and times of a sweep: a grid's settings, the same requests.

Quality: `benchmark/sweep.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image

from sticker_pipeline.core.images import labelled_grid
from sticker_pipeline.core.settings import GenerationSettings, SweepSettings
from sticker_pipeline.generation.generate import without_loras
from sticker_pipeline.generation.jobs import Generator, generated
from sticker_pipeline.generation.prompts import Prompt, Request, first_of_each_medium, requests_for
from sticker_pipeline.generation.sampling_config import (
    Adapters,
    Cell,
    check_size,
    drawn_with,
    grid,
    grid_size,
    loras_of,
    reference_of,
)
from sticker_pipeline.generation.timing import kept_seconds, seconds_per_image

SWEEP_PURPOSE = "sweep"  # separates the seeds from the benchmark's


@dataclass(frozen=True)
class SweepPlan:
    """Cells to generate for the same requests.

    `grid`: the settings' cells; `cells`: these and their references. `attributes`: the free part of each request's
    prompt.
    """

    adapters: Adapters
    grid: list[Cell]
    cells: list[Cell]
    requests: list[Request]
    attributes: list[str]

    @property
    def images(self) -> int:
        return len(self.cells) * len(self.requests)

    def axis(self, name: str) -> list[Any]:
        """Return the sorted values of an axis of the grid."""
        return sorted({getattr(cell, name) for cell in self.grid})


def sweep_plan(
    adapters: Adapters,
    prompts: Sequence[Prompt],
    mediums: Sequence[str],
    settings: SweepSettings,
    generation: GenerationSettings,
) -> SweepPlan:
    """Return the plan for the first prompts of each of `mediums`.

    Raises SweepError for a grid that is too large.
    """
    chosen = first_of_each_medium(prompts, mediums, settings.prompts_per_medium)
    requests = requests_for(chosen, settings.seeds_per_prompt, SWEEP_PURPOSE)
    exist = {"style": adapters.style is not None, "lcm": adapters.lcm is not None}
    check_size(grid_size(settings, **exist), len(requests), settings)  # before they are listed
    cells = grid(settings, **exist)
    against = [reference_of(cell, generation) for cell in cells]
    every = list(dict.fromkeys([*cells, *against]))
    check_size(len(every), len(requests), settings)
    attributes = [prompt.attributes for prompt in chosen for _ in range(settings.seeds_per_prompt)]
    return SweepPlan(adapters, cells, every, requests, attributes)


def generate_cells(generator: Generator, plan: SweepPlan, folder: Path) -> dict[Cell, list[Path]]:
    """Save every cell's images in `folder`; return files by cell and request."""
    files = {}
    for number, cell in enumerate(plan.cells):
        settings = drawn_with(cell, generator.profile.generation)
        who = f"setting {number + 1} of {len(plan.cells)}"
        images = generated(generator, who, plan.requests, loras_of(cell, plan.adapters), settings)
        files[cell] = [folder / f"{number:04d}_{place:03d}.png" for place in range(len(images))]
        for path, image in zip(files[cell], images, strict=True):
            image.save(path)
    return files


def seconds_of(generator: Generator, plan: SweepPlan, cell: Cell, cache: Path) -> float:
    """Return the cell's wall-clock seconds per image, once measured per machine.

    `cache`: folder of the measured times.
    """
    settings, resolution = drawn_with(cell, generator.profile.generation), generator.profile.resolution

    def measured() -> float:
        model = without_loras(generator.opened(settings.scheduler))
        return seconds_per_image(model, plan.requests, settings, resolution)

    return kept_seconds(generator.base, settings, resolution, cache, measured)


def sweep_grids(plan: SweepPlan, files: Mapping[Cell, Sequence[Path]]) -> dict[str, Image.Image]:
    """Return grid images by name, per prompt medium and style LoRA weight.

    Each shows the medium's first request in every setting: guidance and steps down, LCM and character weights across.
    """
    mediums = [request.medium for request in plan.requests]
    down = list(product(plan.axis("guidance_scale"), plan.axis("steps")))
    across = list(product(plan.axis("lcm_weight"), plan.axis("character_weight")))
    found = {}
    for weight, medium in product(plan.axis("style_weight"), dict.fromkeys(mediums)):
        first = mediums.index(medium)
        images = [
            [Image.open(files[Cell(weight, character, lcm, steps, scale)][first]) for lcm, character in across]
            for scale, steps in down
        ]
        found[f"grid_{medium}" + (f"_style_{weight:g}" if plan.adapters.style else "")] = labelled_grid(
            [f"{steps} steps\nCFG {scale:g}" for scale, steps in down],
            [f"character {character:g}" + (f"\nLCM {lcm:g}" if plan.adapters.lcm else "") for lcm, character in across],
            images,
        )
    return found
