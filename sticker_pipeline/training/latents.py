"""Pictures as the U-Net sees them: VAE posteriors, cached per picture, and fresh draws from them.

The cache knows nothing of characters or runs: an entry is named by all that decides it. Cutting a picture to its bucket
belongs to dataset/pixels.py.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sticker_pipeline.dataset.pixels import fit_picture
from sticker_pipeline.storage import atomic_file, content_hash, file_sha256

VERSION = "1"  # of the way from prepared pixels to a cache entry; raise it when that changes

Posterior = tuple[torch.Tensor, torch.Tensor]  # mean and standard deviation, float32[c, h/f, w/f], unscaled


def prepared_pixels(path: Path, width: int, height: int, background: str) -> np.ndarray:
    """The picture at `path` (lossless RGBA) as uint8[height, width, 3], cut to its bucket and flattened."""
    with Image.open(path) as image:
        rgba = np.asarray(image.convert("RGBA"))
    return fit_picture(rgba, width, height, background)


def vae_hash(base: Path) -> str:
    """Hash of all that decides what the VAE of the diffusers folder `base` makes of a picture."""
    files = sorted((base / "vae").glob("*.json")) + sorted((base / "vae").glob("*.safetensors"))
    return content_hash({path.name: file_sha256(path) for path in files})


def entry_path(cache: Path, vae: str, pixels: np.ndarray) -> Path:
    """Where the posterior of `pixels` under the VAE with hash `vae` is cached."""
    digest = hashlib.sha256(f"{VERSION} {pixels.shape} ".encode() + pixels.tobytes()).hexdigest()
    return cache / vae[:16] / digest[:2] / f"{digest}.safetensors"


def posteriors(
    pictures: Iterable[np.ndarray],
    vae: Any,
    vae_sha: str,
    cache: Path,
    *,
    encoded: Callable[[int], None] = lambda count: None,
) -> list[Posterior]:
    """The posterior of each picture (uint8[h, w, 3]), on the CPU, from the cache or from the VAE.

    Pictures are encoded one by one: the result must not depend on which others are missing in the cache.
    `encoded` is called with the number of pictures done after each one.
    """
    found = []
    for number, pixels in enumerate(pictures, start=1):
        path = entry_path(cache, vae_sha, pixels)
        posterior = _cached(path)
        if posterior is None:
            posterior = encode(vae, pixels)
            with atomic_file(path) as staging:
                save_file({"mean": posterior[0].contiguous(), "std": posterior[1].contiguous()}, staging)
        found.append(posterior)
        encoded(number)
    return found


def _cached(path: Path) -> Posterior | None:
    try:
        entry = load_file(path)
        return entry["mean"], entry["std"]
    except (FileNotFoundError, SafetensorError, KeyError):
        return None  # a damaged entry is as good as none: it is made again


@torch.no_grad()
def encode(vae: Any, pixels: np.ndarray) -> Posterior:
    """Mean and standard deviation of the posterior of one picture; AutoencoderTiny has none: its deviation is 0."""
    scaled = torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1.0).permute(2, 0, 1)[None]
    output = vae.encode(scaled.to(vae.device, vae.dtype))
    if hasattr(output, "latent_dist"):
        return output.latent_dist.mean[0].float().cpu(), output.latent_dist.std[0].float().cpu()
    mean = output.latents[0].float().cpu()
    return mean, torch.zeros_like(mean)


def redraw(batch: list[Posterior], scale: float, shift: float, generator: torch.Generator) -> torch.Tensor:
    """A fresh draw from each posterior in the space that the U-Net works in: float32[b, c, h, w] = (z − shift) · scale.

    `generator` is a CPU generator, so that a draw is the same on every device.
    """
    mean = torch.stack([posterior[0] for posterior in batch])
    std = torch.stack([posterior[1] for posterior in batch])
    return (mean + std * torch.randn(mean.shape, generator=generator) - shift) * scale
