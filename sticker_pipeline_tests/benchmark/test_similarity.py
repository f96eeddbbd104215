import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.benchmark.similarity import (
    centroid_similarity,
    clip_similarity,
    diversity,
    reference_centroid_similarity,
    reference_similarity,
    similarity_gain,
    source_means,
    style_similarity,
    trigger_effect,
)

X, Y, Z = np.eye(3)
DIAGONAL = np.array([0.6, 0.8, 0.0])  # a unit vector: cosines .6 and .8 with X and Y


def unit_vectors(n: int, dimensions: int = 8, seed: int = 0, towards: float = 0.0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, dimensions))
    vectors[:, 0] += towards
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_clip_similarity_is_the_mean_over_all_pairs() -> None:
    estimate = clip_similarity(np.array([X, DIAGONAL]), np.array([X, Y, Z]))
    assert estimate.mean == pytest.approx((1 + 0 + 0 + 0.6 + 0.8 + 0) / 6)
    assert estimate.n == 2


def test_source_means_give_each_source_one_vote() -> None:
    frames, sources = np.array([X, Y, X, X]), ["long", "still", "long", "long"]
    means = source_means(frames, sources)
    assert means.tolist() == [X.tolist(), Y.tolist()]
    assert clip_similarity(np.array([X]), means).mean == pytest.approx(0.5)  # by frame it would be .75


def test_a_source_mean_gives_the_mean_cosine_to_its_frames() -> None:
    images, frames = unit_vectors(5), unit_vectors(6, seed=1)
    by_source = clip_similarity(images, source_means(frames, ["a", "a", "b", "b", "c", "c"])).mean
    assert by_source == pytest.approx(float((images @ frames.T).mean()), abs=1e-12)


def test_reference_similarity_leaves_out_an_image_with_itself() -> None:
    estimate = reference_similarity(np.array([X, Y, DIAGONAL]))
    assert estimate is not None
    assert estimate.mean == pytest.approx((0 + 0.6 + 0.8) / 3)
    assert reference_similarity(np.array([X])) is None


def test_two_references_have_a_mean_but_no_interval() -> None:
    estimate = reference_similarity(np.array([X, DIAGONAL]))
    assert estimate is not None
    assert estimate.mean == pytest.approx(0.6)
    assert math.isnan(estimate.ci_low) and math.isnan(estimate.ci_high)


def test_diversity_is_nought_for_a_collapsed_model_and_one_for_orthogonal_images() -> None:
    collapsed, spread = diversity(np.array([X, X, X])), diversity(np.array([X, Y, Z]))
    assert collapsed is not None and spread is not None
    assert (collapsed.mean, collapsed.ci_low, collapsed.ci_high) == pytest.approx((0, 0, 0))
    # An image drawn twice by the bootstrap is no pair: the interval does not fall below 1.
    assert (spread.mean, spread.ci_low, spread.ci_high) == pytest.approx((1, 1, 1))


def test_centroid_similarity_is_the_cosine_to_the_mean() -> None:
    """Of X and Y the centroid is the diagonal: X is at cos 45° from it, (.6, .8, 0) at 1.4/√2."""
    estimate = centroid_similarity(np.array([X, DIAGONAL]), np.array([X, Y]))
    assert estimate.mean == pytest.approx((1 + 1.4) / math.sqrt(2) / 2)
    assert centroid_similarity(np.array([X, X]), np.array([2 * X])).mean == pytest.approx(1)


def test_centroid_similarity_is_clip_similarity_over_the_centroids_length() -> None:
    images, references = unit_vectors(12), unit_vectors(7, seed=1, towards=1)
    length = float(np.linalg.norm(references.mean(axis=0)))
    assert centroid_similarity(images, references).mean == pytest.approx(
        clip_similarity(images, references).mean / length
    )


def test_drawn_centroids_are_not_longer_than_the_one_they_stand_for() -> None:
    """With references at right angles a reference drawn twice would lengthen the drawn centroid by a half and more."""
    estimate = centroid_similarity(unit_vectors(30, 6, towards=3), np.eye(6))
    assert np.nanmean(estimate.draws) == pytest.approx(estimate.mean, abs=0.02 * estimate.mean)


def test_reference_centroid_similarity_leaves_a_reference_out_of_its_own_centroid() -> None:
    estimate = reference_centroid_similarity(np.array([X, X, Y]))
    assert estimate is not None
    assert (estimate.mean, estimate.n) == (pytest.approx((2 / math.sqrt(2) + 0) / 3), 3)
    assert reference_centroid_similarity(np.array([X])) is None


def test_style_similarity_gives_each_character_one_vote() -> None:
    estimate = style_similarity(np.array([X, X]), [np.array([X, X, X]), np.array([Y])])
    assert (estimate.mean, estimate.n) == (pytest.approx(0.5), 2)


def test_trigger_effect_is_what_the_trigger_adds_on_the_same_seeds() -> None:
    assert trigger_effect(np.array([X, X]), np.array([DIAGONAL, Y]), np.array([X])).mean == pytest.approx(1 - 0.3)
    images = unit_vectors(8)
    deaf = trigger_effect(images, images, unit_vectors(4, seed=1))
    assert (deaf.mean, deaf.ci_low, deaf.ci_high) == (0, 0, 0)


def test_gain_is_the_difference_of_the_means_with_a_narrower_interval() -> None:
    base, references = unit_vectors(40, seed=1), unit_vectors(20, seed=2, towards=2)
    better = base + 0.3 * X @ np.eye(3, 8)
    better /= np.linalg.norm(better, axis=1, keepdims=True)
    gain = similarity_gain(better, base, references)
    own, other = clip_similarity(better, references), clip_similarity(base, references)
    assert gain.mean == pytest.approx(own.mean - other.mean)
    assert gain.ci_high - gain.ci_low < 0.7 * (own.ci_high - own.ci_low)
    assert gain.ci_low > 0
    nothing = similarity_gain(base, base, references)
    assert (nothing.mean, nothing.ci_low, nothing.ci_high) == (0, 0, 0)
    with pytest.raises(ValueError, match="must pair up"):
        similarity_gain(better, base[:3], references)


def test_interval_agrees_with_a_slow_bootstrap_written_otherwise() -> None:
    images, references = unit_vectors(24, seed=3, towards=1), unit_vectors(10, seed=4, towards=1)
    rng = np.random.default_rng(99)
    means = [
        (images[rng.integers(24, size=24)] @ references[rng.integers(10, size=10)].T).mean() for _ in range(20_000)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    estimate = clip_similarity(images, references, samples=20_000, seed=7)
    assert (estimate.ci_low, estimate.ci_high) == pytest.approx((low, high), abs=0.03 * (high - low))


def test_pairs_interval_agrees_with_a_slow_bootstrap_written_otherwise() -> None:
    images = unit_vectors(9, seed=5, towards=1)
    rng = np.random.default_rng(98)
    means = []
    for _ in range(4_000):
        drawn = rng.integers(9, size=9)
        means.append(np.mean([1 - images[i] @ images[j] for i in drawn for j in drawn if i != j]))
    low, high = np.quantile(means, [0.025, 0.975])
    estimate = diversity(images, samples=20_000, seed=7)
    assert estimate is not None
    assert (estimate.ci_low, estimate.ci_high) == pytest.approx((low, high), abs=0.06 * (high - low))


def test_interval_follows_normal_theory_where_values_are_additive() -> None:
    """cos(image, reference) = a_i·b_j with b_j all alike is a plain mean: its interval is ±1.96·s/√n."""
    cosines = np.random.default_rng(1).uniform(0.2, 0.8, size=400)
    images = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
    references = np.tile([1.0, 0.0], (5, 1))
    estimate = clip_similarity(images, references, samples=20_000)
    half = 1.96 * cosines.std() / math.sqrt(400)
    assert estimate.mean == pytest.approx(cosines.mean())
    assert (estimate.ci_low, estimate.ci_high) == pytest.approx(
        (cosines.mean() - half, cosines.mean() + half), abs=0.03 * half
    )


def test_more_references_narrow_the_interval_even_for_the_same_images() -> None:
    images, references = unit_vectors(64, seed=1, towards=1), unit_vectors(400, seed=2, towards=1)
    few, many = clip_similarity(images, references[:10]), clip_similarity(images, references)
    assert many.ci_high - many.ci_low < few.ci_high - few.ci_low


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(9)), st.permutations(range(5)))
def test_order_of_images_and_references_does_not_matter(rows: list[int], columns: list[int]) -> None:
    images, references = unit_vectors(9), unit_vectors(5, seed=1)
    for metric in (clip_similarity, centroid_similarity):
        one = metric(images, references, samples=100)
        other = metric(images[rows], references[columns], samples=100)
        assert other.mean == pytest.approx(one.mean, abs=1e-12)
        assert one.ci_low < one.mean < one.ci_high
    spread, shuffled = diversity(images, samples=100), diversity(images[rows], samples=100)
    assert spread is not None and shuffled is not None
    assert shuffled.mean == pytest.approx(spread.mean, abs=1e-12)


def test_equal_seeds_repeat_and_other_seeds_differ() -> None:
    images, references = unit_vectors(20), unit_vectors(10, seed=1)
    assert clip_similarity(images, references, seed=1) == clip_similarity(images, references, seed=1)
    assert clip_similarity(images, references, seed=1) != clip_similarity(images, references, seed=2)


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to compare"):
        clip_similarity(np.zeros((0, 8)), unit_vectors(3))
    with pytest.raises(ValueError, match="3 embeddings, but 2 sources"):
        source_means(unit_vectors(3), ["a", "b"])
