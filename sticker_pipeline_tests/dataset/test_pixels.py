"""Pictures fitted into a bucket, with exact colours and places."""

import numpy as np
import pytest

from sticker_pipeline.dataset.pixels import fit_picture

WHITE, RED = [255, 255, 255], [255, 0, 0]


def solid(width: int, height: int, rgba: tuple[int, ...]) -> np.ndarray:
    return np.full((height, width, 4), rgba, dtype=np.uint8)


def test_a_picture_of_the_right_size_keeps_its_pixels():
    rgba = np.random.default_rng(0).integers(0, 256, (6, 6, 4), dtype=np.uint8)
    rgba[..., 3] = 255
    fitted = fit_picture(rgba, 6, 6, "white")
    assert fitted.dtype == np.uint8
    assert (fitted == rgba[..., :3]).all()


@pytest.mark.parametrize(("width", "height"), [(40, 20), (4, 2), (20, 10)])
def test_a_wide_picture_is_padded_above_and_below(width, height):
    fitted = fit_picture(solid(width, height, (255, 0, 0, 255)), 20, 20, "white")
    assert fitted.shape == (20, 20, 3)
    assert (fitted[5:15] == RED).all()
    assert (fitted[:5] == WHITE).all()
    assert (fitted[15:] == WHITE).all()


def test_a_tall_picture_in_a_wide_bucket():
    fitted = fit_picture(solid(1, 2, (255, 0, 0, 255)), 30, 8, "#0000ff")
    assert (fitted[:, 13:17] == RED).all()
    assert (fitted[:, :13] == [0, 0, 255]).all()
    assert (fitted[:, 17:] == [0, 0, 255]).all()


def test_transparency_shows_the_background_and_hidden_colour_never():
    half = fit_picture(solid(4, 4, (255, 0, 0, 128)), 4, 4, "white")
    # 255·128/255 + 255·127/255 = 255 and 255·127/255 = 127
    assert (half == [255, 127, 127]).all()
    assert (fit_picture(solid(4, 4, (255, 0, 0, 0)), 8, 8, "white") == WHITE).all()
    # Resizing mixes colours over the background, not with the colour hidden under alpha 0.
    edge = solid(64, 64, (0, 255, 0, 0))
    edge[:, :32] = (255, 0, 0, 255)
    fitted = fit_picture(edge, 16, 16, "black").astype(int)
    assert fitted[..., 1].max() == 0


def test_a_strip_keeps_at_least_one_pixel():
    fitted = fit_picture(solid(500, 1, (255, 0, 0, 255)), 16, 16, "white")
    assert (fitted == RED).all(axis=2).sum() == 16


def test_an_unknown_colour_is_named():
    with pytest.raises(ValueError, match="nocolour"):
        fit_picture(solid(2, 2, (0, 0, 0, 255)), 2, 2, "nocolour")
