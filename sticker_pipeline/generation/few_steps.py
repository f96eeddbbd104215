"""Images of the same requests in many and few steps, with LCM-LoRAs."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.progress import Count
from sticker_pipeline.core.settings import GenerationSettings
from sticker_pipeline.generation.generate import Model, generate, pipelines, with_loras
from sticker_pipeline.generation.grid import grid_of_files
from sticker_pipeline.generation.jobs import COUNTED
from sticker_pipeline.generation.prompts import Request
from sticker_pipeline.generation.sampling_config import SamplingConfig

STEPS = (1, 2, 4, 8)  # measured with an LCM-LoRA
MANY, FEW = 25, 4  # of the reference, of the summary
IMAGES = "pictures"  # folder in the artifact


def compared_configs(
    generation: GenerationSettings, model: str, always: Sequence[Path], lcm: Mapping[str, Path]
) -> list[SamplingConfig]:
    """Compared configurations, the reference first.

    `model`, with the LoRAs `always`: in MANY steps, as `generation` states, in FEW, in FEW with the LCM sampler alone,
    in FEW with each `lcm` LoRA, with the last in all STEPS.
    """
    few = generation.model_copy(update={"scheduler": "lcm", "guidance_scale": 1.0})
    *others, own = lcm

    def config(name: str, settings: GenerationSettings, steps: int, *more: Path) -> SamplingConfig:
        loras = [(path, 1.0) for path in (*always, *more)]
        return SamplingConfig(f"{name}, steps: {steps}", loras, settings.model_copy(update={"steps": steps}))

    found = [
        *(config(model, generation, steps) for steps in (MANY, generation.steps, FEW)),
        config("LCM sampler without an LCM-LoRA", few, FEW),
        *(config(name, few, FEW, lcm[name]) for name in others),
        *(config(own, few, steps, lcm[own]) for steps in STEPS),
    ]
    return list({each.name: each for each in found}.values())


@dataclass(frozen=True)
class StepComparison:
    """Images in `folder` of the same `requests`, with all `configs`.

    `seeds`: per prompt. The first configuration is the reference.
    """

    folder: Path
    requests: list[Request]
    seeds: int
    configs: list[SamplingConfig]

    @property
    def reference(self) -> SamplingConfig:
        """Configuration that the others are compared with."""
        return self.configs[0]

    @property
    def summarised(self) -> SamplingConfig:
        """Configuration for the summary: the last one with FEW steps."""
        return [config for config in self.configs if config.settings.steps == FEW][-1]

    def files(self, config: SamplingConfig) -> list[str]:
        """Images of a configuration, relative to `folder`, one per request."""
        number = [each.name for each in self.configs].index(config.name)
        return [f"{IMAGES}/{number}_{place:03d}.png" for place in range(len(self.requests))]


def generate_comparison(comparison: StepComparison, profile: Profile, count: Count) -> dict[str, float]:
    """Save all images of `comparison`; return wall-clock seconds per image by configuration."""
    (comparison.folder / IMAGES).mkdir()
    opened, seconds = pipelines(profile), {}
    requests = comparison.requests

    def images_of(model: Model, settings: GenerationSettings, most: int) -> Iterator[Image.Image]:
        return generate(model, requests[:most], settings, profile.resolution)

    for number, config in enumerate(comparison.configs, start=1):
        with with_loras(opened(config.settings.scheduler), config.loras) as model:
            list(images_of(model, config.settings.model_copy(update={"steps": 1}), 1))  # warms up
            started = time.monotonic()
            images = list(images_of(model, config.settings, len(requests)))
            seconds[config.name] = (time.monotonic() - started) / len(images)
        for image, file in zip(images, comparison.files(config), strict=True):
            image.save(comparison.folder / file)
        count(COUNTED, number * len(requests), len(comparison.configs) * len(requests))
    return seconds


def comparison_grid(comparison: StepComparison) -> Image.Image:
    """Grid of the first prompts with every configuration, the first seed only."""
    labels = [request.prompt for request in comparison.requests[:: comparison.seeds]]
    files = {config.name: comparison.files(config) for config in comparison.configs}
    return grid_of_files(comparison.folder, files, labels, comparison.seeds, most=8)
