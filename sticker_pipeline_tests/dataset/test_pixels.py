"""Images padded or cut to a size, with exact colours and places."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sticker_pipeline.dataset.pixels import cover_image, fit_image, free_room, pad_image

WHITE, RED = [255, 255, 255], [255, 0, 0]


def solid(width: int, height: int, rgba: tuple[int, ...]) -> np.ndarray:
    return np.full((height, width, 4), rgba, dtype=np.uint8)


def test_an_image_of_the_right_size_keeps_its_pixels():
    rgba = np.random.default_rng(0).integers(0, 256, (6, 6, 4), dtype=np.uint8)
    rgba[..., 3] = 255
    fitted = fit_image(rgba, 6, 6, "white")
    assert fitted.dtype == np.uint8
    assert (fitted == rgba[..., :3]).all()


@pytest.mark.parametrize(("width", "height"), [(40, 20), (4, 2), (20, 10)])
def test_a_wide_image_is_padded_above_and_below(width, height):
    fitted = fit_image(solid(width, height, (255, 0, 0, 255)), 20, 20, "white")
    assert fitted.shape == (20, 20, 3)
    assert (fitted[5:15] == RED).all()
    assert (fitted[:5] == WHITE).all()
    assert (fitted[15:] == WHITE).all()


def test_a_tall_image_in_a_wide_bucket():
    fitted = fit_image(solid(1, 2, (255, 0, 0, 255)), 30, 8, "#0000ff")
    assert (fitted[:, 13:17] == RED).all()
    assert (fitted[:, :13] == [0, 0, 255]).all()
    assert (fitted[:, 17:] == [0, 0, 255]).all()


def test_transparency_shows_the_background_and_hidden_colour_never():
    half = fit_image(solid(4, 4, (255, 0, 0, 128)), 4, 4, "white")
    # 255·128/255 + 255·127/255 = 255 and 255·127/255 = 127
    assert (half == [255, 127, 127]).all()
    assert (fit_image(solid(4, 4, (255, 0, 0, 0)), 8, 8, "white") == WHITE).all()
    # Resizing mixes colours over the background, not with the colour hidden under alpha 0.
    edge = solid(64, 64, (0, 255, 0, 0))
    edge[:, :32] = (255, 0, 0, 255)
    fitted = fit_image(edge, 16, 16, "black").astype(int)
    assert fitted[..., 1].max() == 0


def test_a_strip_keeps_at_least_one_pixel():
    fitted = fit_image(solid(500, 1, (255, 0, 0, 255)), 16, 16, "white")
    assert (fitted == RED).all(axis=2).sum() == 16


def test_an_unknown_colour_is_named():
    with pytest.raises(ValueError, match="nocolour"):
        fit_image(solid(2, 2, (0, 0, 0, 255)), 2, 2, "nocolour")


def patches(width: int, height: int, seed: int = 0) -> np.ndarray:
    """White cells, some of them transparent: over black, brightness is alpha."""
    rng = np.random.default_rng(seed)
    rgba = np.full((height, width, 4), 255, dtype=np.uint8)
    rgba[..., 3] = rng.integers(0, 2, (height, width), dtype=np.uint8) * 255
    return rgba


sides = st.integers(1, 60)


@settings(max_examples=100, deadline=None)
@given(width=sides, height=sides, across=sides, down=sides, offset=st.floats(0, 1), mirrored=st.booleans())
def test_a_covering_image_leaves_no_border(width, height, across, down, offset, mirrored):
    rgba = solid(width, height, (255, 0, 0, 255))
    prepared = cover_image(rgba, across, down, "blue", offset=offset, mirrored=mirrored)
    assert prepared.pixels.shape == (down, across, 3)
    assert (prepared.pixels == RED).all()
    assert (prepared.alpha == 1).all()
    assert prepared.size == (height, width)
    room = free_room(width, height, across, down)
    assert min(prepared.crop) == 0 and 0 <= max(prepared.crop) <= room
    # the scaled image has the same shape, to the nearest pixel, and fits exactly on one axis
    scale = max(across / width, down / height)
    assert room == pytest.approx(width * scale - across + height * scale - down, abs=0.5 + 1e-9)


@settings(max_examples=100, deadline=None)
@given(width=sides, height=sides, across=sides, down=sides, offset=st.floats(0, 1), mirrored=st.booleans())
def test_the_mask_lies_on_the_pixels(width, height, across, down, offset, mirrored):
    rgba = patches(width, height)
    for prepared in (
        cover_image(rgba, across, down, "black", offset=offset, mirrored=mirrored),
        pad_image(rgba, across, down, "black", mirrored=mirrored),
    ):
        assert prepared.alpha.dtype == np.float32
        np.testing.assert_allclose(prepared.alpha, prepared.pixels[..., 0] / 255, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("offset", "left"), [(0.0, 0), (0.5, 5), (0.7, 7), (1.0, 10)])
def test_where_an_image_is_cut(offset, left):
    rgba = np.random.default_rng(0).integers(0, 256, (10, 20, 4), dtype=np.uint8)
    rgba[..., 3] = 255
    expected = rgba[:, left : left + 10, :3]
    wide = cover_image(rgba, 10, 10, "white", offset=offset)
    assert (wide.pixels == expected).all()
    assert (wide.size, wide.crop) == ((10, 20), (0, left))
    mirrored = cover_image(rgba, 10, 10, "white", offset=offset, mirrored=True)
    assert (mirrored.pixels == expected[:, ::-1]).all()
    assert mirrored.crop == (0, 10 - left)
    # as if the whole image had been mirrored and then cut there
    again = cover_image(np.ascontiguousarray(rgba[:, ::-1]), 10, 10, "white", offset=(10 - left) / 10)
    assert (again.pixels == mirrored.pixels).all() and again.crop == mirrored.crop
    tall = cover_image(np.ascontiguousarray(rgba.transpose(1, 0, 2)), 10, 10, "white", offset=offset)
    assert (tall.pixels == expected.transpose(1, 0, 2)).all()
    assert (tall.size, tall.crop) == ((20, 10), (left, 0))


def test_cutting_while_scaling_is_cutting_after_scaling():
    rgba = np.random.default_rng(1).integers(0, 256, (300, 500, 4), dtype=np.uint8)
    rgba[..., 3] = 255
    whole = Image.fromarray(rgba[..., :3].copy()).resize((427, 256), Image.Resampling.LANCZOS)
    prepared = cover_image(rgba, 320, 256, "white", offset=0.25)
    assert prepared.crop == (0, 27)
    expected = np.asarray(whole)[:, 27 : 27 + 320].astype(int)
    assert abs(prepared.pixels.astype(int) - expected).max() <= 1  # rounding in another place


def test_padding_counts_as_transparent():
    prepared = pad_image(solid(40, 20, (255, 0, 0, 255)), 20, 20, "white")
    assert (prepared.pixels == fit_image(solid(40, 20, (255, 0, 0, 255)), 20, 20, "white")).all()
    assert (prepared.alpha[5:15] == 1).all()
    assert not prepared.alpha[:5].any() and not prepared.alpha[15:].any()
    assert (prepared.size, prepared.crop) == ((20, 40), (0, 0))


def test_a_strip_is_not_scaled_as_a_whole():
    prepared = cover_image(solid(1, 100_000, (255, 0, 0, 255)), 256, 1024, "white")  # would be 256×25,600,000
    assert (prepared.pixels == RED).all()
    assert prepared.crop == ((25_600_000 - 1024) // 2, 0)
