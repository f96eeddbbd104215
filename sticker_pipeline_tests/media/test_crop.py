import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sticker_pipeline.media.crop import cropped, subject_box, visible_box
from sticker_pipeline_tests.media.makers import RED, WHITE, solid


def on(background, size: tuple[int, int], box: tuple[int, int, int, int], colour=RED) -> np.ndarray:
    """A canvas of `size` (width, height) with a filled `box` (left, top, right, bottom)."""
    canvas = solid(background, *size)
    canvas[box[1] : box[3], box[0] : box[2]] = (*colour, 255)
    return canvas


CLEAR = (0, 0, 0, 0)


@given(st.data())
def test_the_box_is_that_of_what_was_drawn(data: st.DataObject) -> None:
    width, height = data.draw(st.integers(3, 40)), data.draw(st.integers(3, 40))
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = (left, top, data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height)))
    assert visible_box(on(CLEAR, (width, height), box)) == box


def test_the_margin_is_a_share_of_the_longer_side_and_ends_at_the_frame() -> None:
    frame = on(CLEAR, (100, 60), (40, 2, 60, 42))
    assert cropped(frame, "alpha", 0.0).shape == (40, 20, 4)
    assert cropped(frame, "alpha", 0.1).shape == (2 + 40 + 4, 4 + 20 + 4, 4)
    assert cropped(frame, "none", 0.1) is frame


def test_an_even_border_is_cut_off_opaque_frames_only_when_asked() -> None:
    frame = on(WHITE, (50, 50), (10, 20, 30, 45))
    assert cropped(frame, "alpha", 0.0).shape == (50, 50, 4)
    assert cropped(frame, "subject", 0.0).shape == (25, 20, 4)


def test_noise_in_the_border_is_border_and_a_subject_may_leave_the_image() -> None:
    frame = on(WHITE, (60, 60), (20, 40, 40, 60))
    frame[..., :3] -= np.random.default_rng(0).integers(0, 12, (60, 60, 3), dtype=np.uint8)
    assert subject_box(frame) == (20, 40, 40, 60)


def test_a_transparent_frame_is_cut_to_what_is_visible_even_by_subject() -> None:
    frame = on(CLEAR, (50, 50), (10, 10, 40, 40), WHITE)
    frame[20:30, 20:30, :3] = RED
    assert cropped(frame, "subject", 0.0).shape == (30, 30, 4)


@pytest.mark.parametrize("how", ["alpha", "subject"])
def test_what_has_nothing_to_cut_stays_whole(how) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (30, 40, 4), dtype=np.uint8)
    photo[..., 3] = 255
    for frame in (photo, solid(CLEAR, 9, 9), solid(RED, 9, 9)):
        assert cropped(frame, how, 0.0).shape == frame.shape
