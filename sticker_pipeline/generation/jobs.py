"""Images of models for assets: jobs describe them, generators make them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.progress import Count
from sticker_pipeline.core.settings import GenerationSettings
from sticker_pipeline.core.storage import ArtifactStore, file_sha256
from sticker_pipeline.diffusion.lora.formats import lora_hash
from sticker_pipeline.generation.generate import generate, how_trained, pipelines, with_loras
from sticker_pipeline.generation.image_cache import cached_images, decisive
from sticker_pipeline.generation.prompts import Prompt, Request, requests_for

COUNTED = "images"
COLUMNS = ["image", "model", "medium", "prompt", "attributes", "seed", "file"]


@dataclass(frozen=True)
class Generator:
    """A base model that generates, with a cache of images.

    `base`: hash of its files. `opened`: as `generate.py::pipelines`. `count`: takes the progress of each batch.
    """

    profile: Profile
    base: str
    cache: Path
    opened: Callable[[str], Any]
    count: Count


def open_generator(profile: Profile, base: str, store: ArtifactStore, count: Count) -> Generator:
    """Generator of the profile's base model (hash `base`), opened on first use."""
    return Generator(profile, base, store.cache("pictures"), pipelines(profile), count)


@dataclass(frozen=True)
class GenerationJob:
    """Images to generate from prompts, with LoRA files at their strengths.

    `model`: its name in tables. `settings`: None for the profile's. `below`: the parent of the image folder.
    """

    model: str
    prompts: list[Prompt]
    loras: list[tuple[Path, float]] = field(default_factory=list)
    settings: GenerationSettings | None = None
    below: str = ""

    @property
    def folder(self) -> str:
        """Image folder; a setting's folder is inside its LoRA's folder.

        No rival has a folder there.
        """
        return f"{self.below}/{self.model.replace(' ', '_')}" if self.below else self.model

    @property
    def has_trigger(self) -> bool:
        """True if images without the trigger are generated too.

        Not for a setting: its LoRA is measured instead.
        """
        return bool(self.loras) and self.settings is None


def image_count(job: GenerationJob, seeds: int) -> int:
    """Number of the job's images, with and without its trigger."""
    return len(job.prompts) * seeds * (2 if job.has_trigger else 1)


def generated(
    generator: Generator,
    requests: Sequence[Request],
    loras: Sequence[tuple[Path, float]] = (),
    settings: GenerationSettings | None = None,
) -> list[Image.Image]:
    """RGB image per request by the model with `loras`.

    From the cache; the pipeline opens for missing ones only. `settings`: None for the profile's. Raises
    LoraError for a LoRA that does not fit the base model.
    """
    profile = generator.profile
    settings, resolution = settings or profile.generation, profile.resolution

    def new(missing: Sequence[Request]) -> Iterator[Image.Image]:
        def show(done: int, of: int) -> None:
            if done < of:  # else as below
                generator.count(COUNTED, len(requests) - of + done, len(requests))

        with with_loras(generator.opened(settings.scheduler), loras) as model:
            yield from generate(model, missing, settings, resolution, show)

    hashed = [(lora_hash(path, file_sha256), strength) for path, strength in loras]
    decided = decisive(generator.base, hashed, settings, resolution, how_trained(profile, loras))
    images = cached_images(requests, decided, generator.cache, new, settings.batch_size)
    generator.count(COUNTED, len(requests), len(requests))
    return images


def generate_job(generator: Generator, job: GenerationJob, staging: Path, folder: str | None = None) -> pd.DataFrame:
    """Save the job's images in `staging`/`folder` and return rows of COLUMNS.

    `folder`: None for the job's own. `attributes`: the free part of a prompt, equal for all models. `file`: relative to
    `staging`.
    """
    folder, seeds = folder or job.folder, generator.profile.benchmark.seeds_per_prompt
    requests = requests_for(job.prompts, seeds)
    asked = [prompt.attributes for prompt in job.prompts for _ in range(seeds)]
    (staging / folder).mkdir(parents=True)
    images = generated(generator, requests, job.loras, job.settings)
    rows = []
    for number, (request, attributes, image) in enumerate(zip(requests, asked, images, strict=True)):
        name = f"{folder}/{request.medium}_{number:03d}.png"
        image.save(staging / name)
        image_id = f"{folder.replace('/', '-')}-{number:03d}"
        rows.append((image_id, job.model, request.medium, request.prompt, attributes, request.seed, name))
    return pd.DataFrame(rows, columns=COLUMNS)


def generate_without_trigger(
    generator: Generator, job: GenerationJob, prompts: list[Prompt], staging: Path
) -> pd.DataFrame:
    """Save the job's images of `prompts`, without trigger, as `generate_job` does."""
    return generate_job(generator, replace(job, prompts=prompts), staging, f"{job.model}/without_trigger")
