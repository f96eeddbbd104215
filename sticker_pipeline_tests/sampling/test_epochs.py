"""Systematic sampling: exact counts, no bias, reproducible."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.sampling.epochs import epoch_order, systematic_counts


@settings(max_examples=200, deadline=None)
@given(
    weights=st.lists(st.integers(0, 10**6), min_size=1, max_size=60).filter(any),
    n_samples=st.integers(1, 5000),
    seed=st.integers(0, 2**32),
    epoch=st.integers(0, 1000),
)
def test_counts_are_the_whole_numbers_beside_the_expectation(weights, n_samples, seed, epoch):
    total = sum(weights)
    counts = systematic_counts(np.array(weights) / total, n_samples, seed, epoch)
    assert counts.dtype == np.int64
    assert counts.sum() == n_samples
    for weight, count in zip(weights, counts, strict=True):
        expected = Fraction(weight * n_samples, total)
        assert math.floor(expected) <= count <= math.ceil(expected)


def test_whole_expectations_are_met_exactly_although_floats_are_not_exact():
    for epoch in range(50):
        assert systematic_counts(np.array([0.1, 0.2, 0.3, 0.4]), 10, 5, epoch).tolist() == [1, 2, 3, 4]
        assert systematic_counts(np.full(7, 1 / 7), 21, 5, epoch).tolist() == [3] * 7


def test_over_many_epochs_each_item_gets_its_expectation():
    probabilities = np.array([0.503, 0.301, 0.1, 0.05, 0.03, 0.016])
    n_samples, epochs = 7, 4000
    counts = np.array([systematic_counts(probabilities, n_samples, 11, epoch) for epoch in range(epochs)])
    # A count is ⌊Np⌋ plus a coin of variance f(1 − f): the mean of 4000 lies within 4 standard errors.
    fraction = probabilities * n_samples % 1
    standard_error = np.sqrt(fraction * (1 - fraction) / epochs)
    assert (np.abs(counts.mean(axis=0) - probabilities * n_samples) < 4 * standard_error).all()


def test_who_is_drawn_together_changes_with_the_epoch():
    # In a fixed order, systematic sampling would never draw neighbours together.
    counts = np.array([systematic_counts(np.full(6, 1 / 6), 3, 0, epoch) for epoch in range(300)])
    together = counts.T @ counts
    assert (together[~np.eye(6, dtype=bool)] > 0).all()


def test_reproducible_from_seed_and_epoch():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(40))
    order = epoch_order(probabilities, 100, seed=3, epoch=4)
    assert (order == epoch_order(probabilities, 100, seed=3, epoch=4)).all()
    assert (order != epoch_order(probabilities, 100, seed=3, epoch=5)).any()
    assert (order != epoch_order(probabilities, 100, seed=4, epoch=4)).any()


def test_the_order_holds_each_item_as_often_as_it_is_drawn():
    probabilities = np.array([0.7, 0.0, 0.3])
    order = epoch_order(probabilities, 1000, seed=0, epoch=0)
    assert order.dtype == np.int64
    assert (
        np.bincount(order, minlength=3).tolist()
        == systematic_counts(probabilities, 1000, 0, 0).tolist()
        == [700, 0, 300]
    )
    assert 0 < (order[:100] == 2).sum() < 100  # shuffled


@pytest.mark.parametrize(
    ("probabilities", "n_samples"),
    [([0.5, 0.4], 10), ([1.5, -0.5], 10), ([], 10), ([1.0], 0), ([float("nan")], 1)],
)
def test_refused(probabilities, n_samples):
    with pytest.raises(ValueError, match=r"must be ≥ 0 and sum to 1|at least 1"):
        systematic_counts(np.array(probabilities), n_samples, 0, 0)
