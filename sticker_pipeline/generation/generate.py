"""From requests to pictures: a Stable Diffusion pipeline opened from a profile, and batches drawn with it.

What to ask for stands in prompts.py; what a LoRA file means, in training/lora_file.py and foreign.py.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from sticker_pipeline.generation.prompts import PromptError, Request
from sticker_pipeline.profile import Profile
from sticker_pipeline.settings import GenerationSettings
from sticker_pipeline.threads import sharing
from sticker_pipeline.training.apply_lora import apply_lora
from sticker_pipeline.training.base_model import check_base, open_base
from sticker_pipeline.training.families import FAMILIES
from sticker_pipeline.training.foreign import read_any_lora
from sticker_pipeline.training.sampler import make_scheduler

if TYPE_CHECKING:
    import torch

# What a pipeline's encode_prompt gives, of SD1.5 the first two.
ENCODED = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")


class DrawingError(ValueError):
    """A picture that came out as no picture; the message says why and what to do."""


def open_pipeline(profile: Profile) -> Any:
    """The profile's base model, ready to generate: on the GPU in half precision where there is one, else on the CPU.

    Only local safetensors are loaded, nothing is downloaded, there is no safety checker and no progress bar.
    Raises training.base_model.BaseModelError for a model that is not there, or not whole.
    """
    import torch

    check_base(profile.base, profile.family)
    device, dtype = ("cuda", torch.float16) if torch.cuda.is_available() else ("cpu", torch.float32)
    pipeline = open_base(profile.base, profile.family, dtype, dtype)
    if FAMILIES[profile.family].pooled and pipeline.vae.config.force_upcast:  # SDXL's, unless it says that it is safe
        torch.nn.Module.to(pipeline.vae, torch.float32)  # diffusers' own warns
    pipeline.scheduler = make_scheduler(profile.generation.scheduler, pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def pipelines(profile: Profile) -> Callable[[str], Any]:
    """Gives `open_pipeline(profile)`, opened when it is first asked for, with the sampler of the name that is asked."""
    opened = cache(lambda: open_pipeline(profile))
    own = cache(lambda: opened().scheduler.config)  # a sampler made of another's would lose what that does not know

    def with_sampler(name: str) -> Any:
        pipeline, config = opened(), own()
        pipeline.scheduler = make_scheduler(name, config)
        return pipeline

    return with_sampler


def check_prompts(pipeline: Any, prompts: Sequence[str]) -> None:
    """Raise PromptError for the first prompt longer than the text encoder reads: the stock pipeline would cut it."""
    limit = pipeline.tokenizer.model_max_length
    for prompt in dict.fromkeys(prompts):
        length = len(pipeline.tokenizer(prompt, truncation=False).input_ids)
        if length > limit:
            raise PromptError(
                f"This prompt has {length} tokens, and the text encoder reads {limit}: {prompt!r}. Shorten "
                "benchmark.prompts or the learned tags in character.yaml."
            )


def starting_noise(generator: torch.Generator, shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal float32 noise from a fresh `generator` and `shape` only: drawn on the CPU, alone, for whatever
    device. Noise that a sampler adds later comes from the same generator, and so is other noise."""
    import torch

    return torch.randn(shape, generator=generator, dtype=torch.float32)


def generate(
    pipeline: Any,
    requests: Sequence[Request],
    settings: GenerationSettings,
    resolution: int,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Image.Image]:
    """RGB pictures of `resolution`² pixels, one for each request in order, made in batches of settings.batch_size.

    Neither the batch size nor the other requests change a picture by more than rounding. `progress(done, total)` is
    called after each batch. Raises PromptError before the first batch for a prompt that would be cut, ValueError for a
    resolution that is no multiple of 8; while drawing, DrawingError for pixels that are not finite.
    """
    if resolution % 8:
        raise ValueError(f"resolution {resolution} is no multiple of 8.")
    check_prompts(pipeline, [settings.negative_prompt, *(request.prompt for request in requests)])
    return _shared(_batches(pipeline, requests, settings, resolution, progress))


def _shared(images: Iterator[Image.Image]) -> Iterator[Image.Image]:
    with sharing():
        yield from images


def _batches(
    pipeline: Any,
    requests: Sequence[Request],
    settings: GenerationSettings,
    resolution: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Image.Image]:
    from sticker_pipeline.training.samples import decoded

    side = resolution // pipeline.vae_scale_factor
    shape = (pipeline.unet.config.in_channels, side, side)
    for start in range(0, len(requests), settings.batch_size):
        batch = requests[start : start + settings.batch_size]
        for pixels in decoded(pipeline.vae, _latents(pipeline, batch, shape, settings, resolution)):
            if not pixels.isfinite().all():  # would be saved as black
                raise DrawingError(
                    f"a picture of {batch[0].prompt!r} has values that are not finite (NaN or infinity): the weights "
                    "that draw it overflow. Use a lower strength, or another LoRA."
                )
            yield from pipeline.image_processor.postprocess(pixels, output_type="pil")
        if progress:
            progress(start + len(batch), len(requests))


def _latents(
    pipeline: Any, batch: Sequence[Request], shape: tuple[int, ...], settings: GenerationSettings, resolution: int
) -> torch.Tensor:
    """What the U-Net draws for a batch, [b, *shape]: on a CPU in two parts side by side, where it is large enough."""
    import torch

    from sticker_pipeline.training.streams import parts, side_by_side

    device, rows_each = pipeline.device, 2 if settings.guidance_scale > 1 else 1
    texts = _encoded(pipeline, batch, settings)
    generators = [torch.Generator("cpu").manual_seed(request.seed) for request in batch]
    noise = torch.stack([starting_noise(generator, shape) for generator in generators])
    cut = parts(len(batch), rows_each)

    def part(rows: slice) -> torch.Tensor:
        found: torch.Tensor = (_beside_others(pipeline) if len(cut) > 1 else pipeline)(
            **{name: encoded[rows] for name, encoded in texts.items()},
            latents=noise[rows].to(device, pipeline.unet.dtype),
            generator=generators[rows],
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            height=resolution,
            width=resolution,
            output_type="latent",
        ).images
        return found

    return torch.cat(side_by_side(part, cut, device))


def _encoded(pipeline: Any, batch: Sequence[Request], settings: GenerationSettings) -> dict[str, torch.Tensor]:
    """What the U-Net reads of the prompts of `batch`, by the names of the pipeline's arguments. Tokenizers are not made
    for several threads."""
    import torch

    with torch.no_grad():
        encoded = pipeline.encode_prompt(
            prompt=[request.prompt for request in batch],
            negative_prompt=[settings.negative_prompt] * len(batch),
            device=pipeline.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=settings.guidance_scale > 1,
        )
    return {name: tensor for name, tensor in zip(ENCODED, encoded, strict=False) if tensor is not None}


def _beside_others(pipeline: Any) -> Any:
    """The same models, with a sampler and a state of its own."""
    own = copy.copy(pipeline)
    own.scheduler = copy.deepcopy(pipeline.scheduler)
    return own


@contextmanager
def with_lora(pipeline: Any, path: Path, strength: float = 1.0) -> Iterator[None]:
    """Inside the block the pipeline draws with the LoRA file at `path`; after it, with the base model's weights,
    bit for bit. Raises training.lora_file.LoraError for a file that cannot be read or does not fit the base model."""
    (family,) = [family for family in FAMILIES.values() if family.pipeline == type(pipeline).__name__]
    encoders = tuple(getattr(pipeline, encoder.folder) for encoder in family.text_encoders)
    lora = read_any_lora(path, family.name)
    with apply_lora(pipeline.unet, encoders, lora, strength, family=family.name):
        yield


@contextmanager
def with_loras(pipeline: Any, loras: Sequence[tuple[Path, float]]) -> Iterator[None]:
    """`with_lora` of several files with their strengths: their changes add up. Raises LoraError as that does, and then
    changes nothing."""
    with ExitStack() as applied:
        for path, strength in loras:
            applied.enter_context(with_lora(pipeline, path, strength))
        yield
