"""What a training minimises: the loss of each image and its weight, as pure functions of tensors.

Nothing here knows of models or files; noise is added, and v computed, by diffusers' scheduler (models.py).
b: images of a batch; c, h, w: channels and size of latents; T: noise levels. `alphas_cumprod` is ᾱ of DDPM (Ho et al.
2020), float[T], falling; SNR is ᾱ/(1 − ᾱ).
"""

import torch
from torch import Tensor

from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.training.spec import SpecError

MOST_SNR = 1000.0
"""Above it `debiased` weighs like there, as in sd-scripts: the SNR of the first noise levels may be infinite."""


def check_objective(settings: TrainingSettings, prediction_type: str) -> None:
    """Raise SpecError for settings that a model with `prediction_type` (epsilon, v_prediction) cannot be trained by."""
    if settings.zero_terminal_snr and prediction_type == "epsilon":
        raise SpecError(
            "settings.zero_terminal_snr: the last noise level is pure noise, of which a model that predicts noise "
            "(epsilon) learns nothing about the image. Set `prediction: v_prediction` with a base model of that "
            "kind, or leave zero_terminal_snr out."
        )


def signal_to_noise(alphas_cumprod: Tensor, timesteps: Tensor) -> Tensor:
    """SNR float[b] of `timesteps` int64[b]."""
    alphas = alphas_cumprod.to(timesteps.device)[timesteps]
    return alphas / (1.0 - alphas)


def offset_noise(noise: Tensor, latents: Tensor, settings: TrainingSettings, generator: torch.Generator) -> Tensor:
    """`noise` [b, c, h, w] plus an offset times one normal draw for each image and channel, so that the mean colour
    of images is trained as well (N. Guttenberg, CrossLabs 2023). On the CPU, from `generator`; nothing is drawn at 0.

    The offset is settings.noise_offset, and adaptive_noise_scale · |mean of the channel in `latents`| more; never below
    0 (sd-scripts, library/custom_train_functions.py).
    """
    if settings.noise_offset == 0:
        return noise
    means = latents.mean(dim=(2, 3), keepdim=True).abs()
    offset = (settings.noise_offset + settings.adaptive_noise_scale * means).clamp(min=0.0)
    return noise + offset * torch.randn((*noise.shape[:2], 1, 1), generator=generator)


def multires_noise(noise: Tensor, settings: TrainingSettings, generator: torch.Generator) -> Tensor:
    """`noise` [b, c, h, w] with coarser ones added, all divided by its standard deviation, so that large shapes are
    trained as well (J. Whitaker 2023). On the CPU, from `generator`; nothing is drawn for 0 iterations.

    Iteration i adds discountⁱ times a normal draw of size (h/rⁱ, w/rⁱ), cut to whole pixels and made larger bilinearly,
    with r uniform in 2–4; after a side of one pixel there is no further one (sd-scripts, pyramid_noise_like).
    """
    if settings.multires_noise_iterations == 0:
        return noise
    size = height, width = int(noise.shape[2]), int(noise.shape[3])
    for iteration in range(settings.multires_noise_iterations):
        ratio = (2.0 + 2.0 * float(torch.rand((), generator=generator))) ** iteration
        coarse = max(1, int(height / ratio)), max(1, int(width / ratio))
        drawn = torch.randn((*noise.shape[:2], *coarse), generator=generator)
        larger = torch.nn.functional.interpolate(drawn, size=size, mode="bilinear")
        noise = noise + settings.multires_noise_discount**iteration * larger
        if 1 in coarse:
            break
    return noise / noise.std()


def draw_timesteps(images: int, levels: int, settings: TrainingSettings, generator: torch.Generator) -> Tensor:
    """A noise level for each image, int64[images]: each of min_timestep … max_timestep − 1 as likely as the others,
    of the model's `levels`. On the CPU, from `generator`."""
    return torch.randint(settings.min_timestep, min(settings.max_timestep, levels), (images,), generator=generator)


def pixel_weights(alpha: Tensor, background_weight: float) -> Tensor:
    """Weight in the loss of each latent pixel of images with opacity `alpha` (0–1): 1 where something is seen,
    `background_weight` (0–1) where nothing is."""
    return alpha + (1.0 - alpha) * background_weight


def image_losses(predicted: Tensor, wanted: Tensor, weights: Tensor | None = None) -> Tensor:
    """Squared error of each image, float32[b]: the mean over its latent pixels [b, c, h, w], weighted by `weights`
    [b, 1, h, w] where given.

    It is divided by the sum of the weights, not by the number of pixels as in sd-scripts: how much an image counts is
    for its sampling weight to say, and not for the share of it that is transparent; and losses of the same model stay
    comparable. An image whose weights are all 0 has loss 0, and gradient 0.
    """
    errors = (predicted.float() - wanted.float()).square().mean(dim=1, keepdim=True)
    if weights is None:
        return errors.mean(dim=(1, 2, 3))
    weights = weights.to(errors)
    total = weights.sum(dim=(1, 2, 3))
    return (errors * weights).sum(dim=(1, 2, 3)) / torch.where(total > 0, total, 1.0)


def loss_weights(settings: TrainingSettings, prediction_type: str, snr: Tensor) -> Tensor:
    """Weight of each image's loss, float[b], from the `snr` float[b] of its noise level, by settings.loss_weighting.

    uniform: 1. min_snr (Hang et al. 2023): min(snr, γ)/snr, for v-prediction min(snr, γ)/(snr + 1). debiased (Yu et al.
    2023, Debias the training of diffusion models): 1/√snr; for v-prediction, as sd-scripts does, 1/(snr + 1); snr at
    most MOST_SNR in both. At a zero terminal SNR (v-prediction only, see check_objective) they are 0 and 1.
    """
    velocity = prediction_type == "v_prediction"
    if settings.loss_weighting == "min_snr":
        return snr.clamp(max=settings.min_snr_gamma) / (snr + 1.0 if velocity else snr)
    if settings.loss_weighting == "debiased":
        snr = snr.clamp(max=MOST_SNR)
        return 1.0 / (snr + 1.0) if velocity else snr.rsqrt()
    return torch.ones_like(snr)
