"""Thumbnails for small pages."""

import io
from collections.abc import Sequence

from PIL import Image

from sticker_pipeline.core.images import over_white

LADDER = ((288, 82), (224, 80), (176, 76), (128, 72), (96, 64), (64, 50), (48, 35))  # longest side, WebP quality
LARGEST = LADDER[0][0]
SHEET_LADDER = ((1600, 82), (1280, 76), (1024, 70), (800, 60))  # text on a sheet must stay legible


def thumbnails(images: Sequence[Image.Image], most_bytes: int) -> list[tuple[bytes, int, int]]:
    """Return each image over white as (WebP, width, height).

    LADDER's finest step with at most `most_bytes` in total is taken, else the last. Nothing is enlarged; equal images
    give equal bytes.
    """
    encoded: list[tuple[bytes, int, int]] = []
    for side, quality in LADDER:
        encoded = [_encoded(image, side, quality) for image in images]
        if sum(len(data) for data, _, _ in encoded) <= most_bytes:
            break
    return encoded


def sheet(image: Image.Image, most_bytes: int) -> tuple[bytes, int, int]:
    """Return a contact sheet over white as (WebP, width, height).

    SHEET_LADDER's finest step with at most `most_bytes` is taken, else the last.
    """
    flat = over_white(image)
    encoded = (b"", 0, 0)
    for side, quality in SHEET_LADDER:
        encoded = _webp(flat.copy(), side, quality)
        if len(encoded[0]) <= most_bytes:
            break
    return encoded


def face(encoded: bytes, side: int, quality: int) -> bytes:
    """Return the image as WebP, reduced to sides of at most `side`."""
    with Image.open(io.BytesIO(encoded)) as image:
        return _webp(over_white(image), side, quality)[0]


def reduced(image: Image.Image) -> Image.Image:
    """Return `image` over white, no larger than any thumbnail.

    So many fit into memory until their size is decided.
    """
    flat = over_white(image)
    flat.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return flat


def _encoded(image: Image.Image, side: int, quality: int) -> tuple[bytes, int, int]:
    small = reduced(image) if max(image.size) > LARGEST or image.mode != "RGB" else image.copy()
    return _webp(small, side, quality)


def _webp(image: Image.Image, side: int, quality: int) -> tuple[bytes, int, int]:
    """Shrink `image` in place to sides ≤ `side`; return WebP, width, height."""
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue(), image.width, image.height
