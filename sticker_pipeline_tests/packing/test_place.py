"""Tests of scaling and placing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.packing.animation import Animation, animation, still
from sticker_pipeline.packing.place import (
    PlaceError,
    bled,
    fitted_into,
    is_pixel_art,
    pixel_art_block,
    placed,
    premultiplied_at,
    scaled,
    upscaled,
    visible_box,
)
from sticker_pipeline_tests.packing.shapes import blob, disc, from_premultiplied, over


def smooth(side=64, centre=(30, 34), radius=20):
    return from_premultiplied(over(np.zeros((side, side, 4)), (220, 80, 40), disc(side, centre, radius)))


def test_scaling_down_by_two_is_close_to_means():
    scaled_down = premultiplied_at(smooth(), (32, 32))
    whole = premultiplied_at(smooth(), (64, 64))
    means = whole.reshape(32, 2, 32, 2, 4).mean(axis=(1, 3))
    assert np.abs(scaled_down - means).mean() < 0.005


@pytest.mark.parametrize("size", [(32, 32), (23, 17), (200, 200), (128, 70)])
def test_no_fringe_of_another_colour(size):
    result = scaled(still(smooth()), size).frames[0]
    assert result.shape == (size[1], size[0], 4)
    solid = result[..., 3] > 20
    assert np.abs(result[solid][:, :3].astype(int) - (220, 80, 40)).max() <= 3


def test_hidden_colours_do_not_bleed_in():
    frame = smooth()
    hidden = frame.copy()
    hidden[hidden[..., 3] == 0] = (0, 255, 0, 0)
    ours, theirs = (scaled(Animation(image[None], (0,)), (40, 40)).frames for image in (frame, hidden))
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("size", [(20, 20), (150, 150)])
def test_scaling_adds_no_ghost_outside_and_no_hole_inside(size):
    block = np.zeros((50, 50, 4), dtype=np.uint8)
    block[20:30, 20:30] = 255
    alpha = scaled(still(block), size).frames[0][..., 3]
    step = size[0] / 50
    near = int(np.ceil(1.01 * max(step, 1)))
    low, high = int(20 * step) - near, int(30 * step) + near
    outside = np.ones(alpha.shape, dtype=bool)
    outside[low:high, low:high] = False
    assert alpha[outside].max() == 0
    assert alpha[low + 2 * near : high - 2 * near, low + 2 * near : high - 2 * near].min(initial=255) == 255


def test_equal_size_is_the_same():
    sticker = still(smooth())
    assert scaled(sticker, (64, 64)) is sticker


def test_durations_and_loops_stay():
    moving = animation([smooth(), smooth(centre=(33, 30))], [30, 70], 3)
    for result in (scaled(moving, (32, 32)), placed(moving, (32, 32)), fitted_into(moving, (32, 32))):
        assert (result.durations, result.loops) == ((30, 70), 3)


def test_one_box_holds_all_frames():
    left, right = np.zeros((2, 20, 30, 4), dtype=np.uint8)
    left[5:8, 2:6] = right[10:12, 20:25] = 255
    assert visible_box(animation([left, right], [10, 10])) == (2, 5, 25, 12)
    result = placed(animation([left, right], [10, 10]), (46, 46))
    # 23 x 7 pixels, twice as large: pixel art.
    assert visible_box(result) == (0, 16, 46, 30)
    assert result.frames[0][:, 8:].max() == 0


def test_faint_pixels_are_no_part_of_the_box():
    frame = np.zeros((9, 9, 4), dtype=np.uint8)
    frame[4, 4], frame[0, 0] = (9, 9, 9, 255), (9, 9, 9, 7)
    assert visible_box(still(frame)) == (4, 4, 5, 5)
    assert visible_box(still(np.zeros((2, 2, 4), dtype=np.uint8))) is None


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(20, 90),
    st.integers(20, 90),
    st.integers(0, 4),
    st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_subject_is_inside_its_margins(width, height, across, down, margin, outline_px):
    frame = np.zeros((50, 50, 4), dtype=np.uint8)
    frame[3 : 3 + height, 5 : 5 + width] = (200, 100, 50, 200)
    around = margin + outline_px
    result = placed(still(frame), (across, down), margin, outline_px)
    assert result.size == (across, down)
    left, top, right, bottom = visible_box(result)
    assert min(left, top, across - right, down - bottom) >= around
    # Centred, and as large as fits but for rounding and the soft edge of an enlargement.
    assert abs(left - (across - right)) <= 3
    assert abs(top - (down - bottom)) <= 3
    soft = 4 + 2 * max(1, min((across - 2 * around) / width, (down - 2 * around) / height))
    assert right - left >= across - 2 * around - soft or bottom - top >= down - 2 * around - soft


def test_subject_of_the_right_size_is_not_resampled():
    known = blob()
    left, top, right, bottom = visible_box(still(known))
    canvas = (right - left + 8, bottom - top + 8)
    assert np.array_equal(placed(still(known), canvas, 4).frames[0][4:-4, 4:-4], known[top:bottom, left:right])


@pytest.mark.parametrize("crop", [(slice(0, 128), slice(40, 90)), (slice(40, 90), slice(0, 128))])
def test_one_side_is_exact(crop):
    result = fitted_into(still(blob()[crop]), (512, 512), 3, 5)
    assert max(result.size) == 512
    left, top, right, bottom = visible_box(result)
    assert min(left, top, 512 - right if result.size[0] == 512 else 512 - bottom) >= 8
    assert min(result.size) < 512


@pytest.mark.parametrize("height", range(20, 29))
def test_sides_are_even(height):
    frame = np.zeros((40, 60, 4), dtype=np.uint8)
    frame[2 : 2 + height, 5:56] = (90, 90, 90, 128)
    width, tall = fitted_into(still(frame), (370, 320), 10, even=True).size
    assert width == 370
    assert tall % 2 == 0
    assert tall <= 320


def test_empty_animation_is_refused():
    with pytest.raises(PlaceError, match="nothing is visible"):
        placed(still(np.zeros((8, 8, 4), dtype=np.uint8)), (32, 32))


def test_canvas_without_room_is_refused():
    with pytest.raises(PlaceError, match="a canvas of 16x16 px has no room with 8 px"):
        placed(still(smooth()), (16, 16), 3, 5)


def drawing(block, side=8):
    rng = np.random.default_rng(1)
    own = np.zeros((side, side, 4), dtype=np.uint8)
    own[1:-1, 1:-1] = (30, 30, 30, 255)
    own[2:-2, 2:-2, :3] = rng.integers(0, 2, (side - 4, side - 4, 1)) * 200
    return np.repeat(np.repeat(own, block, axis=0), block, axis=1)


@pytest.mark.parametrize("block", [1, 2, 3, 5])
def test_blocks_of_pixel_art_are_found(block):
    assert pixel_art_block(still(drawing(block))) == block


@pytest.mark.parametrize("block", [1, 3])
def test_pixel_art_is_scaled_by_whole_factors(block):
    result = placed(still(drawing(block)), (40, 50)).frames[0]
    # 6 pixels of its own: 6 times as large in 40 pixels.
    own = drawing(1)[1:-1, 1:-1]
    assert np.array_equal(result[7:43, 2:38], np.repeat(np.repeat(own, 6, axis=0), 6, axis=1))


def test_pixel_art_that_is_too_large_is_scaled_smoothly():
    assert placed(still(drawing(3)), (5, 5)).size == (5, 5)


@pytest.mark.parametrize(
    "frame",
    [smooth(), blob(), np.full((16, 16, 4), 255, dtype=np.uint8), np.zeros((4, 4, 4), dtype=np.uint8)],
    ids=["soft edges", "blob", "one colour", "empty"],
)
def test_other_images_are_no_pixel_art(frame):
    assert not is_pixel_art(still(frame))


def test_upscaler_is_asked_for_colours_only_where_small():
    asked = []

    def twice(image):
        asked.append(image)
        planes = np.repeat(np.repeat(image, 2, axis=0), 2, axis=1).transpose(2, 0, 1)
        return np.ascontiguousarray(planes).transpose(1, 2, 0)  # as networks have it

    result = placed(still(smooth()), (200, 200), upscale=twice).frames[0]
    assert len(asked) == 1
    # The red comes as far as the image goes: no black around it.
    assert np.abs(asked[0].astype(int) - (220, 80, 40)).max() <= 3
    assert tuple(result[100, 100]) == (220, 80, 40, 255)
    placed(still(smooth()), (40, 40), upscale=twice)
    placed(still(drawing(1)), (40, 40), upscale=twice)
    assert len(asked) == 1


def test_colours_that_an_upscaler_shifts_are_mended():
    def darker(image):
        return np.repeat(np.repeat(image // 2 + 10, 4, axis=0), 4, axis=1)

    result = upscaled(smooth(), darker)
    assert result.shape == (256, 256, 4)
    assert np.abs(result[result[..., 3] > 200][:, :3].astype(int) - (220, 80, 40)).max() <= 3


def test_bleeding_fills_hidden_colours_and_keeps_the_rest():
    frame = np.zeros((7, 9, 4), dtype=np.uint8)
    frame[2, 3] = (200, 100, 50, 255)
    frame[5, 8] = (10, 20, 30, 128)
    result = bled(frame)
    shown = frame[..., 3] > 0
    assert np.array_equal(result[shown], frame[shown])
    assert np.array_equal(result[..., 3], frame[..., 3])
    assert np.all(result[~shown][:, :3].max(axis=1) > 0)
    assert tuple(result[2, 2, :3]) == (200, 100, 50)


def test_bleeding_of_an_empty_frame_changes_nothing():
    empty = np.zeros((3, 5, 4), dtype=np.uint8)
    assert np.array_equal(bled(empty), empty)
