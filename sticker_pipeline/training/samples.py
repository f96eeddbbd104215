"""The pictures that a person looks at after each epoch, to see a LoRA grow.

A quick look with few prompts; the pictures that the benchmark measures are made by generation/.
"""

from collections.abc import Callable, Iterator
from typing import Any

import diffusers
import torch
from PIL import Image

from sticker_pipeline.settings import GenerationSettings
from sticker_pipeline.training.memory import MemoryPlan, tile_vae
from sticker_pipeline.training.models import Models, move
from sticker_pipeline.training.sampler import make_scheduler
from sticker_pipeline.training.spec import TrainingSpec
from sticker_pipeline.training.text import Encoded, TextModels, encode, tokenize

PIXELS_AT_ONCE = 2**20
"""Decoded together: one picture of 1024 px, or four of 512. Decoding takes most of the memory of a drawing."""

Prompts = Callable[[], Encoded]
"""The encodings of spec.sample_prompts, and of the negative prompt last: one row each."""


@torch.no_grad()
def encode_prompts(models: TextModels, spec: TrainingSpec) -> Encoded:
    """See Prompts; on the device and in the dtype of the text encoders."""
    texts = [*spec.sample_prompts, spec.generation.negative_prompt]
    return encode(models, tokenize(models.tokenizers, texts, spec.settings.max_tokens), spec.settings.clip_skip)


@torch.no_grad()
def sample_pictures(
    models: Models,
    spec: TrainingSpec,
    prompts: Prompts,
    memory: MemoryPlan,
    stop: Callable[[], int | None] = lambda: None,
) -> Iterator[Image.Image]:
    """One picture of each of spec.sample_prompts, drawn with the adapters as they are; fewer when `stop` asks to end.

    Prompt k always starts from the noise of sample_seed + k, so that epochs differ in what was learned alone. As many
    are drawn at once as `memory` allows, and the VAE comes to the U-Net's device for as long as it decodes.
    """
    if not spec.sample_prompts:
        return
    pipeline, encoded = pipeline_of(models, spec.generation.scheduler), prompts()
    device, home, count = models.unet.device, models.vae.device, len(spec.sample_prompts)
    latents: list[torch.Tensor] = []
    for start in range(0, count, memory.sample_batch):
        if stop() is not None:
            return
        rows = range(start, min(start + memory.sample_batch, count))
        latents += latents_of(pipeline, models, encoded, rows, spec.generation, spec.resolution, spec.sample_seed)
    if memory.tiles > 1:
        tile_vae(models.vae, spec.resolution, spec.resolution, memory.tiles)
    move([models.vae], device)
    try:
        for one in latents:
            for pixels in decoded(models.vae, one[None]):
                yield from pipeline.image_processor.postprocess(pixels, output_type="pil")
    finally:
        move([models.vae], home)


def latents_of(
    pipeline: Any,
    models: Models,
    encoded: Encoded,
    rows: range,
    settings: GenerationSettings,
    resolution: int,
    seed: int,
) -> torch.Tensor:
    """Latents [len(rows), channels, side, side] of the prompts in these `rows` of `encoded`, whose last row is the
    negative prompt. The noise of a row follows from `seed` + its number. `pipeline`: from `pipeline_of`."""
    device, dtype, negatives = models.unet.device, models.dtype, [-1] * len(rows)
    texts = {
        "prompt_embeds": encoded.hidden[list(rows)].to(device, dtype),
        "negative_prompt_embeds": encoded.hidden[negatives].to(device, dtype),
    }
    if encoded.pooled is not None:
        texts["pooled_prompt_embeds"] = encoded.pooled[list(rows)].to(device, dtype)
        texts["negative_pooled_prompt_embeds"] = encoded.pooled[negatives].to(device, dtype)
    found: torch.Tensor = pipeline(
        **texts,
        height=resolution,
        width=resolution,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance_scale,
        generator=[torch.Generator().manual_seed(seed + row) for row in rows],
        output_type="latent",
    ).images
    return found


@torch.no_grad()
def decoded(vae: Any, latents: torch.Tensor) -> Iterator[torch.Tensor]:
    """Pixels [b, 3, height, width], -1 to 1, of `latents` as the U-Net makes them, as many at once as have
    PIXELS_AT_ONCE.

    The VAE computes in its own precision: pipelines would in the U-Net's. In float16, activations of some VAEs overflow
    (SDXL's as published, some anime ones of SD1.5), and pictures are black; such a VAE becomes float32 here.
    """
    scale = 2 ** (len(vae.config.block_out_channels) - 1)
    size = max(1, PIXELS_AT_ONCE // (latents.shape[-2] * latents.shape[-1] * scale**2))
    for some in latents.split(size):
        pixels = _pixels(vae, some)
        if vae.dtype == torch.float16 and not torch.isfinite(pixels).all():
            torch.nn.Module.to(vae, torch.float32)  # diffusers' own warns
            pixels = _pixels(vae, some)
        yield pixels


def _pixels(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    config = vae.config
    unscaled = latents.to(vae.dtype) / config.scaling_factor + (config.get("shift_factor") or 0.0)
    pixels: torch.Tensor = vae.decode(unscaled).sample
    return pixels


def pipeline_of(models: Models, scheduler: str) -> Any:
    """The models in training as a pipeline that is given encodings: it shares their weights and holds nothing of its
    own. `scheduler`: as in sampler.py."""
    texts = {name: None for part in models.family.text_encoders for name in (part.folder, part.tokenizer)}
    extra: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline: Any = getattr(diffusers, models.family.pipeline)(
        unet=models.unet,
        vae=models.vae,
        scheduler=make_scheduler(scheduler, models.noise.config),
        **texts,
        **({"add_watermarker": False} if models.family.pooled else extra),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
