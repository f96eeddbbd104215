from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sticker_pipeline.packing.encode.palette import _cells, _rgba, few_colours, indexed, packed, spread, unpacked


def random_frames(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 4), dtype=np.uint8)


def on(colour: int, rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + colour * (1 - alpha)


def test_packed_colours_come_back():
    frames = random_frames(0, 2, 3, 5)
    assert np.array_equal(unpacked(packed(frames).ravel()).reshape(frames.shape), frames)


def test_distance_in_spread_is_the_error_on_black_and_on_white():
    one, other = random_frames(1, 200), random_frames(2, 200)
    expected = sum(((on(colour, one) - on(colour, other)) ** 2).sum(axis=1) for colour in (0, 255))
    assert ((spread(one) - spread(other)) ** 2).sum(axis=1) == pytest.approx(expected, rel=1e-3)


@given(st.tuples(*[st.integers(0, 255)] * 3), st.integers(1, 255))
def test_a_colour_comes_back_from_spread(colour, alpha):
    rgba = np.array([[*colour, alpha]], np.uint8)
    back = _rgba(spread(rgba).astype(float)).astype(int)
    assert back[0, 3] == alpha
    assert abs(back - rgba).max() <= 1


def test_a_cell_is_five_bits_of_each_channel():
    assert _cells(np.array([[[255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [0, 0, 0, 255]]], np.uint8)).tolist() == [
        [31, 31 << 5, 31 << 10, 31 << 15]
    ]
    assert _cells(np.array([[[7, 7, 7, 7], [8, 16, 24, 32]]], np.uint8)).tolist() == [
        [0, 1 | 2 << 5 | 3 << 10 | 4 << 15]
    ]


def test_few_colours_are_counted_over_all_frames():
    frames = np.zeros((3, 1, 1, 4), np.uint8)
    frames[:, 0, 0, 0] = 1, 2, 1
    assert few_colours(frames, 2).tolist() == [1, 2]
    assert few_colours(frames, 1) is None


def test_few_colours_are_kept_exactly_with_transparent_ones_first():
    frames = np.array([[[[9, 8, 7, 255], [0, 0, 0, 0], [5, 5, 5, 128]]]], np.uint8)
    found = indexed(frames, 3)
    assert np.array_equal(found.palette[found.indices], frames)
    assert found.palette[:, 3].tolist() == [0, 128, 255]


@pytest.mark.parametrize("colours", [2, 7, 256])
def test_many_colours_become_at_most_as_many_as_wanted(colours):
    frames = random_frames(3, 2, 40, 40)
    found = indexed(frames, colours)
    assert len(np.unique(packed(found.palette))) <= len(found.palette) <= colours
    assert found.indices.shape == (2, 40, 40)
    assert (np.diff(found.palette[:, 3].astype(int)) >= 0).all()


def test_groups_of_near_colours_each_become_their_mean():
    random = np.random.default_rng(4)
    middles = np.array([[40, 60, 80, 255], [200, 60, 90, 255], [90, 220, 30, 128], [0, 0, 0, 0]])
    frames = (middles[np.arange(4000) % 4] + random.integers(-4, 5, (4000, 1)) * (1, 1, 1, 0)).clip(0, 255)
    frames = frames.astype(np.uint8)[None, None]
    frames[frames[..., 3] == 0] = 0
    found = indexed(frames, 4)
    assert abs(found.palette.astype(int)[:, None] - middles).max(axis=2).min(axis=0).max() <= 1


def test_more_colours_have_less_error():
    y, x = np.mgrid[:64, :64]
    frames = np.dstack([4 * x, 4 * y, 255 - 2 * x - 2 * y, 255 + 0 * x]).astype(np.uint8)[None]
    errors = []
    for colours in (4, 16, 64, 256):
        found = indexed(frames, colours)
        errors.append(((spread(frames) - spread(found.palette[found.indices])) ** 2).sum(axis=-1).mean())
    assert all(later < 0.5 * earlier for earlier, later in pairwise(errors))


def test_the_same_frames_give_the_same_palette():
    frames = random_frames(5, 1, 50, 50)
    one, other = indexed(frames, 30), indexed(frames, 30)
    assert one.palette.tobytes() == other.palette.tobytes()
    assert one.indices.tobytes() == other.indices.tobytes()


def test_empty_pixels_stay_empty_and_faint_ones_visible():
    frames = random_frames(6, 1, 60, 60)
    frames[0, :30] = 0
    frames[0, 30] = 1, 1, 1, 1
    found = indexed(frames, 3)
    shown = found.palette[found.indices]
    assert len(found.palette) <= 3
    assert not shown[0, :30].any()
    assert shown[0, 31:, :, 3].all()
