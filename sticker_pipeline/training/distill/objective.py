"""Objective of a distillation, as pure functions of tensors.

The consistency function f maps a noisy latent at any level to the clean one that the teacher's solver would reach: f(x,
t) = c_skip(t)·x + c_out(t)·x̂₀, with x̂₀ from the U-Net's prediction, so that f(x, 0) = x (Song et al. 2023; Luo et al.
2023, Latent Consistency Models, section 4). Training makes it equal at neighbouring points of the teacher's path, one
DDIM step apart. Levels and scalings are those of diffusers' LCMScheduler, which generates with it.

b: images of a batch; c, h, w: channels and size of latents. `alphas`: ᾱ of DDPM, float[b], at the images' levels.
"""

import torch
from torch import Tensor

GRID = 50  # evenly spaced levels of the LCM sampler's steps (`original_inference_steps`)
SIGMA_DATA = 0.5
TIMESTEP_SCALING = 10.0


def grid(levels: int) -> Tensor:
    """Timesteps to learn on, int64[GRID], rising to the last of `levels`."""
    return torch.arange(1, GRID + 1) * (levels // GRID) - 1


def next_timesteps(timesteps: Tensor, skip: int) -> Tensor:
    """Timesteps int64[b] after a solver step: `skip` levels lower, at least 0."""
    return (timesteps - skip).clamp(min=0)


def scalings(timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """c_skip and c_out, float[b], of `timesteps` int64[b]: 1 and 0 at 0."""
    scaled = timesteps * TIMESTEP_SCALING
    whole = scaled**2 + SIGMA_DATA**2
    return SIGMA_DATA**2 / whole, scaled / whole.sqrt()


def clean_and_noise(predicted: Tensor, noisy: Tensor, alphas: Tensor, prediction_type: str) -> tuple[Tensor, Tensor]:
    """Clean latents and noise, [b, c, h, w] each, of a prediction.

    `predicted`: by the U-Net for `noisy`. epsilon: it is ε, and x̂₀ = (x − √(1−ᾱ)·ε)/√ᾱ. v_prediction: x̂₀ = √ᾱ·x −
    √(1−ᾱ)·v, ε = √(1−ᾱ)·x + √ᾱ·v (Salimans, Ho 2022).
    """
    signal, noise = _images(alphas.sqrt()), _images((1.0 - alphas).sqrt())
    if prediction_type == "epsilon":
        return (noisy - noise * predicted) / signal, predicted
    return signal * noisy - noise * predicted, noise * noisy + signal * predicted


def solver_step(clean: Tensor, noise: Tensor, alphas_next: Tensor) -> Tensor:
    """DDIM step without added noise to `alphas_next` (Song et al. 2021, eq. 12)."""
    return _images(alphas_next.sqrt()) * clean + _images((1.0 - alphas_next).sqrt()) * noise


def consistent(predicted: Tensor, noisy: Tensor, timesteps: Tensor, alphas: Tensor, prediction_type: str) -> Tensor:
    """f(noisy, timesteps), [b, c, h, w], from the U-Net's prediction `predicted`."""
    c_skip, c_out = scalings(timesteps)
    clean, _ = clean_and_noise(predicted, noisy, alphas, prediction_type)
    return _images(c_skip) * noisy + _images(c_out) * clean


def guided(predicted: Tensor, unprompted: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (Ho, Salimans 2022) as in pipelines: scale 1 is none."""
    return unprompted + scale * (predicted - unprompted)


def huber(predicted: Tensor, wanted: Tensor, width: float) -> Tensor:
    """Pseudo-Huber loss of each image, float[b]: mean of `√(d² + width²) − width`."""
    return ((predicted - wanted).square() + width**2).sqrt().sub(width).mean(dim=(1, 2, 3))


def _images(values: Tensor) -> Tensor:
    return values[:, None, None, None]
