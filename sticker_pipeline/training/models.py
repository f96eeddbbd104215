"""The base model in training: frozen, on its device, and moved off it while it is not needed.

How it is read from disk stands in base_model.py; what is trained into it, in adapters.py.
"""

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
    """A base model, all of it frozen and in evaluation mode. `noise` has the noise levels of the training."""

    family: Family
    unet: Any
    text_encoders: tuple[Any, ...]
    tokenizers: tuple[Any, ...]
    vae: Any
    noise: Any  # a DDPMScheduler
    dtype: torch.dtype  # of U-Net and text encoders: asking a model means a walk through all of its modules

    @property
    def prediction_type(self) -> str:
        return str(self.noise.config.prediction_type)

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """What the U-Net should say, [b, c, h, w]: the noise, or v = √ᾱ·noise − √(1−ᾱ)·latents (Salimans, Ho 2022)."""
        if self.prediction_type == "epsilon":
            return noise
        velocity: torch.Tensor = self.noise.get_velocity(latents, noise, timesteps)
        return velocity


def load_models(base: Path, family: str, dtype: torch.dtype, *, prediction: str, zero_terminal_snr: bool) -> Models:
    """The base model on the CPU. U-Net and text encoders get `dtype`, the VAE float32: SDXL's overflows in float16.

    `prediction` is "base" for what the model's files say, or overrules them; zero terminal SNR is added to what they
    say. Raises BaseModelError.
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
    """Move models to `device`; memory that they leave on a GPU is given back at once."""
    for part in parts:
        part.to(device)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def checkpoint_gradients(model: Any) -> None:
    """Let `model` (of diffusers or transformers) compute its forward pass again in the backward pass instead of keeping
    it: less memory, about a third more time."""
    if hasattr(model, "gradient_checkpointing_enable"):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.train()  # transformers checkpoints in training mode only; CLIP has no dropout
    else:
        # Nothing is random in it; and what PyTorch does about random states cannot be recorded in a CUDA graph.
        model.enable_gradient_checkpointing(partial(checkpoint, use_reentrant=False, preserve_rng_state=False))
