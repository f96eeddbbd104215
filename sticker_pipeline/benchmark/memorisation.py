"""Copying of training images, as far as embeddings show it.

Embeddings are unit rows float[n, d] of images, not of sources; nearness is the cosine. Images, and held-out sources if
any, are resampled (bootstrap.py, also for `prompts`); training images are not.
"""

from collections.abc import Sequence

import numpy as np

from sticker_pipeline.benchmark.bootstrap import CONFIDENCE, Estimate, estimate, ratio, resampled, row_mean
from sticker_pipeline.benchmark.similarity import cosines

COPY_PERCENTILE = 0.95  # of held-out images; nearer ones to training are copies


def nearest_training(
    images: np.ndarray,
    training: np.ndarray,
    *,
    samples: int = 2_000,
    seed: int = 0,
    prompts: Sequence[str] | None = None,
) -> Estimate:
    """Mean over images of the cosine to the nearest training image.

    n = images. High for copies, but also for good new images: held-out references show the value of honest images. A
    model well above that copies.
    """
    return row_mean(_nearest(images, training), samples, seed, prompts)


def nearest_training_excess(
    images: np.ndarray,
    training: np.ndarray,
    holdout: np.ndarray,
    sources: Sequence[str],
    *,
    samples: int = 2_000,
    seed: int = 0,
    prompts: Sequence[str] | None = None,
) -> Estimate:
    """Mean nearness of images to training, less that of held-out images.

    n = images. holdout, sources: held-out images and the source of each; a source counts once, by the mean of its
    images.

    Above 0, the model copies more than the character's own images repeat each other. Low values reward images far from
    training, bad ones too: read it beside `clip_similarity`. It is fooled by held-out near duplicates of training
    images, which make copying look honest. It misses copies with small changes in background or framing, to which CLIP
    responds.
    """
    near, (_, codes) = _nearest(images, training), _source_codes(sources)
    own = ratio(np.bincount(codes, _nearest(holdout, training)), np.bincount(codes))
    counts, (held,) = resampled(len(near), (len(own),), prompts, samples, seed)
    draws = ratio(counts @ near, counts.sum(axis=1)) - held @ own / len(own)
    return estimate(float(near.mean() - own.mean()), draws, len(near))


def copied_share(
    images: np.ndarray,
    training: np.ndarray,
    holdout: np.ndarray,
    sources: Sequence[str],
    *,
    samples: int = 2_000,
    seed: int = 0,
    prompts: Sequence[str] | None = None,
) -> Estimate:
    """Share of images nearer to training than 95 % of held-out images.

    n = images. holdout, sources: as for `nearest_training_excess`; sources have equal weights, shared among their
    images. With fewer than 20 sources the bound is their nearest image; an honest model passes it as often as
    `fair_copied_share` says. The bound of few sources is uncertain, as the interval shows; differences between models
    on the same sources are steadier.

    It rewards the same as `nearest_training_excess`, but detects occasional copying, which a mean hides. It is fooled
    in the same ways. One held-out duplicate of a training image raises the bound so far that nothing is a copy.
    """
    near, own = _nearest(images, training), _nearest(holdout, training)
    names, codes = _source_codes(sources)
    order = np.argsort(own)
    own, codes = own[order], codes[order]
    weights = 1.0 / (np.bincount(codes)[codes] * len(names))
    beyond = (near[:, None] > own).astype(np.float64)  # [images, held-out images]
    counts, (held,) = resampled(len(near), (len(names),), prompts, samples, seed)
    bounds = _at_percentile(held[:, codes] * weights)
    draws = ratio((counts @ beyond)[np.arange(len(bounds)), bounds], counts.sum(axis=1))
    return estimate(float(beyond[:, _at_percentile(weights[None])[0]].mean()), draws, len(near))


def copy_bound(training: np.ndarray, holdout: np.ndarray, sources: Sequence[str]) -> float:
    """Nearness to training above which an image is a copy.

    As in `copied_share`: 95 % of held-out images keep it, and each source counts once. NaN without training or held-out
    images.
    """
    if not len(training) or not len(holdout):
        return float("nan")
    near, (names, codes) = _nearest(holdout, training), _source_codes(sources)
    order = np.argsort(near)
    weights = 1.0 / (np.bincount(codes)[codes[order]] * len(names))
    return float(near[order][_at_percentile(weights[None])[0]])


def fair_copied_share(sources: int) -> Estimate:
    """Exact `copied_share` of images as near to training as held-out stills.

    n = sources, each one still; no interval. A new image among m like it is equally likely in each of the m + 1 places
    between them; m + 1 − k of these are above the bound, the k-th image. With 3 stills it is .25, with 20 .10, with
    very many .05.
    """
    bound = int(_at_percentile(np.full((1, sources), 1.0 / sources))[0]) + 1
    return Estimate((sources + 1 - bound) / (sources + 1), float("nan"), float("nan"), sources)


def one_source_share(
    images: np.ndarray,
    training: np.ndarray,
    sources: Sequence[str],
    *,
    samples: int = 2_000,
    seed: int = 0,
    prompts: Sequence[str] | None = None,
) -> Estimate:
    """Largest share of images whose nearest training images lie in one source.

    n = images. sources: the source of each training image.

    Near 1 the model has collapsed onto one animation or still. Low values reward images spread over the training set,
    good or bad. It is fooled by prompts that all describe one source, and by few sources: `fair_source_share` is the
    value by chance. The interval does not include the choice of the largest source; the comparison with chance does.
    """
    names, codes = _source_codes(sources)
    nearest = codes[cosines(images, training).argmax(axis=1)]
    largest = np.bincount(nearest, minlength=len(names)).argmax()
    return row_mean((nearest == largest).astype(np.float64), samples, seed, prompts)


def fair_source_share(images: int, sources: int, *, samples: int = 2_000, seed: int = 0) -> Estimate:
    """`one_source_share` by chance: nearest sources sampled evenly from `sources`.

    n = sources. The interval contains 95 % of such shares.
    """
    shares = np.random.default_rng(seed).multinomial(images, np.full(sources, 1.0 / sources), size=samples).max(axis=1)
    low, high = np.quantile(shares / images, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(shares.mean() / images), float(low), float(high), sources, shares / images)


def _nearest(images: np.ndarray, training: np.ndarray) -> np.ndarray:
    return cosines(images, training).max(axis=1)


def _source_codes(sources: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    names, codes = np.unique(np.asarray(sources, dtype=str), return_inverse=True)
    return names, codes


def _at_percentile(weights: np.ndarray) -> np.ndarray:
    """Index of the percentile in sorted values, per row of weights: int64[s].

    weights: float[s, h]; rows sum to 1.
    """
    return (weights.cumsum(axis=1) >= COPY_PERCENTILE - 1e-9).argmax(axis=1)
