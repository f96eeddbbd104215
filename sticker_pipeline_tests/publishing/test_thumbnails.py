"""Thumbnails fit their limit in bytes, hide transparent pixels, and are reproducible."""

import io

import numpy as np
from PIL import Image

from sticker_pipeline.publishing.thumbnails import LADDER, LARGEST, SHEET_LADDER, reduced, sheet, thumbnails


def noise(side: int, seed: int = 0) -> Image.Image:
    """Return an image that compresses worst."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_they_fit_into_the_bytes() -> None:
    images = [noise(512, seed) for seed in range(6)]
    for most in (400_000, 60_000, 20_000):
        assert sum(len(data) for data, _, _ in thumbnails(images, most)) <= most


def test_the_finest_that_fits_is_taken() -> None:
    assert [entry[1:] for entry in thumbnails([noise(512)], 10**9)] == [(LARGEST, LARGEST)]
    sides = [thumbnails([noise(512)], most)[0][1] for most in (10**9, 30_000, 10_000, 1)]
    assert sides == sorted(sides, reverse=True)
    assert sides[-1] == LADDER[-1][0], "what cannot be made to fit is as small as it gets"


def test_nothing_is_enlarged_and_shapes_are_kept() -> None:
    assert thumbnails([Image.new("RGB", (96, 48), "red")], 10**9)[0][1:] == (96, 48)
    assert thumbnails([Image.new("RGB", (2000, 1000), "red")], 10**9)[0][1:] == (LARGEST, LARGEST // 2)


def test_transparent_pixels_are_white() -> None:
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    data, _, _ = thumbnails([image], 10**9)[0]
    assert Image.open(io.BytesIO(data)).convert("RGB").getpixel((32, 32)) == (255, 255, 255)


def test_equal_images_give_equal_bytes() -> None:
    assert thumbnails([noise(300)], 50_000) == thumbnails([noise(300)], 50_000)


def test_reduced_images_give_the_same_thumbnails() -> None:
    assert thumbnails([reduced(noise(700))], 50_000) == thumbnails([noise(700)], 50_000)


def test_nothing_gives_nothing() -> None:
    assert thumbnails([], 0) == []


def test_a_sheet_is_as_large_as_fits_and_never_enlarged() -> None:
    wide = noise(1400).resize((1400, 300))
    assert sheet(wide, 10**9)[1:] == (1400, 300)
    data, width, _ = sheet(wide, 40_000)
    assert width < 1400 and (len(data) <= 40_000 or width == SHEET_LADDER[-1][0])
    assert sheet(wide, 1)[1] == SHEET_LADDER[-1][0]
    assert wide.size == (1400, 300)
