"""Generation of images from requests, with a profile's pipeline."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from sticker_pipeline.core.process.threads import sharing
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.settings import GenerationSettings
from sticker_pipeline.core.texts import UserError
from sticker_pipeline.diffusion.base_model import base_noise, check_base, open_base
from sticker_pipeline.diffusion.families import FAMILIES, Family
from sticker_pipeline.diffusion.lora.apply import apply_lora
from sticker_pipeline.diffusion.lora.file import read_metadata
from sticker_pipeline.diffusion.lora.formats import read_any_lora
from sticker_pipeline.diffusion.lora.trained_for import TrainedFor, check_clip_skip, trained_for
from sticker_pipeline.diffusion.samplers import make_scheduler, scheduler_for
from sticker_pipeline.generation.prompts import PromptError, Request, too_long
from sticker_pipeline.tagging.captions import plain_text

if TYPE_CHECKING:
    import torch

    from sticker_pipeline.diffusion.text import TextModels


@dataclass(frozen=True)
class Model:
    """A pipeline with applied LoRAs and their training settings, from `with_loras`."""

    pipeline: Any
    family: Family
    trained: TrainedFor

    @property
    def text(self) -> TextModels:
        """Its text encoders and tokenizers."""
        from sticker_pipeline.diffusion.text import TextModels

        parts = [(part.folder, part.tokenizer) for part in self.family.text_encoders]
        encoders = tuple(getattr(self.pipeline, folder) for folder, _ in parts)
        return TextModels(self.family, encoders, tuple(getattr(self.pipeline, tokenizer) for _, tokenizer in parts))


class GenerationError(UserError):
    """An image with invalid pixels; the message has cause and remedy."""


def open_pipeline(profile: Profile) -> Any:
    """Open the profile's base model to generate, from local safetensors.

    On a GPU in half precision, else on the CPU; no safety checker, no progress bar. Raises BaseModelError for a missing
    or incomplete model.
    """
    import torch

    check_base(profile.base, profile.family)
    device, dtype = ("cuda", torch.float16) if torch.cuda.is_available() else ("cpu", torch.float32)
    pipeline = open_base(profile.base, profile.family, dtype, dtype)
    if FAMILIES[profile.family].pooled and pipeline.vae.config.force_upcast:  # SDXL's, unless stated safe in float16
        torch.nn.Module.to(pipeline.vae, torch.float32)  # diffusers' own method warns
    pipeline.scheduler = make_scheduler(profile.generation.scheduler, pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def pipelines(profile: Profile) -> Callable[[str], Any]:
    """Function from a sampler's name to the profile's pipeline with it.

    The first call opens the pipeline.
    """
    opened = cache(lambda: open_pipeline(profile))
    own = cache(lambda: opened().scheduler.config)  # a sampler built from another's config would lose options

    def with_sampler(name: str) -> Any:
        pipeline, config = opened(), own()
        pipeline.scheduler = make_scheduler(name, config)
        return pipeline

    return with_sampler


def check_prompts(tokenizer: Any, prompts: Sequence[str]) -> None:
    """Raise PromptError for the first prompt with too many tokens."""

    def count(some: Sequence[str]) -> list[int]:
        texts = list(map(plain_text, some))
        return list(map(len, tokenizer(texts, add_special_tokens=False, truncation=False, verbose=False).input_ids))

    if problems := too_long(prompts, count):
        raise PromptError(problems[0])


def generate(
    model: Model,
    requests: Sequence[Request],
    settings: GenerationSettings,
    resolution: int,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Image.Image]:
    """Generate an RGB image of `resolution`² pixels for each request, in order.

    In batches of settings.batch_size, with `progress(done, total)` after each; batch size and other requests change an
    image by rounding only. Raises, at the call, PromptError for truncated prompts and ValueError for a resolution that
    is no multiple of 8; during generation, GenerationError for pixels that are not finite.
    """
    if resolution % 8:
        raise ValueError(f"resolution {resolution} is no multiple of 8.")
    check_prompts(model.pipeline.tokenizer, [settings.negative_prompt, *(request.prompt for request in requests)])
    return _shared(_batches(model, requests, settings, resolution, progress))


def _shared(images: Iterator[Image.Image]) -> Iterator[Image.Image]:
    with sharing():
        yield from images


def _batches(
    model: Model,
    requests: Sequence[Request],
    settings: GenerationSettings,
    resolution: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Image.Image]:
    from sticker_pipeline.diffusion.denoise import decoded

    pipeline = model.pipeline
    for start in range(0, len(requests), settings.batch_size):
        batch = requests[start : start + settings.batch_size]
        for pixels in decoded(pipeline.vae, _latents(model, batch, settings, resolution)):
            if not pixels.isfinite().all():  # would be saved as black
                raise GenerationError(
                    f"an image of {batch[0].prompt!r} has values that are not finite (NaN or infinity): the model's "
                    "computation overflows. Use a lower strength, or another LoRA."
                )
            yield from pipeline.image_processor.postprocess(pixels, output_type="pil")
        if progress:
            progress(start + len(batch), len(requests))


def _latents(model: Model, batch: Sequence[Request], settings: GenerationSettings, resolution: int) -> torch.Tensor:
    """Latents [b, c, h, w] of a batch.

    A CPU computes large batches in two parallel parts. Prompts are encoded first: tokenizers are not thread-safe.
    """
    import torch

    from sticker_pipeline.diffusion.denoise import encode_prompts, latents_of
    from sticker_pipeline.diffusion.streams import parts, side_by_side

    pipeline, rows_each = model.pipeline, 2 if settings.guidance_scale > 1 else 1
    texts = [request.prompt for request in batch]
    prompts = encode_prompts(model.text, texts, settings.negative_prompt, model.trained.clip_skip)
    seeds, cut = [request.seed for request in batch], parts(len(batch), rows_each)

    def part(rows: slice) -> torch.Tensor:
        own = _beside_others(pipeline) if len(cut) > 1 else pipeline
        return latents_of(own, prompts.rows(rows), seeds[rows], settings, resolution, pipeline.unet.dtype)

    return torch.cat(side_by_side(part, cut, pipeline.device))


def _beside_others(pipeline: Any) -> Any:
    """Copy of the pipeline: same models, its own sampler and state."""
    own = copy.copy(pipeline)
    own.scheduler = copy.deepcopy(pipeline.scheduler)
    return own


def _family(pipeline: Any) -> Family:
    (family,) = [family for family in FAMILIES.values() if family.pipeline == type(pipeline).__name__]
    return family


def without_loras(pipeline: Any) -> Model:
    """The base model alone."""
    return Model(pipeline, _family(pipeline), TrainedFor())


def how_trained(profile: Profile, loras: Sequence[tuple[Path, float]]) -> TrainedFor:
    """Text and noise settings that `loras` (file, strength) need.

    From headers alone, for caches and workflows, equal to those of `with_loras`, as is the LoraError raised.
    """
    stated = [(path, read_metadata(path)) for path, _ in loras]
    prediction = "v_prediction" if base_noise(profile.base).v_prediction else "epsilon"
    return trained_for(stated, profile.family, prediction)


@contextmanager
def with_lora(pipeline: Any, path: Path, strength: float = 1.0) -> Iterator[Model]:
    """Apply one file as `with_loras` does."""
    with with_loras(pipeline, [(path, strength)]) as model:
        yield model


@contextmanager
def with_loras(pipeline: Any, loras: Sequence[tuple[Path, float]]) -> Iterator[Model]:
    """Yield the model with the LoRA files `loras` applied at their strengths.

    Changes add up, in order; text and noise settings are the LoRAs' own. Afterwards the pipeline has the base model's
    weights and sampler, bit for bit. Raises LoraError, without changes, for files that cannot be read, do not fit the
    base model or cannot be combined, and for a layer that the text encoder lacks.
    """
    family = _family(pipeline)
    encoders = tuple(getattr(pipeline, encoder.folder) for encoder in family.text_encoders)
    files = [(path, read_any_lora(path, family.name), strength) for path, strength in loras]
    scheduler = pipeline.scheduler
    prediction = scheduler.config.prediction_type
    trained = trained_for([(path, lora.metadata) for path, lora, _ in files], family.name, prediction)
    check_clip_skip(trained.clip_skip, encoders[0])
    with ExitStack() as applied:
        for _, lora, strength in files:
            applied.enter_context(apply_lora(pipeline.unet, encoders, lora, strength, family=family.name))
        pipeline.scheduler = scheduler_for(scheduler, trained)
        try:
            yield Model(pipeline, family, trained)
        finally:
            pipeline.scheduler = scheduler
