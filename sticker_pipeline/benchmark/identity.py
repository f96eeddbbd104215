"""Identity of the character in an image, among several characters.

Each is represented by its sources (rows of `similarity.source_means`; evaluation.py selects them by medium). An image
is assigned to the character whose centroid, the mean of its sources, has the highest cosine with it.
"""

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
    """Share of images nearer to their own character's centroid than any other's.

    n = images. images: unit rows float[n, d]; own: sources float[m, d] of the right character; others: those of each
    other one. None without others. A tie is not right.

    By chance it is 1 / (number of characters). It rewards the traits that distinguish this character, and ignores
    shared ones: style, background, framing. It is fooled by others that are easy to distinguish (few, or in another
    style): a blonde is harder among blondes. At 1 it no longer measures quality: a caricature is as right as a
    likeness. Images, and the sources of every character, are resampled.
    """
    if not others:
        return None
    right = closeness(images, own) > np.max([closeness(images, sources) for sources in others], axis=0)
    counts, (resamples,) = resampled(len(images), (len(own),), prompts, samples, seed)
    rng = np.random.default_rng([seed, 1])
    best = np.full((samples, len(images)), -np.inf, dtype=np.float32)
    for sources in others:
        np.maximum(best, _resampled_closeness(images, sources, _resample_counts(len(sources), samples, rng)), out=best)
    rights = _resampled_closeness(images, own, resamples) > best
    return estimate(float(right.mean()), ratio((counts * rights).sum(axis=1), counts.sum(axis=1)), len(images))


def reference_retrieval(
    own: np.ndarray, others: Sequence[np.ndarray], *, samples: int = 2_000, seed: int = 0
) -> Estimate | None:
    """`identity_retrieval` of each own source, against the centroid of the rest.

    n = sources. None without other characters, or with one source. Only the compared sources are resampled, not those
    of the centroids.
    """
    if not others or len(own) < 2:
        return None
    rest = own.sum(axis=0) - own
    mine = (own * rest).sum(axis=1) / np.linalg.norm(rest, axis=1)
    right = mine > np.max([closeness(own, sources) for sources in others], axis=0)
    return row_mean(right.astype(np.float64), samples, seed)


def _resample_counts(m: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Count each of m sources in each bootstrap sample: int64[samples, m].

    As `bootstrap.resampled`, but by counting single ones: several times as fast for few sources of many characters.
    """
    cells = rng.integers(m, size=(samples, m)) + m * np.arange(samples)[:, None]
    return np.bincount(cells.ravel(), minlength=samples * m).reshape(samples, m)


def closeness(images: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Cosine of each image to the centroid of `sources`, float64[n]."""
    centroid = sources.mean(axis=0)
    return cosines(images, centroid[None])[:, 0] / np.linalg.norm(centroid)


def _resampled_closeness(images: np.ndarray, sources: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`closeness` to resampled sources: float32[samples, n].

    counts: [samples, m]. Single precision: most of the work with many characters, and used only for comparisons.
    """
    weights = counts.astype(np.float32)
    products, gram = cosines(sources, images).astype(np.float32), cosines(sources, sources).astype(np.float32)
    lengths = np.sqrt(np.maximum(((weights @ gram) * weights).sum(axis=1), np.finfo(np.float32).tiny))
    return (weights @ products) / lengths[:, None]
