"""Frames of our decoder, and of Skia, the decoder of Chromium."""

import numpy as np
import skia

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media.decode import decode_bytes

LIMITS = MediaSettings()


def frames(data: bytes) -> list[np.ndarray]:
    """The pixels of each frame."""
    return [frame.rgba for frame in decode_bytes(data, LIMITS)]


def only(data: bytes) -> np.ndarray:
    """The pixels of a still."""
    (frame,) = decode_bytes(data, LIMITS)
    assert (frame.index, frame.start_ms, frame.duration_ms) == (0, 0, 0)
    return frame.rgba


def theirs(data: bytes, space: skia.ColorSpace | None = None) -> np.ndarray:
    """Skia's reading as uint8 [H,W,4], with colours as stored, or in `space`."""
    image = skia.Image.MakeFromEncoded(data)
    pixels = np.zeros((image.height(), image.width(), 4), dtype=np.uint8)
    kinds = (skia.kRGBA_8888_ColorType, skia.kUnpremul_AlphaType)
    info = skia.ImageInfo.Make(image.width(), image.height(), *kinds, *([space] if space else []))
    assert image.readPixels(info, pixels, image.width() * 4)
    return pixels
