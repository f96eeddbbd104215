"""Palettes with alpha, best on dark and on light."""

from dataclasses import dataclass

import numpy as np

ROUNDS = 3  # of Lloyd's algorithm
CHUNK = 65_536
CELLS = 1 << 20
SAMPLED = 1 << 18  # pixels


@dataclass(frozen=True)
class Indexed:
    """An animation in a palette.

    `palette`: uint8 [n, 4], straight alpha, transparent ones first. `indices`: uint8 or uint16 [frames, height, width].
    """

    palette: np.ndarray
    indices: np.ndarray


def packed(frames: np.ndarray) -> np.ndarray:
    """View uint8 [..., 4] pixels as uint32 [...], little-endian: red lowest."""
    return np.ascontiguousarray(frames).view("<u4")[..., 0]


def unpacked(colours: np.ndarray) -> np.ndarray:
    """Return uint32 [n] colours as uint8 [n, 4]."""
    return np.ascontiguousarray(colours.astype("<u4")).view(np.uint8).reshape(-1, 4)


def few_colours(frames: np.ndarray, most: int) -> np.ndarray | None:
    """Return the colours of `frames` (uint32, ascending); None for more than `most`."""
    found = np.zeros(0, np.uint32)
    for frame in frames:
        found = np.union1d(found, packed(frame))
        if len(found) > most:
            return None
    return found


def indexed(frames: np.ndarray, colours: int) -> Indexed:
    """Reduce `frames` (uint8 [n, h, w, 4]) to at most `colours` colours.

    `colours`: 2–65,536. Exact where they have no more. Otherwise the colours have the least squared error on black and
    on white together, by splits of the group with the largest error (Wu 1991) and Lloyd's algorithm. Empty pixels (all
    channels 0) stay so: a faint colour in their place would be seen over the whole canvas.
    """
    exact = few_colours(frames, colours)
    if exact is not None:
        return _ordered(unpacked(exact), np.searchsorted(exact, packed(frames)))
    if not packed(frames).all():
        return transparent_first(frames, colours)
    keys = _cells(frames)
    used, points, weights = _cell_points(frames, keys)
    centres = _refined(points, weights, _split(points, weights, colours))
    table = np.zeros(CELLS, np.uint16)
    table[used] = _nearest(points, centres)
    return _ordered(_rgba(centres), table[keys])


def transparent_first(frames: np.ndarray, colours: int) -> Indexed:
    """Reduce as `indexed`; index 0 is transparent and for empty pixels only."""
    visible = packed(frames) != 0
    indices = np.zeros(visible.shape, np.uint8 if colours <= 256 else np.uint16)
    if not visible.any():
        return Indexed(np.zeros((1, 4), np.uint8), indices)
    reduced = indexed(frames[visible][None, None], colours - 1)
    indices[visible] = reduced.indices[0, 0].astype(indices.dtype) + 1
    return Indexed(np.concatenate([np.zeros((1, 4), np.uint8), reduced.palette]), indices)


def _ordered(palette: np.ndarray, indices: np.ndarray) -> Indexed:
    """Sort a palette by alpha and brightness, so that `tRNS` is short."""
    order = np.lexsort((palette[:, :3].astype(int) @ np.array([2, 4, 1]), palette[:, 3]))
    rank = np.empty(len(order), np.uint8 if len(order) <= 256 else np.uint16)
    rank[order] = np.arange(len(order))
    return Indexed(palette[order], rank[indices])


def spread(rgba: np.ndarray) -> np.ndarray:
    """Return coordinates in which distance is the error on black and white.

    float32 [..., 4]. With premultiplied p and alpha a (0–255), the squared error on black is |Δp|², on white
    |Δp - Δa|². Their sum is 2|Δp - Δa/2|² + 3/2 Δa², the squared distance of (√2 (p - a/2), √1.5 a).
    """
    alpha = rgba[..., 3:].astype(np.float32)
    colour = rgba[..., :3] * (alpha / np.float32(255))
    return np.concatenate([np.sqrt(np.float32(2)) * (colour - alpha / 2), np.sqrt(np.float32(1.5)) * alpha], axis=-1)


def _rgba(points: np.ndarray) -> np.ndarray:
    """Invert `spread`, to uint8 [n, 4]; hidden colour is 0."""
    alpha = np.clip(np.rint(points[:, 3:] / np.sqrt(1.5)), 0, 255)
    colour = points[:, :3] / np.sqrt(2) + points[:, 3:] / np.sqrt(1.5) / 2
    straight = np.clip(np.rint(colour * 255 / np.maximum(alpha, 1)), 0, 255)
    return np.where(alpha > 0, np.concatenate([straight, alpha], axis=1), 0).astype(np.uint8)


def _cells(frames: np.ndarray) -> np.ndarray:
    """Return the cell of each pixel, int32: five bits of each channel."""
    pixels = packed(frames)
    return (pixels >> 3 & 0x1F | pixels >> 6 & 0x3E0 | pixels >> 9 & 0x7C00 | pixels >> 12 & 0xF8000).astype(np.int32)


def _cell_points(frames: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return used cells, their mean in `spread` [cells, 4], and their weights.

    Means and weights are of about SAMPLED pixels; the middle of a cell without any stands for it, with weight 1.
    """
    used = np.flatnonzero(np.bincount(keys.ravel(), minlength=CELLS))
    pixels = packed(frames).ravel()
    colours, counts = np.unique(pixels[:: len(pixels) // SAMPLED | 1], return_counts=True)
    rgba = unpacked(colours)
    cells, points = _cells(rgba), spread(rgba) * counts[:, None]
    sums = np.stack([np.bincount(cells, points[:, axis], CELLS)[used] for axis in range(4)], axis=1)
    weights = np.bincount(cells, counts, CELLS)[used]
    middles = np.stack([(used >> shift & 31) * 8 + 4 for shift in (0, 5, 10, 15)], axis=1)
    means = np.where(weights[:, None] > 0, sums / np.maximum(weights, 1)[:, None], spread(middles.astype(np.uint8)))
    return used, means, np.maximum(weights, 1)


def _split(points: np.ndarray, weights: np.ndarray, colours: int) -> np.ndarray:
    """Return centres [colours, 4] by repeated splits of the worst group."""
    groups = [np.arange(len(points))]
    cuts = [_best_cut(points, weights)]
    while len(groups) < colours and max(gain for gain, _, _ in cuts) > 0:
        chosen = int(np.argmax([gain for gain, _, _ in cuts]))
        _, axis, value = cuts[chosen]
        members = groups[chosen]
        low = points[members, axis] <= value
        for place, part in ((chosen, members[low]), (len(groups), members[~low])):
            groups[place : place + 1] = [part]
            cuts[place : place + 1] = [_best_cut(points[part], weights[part])]
    return np.array([np.average(points[group], axis=0, weights=weights[group]) for group in groups])


def _best_cut(points: np.ndarray, weights: np.ndarray) -> tuple[float, int, float]:
    """Return the best cut along the widest axis: gain, axis, value.

    The gain, which the squared error loses by a cut, is W₁W₂/W |m₁ - m₂|², with weights W and means m of both sides.
    """
    total = weights.sum()
    mean = weights @ points / total
    axis = int(np.argmax(weights @ (points - mean) ** 2))
    order = np.argsort(points[:, axis], kind="stable")
    values, left = points[order, axis], np.cumsum(weights[order])
    apart = values[1:] > values[:-1]
    if not apart.any():
        return 0.0, axis, 0.0
    sums = np.cumsum(weights[order, None] * (points[order] - mean), axis=0)[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        gains = np.where(apart, (sums**2).sum(axis=1) * total / (left[:-1] * (total - left[:-1])), 0)
    best = int(np.argmax(gains))
    return float(gains[best]), axis, float(values[best])


def _refined(points: np.ndarray, weights: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Move each centre to the mean of its nearest points, ROUNDS times."""
    for _ in range(ROUNDS):
        nearest = _nearest(points, centres)
        mass = np.bincount(nearest, weights, len(centres))
        moved = np.stack([np.bincount(nearest, weights * points[:, axis], len(centres)) for axis in range(4)], axis=1)
        centres = np.where(mass[:, None] > 0, moved / np.maximum(mass, 1)[:, None], centres)
    return centres


def _nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the index of the nearest centre to each point."""
    target = (2 * centres.T).astype(np.float32)
    offset = (centres**2).sum(axis=1).astype(np.float32)
    parts = [points[at : at + CHUNK].astype(np.float32) @ target - offset for at in range(0, len(points), CHUNK)]
    return np.concatenate([part.argmax(axis=1) for part in parts])
