"""Tests of connected regions, compared with scipy's and with definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from sticker_pipeline.packing.regions import at_border, grown, labelled, offsets_by_distance

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.booleans())


@given(MASKS, st.booleans())
@settings(max_examples=200, deadline=None)
def test_regions_are_those_of_scipy(mask, diagonal):
    labels, count = labelled(mask, diagonal=diagonal)
    expected, number = ndimage.label(mask, structure=np.ones((3, 3)) if diagonal else None)
    assert count == number
    pairs = set(zip(labels.ravel().tolist(), expected.ravel().tolist(), strict=True))
    assert len(pairs) == len({ours for ours, _ in pairs}) == len({theirs for _, theirs in pairs})


def test_corners_connect_only_diagonally():
    mask = np.eye(3, dtype=bool)
    assert labelled(mask, diagonal=True)[1] == 1
    assert labelled(mask, diagonal=False)[1] == 3


@given(MASKS)
@settings(max_examples=50, deadline=None)
def test_growth_is_dilation_by_a_square(mask):
    assert np.array_equal(grown(mask, 2), ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=2))


def test_border_is_the_outermost_pixels():
    assert at_border((3, 4)).sum() == 10
    assert at_border((1, 1)).all()


def test_offsets_begin_with_the_nearest():
    offsets = offsets_by_distance(2)
    assert len(offsets) == 12
    assert [dy * dy + dx * dx for dy, dx in offsets] == pytest.approx([1] * 4 + [2] * 4 + [4] * 4)
