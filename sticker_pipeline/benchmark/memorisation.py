"""Whether a model draws anew or copies what it was trained on, as far as embeddings can say.

Embeddings are unit rows float[n, d] of images, not of sources. Nearness is the cosine. The training set is taken as it
is; images, and held-out sources where there are any, are resampled (see bootstrap.py, also for `prompts`).
"""

from collections.abc import Sequence

import numpy as np

from sticker_pipeline.benchmark.bootstrap import CONFIDENCE, Estimate, estimate, ratio, resampled, row_mean
from sticker_pipeline.benchmark.similarity import cosines

COPY_PERCENTILE = 0.95  # of held-out images; images that are nearer to the training set count as copies


def nearest_training(
    images: np.ndarray,
    training: np.ndarray,
    *,
    samples: int = 2_000,
    seed: int = 0,
    prompts: Sequence[str] | None = None,
) -> Estimate:
    """Mean over images of the cosine to the nearest training image; n = images.

    High for copies of training images, but for good new images too: the same figure for held-out references is
    what an honest image of the character has, and a model well above it copies.
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
    """By how much images are nearer to the training set than held-out images are, on average; n = images.

    holdout, sources: held-out images and the source of each; a source counts once, by the mean of its images.

    Above 0 the model copies more than the character's own images repeat themselves. It rewards (with low values)
    images far from training, bad ones too: read it beside `clip_similarity`. It is fooled by held-out images that
    are near duplicates of training images, which make copying look honest, and copies with small changes of what
    CLIP looks at (background, framing) are not seen.
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
    """The share of images that are nearer to a training image than 95 % of the held-out images are; n = images.

    holdout, sources: as for `nearest_training_excess`; each source has the same weight, shared among its images. With
    fewer than 20 sources the bound is their nearest image, which an honest model passes now and then:
    `fair_copied_share` says how often. A bound of few sources may be anywhere, and the interval says so; differences
    between models on the same sources are steadier.

    It rewards (with low values) what `nearest_training_excess` rewards, but sees a model that copies only sometimes,
    which a mean hides; it is fooled in the same ways, and one held-out duplicate of a training image raises the
    bound to where nothing is a copy any more.
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


def fair_copied_share(sources: int) -> Estimate:
    """What `copied_share` would be of a model whose images are as near to the training set as held-out ones, of
    which there are `sources` stills; n = sources. There is no interval: it is exact.

    A new image among m like it is equally likely in each of the m + 1 places between them; above the bound, which is
    the k-th of them, are m + 1 − k. With 3 stills it is .25, with 20 .10, with very many .05.
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
    """The largest share of images whose nearest training images lie in one single source; n = images.

    sources: the source of each training image.

    Near 1 the model has collapsed onto one animation (or one still). It rewards (with low values) images that are
    spread over the training set, whether good or bad. It is fooled by prompts that all ask for what one source shows,
    and by few sources: `fair_source_share` is what chance would give. The interval is about the share of the source
    that was found; that it was picked for being the largest is in the comparison with chance, not in the interval."""
    names, codes = _source_codes(sources)
    nearest = codes[cosines(images, training).argmax(axis=1)]
    largest = np.bincount(nearest, minlength=len(names)).argmax()
    return row_mean((nearest == largest).astype(np.float64), samples, seed, prompts)


def fair_source_share(images: int, sources: int, *, samples: int = 2_000, seed: int = 0) -> Estimate:
    """What `one_source_share` would be of as many images whose nearest sources are drawn evenly from `sources`; n =
    sources. The interval is where 95 % of such shares lie."""
    shares = np.random.default_rng(seed).multinomial(images, np.full(sources, 1.0 / sources), size=samples).max(axis=1)
    low, high = np.quantile(shares / images, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(shares.mean() / images), float(low), float(high), sources, shares / images)


def _nearest(images: np.ndarray, training: np.ndarray) -> np.ndarray:
    return cosines(images, training).max(axis=1)


def _source_codes(sources: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    names, codes = np.unique(np.asarray(sources, dtype=str), return_inverse=True)
    return names, codes


def _at_percentile(weights: np.ndarray) -> np.ndarray:
    """For each row of weights float[s, h], which sum to 1, of sorted values: where the percentile lies, int64[s]."""
    return (weights.cumsum(axis=1) >= COPY_PERCENTILE - 1e-9).argmax(axis=1)
