"""Whole repeats: the smallest epoch within the allowed error, against a plain search."""

from fractions import Fraction
from itertools import combinations, count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.dataset import repeats as module
from sticker_pipeline.dataset.manifest import DatasetError
from sticker_pipeline.dataset.repeats import choose_repeats, error_of, one_number_error

FEW = st.lists(st.integers(1, 12), min_size=1, max_size=3)
WHOLE = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def probabilities(weights) -> np.ndarray:
    return np.array(weights, dtype=np.float64) / sum(weights)


def exact_error(repeats, p: list[Fraction]) -> Fraction:
    return sum((abs(Fraction(r, sum(repeats)) - one) for r, one in zip(repeats, p, strict=True)), Fraction(0)) / 2


def is_rounded(repeats, p: list[Fraction]) -> bool:
    """Return whether one scale s gives all of max(1, ⌊s·p + ½⌋).

    r − ½ ≤ s·p < r + ½, and for r = 1 only the latter.
    """
    half = Fraction(1, 2)
    lowest = max((r - half) / one if r > 1 else Fraction(0) for r, one in zip(repeats, p, strict=True))
    return lowest < min((r + half) / one for r, one in zip(repeats, p, strict=True))


def smallest_epoch(p: list[Fraction], max_error: Fraction) -> int:
    """By trying all whole repeats in the order of their sum, in exact arithmetic."""
    for epoch in count(len(p)):
        for cuts in combinations(range(1, epoch), len(p) - 1):
            repeats = np.diff([0, *cuts, epoch]).tolist()
            if exact_error(repeats, p) <= max_error and is_rounded(repeats, p):
                return epoch
    raise AssertionError


@settings(max_examples=60, deadline=None)
@given(FEW, st.sampled_from([Fraction(0), Fraction(1, 1000), Fraction(1, 37), Fraction(1, 13), Fraction(1, 5)]))
def test_the_epoch_is_the_smallest_that_is_near_enough(weights, max_error):
    p = [Fraction(weight, sum(weights)) for weight in weights]
    found, error = choose_repeats(probabilities(weights), float(max_error))
    assert found.dtype == np.int64 and (found >= 1).all()
    assert float(exact_error(found.tolist(), p)) == pytest.approx(error, abs=1e-12)
    assert error <= float(max_error) + 1e-12
    assert found.sum() == smallest_epoch(p, max_error)


@given(WHOLE)
def test_rational_probabilities_are_reached_exactly(weights):
    found, error = choose_repeats(probabilities(weights), 0.0)
    assert error < 1e-12
    assert found.tolist() == [weight // np.gcd.reduce(weights) for weight in weights]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=40), st.floats(0.005, 0.5))
def test_any_probabilities(raw, max_error):
    p = np.array(raw) / np.sum(raw)
    found, error = choose_repeats(p, max_error)
    assert error == pytest.approx(error_of(found, p), abs=1e-12) and error <= max_error + 1e-12
    order = np.argsort(p, kind="stable")
    assert (np.diff(found[order]) >= 0).all()  # the likelier is never shown less often


def test_a_source_counts_as_a_still():
    """A GIF of 4 frames, one of 3 and a still: repeats 3, 4 and 12."""
    p = np.array([1 / 12] * 4 + [1 / 9] * 3 + [1 / 3])
    assert choose_repeats(p, 0.0)[0].tolist() == [3] * 4 + [4] * 3 + [12]


def test_equal_images_need_no_repeats():
    found, error = choose_repeats(np.full(30_000, 1 / 30_000), 0.0)
    assert set(found) == {1}
    assert error < 1e-12


def test_blocks_do_not_change_the_outcome(monkeypatch):
    p = probabilities(np.arange(1, 60) ** 2)
    whole = choose_repeats(p, 0.001)
    monkeypatch.setattr(module, "CELLS", 1)
    single = choose_repeats(p, 0.001)
    assert whole[1] == single[1]
    assert whole[0].tolist() == single[0].tolist()


def test_what_cannot_be_reached_says_how_near_it_came(monkeypatch):
    monkeypatch.setattr(module, "LARGEST_EPOCH", 50)
    p = np.array([0.5 - 1 / 999, 0.5 + 1 / 999])
    with pytest.raises(
        DatasetError, match=r"at most 1e-05 in an epoch of at most 50 .* smallest error is 0\.001, with 2 "
    ):
        choose_repeats(p, 1e-5)
    with pytest.raises(DatasetError, match="an epoch may have 50 images, and here are 51"):
        choose_repeats(np.full(51, 1 / 51), 0.5)


@pytest.mark.parametrize("p", [[], [0.5, 0.6], [1.0, 0.0], [np.nan, 1.0]])
def test_what_are_no_probabilities(p):
    with pytest.raises(DatasetError, match="must be above 0 and sum to 1"):
        choose_repeats(np.array(p), 0.1)


def test_errors_by_hand():
    """A still and a source of 3 frames: 1/2 and 3 × 1/6. Without repeats each has 1/4: ½·(1/4 + 3·1/12) = 1/4."""
    p = np.array([1 / 2, 1 / 6, 1 / 6, 1 / 6])
    assert error_of(np.ones(4), p) == pytest.approx(1 / 4)
    assert one_number_error(p, np.array(["g"] * 4)) == pytest.approx(1 / 4)
    assert one_number_error(p, np.array(["s", "g", "g", "g"])) == pytest.approx(0)
