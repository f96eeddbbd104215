from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sticker_pipeline.packing.animation import Animation, still
from sticker_pipeline.packing.errors import PackError
from sticker_pipeline.packing.limits import FileLimits
from sticker_pipeline.packing.timing import Timeline, frame_distances, on_grid, reductions, within_time

LINE = FileLimits("APNG", 300_000, 4000, min_frames=5, max_frames=20, max_loops=4, whole_seconds=True)


def grey(values: list[int], durations: list[int]) -> Animation:
    """Opaque frames, each of one grey."""
    frames = np.zeros((len(values), 4, 4, 4), np.uint8)
    frames[..., :3] = np.array(values)[:, None, None, None]
    frames[..., 3] = 255
    return Animation(frames, tuple(durations))


def limits(max_ms: int | None = None, **more: int) -> FileLimits:
    return FileLimits("APNG", 10**6, max_ms, **more)


def test_distances_are_mean_squared_errors():
    animation = grey([0, 255, 51], [10, 10, 10])
    assert frame_distances(animation) == pytest.approx(
        np.array([[0, 1, 0.04], [1, 0, 0.64], [0.04, 0.64, 0]]), abs=1e-5
    )


def test_distances_of_alpha_count_on_black_and_on_white():
    frames = np.zeros((2, 2, 2, 4), np.uint8)
    frames[1] = 255, 255, 255, 255  # on black all of it is an error, on white nothing
    assert frame_distances(Animation(frames, (1, 1)))[0, 1] == pytest.approx(0.5, abs=1e-5)


def test_what_fits_is_unchanged():
    found = within_time(grey([1, 2, 3], [100, 200, 300]), limits(3000))
    assert found == Timeline((0, 1, 2), (100, 200, 300), 0)


def test_a_little_too_long_is_played_faster():
    found = within_time(grey([1, 2, 3], [1000, 1500, 1500]), limits(3000))
    assert found == Timeline((0, 1, 2), (750, 1125, 1125), 0)


def test_much_too_long_is_cut_where_the_loop_closes():
    values = [0, 200, 100, 50, 90, 130, 50, 240, 10, 60, 160, 220]
    found = within_time(grey(values, [500] * 12), limits(1000))
    assert found.frames == (3, 4, 5)  # the frame after them equals the first
    assert found.durations == (333, 334, 333)


def test_frames_that_each_are_too_long_are_shortened():
    found = within_time(grey([1, 200], [9000, 9000]), limits(1000))
    assert sum(found.durations) == 1000


@given(st.lists(st.integers(20, 900), min_size=1, max_size=30), st.integers(1, 4))
def test_seconds_are_whole_and_within_limits(durations, most):
    animation = grey([17 * number % 256 for number in range(len(durations))], durations)
    wanted = FileLimits("APNG", 10**6, 4000, max_loops=most, whole_seconds=True)
    if len(durations) == 1:
        animation = still(animation.frames[0])
        assert within_time(animation, wanted).durations == (0,)
        return
    found = within_time(animation, wanted)
    total = found.loops * sum(found.durations)
    assert total in (1000, 2000, 3000, 4000)
    assert 1 <= found.loops <= most
    assert min(found.durations) >= 1
    if animation.total_ms * 2 <= 8000 and animation.total_ms >= 700:
        unrolled = sum(animation.durations[index] for index in found.frames)
        assert unrolled / sum(found.durations) <= 1.5 + 0.02


def test_a_short_loop_is_repeated_for_the_frames_that_are_needed():
    found = within_time(grey([0, 90, 200], [100, 100, 100]), LINE)
    assert found.frames == (0, 1, 2, 0, 1, 2)
    assert found.loops * sum(found.durations) in (1000, 2000)


def test_too_few_frames_for_the_time_are_refused():
    with pytest.raises(PackError, match="2 frames differ within 4 s, and 5 are needed"):
        within_time(grey([0, 200], [3000, 3000]), LINE)


def test_a_still_is_refused_where_frames_are_needed():
    with pytest.raises(PackError, match="does not move"):
        within_time(still(np.zeros((2, 2, 4), np.uint8)), LINE)
    assert within_time(still(np.zeros((2, 2, 4), np.uint8)), limits()).frames == (0,)


def brute_error(values: list[int], durations: list[int], count: int) -> float:
    """Least error over all groupings of frames into `count` groups."""
    best = np.inf
    for inner in combinations(range(1, len(values)), count - 1):
        bounds = [0, *inner, len(values)]
        error = 0.0
        for first, stop in pairwise(bounds):
            error += min(
                sum(durations[k] * ((values[k] - values[shown]) / 255) ** 2 for k in range(first, stop))
                for shown in range(first, stop)
            )
        best = min(best, error)
    return best / sum(durations)


@given(st.data(), st.integers(1, 6))
def test_reductions_have_the_least_error(data, count):
    values = data.draw(st.lists(st.integers(0, 255), min_size=count, max_size=count))
    durations = data.draw(st.lists(st.integers(1, 50), min_size=count, max_size=count))
    animation = grey(values, durations)
    timeline = Timeline(tuple(range(count)), animation.durations)
    found = reductions(timeline, frame_distances(animation), limits())
    for number in range(1, count + 1):
        assert found.errors[number - 1] == pytest.approx(brute_error(values, durations, number), abs=2e-5)
        shown = found.with_frames(number)
        assert len(shown.frames) == number
        assert sum(shown.durations) == sum(durations)


def test_short_frames_are_merged_and_counts_limited():
    animation = grey([0, 0, 100, 100, 200, 200], [10] * 6)
    timeline = Timeline(tuple(range(6)), animation.durations)
    found = reductions(timeline, frame_distances(animation), limits(min_frame_ms=20, max_frames=4))
    assert np.isfinite(found.errors).tolist() == [True, True, True, False, False, False]
    best = found.with_frames(found.most())
    assert best.durations == (20, 20, 20)
    assert [animation.frames[index, 0, 0, 0] for index in best.frames] == [0, 100, 200]


def test_no_allowed_number_of_frames_is_an_error():
    animation = grey([0, 100], [10, 10])
    with pytest.raises(PackError, match="40 ms each fits into 20 ms"):
        reductions(Timeline((0, 1), (10, 10)), frame_distances(animation), limits(min_frame_ms=40))


def test_steps_of_a_video_show_the_nearest_frame():
    animation = grey([0, 255, 250, 0], [20, 20, 20, 40])
    found = on_grid(Timeline((0, 1, 2, 3), animation.durations), frame_distances(animation), 30)
    assert found.durations == (33, 34, 33)
    assert found.frames == (0, 2, 3)


def test_long_multiples_of_a_step_stay():
    timeline = Timeline((0, 1), (40, 80))
    assert on_grid(timeline, np.zeros((2, 2)), 30) is timeline


def test_a_thousand_frames_are_reduced():
    animation = grey([number % 256 for number in range(1000)], [20] * 1000)
    timeline = within_time(animation, LINE)
    found = reductions(timeline, frame_distances(animation), LINE)
    assert found.most() == 20
    assert sum(found.with_frames(20).durations) * timeline.loops == 4000
