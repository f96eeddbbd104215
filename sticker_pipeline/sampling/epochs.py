"""Epochs: count and order of each frame, by systematic sampling.

Probabilities are in `sampling/weights.py`.
"""

import numpy as np

from sticker_pipeline.core.texts import counted

# Tolerance: N·p this far below a whole number counts as that number.
WHOLE = 1e-9


def systematic_counts(probabilities: np.ndarray, n_samples: int, seed: int, epoch: int) -> np.ndarray:
    """Return each item's count in one epoch, int64 [n].

    Each count is ⌊N·p⌋ or ⌈N·p⌉; they sum to N = `n_samples` exactly; their mean over epochs is N·p. Systematic
    sampling (Madow 1949): whole parts are certain; fractions lie end to end in random order, and points at distance 1
    from a random offset select items. Reproducible from (seed, epoch). Raises ValueError for `probabilities` (float64
    [n]) below 0 or not summing to 1 within 1e-9, or N < 1.
    """
    expected = _expected(probabilities, n_samples)
    counts = np.floor(expected + WHOLE).astype(np.int64)
    remaining = n_samples - int(counts.sum())
    if remaining:
        fraction = np.clip(expected - counts, 0.0, None)
        counts += _fractions(fraction, remaining, np.random.default_rng([seed, epoch]))
    return counts


def epoch_order(probabilities: np.ndarray, n_samples: int, seed: int, epoch: int) -> np.ndarray:
    """Return one epoch's items in training order, int64 [n_samples]: shuffled systematic_counts.

    Reproducible from (seed, epoch).
    """
    counts = systematic_counts(probabilities, n_samples, seed, epoch)
    order = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    np.random.default_rng([seed, epoch, 1]).shuffle(order)
    return order


def _expected(probabilities: np.ndarray, n_samples: int) -> np.ndarray:
    values = np.asarray(probabilities, dtype=np.float64)
    if n_samples < 1:
        raise ValueError(f"an epoch of {counted(n_samples, 'sample')}: it needs at least 1")
    if not len(values) or not (values >= 0).all() or abs(values.sum() - 1) > WHOLE:
        raise ValueError(f"{len(values)} probabilities that sum to {values.sum()}: they must be ≥ 0 and sum to 1")
    return values / values.sum() * n_samples


def _fractions(fraction: np.ndarray, remaining: int, rng: np.random.Generator) -> np.ndarray:
    """Sample `remaining` items, each at most once, as counts.

    `fraction`: inclusion probabilities, which sum to `remaining`.
    """
    order = rng.permutation(np.flatnonzero(fraction))
    ends = np.cumsum(fraction[order])
    ends = np.minimum(ends * (remaining / ends[-1]), remaining)
    ends[-1] = remaining
    # An item is selected if one of the points u, u + 1, … lies between the previous end and its own.
    points_below = np.ceil(np.concatenate([[0.0], ends]) - rng.random()).astype(np.int64)
    counts = np.zeros(len(fraction), dtype=np.int64)
    counts[order] = np.diff(points_below)
    return counts
