"""Whole-number repeats in place of probabilities, for other trainers."""

from collections.abc import Iterator

import numpy as np

from sticker_pipeline.core.texts import counted
from sticker_pipeline.dataset.manifest import DatasetError

EXACT = 1e-12  # total variation from float64 rounding
LARGEST_EPOCH = 10_000_000  # images; at ten a second, over eleven days
CELLS = 2_000_000  # of the matrix of candidates compared at once


def choose_repeats(probability: np.ndarray, max_error: float) -> tuple[np.ndarray, float]:
    """Return whole repeats r ≥ 1 (int64 [n]), and their error.

    `probability`: float64 [n], > 0, sum 1. The error is the total variation ½·Σ|r_i / Σr − p_i|: the misplaced share of
    an epoch. Of all r = max(1, ⌊s·p + ½⌋), s > 0, this is the one with the smallest epoch Σr and an error of at most
    `max_error` (0..1; 0 means within EXACT). Σr never falls as s grows, so the first such s is best. Time depends on
    the few distinct probabilities. Raises DatasetError for other probabilities, and, naming the smallest error, when
    more than LARGEST_EPOCH images are needed.
    """
    values, which, counts = _distinct(probability)
    nearest, nearest_epoch = np.inf, 0
    for repeats in _candidates(values, counts):
        epochs = repeats @ counts
        repeats, epochs = repeats[epochs <= LARGEST_EPOCH], epochs[epochs <= LARGEST_EPOCH]
        errors = np.abs(repeats / epochs[:, None] - values) @ counts / 2
        good = np.flatnonzero(errors <= max_error + EXACT)
        if len(good):
            return repeats[good[0]][which], float(errors[good[0]])
        if len(errors) and errors.min() < nearest:
            nearest, nearest_epoch = errors.min(), epochs[errors.argmin()]
    raise DatasetError(
        f"no whole repeats have an error of at most {max_error:g} in an epoch of at most {LARGEST_EPOCH} images; the "
        f"smallest error is {nearest:.3g}, with {counted(nearest_epoch, 'image')}: allow a larger error"
    )


def error_of(repeats: np.ndarray, probability: np.ndarray) -> float:
    """Return `½·Σ|r_i / Σr − p_i|` of repeats (≥ 0, [n]) and probabilities (float64 [n])."""
    return float(np.abs(repeats / repeats.sum() - probability).sum() / 2)


def one_number_error(probability: np.ndarray, groups: np.ndarray) -> float:
    """Return the error of one number of repeats per group.

    `groups`: [n] labels. Group shares are correct and nothing is rounded, unlike repeats set by hand: only differences
    inside groups are lost.
    """
    labels, which = np.unique(groups, return_inverse=True)
    mean = np.bincount(which, weights=probability) / np.bincount(which, minlength=len(labels))
    return error_of(mean[which], probability)


def _distinct(probability: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    p = np.asarray(probability, dtype=np.float64)
    if not len(p) or not (p > 0).all() or abs(p.sum() - 1) > 1e-9:
        raise DatasetError(f"{len(p)} probabilities that sum to {p.sum()}: they must be above 0 and sum to 1")
    if len(p) > LARGEST_EPOCH:
        raise DatasetError(f"an epoch may have {LARGEST_EPOCH:,} images, and here are {len(p):,}")
    return np.unique(p, return_inverse=True, return_counts=True)


def _candidates(values: np.ndarray, counts: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the distinct `max(1, ⌊s·p + ½⌋)` by growing s, int64 [candidates, m].

    Ends when the epoch exceeds LARGEST_EPOCH. ⌊s·p_j + ½⌋ becomes k at the breakpoint s = (k − ½) / p_j; between
    breakpoints nothing changes.
    """
    repeats = np.ones(len(values), dtype=np.int64)
    yield repeats[None]
    end = 1.5 / values.max()
    while repeats @ counts <= LARGEST_EPOCH:
        # Windows grow with s, so that short epochs need no breakpoints of long ones.
        last = np.maximum(repeats, np.floor(end * values + 0.5).astype(np.int64))
        steps = last - repeats
        which = np.repeat(np.arange(len(values)), steps)
        first = np.repeat(np.cumsum(steps) - steps, steps)
        level = repeats[which] + 1 + np.arange(len(which)) - first
        at = (level - 0.5) / values[which]
        order = np.argsort(at, kind="stable")
        # Breakpoints that differ only by rounding are one: the candidate is after the last.
        distinct = np.append(at[order][1:] > at[order][:-1] * (1 + EXACT), True)
        yield from _blocks(repeats, which[order], distinct)
        repeats, end = last, end * 1.5


def _blocks(repeats: np.ndarray, which: np.ndarray, distinct: np.ndarray) -> Iterator[np.ndarray]:
    """Yield repeats after each `distinct` increment, in matrices of about CELLS numbers."""
    size = max(1, CELLS // len(repeats))
    for start in range(0, len(which), size):
        part = which[start : start + size]
        rows = np.zeros((len(part), len(repeats)), dtype=np.int64)
        rows[np.arange(len(part)), part] = 1
        rows = repeats + np.cumsum(rows, axis=0)
        repeats = rows[-1]
        yield rows[distinct[start : start + size]]
