"""Whether an image shows the right one of several characters.

Each character is known by sources of its own (rows of `similarity.source_means`); which ones stand for it in which
style is decided in measure.py. An image is taken for the character whose centroid, the mean of its sources, has the
highest cosine with it."""

from collections.abc import Sequence

import numpy as np

from sticker_pipeline.benchmark.bootstrap import Estimate, estimate, ratio, resampled, row_mean
from sticker_pipeline.benchmark.similarity import cosines


def identity_retrieval(
    images: np.ndarray,
    own: np.ndarray,
    others: Sequence[np.ndarray],
    *,
    samples: int = 2_000,
    seed: int = 0,
    prompts: Sequence[str] | None = None,
) -> Estimate | None:
    """The share of images that are nearer to the centroid of their own character than to any other's; n = images.

    images: unit rows float[n, d]; own: sources float[m, d] of the right character; others: those of each other one.
    None where there is no other. An image as near to another is not right.

    Drawn by chance, 1 / (number of characters) would be right. It rewards what tells this character from the others,
    and forgives what all share: style, background, framing. It is fooled by others that are easy to tell apart (few, or
    in another style): among blondes a blonde is harder; and once everything is right it says no more about quality:
    a caricature is as right as a likeness. Images, and the sources of every character, are resampled.
    """
    if not others:
        return None
    right = _closeness(images, own) > np.max([_closeness(images, sources) for sources in others], axis=0)
    counts, (drawn,) = resampled(len(images), (len(own),), prompts, samples, seed)
    rng = np.random.default_rng([seed, 1])
    best = np.full((samples, len(images)), -np.inf, dtype=np.float32)
    for sources in others:
        np.maximum(best, _drawn_closeness(images, sources, _drawn(len(sources), samples, rng)), out=best)
    rights = _drawn_closeness(images, own, drawn) > best
    return estimate(float(right.mean()), ratio((counts * rights).sum(axis=1), counts.sum(axis=1)), len(images))


def reference_retrieval(
    own: np.ndarray, others: Sequence[np.ndarray], *, samples: int = 2_000, seed: int = 0
) -> Estimate | None:
    """What `identity_retrieval` is of the character's own sources, each compared with the centroid of its others; n =
    sources. None where there is no other character, or only one source. Only the sources that are looked at are
    resampled."""
    if not others or len(own) < 2:
        return None
    rest = own.sum(axis=0) - own
    mine = (own * rest).sum(axis=1) / np.linalg.norm(rest, axis=1)
    right = mine > np.max([_closeness(own, sources) for sources in others], axis=0)
    return row_mean(right.astype(np.float64), samples, seed)


def _drawn(m: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of m sources is drawn in each sample, int64[samples, m]: as `bootstrap.resampled` draws them, but
    by counting single draws, which is several times as fast for few sources of many characters."""
    cells = rng.integers(m, size=(samples, m)) + m * np.arange(samples)[:, None]
    return np.bincount(cells.ravel(), minlength=samples * m).reshape(samples, m)


def _closeness(images: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """The cosine of each image to the centroid of `sources`, float64[n]."""
    centroid = sources.mean(axis=0)
    return cosines(images, centroid[None])[:, 0] / np.linalg.norm(centroid)


def _drawn_closeness(images: np.ndarray, sources: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The same for sources drawn as often as `counts` [samples, m] says: float32[samples, n]. In single precision, as
    this is most of the work of a benchmark with many characters, and only comparisons come of it."""
    drawn = counts.astype(np.float32)
    products, gram = cosines(sources, images).astype(np.float32), cosines(sources, sources).astype(np.float32)
    lengths = np.sqrt(np.maximum(((drawn @ gram) * drawn).sum(axis=1), np.finfo(np.float32).tiny))
    return (drawn @ products) / lengths[:, None]
