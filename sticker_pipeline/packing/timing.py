"""Times of an animation within a platform's limits: speed, loop, frames.

Pixels are only compared; encoding is in `packing/encode/`.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import ceil, gcd, log

import numpy as np

from sticker_pipeline.core.texts import counted
from sticker_pipeline.packing.animation import ENDLESS, Animation
from sticker_pipeline.packing.encode.palette import spread
from sticker_pipeline.packing.errors import PackError
from sticker_pipeline.packing.limits import FileLimits
from sticker_pipeline.packing.place import scaled

MOST_SPEED = 1.5  # faster looks hurried
COMPARED_SIDE, COMPARED_SIDE_OF_MANY, MANY = 100, 50, 250  # pixels; frames
LONGEST_GROUP = 64  # frames that one may stand for
SHORTEST_CUT = 0.5  # of the allowed time
FRAMES_OF_A_REPEAT = 10  # shortest frames in a loop that is repeated because it is short


@dataclass(frozen=True)
class Timeline:
    """Frames to show, and how long; valid at any size.

    `frames`: indices of the source. `durations`: milliseconds. `loops`: as of Animation.
    """

    frames: tuple[int, ...]
    durations: tuple[int, ...]
    loops: int = ENDLESS

    def of(self, animation: Animation) -> Animation:
        """Return the frames of `animation`, an equal source at any size."""
        durations = self.durations if len(self.frames) > 1 else (0,)
        return Animation(animation.frames[list(self.frames)], durations, self.loops)


def within_time(animation: Animation, limits: FileLimits) -> Timeline:
    """Return the times that `limits` allow, with all frames.

    Faster by at most MOST_SPEED; beyond, the segment is cut that closes best. A loop that is too short for the frames
    or the whole seconds of `limits` is repeated. Raises PackError where no such times exist.
    """
    if animation.is_still:
        return _still(limits)
    timeline = Timeline(tuple(range(len(animation.frames))), animation.durations)
    if limits.max_ms is not None and animation.total_ms > MOST_SPEED * limits.max_ms:
        timeline = _best_loop(animation, MOST_SPEED * limits.max_ms)
    timeline = _repeated(timeline, _repeats(timeline, limits))
    if limits.whole_seconds:
        return _whole_seconds(timeline, limits)
    total = sum(timeline.durations)
    allowed = total if limits.max_ms is None else min(total, limits.max_ms)
    return Timeline(timeline.frames, _to_total(timeline.durations, allowed), _loops(allowed, limits))


def _still(limits: FileLimits) -> Timeline:
    if limits.min_frames > 1:
        raise PackError(
            f"the sticker does not move, and an animated one needs {counted(limits.min_frames, 'frame')}: "
            "use a static format"
        )
    return Timeline((0,), (0,))


def _loops(total: int, limits: FileLimits) -> int:
    if not limits.max_loops or limits.max_ms is None:
        return limits.max_loops
    return max(1, min(limits.max_loops, limits.max_ms // total))


def _repeats(timeline: Timeline, limits: FileLimits) -> int:
    """Return how often the loop is unrolled to keep its frames."""
    total = sum(timeline.durations)
    repeats = ceil(limits.min_frames / len(timeline.frames))
    if min(timeline.durations) < limits.min_frame_ms:
        repeats = max(repeats, ceil(FRAMES_OF_A_REPEAT * limits.min_frame_ms / total))
    if limits.whole_seconds:
        repeats = max(repeats, ceil(1000 / MOST_SPEED / (total * max(1, limits.max_loops))))
    if repeats > 1 and limits.max_ms is not None and repeats * total > MOST_SPEED * limits.max_ms:
        number = len(timeline.frames)
        raise PackError(
            f"only {counted(number, 'frame')} {'differs' if number == 1 else 'differ'} within "
            f"{limits.max_ms / 1000:g} s, and {limits.min_frames} are needed: use an animation with more frames, or a "
            "static format"
        )
    return repeats


def _repeated(timeline: Timeline, repeats: int) -> Timeline:
    return Timeline(timeline.frames * repeats, timeline.durations * repeats, timeline.loops)


def _whole_seconds(timeline: Timeline, limits: FileLimits) -> Timeline:
    """Choose loops and seconds in all so that the speed changes least."""
    total = sum(timeline.durations)
    most = (limits.max_ms or 60_000) // 1000
    choices = [
        (abs(log(total * loops / (1000 * seconds))), -seconds, loops)
        for loops in range(1, max(1, limits.max_loops) + 1)
        for seconds in range(1, most + 1)
        if 1000 * seconds % loops == 0
    ]
    _, negative, loops = min(choices)
    return Timeline(timeline.frames, _to_total(timeline.durations, -1000 * negative // loops), loops)


def _to_total(durations: tuple[int, ...], total: int) -> tuple[int, ...]:
    """Scale durations to a total in milliseconds; each is at least 1."""
    if total == sum(durations):
        return durations
    ends = np.rint(np.cumsum(durations) * (total / sum(durations))).astype(int)
    ends = np.maximum(ends, np.arange(1, len(ends) + 1))
    ends = np.minimum(ends, total - np.arange(len(ends))[::-1])
    return tuple(int(value) for value in np.diff(ends, prepend=0))


def _best_loop(animation: Animation, most_ms: float) -> Timeline:
    """Cut the segment of at most `most_ms` that closes best.

    The frame after it is nearest to its first. It lasts SHORTEST_CUT of `most_ms` or more where frames allow; the
    longest of equals, then the earliest.
    """
    distance = frame_distances(animation)
    starts = np.concatenate([[0], np.cumsum(animation.durations)])
    length = starts[None, :] - starts[:-1, None]
    count = len(animation.frames)
    gap = np.concatenate([distance, distance[:, :1]], axis=1)  # after the last frame follows the first
    fits = (length > 0) & (length <= most_ms)
    if not fits.any():  # each frame alone is too long
        return Timeline((0, 1), (int(most_ms) // 2, int(most_ms) // 2))
    long = fits & (length >= SHORTEST_CUT * most_ms) & (np.arange(count + 1)[None] - np.arange(count)[:, None] > 1)
    allowed = long if long.any() else fits
    cost = np.where(allowed, gap, np.inf)
    nearest = np.argwhere(cost <= cost.min())
    first, stop = min(nearest.tolist(), key=lambda pair: (-length[pair[0], pair[1]], pair[0]))
    return Timeline(tuple(range(first, stop)), animation.durations[first:stop])


def frame_distances(animation: Animation) -> np.ndarray:
    """Return mean squared errors between frames, float64 [n, n], in 0..1.

    On black and on white, per channel and pixel that any frame shows, of frames scaled to about chat size.
    """
    side = COMPARED_SIDE if len(animation.frames) <= MANY else COMPARED_SIDE_OF_MANY
    small = scaled(animation, _fitted(animation.size, side)).frames
    shown = (small[..., 3] > 0).any(axis=0)
    points = spread(small[:, shown]).reshape(len(small), -1) / np.float32(255)
    squares = np.einsum("ij,ij->i", points, points, dtype=np.float64)
    distance = squares[:, None] + squares[None] - 2 * (points @ points.T).astype(np.float64)
    np.fill_diagonal(distance, 0)
    return np.maximum(distance, 0) / max(1, 6 * int(shown.sum()))


def _fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def on_grid(timeline: Timeline, distance: np.ndarray, rate: int) -> Timeline:
    """Return `timeline` in equal steps of 1/`rate` s or little more.

    Unchanged where all durations are multiples of such a step. Otherwise each step shows the frame with the least
    error to those it lasts for. `distance`: of `frame_distances`.
    """
    total = sum(timeline.durations)
    if gcd(*timeline.durations) * rate >= 1000 or len(timeline.frames) == 1:
        return timeline
    count = max(1, total * rate // 1000)
    edges = np.arange(count + 1) * total / count
    ends = np.cumsum(timeline.durations)
    starts = ends - timeline.durations
    frames = []
    for first, stop in pairwise(edges):
        overlap = np.minimum(ends, stop) - np.maximum(starts, first)
        inside = np.flatnonzero(overlap > 0)
        indices = np.array(timeline.frames)[inside]
        frames.append(int(indices[(overlap[inside] @ distance[indices[:, None], indices[None]]).argmin()]))
    durations = np.diff(np.rint(edges).astype(int))
    return Timeline(tuple(frames), tuple(int(value) for value in durations), timeline.loops)


@dataclass(frozen=True)
class Reductions:
    """The best choice of frames for each number of frames.

    `errors`: float64 [k], mean squared error in 0..1 with k + 1 frames; infinite where limits forbid it.
    """

    timeline: Timeline
    errors: np.ndarray
    _starts: np.ndarray
    _shown: np.ndarray

    def most(self) -> int:
        """Return the number of frames with the least error."""
        return int(np.argmin(self.errors)) + 1

    def with_frames(self, count: int) -> Timeline:
        """Return the timeline with `count` frames."""
        ends, firsts = [], []
        end = len(self.timeline.frames)
        for number in range(count - 1, -1, -1):
            start = int(self._starts[number, end])
            ends.append(end)
            firsts.append(start)
            end = start
        pairs = list(zip(firsts[::-1], ends[::-1], strict=True))
        frames = tuple(self.timeline.frames[int(self._shown[start, stop - start])] for start, stop in pairs)
        durations = tuple(sum(self.timeline.durations[start:stop]) for start, stop in pairs)
        return Timeline(frames, durations, self.timeline.loops)


def reductions(timeline: Timeline, distance: np.ndarray, limits: FileLimits) -> Reductions:
    """Find, for each number of frames, those with the least error.

    Consecutive frames form groups, each shown as one of its frames for the time of all. `distance`: of
    `frame_distances`. A group lasts `limits.min_frame_ms` or more. Dynamic programming over the groups' ends.
    Raises PackError if no number of frames is allowed.
    """
    count = len(timeline.frames)
    longest = min(count, max(LONGEST_GROUP, ceil(2 * count / (limits.max_frames or count))))
    costs, shown = _group_costs(timeline, distance, longest, limits.min_frame_ms if count > 1 else 0)
    errors = np.full(count, np.inf)
    starts = np.zeros((count, count + 1), np.int32)
    best = np.full(count + 1, np.inf)
    best[0] = 0
    ends = np.arange(count + 1)
    before = ends[:, None] - np.arange(longest + 1)[None]
    steps = np.where(before >= 0, costs[np.maximum(before, 0), np.arange(longest + 1)[None]], np.inf)
    for number in range(min(count, limits.max_frames or count)):
        totals = np.where(before >= 0, best[np.maximum(before, 0)], np.inf) + steps
        chosen = totals.argmin(axis=1)
        starts[number] = ends - chosen
        best = totals[ends, chosen]
        errors[number] = best[count]
    errors /= max(1, sum(timeline.durations))
    errors[: min(limits.min_frames, count) - 1] = np.inf
    if not np.isfinite(errors).any():
        raise PackError(
            f"no choice of {counted(limits.min_frames, 'frame')} or more of {limits.min_frame_ms} ms each fits into "
            f"{sum(timeline.durations)} ms: use a longer animation, or a static format"
        )
    return Reductions(timeline, errors, starts, shown)


def _group_costs(timeline: Timeline, distance: np.ndarray, longest: int, min_ms: int) -> tuple[np.ndarray, np.ndarray]:
    """Return costs [start, length] of groups and positions of best frames.

    The cost is the sum of milliseconds times squared error; infinite for impossible groups.
    """
    index = np.array(timeline.frames)
    count = len(index)
    durations = np.array(timeline.durations)
    between = distance[index[:, None], index[None]]
    costs, shown = np.full((count + 1, longest + 1), np.inf), np.zeros((count + 1, longest + 1), np.int32)
    for start in range(count):
        stop = min(count, start + longest)
        part = durations[start:stop]
        sums = np.cumsum(part[:, None] * between[start:stop, start:stop], axis=0)  # [last of the group, shown]
        inside = np.tril(np.ones_like(sums, dtype=bool))
        sums = np.where(inside & (np.cumsum(part) >= min_ms)[:, None], sums, np.inf)
        chosen = sums.argmin(axis=1)
        costs[start, 1 : len(part) + 1] = sums[np.arange(len(part)), chosen]
        shown[start, 1 : len(part) + 1] = start + chosen
    return costs, shown
