"""Connected regions of masks, and neighbourhoods of pixels."""

import numpy as np


def labelled(mask: np.ndarray, *, diagonal: bool) -> tuple[np.ndarray, int]:
    """Number the connected regions of `mask`, bool [h, w].

    `diagonal`: pixels that touch at a corner are connected too. Returns int32 [h, w], 0 outside the mask and 1 to n
    inside, and n. Runs of each row are joined where they touch runs of the row above; the smallest number spreads
    through the joined runs.
    """
    height, width = mask.shape
    starts, stops = _runs(mask)
    if not len(starts):
        return np.zeros((height, width), dtype=np.int32), 0
    upper, lower = _touching(starts, stops, width, int(diagonal))
    numbers, count = _joined(len(starts), upper, lower)
    labels = np.zeros(height * width, dtype=np.int32)
    labels[mask.ravel()] = np.repeat(numbers, stops - starts)
    return labels.reshape(height, width), count


def grown(mask: np.ndarray, steps: int = 1) -> np.ndarray:
    """Return `mask`, bool [h, w], dilated by a 3x3 square, `steps` times."""
    for _ in range(steps):
        wider = mask.copy()
        wider[:, 1:] |= mask[:, :-1]
        wider[:, :-1] |= mask[:, 1:]
        mask = wider.copy()
        mask[1:] |= wider[:-1]
        mask[:-1] |= wider[1:]
    return mask


def at_border(shape: tuple[int, int]) -> np.ndarray:
    """Return the mask of an image's outermost pixels, bool [h, w]."""
    border = np.zeros(shape, dtype=bool)
    border[0] = border[-1] = border[:, 0] = border[:, -1] = True
    return border


def offsets_by_distance(radius: int) -> list[tuple[int, int]]:
    """Return (dy, dx) within `radius` pixels, without (0, 0), nearest first."""
    steps = range(-radius, radius + 1)
    inside = [(dy, dx) for dy in steps for dx in steps if 0 < dy * dy + dx * dx <= radius * radius]
    return sorted(inside, key=lambda offset: (offset[0] ** 2 + offset[1] ** 2, offset))


def _runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return starts and ends (exclusive) of each row's runs, as flat indexes."""
    height, width = mask.shape
    edges = np.zeros((height, width + 1), dtype=bool)
    edges[:, 1:-1] = mask[:, 1:] != mask[:, :-1]
    edges[:, 0], edges[:, -1] = mask[:, 0], mask[:, -1]
    found = np.flatnonzero(edges)
    flat = found - found // (width + 1)
    return flat[::2], flat[1::2]


def _touching(starts: np.ndarray, stops: np.ndarray, width: int, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Return indexes of runs that touch: above, and in the row below."""
    row = starts // width
    # A gap between rows keeps a run's reach inside its row.
    left, right = starts + 2 * row + 1, stops + 2 * row + 1
    above_left, above_right = left - (width + 2) - reach, right - (width + 2) + reach
    first = np.searchsorted(right, above_left, side="right")
    last = np.searchsorted(left, above_right, side="left")
    counts = np.maximum(last - first, 0)
    lower = np.repeat(np.arange(len(starts)), counts)
    within = np.arange(len(lower)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(first, counts) + within, lower


def _joined(count: int, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the sets of joined items from 1; return their count too."""
    parent = np.arange(count)
    while len(left):
        smaller, larger = np.minimum(parent[left], parent[right]), np.maximum(parent[left], parent[right])
        apart = smaller != larger
        if not apart.any():
            break
        np.minimum.at(parent, larger[apart], smaller[apart])
        while True:
            grand = parent[parent]
            if np.array_equal(grand, parent):
                break
            parent = grand
    roots, numbers = np.unique(parent, return_inverse=True)
    return (numbers + 1).astype(np.int32), len(roots)
