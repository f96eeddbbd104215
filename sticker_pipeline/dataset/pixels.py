"""Preparation of pixels for training, benchmark and samples alike."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageColor

VERSION = 1  # raise it when a function here changes its numbers: cached latents depend on it

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Prepared:
    """An image prepared for training.

    `pixels`: uint8 [h, w, 3]; `alpha`: float32 [h, w], 0..1, opacity; `size`: (height, width) before scaling; `crop`:
    (top, left) pixels cut off after scaling. The last two are SDXL's conditions "original size" and "crop" (Podell et
    al. 2023, section 2.2).
    """

    pixels: np.ndarray
    alpha: np.ndarray
    size: tuple[int, int]
    crop: tuple[int, int]


def fit_image(rgba: np.ndarray, width: int, height: int, background: str) -> np.ndarray:
    """Fit an image into width × height pixels on a background.

    `rgba`: uint8 [H,W,4], straight alpha; `background`: a CSS colour name or #rrggbb. Returns uint8 [height, width, 3],
    centred, uncropped, unstretched. Flattened first, then resized (Lanczos), so that colour under alpha 0 has no
    effect. Raises ValueError for an unknown colour.
    """
    colour = ImageColor.getrgb(background)[:3]
    return np.asarray(_fitted(flatten(rgba, colour), width, height, colour))


def pad_image(rgba: np.ndarray, width: int, height: int, background: str, *, mirrored: bool = False) -> Prepared:
    """Apply `fit_image` for training, optionally `mirrored`; padding is transparent."""
    colour = ImageColor.getrgb(background)[:3]
    pixels = np.asarray(_fitted(flatten(rgba, colour), width, height, colour))
    alpha = np.asarray(_fitted(_alpha(rgba), width, height, 0))
    return _prepared(pixels, alpha, rgba.shape[:2], (0, 0), mirrored)


def cover_image(
    rgba: np.ndarray, width: int, height: int, background: str, *, offset: float = 0.5, mirrored: bool = False
) -> Prepared:
    """Scale an image to cover width × height pixels, and cut it.

    `rgba` (uint8 [H,W,4], straight alpha) is flattened as in fit_image, not stretched or padded. `offset` (0..1): the
    part of the free room (see free_room) cut off before the image; 0.5 keeps the middle. A `mirrored` image shows the
    same part, its crop counted from its own left edge. Raises ValueError for an unknown colour.
    """
    scaled_width, scaled_height = _covering_size(rgba.shape[1], rgba.shape[0], width, height)
    left, top = round(offset * (scaled_width - width)), round(offset * (scaled_height - height))
    across, down = rgba.shape[1] / scaled_width, rgba.shape[0] / scaled_height
    # Only the kept part is scaled: a whole strip could take gigabytes.
    right, bottom = min((left + width) * across, rgba.shape[1]), min((top + height) * down, rgba.shape[0])
    box = (left * across, top * down, right, bottom)
    pixels = _part(flatten(rgba, ImageColor.getrgb(background)[:3]), box, width, height)
    alpha = _part(_alpha(rgba), box, width, height)
    crop = (top, scaled_width - width - left if mirrored else left)
    return _prepared(pixels, alpha, rgba.shape[:2], crop, mirrored)


def free_room(image_width: int, image_height: int, width: int, height: int) -> int:
    """Return excess pixels of an image scaled to cover width × height.

    One axis has them; the other fits exactly.
    """
    scaled_width, scaled_height = _covering_size(image_width, image_height, width, height)
    return scaled_width - width + scaled_height - height


def flatten(rgba: np.ndarray, colour: tuple[int, ...]) -> Image.Image:
    """Flatten uint8 [H,W,4] over a colour (R, G, B) to RGB."""
    image = Image.fromarray(np.ascontiguousarray(rgba))
    flat = Image.new("RGB", image.size, tuple(colour))
    flat.paste(image, mask=image.getchannel("A"))
    return flat


def _covering_size(image_width: int, image_height: int, width: int, height: int) -> tuple[int, int]:
    """Return the smallest size covering width × height, to the nearest pixel."""
    if image_width * height >= image_height * width:
        return max(width, (2 * image_width * height + image_height) // (2 * image_height)), height
    return width, max(height, (2 * image_height * width + image_width) // (2 * image_width))


def _fitted(image: Image.Image, width: int, height: int, colour: tuple[int, ...] | int) -> Image.Image:
    scale = min(width / image.width, height / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    canvas = Image.new(image.mode, (width, height), colour)
    resized = image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)
    canvas.paste(resized, ((width - size[0]) // 2, (height - size[1]) // 2))
    return canvas


def _part(image: Image.Image, box: Box, width: int, height: int) -> np.ndarray:
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS, box=box))


def _alpha(rgba: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(rgba[..., 3]))


def _prepared(
    pixels: np.ndarray, alpha: np.ndarray, size: tuple[int, ...], crop: tuple[int, int], mirrored: bool
) -> Prepared:
    if mirrored:
        pixels, alpha = pixels[:, ::-1], alpha[:, ::-1]
    share = np.ascontiguousarray(alpha).astype(np.float32) / np.float32(255)
    return Prepared(np.ascontiguousarray(pixels), share, (size[0], size[1]), crop)
