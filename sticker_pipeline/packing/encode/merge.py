"""Times of frames: equal neighbours merged, other rates, hundredths."""

from collections.abc import Sequence

import numpy as np

from sticker_pipeline.packing.animation import Animation


def merged(animation: Animation) -> Animation:
    """Merge equal consecutive frames; their durations are added."""
    if animation.is_still:
        return animation
    flat = animation.frames.reshape(len(animation.frames), -1)
    firsts = [0] + [index for index in range(1, len(flat)) if not np.array_equal(flat[index], flat[index - 1])]
    if len(firsts) == len(flat):
        return animation
    sums = np.add.reduceat(np.array(animation.durations), firsts)
    durations = tuple(int(value) for value in sums) if len(firsts) > 1 else (0,)
    return Animation(animation.frames[firsts], durations, animation.loops)


def carried(durations: Sequence[int], unit_ms: int) -> list[int]:
    """Return durations in whole units, at least 1.

    Each carries the rounding error of those before:
    starts are at most half a unit off, and the total too, where no duration is below a unit.
    """
    units, exact, given = [], 0, 0
    for duration in durations:
        exact += duration
        units.append(max(1, (2 * exact + unit_ms) // (2 * unit_ms) - given))
        given += units[-1]
    return units


def shown_at(durations: Sequence[int], times: np.ndarray) -> np.ndarray:
    """Return the index of the frame shown at each time in milliseconds."""
    ends = np.cumsum(durations)
    return np.minimum(np.searchsorted(ends, times, side="right"), len(ends) - 1)
