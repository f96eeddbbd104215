"""Images of the same requests in many and few steps, with LCM-LoRAs.

Measurement: `benchmark/few_steps.py`.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.settings import GenerationSettings
from sticker_pipeline.generation.generate import Model, generate, pipelines, with_loras
from sticker_pipeline.generation.grid import grid_of_files
from sticker_pipeline.generation.prompts import Request

STEPS = (1, 2, 4, 8)  # measured with an LCM-LoRA
MANY, FEW = 25, 4  # of the reference way, of the summary
IMAGES = "pictures"  # folder in the artifact


@dataclass(frozen=True)
class Way:
    """Settings and LoRA files to generate with."""

    settings: GenerationSettings
    loras: tuple[Path, ...] = ()

    @property
    def calls(self) -> int:
        """Return the U-Net calls per image; guidance doubles them."""
        return self.settings.steps * (2 if self.settings.guidance_scale > 1 else 1)


def ways_to_draw(
    generation: GenerationSettings, who: str, always: Sequence[Path], lcm: Mapping[str, Path]
) -> dict[str, Way]:
    """Return the compared ways by name, the reference first.

    `who` generates with the LoRAs `always`: in MANY steps, as `generation` states, in FEW, in FEW with the LCM sampler
    alone, in FEW with each `lcm` LoRA, with the last in all STEPS.
    """
    few = generation.model_copy(update={"scheduler": "lcm", "guidance_scale": 1.0})
    *others, own = lcm

    def way(settings: GenerationSettings, steps: int, *more: Path) -> Way:
        return Way(settings.model_copy(update={"steps": steps}), (*always, *more))

    return {
        f"{who}, steps: {MANY}": way(generation, MANY),
        f"{who}, steps: {generation.steps}": way(generation, generation.steps),
        f"{who}, steps: {FEW}": way(generation, FEW),
        f"LCM sampler without an LCM-LoRA, steps: {FEW}": way(few, FEW),
        **{f"{name}, steps: {FEW}": way(few, FEW, lcm[name]) for name in others},
        **{f"{own}, steps: {count}": way(few, count, lcm[own]) for count in STEPS},
    }


@dataclass(frozen=True)
class Answers:
    """Images in `folder` of the same `requests`, in all `ways`.

    `seeds`: per prompt. The first way is the reference.
    """

    folder: Path
    requests: list[Request]
    seeds: int
    ways: Mapping[str, Way]

    @property
    def reference(self) -> str:
        """Return the way that the others are compared with."""
        return next(iter(self.ways))

    @property
    def ours(self) -> str:
        """Return the way for the summary: the last one with FEW steps."""
        return [name for name, way in self.ways.items() if way.settings.steps == FEW][-1]

    def files(self, way: str) -> list[str]:
        """Return a way's images relative to `folder`, one per request."""
        number = list(self.ways).index(way)
        return [f"{IMAGES}/{number}_{place:03d}.png" for place in range(len(self.requests))]


def generate_answers(answers: Answers, profile: Profile, say: Callable[[str], object]) -> dict[str, float]:
    """Save all images of `answers`; return wall-clock seconds per image by way.

    `say`: takes a line on progress.
    """
    (answers.folder / IMAGES).mkdir()
    opened, seconds = pipelines(profile), {}

    def images_of(model: Model, settings: GenerationSettings, count: int) -> Iterator[Image.Image]:
        return generate(model, answers.requests[:count], settings, profile.resolution)

    for name, way in answers.ways.items():
        say(f"{name}: {len(answers.requests)} images")
        pipeline = opened(way.settings.scheduler)
        with with_loras(pipeline, [(path, 1.0) for path in way.loras]) as model:
            list(images_of(model, way.settings.model_copy(update={"steps": 1}), 1))  # warms up
            started = time.monotonic()
            images = list(images_of(model, way.settings, len(answers.requests)))
            seconds[name] = (time.monotonic() - started) / len(images)
        for image, file in zip(images, answers.files(name), strict=True):
            image.save(answers.folder / file)
    return seconds


def answers_grid(answers: Answers) -> Image.Image:
    """Return a grid of the first prompts in every way.

    It has the first seed only.
    """
    labels = [request.prompt for request in answers.requests[:: answers.seeds]]
    files = {way: answers.files(way) for way in answers.ways}
    return grid_of_files(answers.folder, files, labels, answers.seeds, most=8)
