"""Tones of synthetic images of known contrast, saturation and veil."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from sticker_pipeline.benchmark.tone import relative_shift, tones, veil


def image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8), "RGB")


def sticker(seed: int) -> np.ndarray:
    """A white background, a coloured square, and a tenth of it in black outlines: float64[64, 64, 3]."""
    pixels = np.ones((64, 64, 3))
    pixels[16:48, 16:48] = np.random.default_rng(seed).uniform(0.2, 0.9, 3)
    pixels[16:48, 16:24] = 0.0
    return pixels


def veiled(pixels: np.ndarray, strength: float) -> np.ndarray:
    return (1 - strength) * pixels + strength


def test_plain_images_by_hand() -> None:
    half = np.zeros((8, 8, 3))
    half[:, 4:] = 1.0
    red = np.zeros((8, 8, 3))
    red[..., 0] = 1.0
    grey = np.full((8, 8, 3), 0.6)
    found = tones([image(half), image(red), image(grey)])
    np.testing.assert_allclose(found.contrast, [0.5, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(found.saturation, [0.0, 1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(found.haze, [0.0, 0.0, 0.6], atol=1e-12)


def test_luma_weighs_the_channels_as_bt_709_does() -> None:
    green = np.zeros((4, 4, 3))
    green[:, 2:, 1] = 1.0
    assert tones([image(green)]).contrast[0] == pytest.approx(0.7152 / 2)


@pytest.mark.parametrize("strength", [0.0, 0.1, 0.35, 0.8])
def test_a_white_veil_is_found_with_its_strength(strength: float) -> None:
    """Also over images that have no black of their own."""
    plain = [sticker(seed) for seed in range(6)] + [veiled(sticker(seed), 0.2) for seed in range(6)]
    before, after = (tones([image(veiled(each, part)) for each in plain]) for part in (0.0, strength))
    found = veil(after.haze, before.haze)
    assert found.mean == pytest.approx(strength, abs=0.004) and found.n == 12  # pixels have 256 levels
    shrunk = relative_shift(after.contrast, before.contrast)
    assert shrunk.mean == pytest.approx(-strength, abs=0.01)
    assert relative_shift(after.saturation, before.saturation).mean == pytest.approx(-strength, abs=0.02)


def test_the_laplacian_by_hand() -> None:
    dot = np.zeros((5, 5, 3))
    dot[2, 2] = 1.0  # its own pixel has −4, its four neighbours 1, of nine inner pixels
    assert tones([image(dot)]).sharpness[0] == pytest.approx(np.sqrt((16 + 4) / 9))
    ramp = np.repeat(np.linspace(0, 1, 6)[:, None, None], 6, axis=1).repeat(3, axis=2)
    assert tones([image(ramp)]).sharpness[0] < 1e-12


def test_blur_takes_sharpness_before_contrast() -> None:
    sharp = [image(sticker(seed)) for seed in range(4)]
    before, after = tones(sharp), tones([clear.filter(ImageFilter.BoxBlur(1)) for clear in sharp])
    assert relative_shift(after.sharpness, before.sharpness).mean < -0.5
    assert -0.1 < relative_shift(after.contrast, before.contrast).mean < 0


def test_a_single_dark_pixel_is_no_black_and_a_white_background_no_haze() -> None:
    white = np.ones((20, 20, 3))
    white[0, 0] = 0.0
    assert tones([image(white)]).haze[0] == 1.0
    assert tones([image(sticker(1))]).haze[0] == 0.0


def test_burnt_images_have_more_contrast_and_no_veil() -> None:
    plain = [0.5 + (sticker(seed) - 0.5) * 0.5 for seed in range(4)]
    before, after = (tones([image(0.5 + (each - 0.5) * gain) for each in plain]) for gain in (1.0, 1.6))
    assert relative_shift(after.contrast, before.contrast).mean == pytest.approx(0.6, abs=0.02)  # of 256 levels
    assert veil(after.haze, before.haze).mean < -0.1


def test_intervals_are_those_of_the_pairs() -> None:
    rng = np.random.default_rng(1)
    before = rng.uniform(0.1, 0.9, 40)
    shifted = relative_shift(before + 0.1, before)
    assert shifted.mean == pytest.approx(0.1 / before.mean())
    assert shifted.ci_high - shifted.ci_low < 1e-9  # however different the prompts are
    noisy = relative_shift(before + rng.normal(0, 0.1, 40), before)
    assert noisy.ci_low < noisy.mean < noisy.ci_high


def test_what_cannot_be_said_is_no_number() -> None:
    assert np.isnan(relative_shift(np.ones(3), np.zeros(3)).mean)
    assert veil(np.array([1.0, 0.5]), np.array([1.0, 0.0])).n == 1
    with pytest.raises(ValueError, match="must pair up"):
        veil(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="must pair up"):
        relative_shift(np.ones(2), np.ones(3))
