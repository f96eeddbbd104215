"""Means with bootstrap intervals, their differences, and averages over mediums.

**Resampling.** References and images are resampled independently ("pigeonhole" bootstrap, Owen 2007): an estimate
covers other held-out and other generated images. Images of one prompt are not independent: a prompt can be easy with
every seed. Where prompts are given, they are resampled whole, and the interval covers other prompts like these.
Otherwise single images are; the interval covers other seeds for the same prompts, and is rather too wide for that. P −
1 of P prompts are sampled, so that the variance of the mean has no bias (Rao & Wu 1988), which matters with few
prompts. Seeds within a prompt are not resampled: prompt means already vary by them.

Simulated with random effects of prompts, seeds and references (4 seeds, 5 to 10 references, prompts and seeds of equal
deviation), "95 %" covered the truth about other prompts in 83 % of cases with 3 prompts, 91 % with 6, 92 % with 8.
Resampling single images covered it in 75 to 82 %, and the truth about the same prompts in 94 to 98 %.

**Pairs.** Samples depend only on the seed and the numbers of images (or prompts) and references. So `draws` of
estimates for the same requests and references match one by one, and can be subtracted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from sticker_pipeline.core.schemas import Column
from sticker_pipeline.core.texts import counted

CONFIDENCE = 0.95
INTERVAL = (
    Column("ci_low", "float64", "lower end of the 95 % interval; no number with too few units", nullable=True),
    Column("ci_high", "float64", "upper end of the 95 % interval; no number with too few units", nullable=True),
    Column("n", "int64", "number of images, or of sources", low=0),
)


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % percentile bootstrap interval.

    n: images (or sources). The interval is NaN with too few units. draws: the mean in each bootstrap sample,
    float64[samples] or empty; NaN where a sample has none.
    """

    mean: float
    ci_low: float
    ci_high: float
    n: int
    draws: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False, compare=False)


def estimate(mean: float, draws: np.ndarray, n: int) -> Estimate:
    """Add the interval of `draws` (float64[samples], may have NaN) to `mean`."""
    usable = draws[np.isfinite(draws)]
    if n < 2 or not len(usable):
        return Estimate(mean, float("nan"), float("nan"), n)
    low, high = np.quantile(usable, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(mean, float(low), float(high), n, draws)


def difference(one: Estimate, other: Estimate) -> Estimate:
    """Subtract `other` from `one`, resampled jointly; n = the smaller of both.

    Both must be of the same requests and references.
    """
    mean, n = one.mean - other.mean, min(one.n, other.n)
    if not len(one.draws) or not len(other.draws):
        return Estimate(mean, float("nan"), float("nan"), n)
    return estimate(mean, one.draws - other.draws, n)


def average(parts: Sequence[Estimate], seed: int = 0) -> Estimate:
    """Average `parts`, resampled independently; n = the sum of theirs.

    The parts share a seed, so `draws` are shuffled by position: otherwise images in the same position would be sampled
    together. Averages of two models have the same shuffles, so their difference is paired. No interval where one part
    has none.
    """
    mean, n = float(np.mean([part.mean for part in parts])), sum(part.n for part in parts)
    if not all(len(part.draws) for part in parts):
        return Estimate(mean, float("nan"), float("nan"), n)
    shuffled = [np.random.default_rng([seed, place]).permutation(part.draws) for place, part in enumerate(parts)]
    return estimate(mean, np.mean(shuffled, axis=0), n)


def resampled(
    images: int, references: Sequence[int], prompts: Sequence[str] | None, samples: int, seed: int
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Count each image and each reference in each bootstrap sample.

    Returns float64[samples, images], and float64[samples, m] for each m of `references`; read only. prompts: one per
    image, or None. Raises ValueError where their number differs.
    """
    sets = tuple((m, m) for m in references)
    if prompts is None:
        counts, *others = _counts(((images, images), *sets), samples, seed)
        return counts, tuple(others)
    units = prompt_numbers(prompts, images)
    number = int(units.max(initial=-1)) + 1
    counts, *others = _counts(((number, number - 1), *sets), samples, seed)
    return counts[:, units], tuple(others)


def prompt_numbers(prompts: Sequence[str], images: int) -> np.ndarray:
    """Number each image's prompt by first appearance: int64[images].

    Raises ValueError as `resampled`.
    """
    if len(prompts) != images:
        raise ValueError(f"{counted(images, 'image')}, but {counted(len(prompts), 'prompt')}.")
    numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    return np.array([numbers[prompt] for prompt in prompts], dtype=np.int64)


@lru_cache(maxsize=8)  # all metrics of all models share a few; sampling is slower than use
def _counts(sets: tuple[tuple[int, int], ...], samples: int, seed: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    resamples = tuple(rng.multinomial(draws, np.full(n, 1.0 / n), size=samples).astype(np.float64) for n, draws in sets)
    for counts in resamples:
        counts.setflags(write=False)
    return resamples


def row_mean(values: np.ndarray, samples: int, seed: int, prompts: Sequence[str] | None = None) -> Estimate:
    """Mean of the finite values of float[n]; n = their number."""
    counts, _ = resampled(len(values), (), prompts, samples, seed)
    known = np.isfinite(values)
    mean = float(values[known].mean()) if known.any() else float("nan")
    return estimate(mean, ratio(counts @ np.where(known, values, 0.0), counts @ known), int(known.sum()))


def two_way(values: np.ndarray, samples: int, seed: int, prompts: Sequence[str] | None = None) -> Estimate:
    """Mean of float[n, m], images and references resampled independently; n = images."""
    rows, columns = values.shape
    counts, (references,) = resampled(rows, (columns,), prompts, samples, seed)
    draws = ratio(((counts @ values) * references).sum(axis=1), counts.sum(axis=1) * columns)
    return estimate(float(values.mean()), draws, rows)


def different_pairs(values: np.ndarray, samples: int, seed: int, prompts: Sequence[str] | None = None) -> Estimate:
    """Mean of symmetric values float[n, n] off the diagonal.

    A unit sampled twice is not paired with itself. Nor is a prompt: only the pairs inside each of its copies count, or
    images of one prompt would be paired too often. A sample without pairs is left out.
    """
    n = len(values)
    off_diagonal = values * (1.0 - np.eye(n))
    units = np.arange(n) if prompts is None else prompt_numbers(prompts, n)
    member = np.eye(units.max() + 1)[:, units]  # [units, n]
    sums, sizes = member @ off_diagonal @ member.T, member.sum(axis=1)
    inside, between = np.diag(sums), sums * (1.0 - np.eye(len(sums)))
    counts = resampled(n, (), prompts, samples, seed)[0][:, np.unique(units, return_index=True)[1]]
    pairs = (counts @ sizes) ** 2 - counts**2 @ sizes**2 + counts @ (sizes * (sizes - 1))
    draws = ratio(((counts @ between) * counts).sum(axis=1) + counts @ inside, pairs)
    return estimate(float(off_diagonal.sum() / (n * (n - 1))), draws if n > 2 else draws[:0], n)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return numerator / denominator, NaN where the latter is not above 0."""
    numerator = np.asarray(numerator, dtype=np.float64)
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)
