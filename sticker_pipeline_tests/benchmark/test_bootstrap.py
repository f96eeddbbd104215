import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.benchmark.bootstrap import (
    Estimate,
    average,
    difference,
    different_pairs,
    resampled,
    row_mean,
    two_way,
)

PROMPTS = [prompt for prompt in "abcdef" for _ in range(4)]


def covered(*, prompts: list[str] | None, about_other_prompts: bool, trials: int = 400) -> float:
    """Share of intervals that contain the truth, 0.

    Images have effects of 6 prompts with 4 seeds each, and of 8 references.
    """
    rng = np.random.default_rng(5)
    hits = 0
    for trial in range(trials):
        by_prompt = np.repeat(rng.normal(0, 0.1, 6), 4)
        images = by_prompt + rng.normal(0, 0.1, 24)
        values = images[:, None] + rng.normal(0, 0.05, 8) + rng.normal(0, 0.05, (24, 8))
        estimate = two_way(values, 400, trial, prompts)
        truth = 0.0 if about_other_prompts else by_prompt.mean()
        hits += estimate.ci_low <= truth <= estimate.ci_high
    return hits / trials


def test_resampling_prompts_covers_the_truth_about_other_prompts_and_resampling_images_does_not() -> None:
    by_prompt = covered(prompts=PROMPTS, about_other_prompts=True)
    by_image = covered(prompts=None, about_other_prompts=True)
    assert 0.88 < by_prompt < 0.96
    assert by_image < 0.85
    assert covered(prompts=None, about_other_prompts=False) > 0.93


def test_prompts_of_one_image_each_vary_as_much_as_their_mean_does() -> None:
    """P − 1 of P draws: the variance of the drawn means is s²/P with s² the unbiased one."""
    values = np.random.default_rng(0).normal(size=5)
    estimate = row_mean(values, 40_000, 0, list("abcde"))
    assert estimate.draws.std() == pytest.approx(values.std(ddof=1) / math.sqrt(5), rel=0.02)
    assert estimate.draws.mean() == pytest.approx(values.mean(), abs=0.01)


def test_images_of_a_prompt_are_drawn_together_and_the_rest_independently() -> None:
    counts, (references,) = resampled(6, (3,), ["a", "b", "a", "c", "b", "a"], 500, 0)
    assert np.array_equal(counts[:, 0], counts[:, 2]) and np.array_equal(counts[:, 0], counts[:, 5])
    assert np.array_equal(counts[:, 1], counts[:, 4])
    assert np.all(counts[:, [0, 1, 3]].sum(axis=1) == 2)
    assert np.all(references.sum(axis=1) == 3)
    assert abs(np.corrcoef(counts[:, 0], references[:, 0])[0, 1]) < 0.15


def test_one_prompt_gives_a_mean_without_an_interval() -> None:
    estimate = row_mean(np.array([0.0, 1.0]), 100, 0, ["a", "a"])
    assert estimate.mean == 0.5
    assert math.isnan(estimate.ci_low) and math.isnan(estimate.ci_high)
    with pytest.raises(ValueError, match="3 images, but 2 prompts"):
        row_mean(np.zeros(3), 100, 0, ["a", "b"])


def test_images_without_a_value_do_not_count() -> None:
    estimate = row_mean(np.array([1.0, np.nan, 0.0, np.nan, 1.0]), 500, 0)
    assert (estimate.mean, estimate.n) == (pytest.approx(2 / 3), 3)
    assert 0 <= estimate.ci_low < estimate.mean < estimate.ci_high <= 1
    assert math.isnan(row_mean(np.array([np.nan, np.nan]), 100, 0).mean)


def test_pairs_inside_a_prompt_agree_with_a_slow_bootstrap_written_otherwise() -> None:
    rng = np.random.default_rng(3)
    values, prompts = rng.normal(size=(9, 9)), list("aaabbccdd")
    values = values + values.T
    groups = [[i for i, prompt in enumerate(prompts) if prompt == name] for name in "abcd"]
    means = []
    for _ in range(4_000):
        drawn = [groups[g] for g in rng.integers(4, size=3)]  # a prompt drawn twice is two strangers to itself
        pairs = [(i, j) for a, one in enumerate(drawn) for b, other in enumerate(drawn) for i in one for j in other
                 if (a == b and i != j) or (a != b and one is not other)]  # fmt: skip
        means.append(np.mean([values[i, j] for i, j in pairs]))
    estimate = different_pairs(values, 20_000, 1, prompts)
    expected = np.mean([values[i, j] for i in range(9) for j in range(9) if i != j])
    assert estimate.mean == pytest.approx(expected)
    low, high = np.quantile(means, [0.025, 0.975])
    assert (estimate.ci_low, estimate.ci_high) == pytest.approx((low, high), abs=0.06 * (high - low))


def test_a_difference_of_paired_values_is_exact_where_the_pairs_are() -> None:
    values = np.random.default_rng(0).normal(size=(24, 8))
    for prompts in (None, PROMPTS):
        one, other = two_way(values + 0.25, 300, 0, prompts), two_way(values, 300, 0, prompts)
        paired = difference(one, other)
        assert (paired.mean, paired.ci_low, paired.ci_high) == pytest.approx((0.25, 0.25, 0.25))
        assert paired.n == 24


def test_an_average_of_independent_parts_is_narrower_than_each() -> None:
    """Two parts with the very same values and draws: drawn independently, their mean varies 1/√2 as much."""
    part = row_mean(np.random.default_rng(0).normal(size=50), 20_000, 0)
    both = average([part, part])
    assert (both.mean, both.n) == (pytest.approx(part.mean), 100)
    assert both.draws.std() == pytest.approx(part.draws.std() / math.sqrt(2), rel=0.03)
    alone = average([part])
    assert (alone.mean, alone.ci_low, alone.ci_high, alone.n) == (part.mean, part.ci_low, part.ci_high, 50)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(0, 99))
def test_the_difference_of_averages_is_the_average_of_differences(n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = [row_mean(rng.normal(size=size), 50, 0) for size in (n, m)]
    other = [row_mean(rng.normal(size=size), 50, 0) for size in (n, m)]
    np.testing.assert_allclose(
        difference(average(one), average(other)).draws,
        average([difference(a, b) for a, b in zip(one, other, strict=True)]).draws,
        atol=1e-12,
    )


def test_a_part_without_an_interval_leaves_the_average_without_one() -> None:
    part, single = row_mean(np.array([0.0, 1.0, 1.0]), 100, 0), Estimate(1.0, math.nan, math.nan, 1)
    for result in (average([part, single]), difference(part, single)):
        assert math.isnan(result.ci_low) and math.isnan(result.ci_high)
    assert average([part, single]).mean == pytest.approx((2 / 3 + 1) / 2)
