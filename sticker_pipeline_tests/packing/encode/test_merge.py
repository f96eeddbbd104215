import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sticker_pipeline.packing.animation import Animation, still
from sticker_pipeline.packing.encode.merge import carried, merged, shown_at


def of_values(values: list[int], durations: list[int]) -> Animation:
    frames = np.zeros((len(values), 2, 3, 4), np.uint8)
    frames[...] = np.array(values)[:, None, None, None]
    return Animation(frames, tuple(durations), loops=3)


def test_equal_neighbours_are_merged_and_their_times_added():
    found = merged(of_values([1, 1, 2, 1, 3, 3], [10, 20, 30, 40, 50, 60]))
    assert found.frames[:, 0, 0, 0].tolist() == [1, 2, 1, 3]
    assert found.durations == (30, 30, 40, 110)
    assert found.loops == 3


def test_all_equal_frames_become_a_still():
    found = merged(of_values([5, 5], [10, 20]))
    assert (len(found.frames), found.durations) == (1, (0,))
    one = still(np.ones((1, 1, 4), np.uint8))
    assert merged(one) is one


def test_the_rounding_error_is_carried():
    assert carried([33, 33, 34], 10) == [3, 4, 3]
    assert carried([1, 1, 1], 10) == [1, 1, 1]
    assert carried([15], 10) == [2]


@given(st.lists(st.integers(10, 5000), min_size=1, max_size=60))
def test_carried_times_are_at_most_half_a_unit_off(durations):
    found = carried(durations, 10)
    assert min(found) >= 1
    starts, exact = 10 * np.cumsum(found), np.cumsum(durations)
    assert np.abs(starts - exact).max() <= 5 or min(durations) < 15


def test_the_frame_shown_at_a_time():
    assert shown_at([10, 20, 30], np.array([0, 9.9, 10, 29, 30, 60, 99])).tolist() == [0, 0, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("count", [1, 1000])
def test_many_frames_of_one_kind(count):
    assert merged(of_values([7] * count, [1] * count)).is_still
