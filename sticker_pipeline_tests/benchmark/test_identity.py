import numpy as np
import pytest

from sticker_pipeline.benchmark.identity import identity_retrieval, reference_retrieval

X, Y, Z = np.eye(3)
DIAGONAL = np.array([0.6, 0.8, 0.0])  # nearer to Y than to X


def around(centre: np.ndarray, n: int, spread: float, seed: int) -> np.ndarray:
    vectors = centre + spread * np.random.default_rng(seed).normal(size=(n, len(centre)))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_nearest_character_is_the_right_one_or_not() -> None:
    images = np.array([X, X, X, DIAGONAL])
    estimate = identity_retrieval(images, np.array([X, X]), [np.array([Y]), np.array([Z, Z])])
    assert estimate is not None
    assert (estimate.mean, estimate.n) == (0.75, 4)
    assert 0.25 <= estimate.ci_low < 0.75 < estimate.ci_high <= 1


def test_a_character_of_varied_images_is_not_farther_away() -> None:
    """The centroid of X and Y is short; the image has its direction, and the other character a cosine of .8 to it."""
    middle = (X + Y) / np.sqrt(2)
    estimate = identity_retrieval(np.array([middle, middle]), np.array([X, Y]), [np.array([0.8 * middle + 0.6 * Z])])
    assert estimate is not None and estimate.mean == 1


def test_a_tie_is_not_right() -> None:
    estimate = identity_retrieval(np.array([X, X]), np.array([X]), [np.array([X])])
    assert estimate is not None and estimate.mean == 0


def test_alone_there_is_nobody_to_be_taken_for() -> None:
    assert identity_retrieval(np.array([X, Y]), np.array([X]), []) is None
    assert reference_retrieval(np.array([X, Y]), []) is None
    assert reference_retrieval(np.array([X]), [np.array([Y])]) is None


def test_references_are_compared_with_the_centroid_of_the_others() -> None:
    """The lone Z among X's is nearer to the other character, which is Z, even with itself in its centroid."""
    estimate = reference_retrieval(np.array([X, X, Z, X]), [np.array([Z, Y, Z])])
    assert estimate is not None
    assert (estimate.mean, estimate.n) == (0.75, 4)


def test_guesses_are_right_as_often_as_chance() -> None:
    """Images of nobody among four characters of equal spread around one centre: a quarter."""
    shares = []
    for seed in range(60):
        sources = [around(np.eye(16)[0], 6, 0.3, 10 * seed + k) for k in range(4)]
        estimate = identity_retrieval(around(np.eye(16)[0], 24, 0.3, 10 * seed + 9), sources[0], sources[1:], samples=2)
        assert estimate is not None
        shares.append(estimate.mean)
    assert np.mean(shares) == pytest.approx(0.25, abs=0.05)


def test_interval_agrees_with_a_slow_bootstrap_written_otherwise() -> None:
    characters = [around(np.eye(8)[0] + 0.5 * np.eye(8)[k], n, 0.25, k) for k, n in ((1, 6), (2, 9), (3, 4))]
    images = around(np.eye(8)[0] + 0.5 * np.eye(8)[1], 24, 0.25, 7)
    rng = np.random.default_rng(3)
    shares = []
    for _ in range(4_000):
        centroids = np.array(
            [sources[rng.integers(len(sources), size=len(sources))].mean(axis=0) for sources in characters]
        )
        centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
        nearest = (images[rng.integers(24, size=24)] @ centroids.T).argmax(axis=1)
        shares.append((nearest == 0).mean())
    estimate = identity_retrieval(images, characters[0], characters[1:], samples=20_000)
    assert estimate is not None
    assert 0.4 < estimate.mean < 1
    assert estimate.draws.mean() == pytest.approx(np.mean(shares), abs=0.01)
    assert estimate.draws.std() == pytest.approx(np.std(shares), rel=0.05)


def test_equal_models_have_equal_draws() -> None:
    images, own, other = (around(np.eye(8)[k], 12, 0.5, k) for k in range(3))
    one, two = (identity_retrieval(images, own, [other], seed=4, prompts=list("aabbccddeeff")) for _ in range(2))
    assert one is not None and two is not None
    np.testing.assert_array_equal(one.draws, two.draws)
