"""16-bit BMPs with an alpha mask, made byte by byte, against Skia."""

import struct

import numpy as np
import pytest

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media.decode import decode_bytes

MASKS = (0x7C00, 0x03E0, 0x001F)  # of red, green and blue


def bmp(values: np.ndarray, header: int, alpha: int, *, from_top: bool = False, padding: bool = True) -> bytes:
    """A BMP with bit fields from `values` (uint16 [H,W]) and a second header of `header` bytes."""
    height, width = values.shape
    padded = np.pad(values if from_top else values[::-1], ((0, 0), (0, width % 2)))
    rows = padded.astype("<u2").tobytes()
    rows = rows if padding else rows[: len(rows) - 2 * (width % 2)]
    fields = struct.pack("<IiiHHIIiiII", header, width, -height if from_top else height, 1, 16, 3, 0, 2835, 2835, 0, 0)
    fields += struct.pack("<4I", *MASKS, alpha)[: header - 40]
    fields = fields.ljust(header, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + header + len(rows), 0, 0, 14 + header) + fields + rows


def shown(data: bytes) -> np.ndarray:
    (frame,) = decode_bytes(data, MediaSettings())
    return frame.rgba


@pytest.mark.parametrize("from_top", [False, True])
@pytest.mark.parametrize("header", [108, 124])
@pytest.mark.parametrize("width", [4, 5])
def test_the_alpha_of_16_bits_is_shown(header: int, width: int, from_top: bool) -> None:
    """Full red where visible; 15 bits of nothing, and hidden colour, elsewhere."""
    values = np.zeros((3, width), dtype=np.uint16)
    values[0, 1], values[1, 0], values[2, 3] = 0xFC00, 0x7C00, 0x8000
    expected = np.zeros((3, width, 4), dtype=np.uint8)
    expected[0, 1], expected[2, 3] = (255, 0, 0, 255), (0, 0, 0, 255)
    assert (shown(bmp(values, header, 0x8000, from_top=from_top)) == expected).all()
    assert (shown(bmp(values, header, 0x8000, from_top=from_top, padding=False)) == expected).all()


@pytest.mark.parametrize(("header", "alpha"), [(108, 0), (124, 0), (56, 0x8000)])
def test_without_a_mask_or_with_an_older_header_it_is_opaque(header: int, alpha: int) -> None:
    values = np.array([[0x7C00, 0xFC00, 0x8000, 0]], dtype=np.uint16)
    red, black = (255, 0, 0, 255), (0, 0, 0, 255)
    assert (shown(bmp(values, header, alpha)) == [[red, red, black, black]]).all()


def test_as_skia_shows_them() -> None:
    skia = pytest.importorskip("skia")
    values = np.random.default_rng(0).integers(0, 65536, (5, 7), dtype=np.uint16)
    for header in (56, 108, 124):
        data = bmp(values, header, 0x8000)
        image = skia.Image.MakeFromEncoded(data)
        pixels = np.zeros((5, 7, 4), dtype=np.uint8)
        info = skia.ImageInfo.Make(7, 5, skia.kRGBA_8888_ColorType, skia.kUnpremul_AlphaType)
        assert image.readPixels(info, pixels, pixels.strides[0], 0, 0)
        pixels[pixels[..., 3] == 0] = 0
        assert np.abs(shown(data).astype(int) - pixels).max() <= 1  # five bits are made eight in two ways
