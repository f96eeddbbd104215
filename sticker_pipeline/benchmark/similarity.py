"""Similarity of generated images to held-out ones, and their diversity.

Embeddings are float[n, d]; rows of images have length 1, rows of sources are means of such rows (`source_means`) and
may be shorter. `prompts` are those of `images`; bootstrap.py explains their effect on the interval.
"""

from collections.abc import Sequence

import numpy as np

from sticker_pipeline.benchmark.bootstrap import (
    Estimate,
    different_pairs,
    estimate,
    ratio,
    resampled,
    row_mean,
    two_way,
)
from sticker_pipeline.core.texts import counted


def source_means(embeddings: np.ndarray, sources: Sequence[str]) -> np.ndarray:
    """Mean embedding of each source's frames, float64[c, d], sorted by source.

    The dot product with such a row is the mean cosine to the frames. Frames of a source are nearly one image: as a
    unit, a long animation counts as much as a still, without narrowing the interval. Raises ValueError where the
    lengths differ.
    """
    index = np.unique(np.asarray(sources, dtype=str), return_inverse=True)[1]
    if len(index) != len(embeddings):
        raise ValueError(f"{len(embeddings)} embeddings, but {counted(len(index), 'source')}.")
    if not len(index):
        return np.zeros((0, embeddings.shape[1]))
    sizes = np.bincount(index)
    rows = np.asarray(embeddings, dtype=np.float64)[np.argsort(index, kind="stable")]
    return np.add.reduceat(rows, np.cumsum(sizes) - sizes, axis=0) / sizes[:, None]


def clip_similarity(
    images: np.ndarray,
    references: np.ndarray,
    *,
    samples: int = 2_000,
    seed: int = 0,
    prompts: Sequence[str] | None = None,
) -> Estimate:
    """Mean cosine over all (image, reference) pairs; n = images.

    It rewards images that a CLIP model cannot distinguish from held-out ones: by traits, but also by style, framing and
    background. It is fooled by one good image generated again and again (read `diversity` beside it), by copies of
    training images (memorisation.py), and by plain background where the references have it. Compare models on the same
    references, not absolute values; a perfect model would get `reference_similarity`.

    With few references the interval is too narrow: simulated with random effects of images and references, "95 %"
    covered the truth in 93 % of cases with 10 references or more, 91 % with 5, 84 % with 3, 78 % with 2; with one it
    does not cover references.
    """
    return two_way(cosines(images, references), samples, seed, prompts)


def similarity_gain(
    images: np.ndarray,
    base_images: np.ndarray,
    references: np.ndarray,
    *,
    samples: int = 2_000,
    seed: int = 0,
    prompts: Sequence[str] | None = None,
) -> Estimate:
    """Mean `clip_similarity` of `images` less that of `base_images`.

    n = pairs; row i of both has the same prompt and seed. Pairs are resampled together: the interval is that of the
    difference, narrower than the models' own. It rewards and is fooled as `clip_similarity`, and is larger where the
    other model is worse. Raises ValueError where the numbers of rows differ.
    """
    if images.shape != base_images.shape:
        raise ValueError(f"Images of two models must pair up; their shapes are {images.shape}, {base_images.shape}.")
    return two_way(cosines(images, references) - cosines(base_images, references), samples, seed, prompts)


def trigger_effect(
    images: np.ndarray,
    without_trigger: np.ndarray,
    references: np.ndarray,
    *,
    samples: int = 2_000,
    seed: int = 0,
    prompts: Sequence[str] | None = None,
) -> Estimate:
    """`similarity_gain` of a model's images over its images without the trigger.

    Same prompts and seeds. It rewards a character bound to its trigger. Near 0 with a high `clip_similarity`, the LoRA
    generates the character for any prompt: the trigger is useless, and the base model's other abilities are lost. It is
    fooled by a LoRA that breaks images without the trigger, and by learned tags that stay in the prompt and carry the
    character (then it is low, although the words together work).
    """
    return similarity_gain(images, without_trigger, references, samples=samples, seed=seed, prompts=prompts)


def centroid_similarity(
    images: np.ndarray,
    references: np.ndarray,
    *,
    samples: int = 2_000,
    seed: int = 0,
    prompts: Sequence[str] | None = None,
) -> Estimate:
    """Mean cosine of the images to the centroid (mean) of the references.

    n = images. It is `clip_similarity` divided by the centroid's length: it rewards the same and ranks models on the
    same references equally, but does not depend on the references' variety, so characters can be compared. It is fooled
    in the same ways, and most by the average image: a model that generates only the centroid gets 1, more than any
    reference.
    """
    return _to_centroid(cosines(images, references), cosines(references, references), samples, seed, prompts)


def reference_similarity(references: np.ndarray, *, samples: int = 2_000, seed: int = 0) -> Estimate | None:
    """Mean cosine over all pairs of different references.

    The ceiling of `clip_similarity`. None for fewer than two.
    """
    if len(references) < 2:
        return None
    return different_pairs(cosines(references, references), samples, seed)


def reference_centroid_similarity(references: np.ndarray, *, samples: int = 2_000, seed: int = 0) -> Estimate | None:
    """Mean cosine of each reference to the centroid of the others.

    None for fewer than two. Only the compared references are resampled, not those of the centroids.
    """
    if len(references) < 2:
        return None
    return row_mean(_left_out_cosines(references), samples, seed)


def style_similarity(
    images: np.ndarray,
    others: Sequence[np.ndarray],
    *,
    samples: int = 2_000,
    seed: int = 0,
    prompts: Sequence[str] | None = None,
) -> Estimate:
    """Mean cosine to other characters' references in the same medium or style.

    n = images; each character counts alike. others: of each character its sources there, float[m, d]; the character
    itself only where no other has any (then it is `clip_similarity`).

    It rewards the manner of drawing, whoever is shown: framing, outlines, background. It is fooled by images of no
    particular character, by a base model of similar manner, and by characters that look alike. Far above the
    character's own references, the LoRA mixes the character with the others. Characters, not their sources, are
    resampled: with one, the interval does not cover others.
    """
    each = np.stack([sources.mean(axis=0) for sources in others])
    return two_way(cosines(images, each), samples, seed, prompts)


def diversity(
    images: np.ndarray, *, samples: int = 2_000, seed: int = 0, prompts: Sequence[str] | None = None
) -> Estimate | None:
    """Mean cosine distance over pairs of images: `1 − cosine`, in [0, 2].

    None for fewer than two. Near 0 the model has collapsed onto one image. It rewards variety, but noise and other
    characters too: read it beside `clip_similarity` and the references' diversity. Some of it comes from the prompts.
    """
    if len(images) < 2:
        return None
    return different_pairs(1.0 - cosines(images, images), samples, seed, prompts)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Dot products float64[n, m] of the rows of `a` and `b`.

    Raises ValueError where there are none.
    """
    if not len(a) or not len(b):
        raise ValueError("There is nothing to compare: no images, or no references.")
    return np.asarray(a, dtype=np.float64) @ np.asarray(b, dtype=np.float64).T


def _to_centroid(
    values: np.ndarray, gram: np.ndarray, samples: int, seed: int, prompts: Sequence[str] | None
) -> Estimate:
    """`centroid_similarity` from cosines float[n, m] and float[m, m].

    values: images with references; gram: references with one another. The centroid's squared length is 1/m of a
    reference's mean square plus 1 − 1/m of the mean product of two different ones, in each sample too. If a reference
    sampled twice were paired with itself, sampled centroids would be longer and all `draws` below their estimate.
    """
    rows, m = values.shape
    counts, (references,) = resampled(rows, (m,), prompts, samples, seed)
    alone = references @ np.diag(gram)
    pairs = ((references @ gram) * references).sum(axis=1) - references**2 @ np.diag(gram)
    mean_pair = ratio(pairs, m**2 - (references**2).sum(axis=1)) if m > 1 else np.zeros(samples)
    lengths = np.sqrt(np.maximum(alone / m**2 + (1 - 1 / m) * mean_pair, 0.0))
    draws = ratio(((counts @ values) * references).sum(axis=1), counts.sum(axis=1) * m * lengths)
    return estimate(float(values.mean() / np.sqrt(gram.mean())), draws, rows)


def _left_out_cosines(references: np.ndarray) -> np.ndarray:
    """Cosine of each reference to the centroid of the others, float64[m]."""
    rest = references.sum(axis=0) - references
    return (references * rest).sum(axis=1) / np.linalg.norm(rest, axis=1)
