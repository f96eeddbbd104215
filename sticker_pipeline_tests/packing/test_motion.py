"""Tests of motion for stills."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.packing.animation import animation, still
from sticker_pipeline.packing.motion import POSES, Pose, bounce, moved, pulse, shake
from sticker_pipeline.packing.place import visible_box
from sticker_pipeline.packing.quality import MAX_LOOP_GAP, first_frame_share, loop_gap
from sticker_pipeline_tests.packing.shapes import blob, disc, from_premultiplied, over

KINDS = sorted(POSES)


@pytest.mark.parametrize("kind", KINDS)
def test_loop_closes_and_begins_at_rest(kind):
    result = moved(still(blob()), kind, 16, 40)
    assert len(result.frames) == 16
    assert result.durations == (40,) * 16
    assert result.size == (128, 128)
    assert POSES[kind](0) == Pose()
    assert loop_gap(result) < MAX_LOOP_GAP
    assert first_frame_share(result) > 0.95
    assert len({frame.tobytes() for frame in result.frames}) >= 8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("margin", [0, 5])
def test_motion_stays_in_the_visible_box(kind, margin):
    known = np.pad(blob()[14:101, 24:110], ((margin, margin), (margin, margin), (0, 0)))
    left, top, right, bottom = visible_box(still(known))
    result = moved(still(known), kind)
    reached = visible_box(result)
    assert all(abs(ours - theirs) <= 1 for ours, theirs in zip(reached, (left, top, right, bottom), strict=True)) or (
        reached[0] >= left and reached[1] >= top and reached[2] <= right and reached[3] <= bottom
    )


@given(st.sampled_from(KINDS), st.integers(1, 24), st.integers(1, 24), st.integers(2, 9))
@settings(max_examples=40, deadline=None)
def test_solid_blocks_never_leave_their_box(kind, width, height, frames):
    rgba = np.zeros((30, 30, 4), dtype=np.uint8)
    rgba[3 : 3 + height, 4 : 4 + width] = (200, 40, 90, 255)
    left, top, right, bottom = visible_box(moved(still(rgba), kind, frames)) or (4, 3, 5, 4)
    # Sampling softens an edge by at most a pixel.
    assert (left, top) >= (3, 2)
    assert right <= 5 + width
    assert bottom <= 4 + height


@pytest.mark.parametrize("kind", KINDS)
def test_no_fringe_of_another_colour(kind):
    known = from_premultiplied(over(np.zeros((64, 64, 4)), (220, 80, 40), disc(64, (32, 32), 24)))
    for frame in moved(still(known), kind, 7).frames:
        solid = frame[..., 3] > 20
        assert np.abs(frame[solid][:, :3].astype(int) - (220, 80, 40)).max() <= 3


def test_motion_is_smooth_below_a_pixel():
    # A row's mean position follows the hop to a hundredth of a pixel.
    known = from_premultiplied(over(np.zeros((64, 64, 4)), (0, 0, 0), disc(64, (32, 34), 20)))
    alpha = moved(still(known), "bounce", 20).frames[..., 3].astype(float)
    heights = (alpha.sum(axis=2) @ np.arange(64)) / alpha.sum(axis=(1, 2))
    poses = [bounce(number / 20) for number in range(14)]
    rises = np.array([pose.rise for pose in poses])
    fitted = np.polyfit(rises, heights[:14], 1)
    assert np.abs(np.polyval(fitted, rises) - heights[:14]).max() < 0.02


def test_poses_are_those_described():
    assert bounce(0.35).rise == pytest.approx(0.15)
    assert bounce(0.85).along == pytest.approx(0.93)
    assert shake(5 / 12).turn == pytest.approx(np.pi / 30 * np.sin(np.radians(75)) ** 2)
    assert shake(1 / 4).turn == pytest.approx(-np.pi / 60)
    assert pulse(0.5) == Pose(across=0.9, along=0.9)


def test_same_input_gives_the_same_bytes():
    first, second = (moved(still(blob()), "shake").frames for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_empty_still_has_empty_frames():
    result = moved(still(np.zeros((5, 5, 4), dtype=np.uint8)), "pulse", 3)
    assert result.frames.max() == 0
    assert len(result.frames) == 3


@pytest.mark.parametrize(("frames", "ms"), [(1, 50), (0, 50), (4, 0)])
def test_too_few_frames_are_refused(frames, ms):
    with pytest.raises(ValueError, match="needs at least 2 frames of 1 ms"):
        moved(still(blob()), "pulse", frames, ms)


def test_what_moves_is_refused():
    with pytest.raises(ValueError, match="only stills"):
        moved(animation([blob(), blob(centre=(60, 60))], [10, 10]), "pulse")
