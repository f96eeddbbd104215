"""Sampling from encoded prompts to pixels, for training, generation and distillation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import lcm
from typing import Any

import torch

from sticker_pipeline.core.settings import MAX_TOKENS, GenerationSettings
from sticker_pipeline.diffusion.text import LENGTH, Encoded, TextModels, Tokens, encode, tokenize

PIXELS_AT_ONCE = 2**20
"""Decoded together: one image of 1024 px, or four of 512. Decoding takes most of the memory of generation."""


@dataclass(frozen=True)
class Prompts:
    """Encodings of n prompts and their negative prompts, equally long."""

    positive: Encoded
    negative: Encoded

    def rows(self, rows: slice) -> "Prompts":
        return Prompts(self.positive.rows(rows), self.negative.rows(rows))

    def on(self, device: torch.device | str) -> "Prompts":
        return Prompts(self.positive.on(device), self.negative.on(device))


@torch.no_grad()
def encode_prompts(models: TextModels, prompts: Sequence[str], negative: str, clip_skip: int) -> Prompts:
    """Encode `prompts` (at least one), in the encoders' device and dtype.

    Shorter prompts are repeated to a common length, as in ComfyUI: attention treats repeated states like one.
    `clip_skip`: see `diffusion/text.py::encode`.
    """
    both = [tokenize(models.tokenizers, texts, MAX_TOKENS) for texts in (prompts, [negative] * len(prompts))]
    length = lcm(*(count for tokens in both for count in tokens.chunks.tolist()))
    return Prompts(*(_repeated(encode(models, tokens, clip_skip), tokens, length) for tokens in both))


def _repeated(encoded: Encoded, tokens: Tokens, length: int) -> Encoded:
    chunks = tokens.chunks.tolist()
    if set(chunks) == {length}:
        return encoded
    rows = zip(encoded.hidden, chunks, strict=True)
    hidden = torch.stack([row[: count * LENGTH].repeat(length // count, 1) for row, count in rows])
    return Encoded(hidden, encoded.pooled)


def starting_noise(generator: torch.Generator, shape: tuple[int, ...]) -> torch.Tensor:
    """Return standard normal float32 noise from a fresh `generator`.

    It is sampled on the CPU for every device. Later noise, such as a sampler's, comes from the same generator.
    """
    return torch.randn(shape, generator=generator, dtype=torch.float32)


@torch.no_grad()
def latents_of(
    pipeline: Any,
    prompts: Prompts,
    seeds: Sequence[int],
    settings: GenerationSettings,
    resolution: int,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Return latents [b, channels, side, side] in the U-Net's scale.

    `seeds`: one per row. `pipeline`: diffusers', with the sampler of `settings` and a U-Net of `dtype`.
    """
    side, device = resolution // pipeline.vae_scale_factor, pipeline.unet.device
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    shape = (pipeline.unet.config.in_channels, side, side)
    noise = torch.stack([starting_noise(generator, shape) for generator in generators])
    positive, negative = prompts.positive, prompts.negative
    found: torch.Tensor = pipeline(
        prompt_embeds=positive.hidden.to(device, dtype),
        negative_prompt_embeds=negative.hidden.to(device, dtype),
        **_pooled("pooled_prompt_embeds", positive, device, dtype),
        **_pooled("negative_pooled_prompt_embeds", negative, device, dtype),
        latents=noise.to(device, dtype),
        generator=generators,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance_scale,
        height=resolution,
        width=resolution,
        output_type="latent",
    ).images
    return found


def _pooled(name: str, encoded: Encoded, device: torch.device, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {} if encoded.pooled is None else {name: encoded.pooled.to(device, dtype)}


@torch.no_grad()
def decoded(vae: Any, latents: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield pixels [b, 3, height, width], -1 to 1, PIXELS_AT_ONCE at most.

    `latents`: in the U-Net's scale. The VAE keeps its own precision (a pipeline would use the U-Net's). In float16,
    some VAEs overflow to black images (SDXL's as published, some SD1.5 anime VAEs): they become float32.
    """
    scale = 2 ** (len(vae.config.block_out_channels) - 1)
    size = max(1, PIXELS_AT_ONCE // (latents.shape[-2] * latents.shape[-1] * scale**2))
    for some in latents.split(size):
        pixels = _pixels(vae, some)
        if vae.dtype == torch.float16 and not torch.isfinite(pixels).all():
            torch.nn.Module.to(vae, torch.float32)  # diffusers' own method warns
            pixels = _pixels(vae, some)
        yield pixels


def _pixels(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    config = vae.config
    unscaled = latents.to(vae.dtype) / config.scaling_factor + (config.get("shift_factor") or 0.0)
    pixels: torch.Tensor = vae.decode(unscaled).sample
    return pixels
