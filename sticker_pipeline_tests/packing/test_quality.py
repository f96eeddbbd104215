"""Tests of the measures at chat size."""

import math

import numpy as np
import pytest

from sticker_pipeline.packing.animation import Animation, animation, still
from sticker_pipeline.packing.quality import (
    MAX_LOOP_GAP,
    MIN_FIRST_FRAME,
    chat_error_db,
    first_frame_share,
    loop_gap,
    readable_at,
)


def block(colour, box=(50, 50, 150, 150), side=200):
    rgba = np.zeros((side, side, 4), dtype=np.uint8)
    left, top, right, bottom = box
    rgba[top:bottom, left:right] = colour
    return rgba


def looped(frames, ms=100):
    return animation(frames, [ms] * len(frames))


def test_equal_images_have_no_error():
    sticker = still(block((200, 30, 90, 255)))
    assert chat_error_db(sticker, sticker) == math.inf


def test_error_of_a_colour_is_psnr():
    # 10 of 255 off in each channel: 20 log10(255 / 10)
    assert chat_error_db(still(block((100, 100, 100, 255))), still(block((110, 110, 110, 255)))) == pytest.approx(
        20 * math.log10(25.5), abs=1e-4
    )


def test_worse_background_counts():
    # On white the hole of a white sticker is hidden: only the dark background shows it.
    white = still(block((255, 255, 255, 255)))
    gone = still(block((0, 0, 0, 0)))
    dark = np.mean(np.square((255 - np.array([0x17, 0x21, 0x2B])) / 255))
    assert chat_error_db(white, gone) == pytest.approx(-10 * math.log10(dark), abs=1e-4)


def test_empty_margin_does_not_improve_the_figure():
    tight = chat_error_db(
        still(block((100, 0, 0, 255), (0, 0, 200, 200))), still(block((110, 0, 0, 255), (0, 0, 200, 200)))
    )
    wide = chat_error_db(still(block((100, 0, 0, 255))), still(block((110, 0, 0, 255))))
    assert wide == pytest.approx(tight, abs=1e-4)


def test_hidden_colours_do_not_count():
    hidden = Animation(np.full((1, 8, 8, 4), (9, 9, 9, 0), dtype=np.uint8), (0,))
    assert chat_error_db(hidden, still(np.zeros((8, 8, 4), dtype=np.uint8))) == math.inf


def test_frames_are_compared_at_equal_times():
    red, blue = block((255, 0, 0, 255)), block((0, 0, 255, 255))
    split = animation([red, red, red, blue], [10, 20, 30, 40])
    merged = animation([red, blue], [60, 40])
    late = animation([red, blue], [80, 20])
    assert chat_error_db(split, merged) == math.inf
    # A fifth of the time, two channels of three are wholly wrong.
    assert chat_error_db(split, late) == pytest.approx(-10 * math.log10(0.2 * 2 / 3), abs=1e-4)


def test_last_frame_of_a_shorter_encoding_stays():
    red, blue = block((255, 0, 0, 255)), block((0, 0, 255, 255))
    assert chat_error_db(animation([red, blue], [50, 60]), animation([red, blue], [50, 10])) == math.inf


def test_sizes_may_differ_by_scale_only():
    sticker = still(block((100, 0, 0, 255)))
    assert chat_error_db(sticker, still(block((100, 0, 0, 255), (25, 25, 75, 75), 100))) > 20
    with pytest.raises(ValueError, match="200x100 px has not the shape"):
        chat_error_db(sticker, still(np.zeros((100, 200, 4), dtype=np.uint8)))


def test_one_pixel_has_a_figure():
    pixel = still(np.full((1, 1, 4), 255, dtype=np.uint8))
    assert chat_error_db(pixel, pixel) == math.inf
    assert chat_error_db(pixel, still(np.zeros((1, 1, 4), dtype=np.uint8))) < 3


def test_edges_of_a_square_are_its_outline():
    # Half of the canvas wide: half of the canvas's outline, less the corners' share.
    half = readable_at(still(block((255, 255, 255, 255), (8, 8, 24, 24), 32)))
    assert half.dark == pytest.approx(0.5)
    assert half.light == 0
    assert not half.readable


def test_black_on_dark_is_unreadable_and_a_rim_helps():
    assert not readable_at(still(block((10, 10, 20, 255)))).readable
    rimmed = block((255, 255, 255, 255), (30, 30, 170, 170))
    rimmed[50:150, 50:150] = (10, 10, 20, 255)
    assert readable_at(still(rimmed)).readable


def test_tiny_subject_is_unreadable():
    assert not readable_at(still(block((255, 0, 0, 255), (95, 95, 105, 105)))).readable


def test_first_frame_that_begins_empty_is_not_whole():
    whole = block((9, 9, 9, 255))
    assert first_frame_share(looped([np.zeros_like(whole), whole, whole])) == 0
    assert first_frame_share(looped([whole, whole, np.zeros_like(whole)])) == 1
    assert first_frame_share(looped([block((9, 9, 9, 255), (50, 50, 100, 150)), whole, whole])) == 0.5 < MIN_FIRST_FRAME
    assert first_frame_share(still(np.zeros((4, 4, 4), dtype=np.uint8))) == 1


def test_share_of_the_first_frame_respects_durations():
    whole, half = block((9, 9, 9, 255)), block((9, 9, 9, 255), (50, 50, 100, 150))
    assert first_frame_share(animation([half, whole], [900, 100])) == 1


def test_gap_of_a_loop():
    positions = [block((255, 0, 0, 255), (x, 50, x + 50, 150)) for x in range(0, 50, 10)]
    there_and_back = positions + positions[-2:0:-1]
    assert loop_gap(looped(there_and_back)) == pytest.approx(1)
    assert MAX_LOOP_GAP < loop_gap(looped(positions)) == pytest.approx(4)
    assert loop_gap(looped(positions[:1] * 3)) == 0
    assert loop_gap(still(positions[0])) == 0
