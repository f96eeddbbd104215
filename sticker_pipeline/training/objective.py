"""Losses of a training and their weights, as pure functions of tensors.

b: images of a batch; c, h, w: channels and size of latents; T: noise levels. `alphas_cumprod` is ᾱ of DDPM (Ho et al.
2020), float[T], falling; SNR is ᾱ/(1 − ᾱ).
"""

import torch
from torch import Tensor

from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.training.spec import SpecError

MOST_SNR = 1000.0
"""Upper bound of the SNR in `debiased`, as in sd-scripts: the first noise levels may have an infinite one."""


def check_objective(settings: TrainingSettings, prediction_type: str) -> None:
    """Raise SpecError for settings unfit for `prediction_type` (epsilon, v_prediction)."""
    if settings.zero_terminal_snr and prediction_type == "epsilon":
        raise SpecError(
            "settings.zero_terminal_snr: the last noise level is pure noise. A model that predicts noise (epsilon) "
            "learns nothing about the image from it. Set `prediction: v_prediction` with a base model of that "
            "kind, or leave zero_terminal_snr out."
        )


def signal_to_noise(alphas_cumprod: Tensor, timesteps: Tensor) -> Tensor:
    """SNR float[b] of `timesteps` int64[b]."""
    alphas = alphas_cumprod.to(timesteps.device)[timesteps]
    return alphas / (1.0 - alphas)


def offset_noise(noise: Tensor, latents: Tensor, settings: TrainingSettings, generator: torch.Generator) -> Tensor:
    """Add `offset · normal sample` per image and channel to `noise` [b, c, h, w].

    It trains mean colours too (N. Guttenberg, CrossLabs 2023). On the CPU, from `generator`, unused at noise_offset 0.
    The offset is settings.noise_offset + adaptive_noise_scale · |mean of the channel in `latents`|, at least 0
    (sd-scripts, library/custom_train_functions.py).
    """
    if settings.noise_offset == 0:
        return noise
    means = latents.mean(dim=(2, 3), keepdim=True).abs()
    offset = (settings.noise_offset + settings.adaptive_noise_scale * means).clamp(min=0.0)
    return noise + offset * torch.randn((*noise.shape[:2], 1, 1), generator=generator)


def multires_noise(noise: Tensor, settings: TrainingSettings, generator: torch.Generator) -> Tensor:
    """`noise` [b, c, h, w] plus coarser noise, divided by its standard deviation.

    It trains large shapes too (J. Whitaker 2023). On the CPU, from `generator`, unused for 0 iterations. Iteration i
    adds discountⁱ times a normal sample of size (h/rⁱ, w/rⁱ), cut to whole pixels and enlarged bilinearly, r uniform in
    2–4; a side of one pixel ends it (sd-scripts, pyramid_noise_like).
    """
    if settings.multires_noise_iterations == 0:
        return noise
    size = height, width = int(noise.shape[2]), int(noise.shape[3])
    for iteration in range(settings.multires_noise_iterations):
        ratio = (2.0 + 2.0 * float(torch.rand((), generator=generator))) ** iteration
        coarse = max(1, int(height / ratio)), max(1, int(width / ratio))
        coarse_noise = torch.randn((*noise.shape[:2], *coarse), generator=generator)
        larger = torch.nn.functional.interpolate(coarse_noise, size=size, mode="bilinear")
        noise = noise + settings.multires_noise_discount**iteration * larger
        if 1 in coarse:
            break
    return noise / noise.std()


def sample_timesteps(images: int, levels: int, settings: TrainingSettings, generator: torch.Generator) -> Tensor:
    """Sample a timestep for each image, int64[images].

    Uniform in min_timestep … max_timestep − 1, below `levels`. On the CPU, from `generator`.
    """
    return torch.randint(settings.min_timestep, min(settings.max_timestep, levels), (images,), generator=generator)


def pixel_weights(alpha: Tensor, background_weight: float) -> Tensor:
    """Weight of each latent pixel in the loss, by opacity `alpha` (0–1).

    1 where opaque, `background_weight` (0–1) where transparent.
    """
    return alpha + (1.0 - alpha) * background_weight


def image_losses(predicted: Tensor, wanted: Tensor, weights: Tensor | None = None) -> Tensor:
    """Squared error of each image, float32[b], weighted by `weights`.

    Mean over latent pixels [b, c, h, w]; `weights` [b, 1, h, w]. Divided by their sum, not by the number of pixels as
    in sd-scripts: transparency does not change an image's influence, and losses of a model stay comparable. All weights
    0 give loss and gradient 0.
    """
    errors = (predicted.float() - wanted.float()).square().mean(dim=1, keepdim=True)
    if weights is None:
        return errors.mean(dim=(1, 2, 3))
    weights = weights.to(errors)
    total = weights.sum(dim=(1, 2, 3))
    return (errors * weights).sum(dim=(1, 2, 3)) / torch.where(total > 0, total, 1.0)


def loss_weights(settings: TrainingSettings, prediction_type: str, snr: Tensor) -> Tensor:
    """Weight of each image's loss, float[b], by settings.loss_weighting.

    `snr` float[b] of its noise level.

    - uniform: 1.
    - min_snr (Hang et al. 2023): min(snr, γ)/snr, for v-prediction min(snr, γ)/(snr + 1).
    - debiased (Yu et al. 2023, Debias the training of diffusion models): 1/√snr; for v-prediction, as in sd-scripts,
      1/(snr + 1); snr at most MOST_SNR.

    At zero terminal SNR (v-prediction only, see check_objective) the last two are 0 and 1.
    """
    velocity = prediction_type == "v_prediction"
    if settings.loss_weighting == "min_snr":
        return snr.clamp(max=settings.min_snr_gamma) / (snr + 1.0 if velocity else snr)
    if settings.loss_weighting == "debiased":
        snr = snr.clamp(max=MOST_SNR)
        return 1.0 / (snr + 1.0) if velocity else snr.rsqrt()
    return torch.ones_like(snr)
