"""Tone faults from few steps, strong guidance and strong adapters.

Flat, burnt, pale, hazy and blurred images, measured on stored pixels (sRGB, not linear), in 0–1. They are compared with
images of the same prompts and seeds in other settings: a character in pastels has low contrast without any fault.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sticker_pipeline.benchmark.bootstrap import Estimate, row_mean

LUMA = np.array([0.2126, 0.7152, 0.0722])  # ITU-R BT.709
BLACK_POINT = 0.05  # share of pixels that may be darker: one dark pixel is not enough


@dataclass(frozen=True)
class Tones:
    """Tones of each image, float64[n], in 0–1; sharpness up to 4.

    - contrast: standard deviation of luma over the pixels (root mean square contrast, Peli 1990).
    - saturation: mean of the largest less the smallest colour channel (chroma of HSV).
    - sharpness: root mean square of the Laplacian of luma (four neighbours of each inner pixel). Blur lowers it before
      contrast; noise raises it.
    - haze: the black point, the 5 % quantile of the dark channel (a pixel's smallest channel). He, Sun and Tang (2009,
      "Single image haze removal using dark channel prior") found the dark channel near 0 in images without haze. A
      white veil of strength a, I = (1 − a)·J + a, raises it by the share a of its distance to white. They also take the
      minimum of a patch, and all pixels. Stickers have a white background, which the low quantile ignores, and dark
      outlines, which it finds.
    """

    contrast: np.ndarray
    saturation: np.ndarray
    sharpness: np.ndarray
    haze: np.ndarray


def tones(images: Sequence[Image.Image]) -> Tones:
    """Tones of RGB images; empty for none."""
    pixels = [np.asarray(image.convert("RGB"), dtype=np.float64) / 255 for image in images]
    return Tones(
        contrast=np.array([(each @ LUMA).std() for each in pixels]),
        saturation=np.array([(each.max(axis=2) - each.min(axis=2)).mean() for each in pixels]),
        sharpness=np.array([np.sqrt((_laplacian(each @ LUMA) ** 2).mean()) for each in pixels]),
        haze=np.array([np.quantile(each.min(axis=2), BLACK_POINT) for each in pixels]),
    )


def _laplacian(luma: np.ndarray) -> np.ndarray:
    """Laplacian of float64[h, w]: float64[h − 2, w − 2]."""
    beside = luma[1:-1, :-2] + luma[1:-1, 2:] + luma[:-2, 1:-1] + luma[2:, 1:-1]
    return beside - 4 * luma[1:-1, 1:-1]


def relative_shift(
    values: np.ndarray,
    reference: np.ndarray,
    *,
    samples: int = 2_000,
    seed: int = 0,
    prompts: Sequence[str] | None = None,
) -> Estimate:
    """Mean excess of `values`, as a share of the reference's mean.

    n = images. Row i of both has the same prompt and seed, so a prompt's effect on contrast or saturation cancels. It
    is fooled by images with other content: a closer view has less background. Raises ValueError where the numbers of
    rows differ; NaN where the reference's mean is 0.
    """
    return row_mean(relative_shifts(values, reference), samples, seed, prompts)


def relative_shifts(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """`relative_shift` of each pair, float64[n]. Raises ValueError as that does."""
    _check_pairs(values, reference)
    whole = reference.mean()
    return (values - reference) / whole if whole > 0 else np.full(values.shape, np.nan)


def veil(
    haze: np.ndarray,
    reference: np.ndarray,
    *,
    samples: int = 2_000,
    seed: int = 0,
    prompts: Sequence[str] | None = None,
) -> Estimate:
    """Mean strength a of the white veil that explains lighter black points.

    n = pairs. It would raise the reference's black points to those of the images; below 0 where these are darker. An
    all-white reference does not count.

    It is fooled by images without anything dark, such as a portrait that lost its outlines: also a fault, but no veil.
    Raises ValueError where the numbers of rows differ.
    """
    return row_mean(veils(haze, reference), samples, seed, prompts)


def veils(haze: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """`veil` of each pair, float64[n]; NaN where the reference is all white.

    Raises ValueError as that does.
    """
    _check_pairs(haze, reference)
    room = 1.0 - reference
    return np.divide(haze - reference, room, out=np.full(len(haze), np.nan), where=room > 1e-9)


def _check_pairs(values: np.ndarray, reference: np.ndarray) -> None:
    if values.shape != reference.shape:
        raise ValueError(f"Images must pair up; there are {len(values)} and {len(reference)}.")
