"""Epochs: how often each frame is drawn, by systematic sampling, and in which order.

Where the probabilities come from is in weights.py.
"""

import numpy as np

# N·p is a float: what lies this little below a whole number is meant as that number.
WHOLE = 1e-9


def systematic_counts(probabilities: np.ndarray, n_samples: int, seed: int, epoch: int) -> np.ndarray:
    """How often each item is drawn in one epoch, int64 [n].

    Each count is ⌊N·p⌋ or ⌈N·p⌉ and they sum to N = `n_samples` exactly; over epochs their mean is N·p. Systematic
    sampling (Madow 1949): whole parts are certain; the fractions are laid end to end in a random order, and one random
    offset decides which of them are met. Reproducible from (seed, epoch). `probabilities` (float64 [n], ≥ 0) must sum
    to 1 within 1e-9, else ValueError.
    """
    expected = _expected(probabilities, n_samples)
    counts = np.floor(expected + WHOLE).astype(np.int64)
    remaining = n_samples - int(counts.sum())
    if remaining:
        fraction = np.clip(expected - counts, 0.0, None)
        counts += _fractions(fraction, remaining, np.random.default_rng([seed, epoch]))
    return counts


def epoch_order(probabilities: np.ndarray, n_samples: int, seed: int, epoch: int) -> np.ndarray:
    """The items of one epoch in the order of training, int64 [n_samples]: systematic_counts, shuffled. Reproducible
    from (seed, epoch)."""
    counts = systematic_counts(probabilities, n_samples, seed, epoch)
    order = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    np.random.default_rng([seed, epoch, 1]).shuffle(order)
    return order


def _expected(probabilities: np.ndarray, n_samples: int) -> np.ndarray:
    values = np.asarray(probabilities, dtype=np.float64)
    if n_samples < 1:
        raise ValueError(f"an epoch of {n_samples} draws: it needs at least 1")
    if not len(values) or not (values >= 0).all() or abs(values.sum() - 1) > WHOLE:
        raise ValueError(f"{len(values)} probabilities that sum to {values.sum()}: they must be ≥ 0 and sum to 1")
    return values / values.sum() * n_samples


def _fractions(fraction: np.ndarray, remaining: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `remaining` of the items, each at most once, with inclusion probability `fraction` (which sums to it)."""
    order = rng.permutation(np.flatnonzero(fraction))
    ends = np.cumsum(fraction[order])
    ends = np.minimum(ends * (remaining / ends[-1]), remaining)
    ends[-1] = remaining
    # An item is met when one of the points u, u + 1, … lies between the end before it and its own.
    points_below = np.ceil(np.concatenate([[0.0], ends]) - rng.random()).astype(np.int64)
    drawn = np.zeros(len(fraction), dtype=np.int64)
    drawn[order] = np.diff(points_below)
    return drawn
