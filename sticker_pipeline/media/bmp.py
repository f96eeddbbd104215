"""BMP: alpha of 16-bit images; the rest is Pillow's (`media/stills.py`).

Source: Microsoft's description of BITMAPV4HEADER and BITMAPV5HEADER.
"""

import numpy as np

from sticker_pipeline.media.frame import clear_hidden_colour
from sticker_pipeline.media.stills import open_pixels

BITFIELDS = 3  # a compression: header with masks of red, green, blue, alpha
WITH_ALPHA = 108  # bytes of the smallest header whose alpha mask browsers (Skia) apply


def bmp_pixels(data: bytes, orientation: int) -> np.ndarray:
    """Return RGBA uint8 [H,W,4]. Raises MediaError if damaged or cut off."""
    rgba = open_pixels(data, "BMP", orientation)
    mask = _alpha_mask(data)
    if mask:
        rgba[..., 3] = _channel(data, mask, *rgba.shape[:2])
    return clear_hidden_colour(rgba)


def _number(data: bytes, at: int, size: int = 4) -> int:
    return int.from_bytes(data[at : at + size], "little")


def _alpha_mask(data: bytes) -> int:
    """Return the alpha bits of a 16-bit pixel; 0 for none."""
    has_mask = _number(data, 14) >= WITH_ALPHA and _number(data, 28, 2) == 16 and _number(data, 30) == BITFIELDS
    return _number(data, 66) & 0xFFFF if has_mask else 0


def _channel(data: bytes, mask: int, height: int, width: int) -> np.ndarray:
    """Return bits `mask` of 16-bit pixels, scaled to 0..255: uint8 [height, width]."""
    padded = width + width % 2  # rows are multiples of 4 bytes
    start, size = _number(data, 10), 2 * height * padded
    stored = data[start : start + size].ljust(size, b"\0")  # the last row may lack its padding
    rows = np.frombuffer(stored, "<u2").reshape(height, padded)[:, :width]
    is_from_top = _number(data, 22) >> 31
    lowest = mask & -mask
    values = (rows & mask).astype(np.uint32) // lowest * 255 // (mask // lowest)
    return (values if is_from_top else values[::-1]).astype(np.uint8)
