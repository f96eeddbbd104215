import numpy as np
import pytest

from sticker_pipeline.benchmark.memorisation import (
    copied_share,
    copy_bound,
    fair_copied_share,
    fair_source_share,
    nearest_training,
    nearest_training_excess,
    one_source_share,
)

X, Y, Z = np.eye(3)
DIAGONAL = np.array([0.6, 0.8, 0.0])  # a unit vector: cosines .6 and .8 with X and Y


def around(centre: np.ndarray, n: int, spread: float, seed: int) -> np.ndarray:
    vectors = centre + spread * np.random.default_rng(seed).normal(size=(n, len(centre)))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_nearest_training_finds_copies() -> None:
    assert nearest_training(np.array([X, DIAGONAL]), np.array([X, Y])).mean == pytest.approx((1 + 0.8) / 2)
    assert nearest_training(np.array([X, Y]), np.array([Y, X, Z])).mean == pytest.approx(1)


def test_the_excess_is_over_holdout_sources_each_counting_once() -> None:
    """Held out: a source of two images at .8 and 1, and a still at 0: .45 on average; the images are at 1."""
    estimate = nearest_training_excess(
        np.array([X, Y]), np.array([X, Y]), np.array([DIAGONAL, X, Z]), ["long", "long", "still"]
    )
    assert (estimate.mean, estimate.n) == (pytest.approx(1 - (0.9 + 0) / 2), 2)
    assert estimate.ci_low == pytest.approx(1 - 0.9) and estimate.ci_high == pytest.approx(1)


def test_copies_are_nearer_than_the_percentile_of_holdout_images() -> None:
    """20 held-out stills at known cosines 0, .05, … .95 with the only training image: the 95th percentile is .90."""
    cosines = np.arange(20) / 20
    holdout = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
    images = np.array([[c, np.sqrt(1 - c * c)] for c in (0.85, 0.89, 0.91, 1.0)])
    training, sources = np.array([[1.0, 0.0]]), [f"{i:02}" for i in range(20)]
    estimate = copied_share(images, training, holdout, sources)
    assert (estimate.mean, estimate.n) == (0.5, 4)
    assert estimate.ci_low < 0.5 <= estimate.ci_high


def test_a_long_source_does_not_set_the_bound_alone() -> None:
    """A source of 21 images at cosine 1, beside stills at 0, has most of the images.

    It is one source of 20, and the bound is 0. Of 19 it is more than 5 %, and the bound is 1.
    """
    training, images = np.array([X]), np.array([DIAGONAL, DIAGONAL])
    for stills, copied in ((19, 1.0), (18, 0.0)):
        holdout = np.array([X] * 21 + [Z] * stills)
        sources = ["long"] * 21 + [f"s{i}" for i in range(stills)]
        assert copied_share(images, training, holdout, sources, samples=50).mean == copied


def test_copied_share_agrees_with_a_slow_bootstrap_written_otherwise() -> None:
    training, holdout, images = (around(X, n, 0.4, seed) for n, seed in ((30, 0), (40, 1), (24, 2)))
    sources = [f"c{i // 2:02}" for i in range(40)]
    near, own = (images @ training.T).max(axis=1), (holdout @ training.T).max(axis=1)
    rng = np.random.default_rng(9)
    shares = []
    for _ in range(6_000):
        drawn = np.concatenate([own[2 * c : 2 * c + 2] for c in rng.integers(20, size=20)])
        bound = np.quantile(drawn, 0.95, method="inverted_cdf")
        shares.append((near[rng.integers(24, size=24)] > bound).mean())
    estimate = copied_share(images, training, holdout, sources, samples=20_000)
    assert estimate.mean == (near > np.quantile(own, 0.95, method="inverted_cdf")).mean()
    assert estimate.draws.mean() == pytest.approx(np.mean(shares), abs=0.01)
    assert estimate.draws.std() == pytest.approx(np.std(shares), rel=0.05)


def test_a_model_that_copies_is_told_from_one_that_draws_anew() -> None:
    character = np.eye(24)[0]
    training, holdout, honest = (around(character, n, 0.1, seed) for n, seed in ((60, 0), (30, 1), (32, 2)))
    copies = around(character, 32, 0.1, 3)
    copies[::2] = training[:16]  # every second image is a copy
    sources = [str(i) for i in range(30)]
    fair, copied = copied_share(honest, training, holdout, sources), copied_share(copies, training, holdout, sources)
    assert fair.mean < 0.15 and copied.mean >= 0.5 and copied.ci_low > fair.ci_high
    assert nearest_training_excess(copies, training, holdout, sources).ci_low > 0
    excess = nearest_training_excess(honest, training, holdout, sources)
    assert excess.ci_low < 0 < excess.ci_high


@pytest.mark.parametrize("sources", [1, 3, 19, 20, 40])
def test_an_honest_model_copies_as_often_as_the_fair_share_says(sources: int) -> None:
    """Held-out and generated images of one distribution, by their cosine with the only training image."""
    rng, training = np.random.default_rng(sources), np.array([[1.0, 0.0]])
    names = [str(source) for source in range(sources)]
    shares = []
    for _ in range(2_000):
        cosines = rng.uniform(size=sources + 8)
        images = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
        shares.append(copied_share(images[sources:], training, images[:sources], names, samples=1).mean)
    assert fair_copied_share(sources).mean == pytest.approx(np.mean(shares), abs=0.02)


def test_one_source_share_finds_the_gif_that_a_model_collapsed_onto() -> None:
    training, sources = np.array([X, X, Y, Z]), ["gif", "gif", "still", "other"]
    estimate = one_source_share(np.array([X, X, DIAGONAL, X]), training, sources)
    assert (estimate.mean, estimate.n) == (0.75, 4)
    assert 0 <= estimate.ci_low < 0.75 < estimate.ci_high <= 1
    assert one_source_share(np.array([X, Y]), training, sources).mean == 0.5


def test_the_fair_share_is_what_a_multinomial_gives() -> None:
    """Two images, two sources: both in one with probability ½, so E = ½·1 + ½·½. Three: 1 with ¼, ⅔ with ¾."""
    assert fair_source_share(2, 2, samples=40_000).mean == pytest.approx(0.75, abs=0.01)
    assert fair_source_share(3, 2, samples=40_000).mean == pytest.approx(0.25 + 0.75 * 2 / 3, abs=0.01)
    only = fair_source_share(5, 1)
    assert (only.mean, only.ci_low, only.ci_high, only.n) == (1, 1, 1, 1)


def test_the_bound_of_copies_is_that_of_held_out_sources() -> None:
    unit = np.array([[1.0, 0.0]])
    held = np.array([[0.6, 0.8], [0.8, 0.6], [0.28, 0.96]])
    assert copy_bound(unit, held, ["a", "b", "b"]) == pytest.approx(0.8)  # of few sources, the nearest image
    many = np.stack([[np.cos(angle), np.sin(angle)] for angle in np.linspace(0.5, 1.4, 40)])
    sources = [str(number) for number in range(40)]
    bound = copy_bound(unit, many, sources)
    assert bound == pytest.approx(np.sort(many[:, 0])[37])  # 38 of 40 are 95 %
    above = copied_share(many, unit, many, sources, samples=10).mean
    assert above == np.mean(many[:, 0] > bound)  # as the share counts
    assert np.isnan(copy_bound(unit, np.zeros((0, 2)), [])) and np.isnan(copy_bound(np.zeros((0, 2)), held, ["a"] * 3))
