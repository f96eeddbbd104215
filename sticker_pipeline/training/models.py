"""Frozen base model in training, on its device or moved off it."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch.utils.checkpoint import checkpoint

from sticker_pipeline.diffusion.base_model import open_base
from sticker_pipeline.diffusion.families import FAMILIES, Family


@dataclass(frozen=True)
class Models:
    """Frozen base model in evaluation mode; `noise`: the training's noise levels."""

    family: Family
    unet: Any
    text_encoders: tuple[Any, ...]
    tokenizers: tuple[Any, ...]
    vae: Any
    noise: Any  # a DDPMScheduler
    dtype: torch.dtype  # of U-Net and text encoders; a model's own `dtype` searches all modules

    @property
    def prediction_type(self) -> str:
        return str(self.noise.config.prediction_type)

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Target of the U-Net, [b, c, h, w]: the noise or v.

        v = √ᾱ·noise − √(1−ᾱ)·latents (Salimans, Ho 2022).
        """
        if self.prediction_type == "epsilon":
            return noise
        velocity: torch.Tensor = self.noise.get_velocity(latents, noise, timesteps)
        return velocity


def load_models(base: Path, family: str, dtype: torch.dtype, *, prediction: str, zero_terminal_snr: bool) -> Models:
    """Load the base model on the CPU.

    U-Net and text encoders in `dtype`, the VAE in float32: SDXL's overflows in float16. `prediction` other than "base"
    replaces that of the model's files; zero terminal SNR is added to theirs. Raises BaseModelError.
    """
    pipeline = open_base(base, family, dtype, torch.float32)
    parts = FAMILIES[family].text_encoders
    config = pipeline.scheduler.config
    noise = DDPMScheduler.from_config(
        config,
        prediction_type=config.prediction_type if prediction == "base" else prediction,
        rescale_betas_zero_snr=zero_terminal_snr or bool(config.get("rescale_betas_zero_snr")),
    )
    models = Models(
        family=FAMILIES[family],
        unet=pipeline.unet,
        text_encoders=tuple(getattr(pipeline, part.folder) for part in parts),
        tokenizers=tuple(getattr(pipeline, part.tokenizer) for part in parts),
        vae=pipeline.vae,
        noise=noise,
        dtype=dtype,
    )
    for model in (models.unet, models.vae, *models.text_encoders):
        model.requires_grad_(False)
        model.eval()
    return models


def move(parts: Iterable[Any], device: torch.device | str) -> None:
    """Move models to `device`, and free GPU memory that they leave."""
    for part in parts:
        part.to(device)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def checkpoint_gradients(model: Any) -> None:
    """Recompute the forward pass in the backward pass to save memory.

    It takes about a third more time. `model`: of diffusers or transformers.
    """
    if hasattr(model, "gradient_checkpointing_enable"):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.train()  # transformers checkpoints in training mode only; CLIP has no dropout
    else:
        # No randomness in it; and random states cannot be preserved in a CUDA graph.
        model.enable_gradient_checkpointing(partial(checkpoint, use_reentrant=False, preserve_rng_state=False))
