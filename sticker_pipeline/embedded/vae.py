"""Trains the base model's autoencoder: 96-pixel images to latents `[16, 12, 12]` and back."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sticker_pipeline.embedded import loop
from sticker_pipeline.embedded.dataset import Drawings, on_white

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL

LATENT_CHANNELS = 16  # a shorter training with 8: 24.5 dB, and a tongue or blush lost in a third of images
CHANNELS = (16, 32, 64, 96)
KL_WEIGHT = 4e-4  # on the mean over latents; keeps them smooth and near unit size without blurring images
EDGE_WEIGHT = 1.0
SQUARED_WEIGHT = 4.0  # about as large as the other terms at 25 dB; sharpens the edges of shapes
PLAN: loop.Plan = loop.Plan(steps=6400, batch=8, matrix_rate=5e-3, warmup=100, decay_from=0.5, ema=0.998, seed=1)


def new_vae(seed: int = 1) -> AutoencoderKL:
    """An untrained AutoencoderKL: f8, convolutional throughout, small."""
    import torch
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=96,
        mid_block_add_attention=False,
    )


def image_loss(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Reconstruction loss of float32 [N, 3, H, W] in -1…1: a scalar.

    Squared error at full size, plus mean absolute errors of pixels and of differences between neighbours at full, half
    and quarter size. The differences keep outlines and small features (eyes, mouths), which plain errors blur.
    """
    import torch.nn.functional as F

    total = SQUARED_WEIGHT * (made - wanted).square().mean()
    for scale in range(3):
        total = total + (made - wanted).abs().mean() / (1 + scale)
        for axis in (2, 3):
            total = total + EDGE_WEIGHT * (made.diff(dim=axis) - wanted.diff(dim=axis)).abs().mean() / (1 + scale)
        made, wanted = F.avg_pool2d(made, 2), F.avg_pool2d(wanted, 2)
    return total


def batch_of_images(drawings: Drawings, plan: loop.Plan, step: int) -> torch.Tensor:
    """Images `[batch, 3, 96, 96]` in -1…1 for `step`, on white, half mirrored."""
    import torch

    rng = np.random.default_rng([plan.seed, step])
    rows = np.sort(rng.choice(len(drawings), plan.batch, replace=False))
    images = on_white(drawings.pixels[rows])
    mirrored = rng.random(plan.batch) < 0.5
    images[mirrored] = images[mirrored, :, :, ::-1]
    return torch.from_numpy(images).to(loop.device(), memory_format=torch.channels_last)


def train(
    drawings: Drawings,
    plan: loop.Plan,
    checkpoint: Path,
    save: Callable[[AutoencoderKL], None],
    say: Callable[[str], None],
) -> float:
    """Train or resume; `save` the averaged model; return seconds of training."""
    import torch
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    vae = new_vae(plan.seed)
    vae.to(memory_format=torch.channels_last)
    encoder, decoder = loop.compiled(vae.encoder), loop.compiled(vae.decoder)
    training = loop.Training({"vae": vae}, {"vae": 1.0}, plan)

    def loss_at(step: int) -> torch.Tensor:
        images = batch_of_images(drawings, plan, step)
        with loop.autocast():
            moments = DiagonalGaussianDistribution(vae.quant_conv(encoder(images)))
            noise = torch.randn(moments.mean.shape, generator=loop.torch_rng(plan.seed, step)).to(images.device)
            made = decoder(vae.post_quant_conv(moments.mean + moments.std * noise))
        kl = 0.5 * (moments.mean.float() ** 2 + moments.var.float() - 1.0 - moments.logvar.float()).mean()
        return image_loss(made.float(), images) + KL_WEIGHT * kl

    def snapshot() -> None:
        finished = copy.deepcopy(vae)
        normalise_latents(finished, drawings)
        save(finished)

    loop.run(training, loss_at, checkpoint, label="vae", say=say, snapshot=snapshot)
    return training.seconds


def encode(vae: AutoencoderKL, rgba: np.ndarray, *, batch: int = 64) -> np.ndarray:
    """Encode `uint8[N, 96, 96, 4]` on white: posterior means `float32[N, 16, 12, 12]`.

    Unscaled, in float32, so that metrics do not depend on the machine. For training data, `loop.autocast` is faster.
    """
    import torch

    latents = []
    with torch.inference_mode():
        for start in range(0, len(rgba), batch):
            images = torch.from_numpy(on_white(rgba[start : start + batch])).to(vae.device)
            latents.append(vae.encode(images).latent_dist.mean.float().cpu().numpy())
    return np.concatenate(latents)


def normalise_latents(vae: AutoencoderKL, drawings: Drawings) -> None:
    """Shift and scale the model's latent channels to mean 0, deviation 1.

    Measured on up to 600 drawings. The 1x1 convolutions on either side of the latents absorb it: images are unchanged,
    and loaders need one `scaling_factor` only (1).
    """
    import torch

    rows = np.linspace(0, len(drawings) - 1, num=min(600, len(drawings)), dtype=int)
    latents = encode(vae, drawings.pixels[rows])
    mean = torch.from_numpy(latents.mean(axis=(0, 2, 3))).to(vae.device)
    deviation = torch.from_numpy(latents.std(axis=(0, 2, 3))).to(vae.device)
    before, after = vae.quant_conv, vae.post_quant_conv
    channels = len(mean)
    with torch.no_grad():
        after.bias.add_(after.weight[:, :, 0, 0] @ mean)
        after.weight.mul_(deviation[None, :, None, None])
        before.weight[:channels].div_(deviation[:, None, None, None])
        before.bias[:channels].sub_(mean).div_(deviation)
        before.bias[channels:].sub_(2.0 * deviation.log())  # the other half is the log variance
    vae.register_to_config(scaling_factor=1.0)


@dataclass(frozen=True)
class Fidelity:
    """Reconstruction quality: PSNR in dB by medium, mean absolute error in 0–255."""

    psnr_sticker: float
    psnr_art: float
    error: float


def measure(vae: AutoencoderKL, fresh: Drawings) -> tuple[Fidelity, np.ndarray]:
    """Measure fidelity on fresh drawings; return it with reconstructions `uint8[N, 96, 96, 3]`."""
    import torch

    wanted = torch.from_numpy(on_white(fresh.pixels))
    with torch.inference_mode():
        latents = torch.from_numpy(encode(vae, fresh.pixels))
        made = torch.cat([vae.decode(part.to(vae.device)).sample.float().cpu() for part in latents.split(64)])
    made = made.clamp(-1, 1)
    squared = ((made - wanted) / 2.0).square().mean(dim=(1, 2, 3)).numpy()
    psnr = -10.0 * np.log10(np.maximum(squared, 1e-12))
    fidelity = Fidelity(
        psnr_sticker=float(psnr[fresh.sticker].mean()),
        psnr_art=float(psnr[~fresh.sticker].mean()),
        error=float((made - wanted).abs().mean() * 127.5),
    )
    return fidelity, ((made.permute(0, 2, 3, 1).numpy() + 1.0) * 127.5).round().astype(np.uint8)
