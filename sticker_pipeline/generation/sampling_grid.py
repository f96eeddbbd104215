"""Images and times of a sampling grid: same requests at each point."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image

from sticker_pipeline.core.images import labelled_grid
from sticker_pipeline.core.settings import GenerationSettings, SamplingGridSettings
from sticker_pipeline.core.texts import counted
from sticker_pipeline.generation.generate import without_loras
from sticker_pipeline.generation.grid_points import (
    Adapters,
    GridPoint,
    check_size,
    grid,
    grid_size,
    loras_at,
    reference_of,
    settings_at,
)
from sticker_pipeline.generation.jobs import Generator, generated
from sticker_pipeline.generation.prompts import Prompt, Request, first_of_each_medium, requests_for
from sticker_pipeline.generation.timing import kept_seconds, seconds_per_image

GRID_PURPOSE = "sweep"  # separates the seeds from the benchmark's


@dataclass(frozen=True)
class GridPlan:
    """Points to generate with the same requests.

    `grid`: the settings' points; `points`: these and their references. `attributes`: the free part of each prompt.
    """

    adapters: Adapters
    grid: list[GridPoint]
    points: list[GridPoint]
    requests: list[Request]
    attributes: list[str]

    @property
    def images(self) -> int:
        return len(self.points) * len(self.requests)

    def axis(self, name: str) -> list[Any]:
        """Sorted values of an axis of the grid."""
        return sorted({getattr(point, name) for point in self.grid})


def plan_grid(
    adapters: Adapters,
    prompts: Sequence[Prompt],
    mediums: Sequence[str],
    settings: SamplingGridSettings,
    generation: GenerationSettings,
) -> GridPlan:
    """Plan for the first prompts of each of `mediums`.

    Raises SamplingGridError for a grid that is too large.
    """
    chosen = first_of_each_medium(prompts, mediums, settings.prompts_per_medium)
    requests = requests_for(chosen, settings.seeds_per_prompt, GRID_PURPOSE)
    exist = {"style": adapters.style is not None, "lcm": adapters.lcm is not None}
    check_size(grid_size(settings, **exist), len(requests), settings)  # before they are listed
    points = grid(settings, **exist)
    against = [reference_of(point, generation) for point in points]
    every = list(dict.fromkeys([*points, *against]))
    check_size(len(every), len(requests), settings)
    attributes = [prompt.attributes for prompt in chosen for _ in range(settings.seeds_per_prompt)]
    return GridPlan(adapters, points, every, requests, attributes)


def generate_grid(generator: Generator, plan: GridPlan, folder: Path) -> dict[GridPoint, list[Path]]:
    """Save every point's images in `folder`; return files by point and request."""
    files = {}
    for number, point in enumerate(plan.points):
        settings = settings_at(point, generator.profile.generation)
        images = generated(generator, plan.requests, loras_at(point, plan.adapters), settings)
        files[point] = [folder / f"{number:04d}_{place:03d}.png" for place in range(len(images))]
        for path, image in zip(files[point], images, strict=True):
            image.save(path)
    return files


def seconds_of(generator: Generator, plan: GridPlan, point: GridPoint, cache: Path) -> float:
    """Wall-clock seconds per image of a point, measured once per machine."""
    settings, resolution = settings_at(point, generator.profile.generation), generator.profile.resolution

    def measured() -> float:
        model = without_loras(generator.opened(settings.scheduler))
        return seconds_per_image(model, plan.requests, settings, resolution)

    return kept_seconds(generator.base, settings, resolution, cache, measured)


def grid_sheets(plan: GridPlan, files: Mapping[GridPoint, Sequence[Path]]) -> dict[str, Image.Image]:
    """Grid images by name, per prompt medium and style LoRA weight.

    Each shows the medium's first request in every setting: guidance and steps down, LCM and character weights across.
    """
    mediums = [request.medium for request in plan.requests]
    down = list(product(plan.axis("guidance_scale"), plan.axis("steps")))
    across = list(product(plan.axis("lcm_weight"), plan.axis("character_weight")))
    found = {}
    for weight, medium in product(plan.axis("style_weight"), dict.fromkeys(mediums)):
        first = mediums.index(medium)
        images = [
            [Image.open(files[GridPoint(weight, character, lcm, steps, scale)][first]) for lcm, character in across]
            for scale, steps in down
        ]
        found[f"grid_{medium}" + (f"_style_{weight:g}" if plan.adapters.style else "")] = labelled_grid(
            [f"{counted(steps, 'step')}\nCFG {scale:g}" for scale, steps in down],
            [f"character {character:g}" + (f"\nLCM {lcm:g}" if plan.adapters.lcm else "") for lcm, character in across],
            images,
        )
    return found
