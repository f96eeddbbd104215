"""What a distillation minimises, as pure functions of tensors. Nothing here knows of models or files.

The consistency function f takes a noisy latent at any level to the clean one that the teacher's solver would reach
from there: f(x, t) = c_skip(t)·x + c_out(t)·x̂₀, with x̂₀ what the U-Net says, so that f(x, 0) = x (Song et al. 2023; Luo
et al. 2023, Latent Consistency Models, section 4). It is learned by being the same at two neighbouring points of the
teacher's path, with one DDIM step between them. Levels and scalings are those of diffusers' LCMScheduler, which draws
with it.

b: images of a batch; c, h, w: channels and size of latents. `alphas`: ᾱ of DDPM, float[b], at the images' levels.
"""

import torch
from torch import Tensor

GRID = 50  # levels that the LCM sampler picks its steps from, evenly spaced (`original_inference_steps`)
SIGMA_DATA = 0.5
TIMESTEP_SCALING = 10.0


def grid(levels: int) -> Tensor:
    """The timesteps int64[GRID] that are learned on, rising; of so many noise `levels` the last is among them."""
    return torch.arange(1, GRID + 1) * (levels // GRID) - 1


def next_timesteps(timesteps: Tensor, skip: int) -> Tensor:
    """Where a step of the solver from `timesteps` int64[b] arrives: `skip` levels lower, at least at 0."""
    return (timesteps - skip).clamp(min=0)


def scalings(timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """c_skip and c_out, float[b], of `timesteps` int64[b]: 1 and 0 at timestep 0."""
    scaled = timesteps * TIMESTEP_SCALING
    whole = scaled**2 + SIGMA_DATA**2
    return SIGMA_DATA**2 / whole, scaled / whole.sqrt()


def clean_and_noise(said: Tensor, noisy: Tensor, alphas: Tensor, prediction_type: str) -> tuple[Tensor, Tensor]:
    """The clean latents and the noise, [b, c, h, w] each, that a U-Net which `said` this of `noisy` means.

    epsilon: it says the noise ε, and x̂₀ = (x − √(1−ᾱ)·ε)/√ᾱ. v_prediction: x̂₀ = √ᾱ·x − √(1−ᾱ)·v and
    ε = √(1−ᾱ)·x + √ᾱ·v (Salimans, Ho 2022).
    """
    signal, noise = _images(alphas.sqrt()), _images((1.0 - alphas).sqrt())
    if prediction_type == "epsilon":
        return (noisy - noise * said) / signal, said
    return signal * noisy - noise * said, noise * noisy + signal * said


def solver_step(clean: Tensor, noise: Tensor, alphas_next: Tensor) -> Tensor:
    """DDIM (Song et al. 2021, eq. 12, without noise of its own): the noisy latents at the levels of `alphas_next`."""
    return _images(alphas_next.sqrt()) * clean + _images((1.0 - alphas_next).sqrt()) * noise


def consistent(said: Tensor, noisy: Tensor, timesteps: Tensor, alphas: Tensor, prediction_type: str) -> Tensor:
    """f(noisy, timesteps), [b, c, h, w], of a U-Net that `said` this."""
    c_skip, c_out = scalings(timesteps)
    clean, _ = clean_and_noise(said, noisy, alphas, prediction_type)
    return _images(c_skip) * noisy + _images(c_out) * clean


def guided(said: Tensor, unprompted: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (Ho, Salimans 2022) in the convention of pipelines: 1 is none."""
    return unprompted + scale * (said - unprompted)


def huber(predicted: Tensor, wanted: Tensor, width: float) -> Tensor:
    """Pseudo-Huber loss of each image, float[b]: the mean of √(d² + width²) − width."""
    return ((predicted - wanted).square() + width**2).sqrt().sub(width).mean(dim=(1, 2, 3))


def _images(values: Tensor) -> Tensor:
    return values[:, None, None, None]
