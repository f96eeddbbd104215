"""Table of a sampling grid, against numbers by hand."""

import numpy as np
import pandas as pd
import pytest

from sticker_pipeline.benchmark.bootstrap import Estimate
from sticker_pipeline.benchmark.evaluation import Embeddings, Requests
from sticker_pipeline.benchmark.grid_table import ESTIMATED, PointFeatures, Timed, grid_table, quality
from sticker_pipeline.benchmark.recommend import faults
from sticker_pipeline.benchmark.tone import Tones
from sticker_pipeline.generation.grid_points import GridPoint

REFERENCE, QUICK = GridPoint(0.0, 1.0, 0.0, 10, 4.0), GridPoint(0.0, 1.0, 1.0, 2, 1.0)
TAGS = ["smile", "angry"]
PROMPTS = ["x, smile", "x, angry", "x, smile, angry"]
APART = np.arccos(0.98)  # the angle between the images of two sources: what is nearer to either is a copy
BEFORE = np.arccos(0.8) - APART
TRAINED = Embeddings(np.array([[0.8, 0.6], [np.cos(BEFORE), np.sin(BEFORE)]]), ["one", "other"])


def features(cosine: float, found: list[list[bool]], contrast: float, haze: float) -> PointFeatures:
    """Three images, each with that cosine to the only held-out source."""
    embeddings = np.tile([cosine, np.sqrt(1 - cosine**2)], (3, 1))
    return PointFeatures(
        embeddings, np.array(found), Tones(*(np.full(3, value) for value in (contrast, 0.4, contrast / 2, haze)))
    )


def made() -> pd.DataFrame:
    both, one = [[True, False], [False, True], [True, True]], [[True, False], [False, False], [True, False]]
    drawn = {
        REFERENCE: {"art": features(0.8, both, 0.5, 0.1), "sticker": features(0.6, both, 0.4, 0.0)},
        QUICK: {"art": features(0.6, one, 0.4, 0.19), "sticker": features(0.4, one, 0.4, 0.2)},
    }
    return grid_table(
        drawn,
        {REFERENCE: REFERENCE, QUICK: REFERENCE},
        {REFERENCE: Timed("ddim", 1.0), QUICK: Timed("lcm", 0.1)},
        dict.fromkeys(["art", "sticker"], np.array([[1.0, 0.0]])),
        dict.fromkeys(["art", "sticker"], Requests(["smile", "angry", "smile, angry"], PROMPTS)),
        TAGS,
        TRAINED,
        samples=200,
    )


def test_figures_are_means_over_mediums() -> None:
    table = made()
    assert table[["lcm_weight", "steps", "scheduler", "seconds", "n"]].to_numpy().tolist() == [
        [0.0, 10, "ddim", 1.0, 6],
        [1.0, 2, "lcm", 0.1, 6],
    ]
    np.testing.assert_allclose(table["similarity"], [0.7, 0.5])
    np.testing.assert_allclose(table["fidelity"], [1.0, (1 + 0 + 0.5) / 3])
    np.testing.assert_allclose(table["quality"], [np.sqrt(0.7), 0.5])
    np.testing.assert_allclose(table["quality_change"], [0.0, 0.5 - np.sqrt(0.7)])
    np.testing.assert_allclose(table["contrast_shift"], [0.0, (-0.2 + 0.0) / 2], atol=1e-12)
    np.testing.assert_allclose(table["saturation_shift"], [0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(table["sharpness_shift"], table["contrast_shift"], atol=1e-12)
    np.testing.assert_allclose(table["veil"], [0.0, (0.1 + 0.2) / 2], atol=1e-12)
    np.testing.assert_allclose(table["contrast"], [0.45, 0.4])
    np.testing.assert_allclose(table["copies"], [(1 + 0) / 2, 0.0])
    np.testing.assert_allclose(table["copies_change"], [0.0, -0.5])
    assert table["pareto"].tolist() == [True, True]


def test_the_reference_differs_from_itself_by_nothing() -> None:
    row = made().iloc[0]
    for name in ("quality_change", "copies_change", "contrast_shift", "saturation_shift", "veil"):
        assert row[[f"{name}_low", name, f"{name}_high"]].abs().max() < 1e-12


def test_intervals_surround_what_varies() -> None:
    row = made().iloc[1]
    for name in ESTIMATED:
        assert row[f"{name}_low"] <= row[name] + 1e-12 and row[name] <= row[f"{name}_high"] + 1e-12
    assert row["fidelity_low"] < row["fidelity"] < row["fidelity_high"]
    assert row["quality_low"] < row["quality"] < row["quality_high"]


def test_quality_is_the_root_of_the_product_draw_by_draw() -> None:
    one, other = np.array([0.5, 0.7, 0.9, -0.1]), np.array([0.2, 0.6, 1.0, 0.5])
    found = quality(Estimate(0.5, 0, 1, 4, one), Estimate(0.5, 0, 1, 4, other))
    assert found.mean == 0.5
    np.testing.assert_allclose(found.draws, [np.sqrt(0.1), np.sqrt(0.42), np.sqrt(0.9), 0.0])
    assert quality(Estimate(-0.2, 0, 1, 4, one), Estimate(0.5, 0, 1, 4, other)).mean == 0.0
    alone = Estimate(0.5, 0, 1, 4, one)
    assert quality(alone, None) is alone
    assert np.isnan(quality(Estimate(0.5, 0, 1, 1), Estimate(0.5, 0, 1, 1)).ci_low)


def test_of_one_source_nothing_is_known_to_be_a_copy() -> None:
    alone = Embeddings(TRAINED.vectors[:1], ["one"])
    table = grid_table(
        {REFERENCE: {"art": features(0.8, [[True, True]] * 3, 0.5, 0.1)}},
        {REFERENCE: REFERENCE},
        {REFERENCE: Timed("ddim", 1.0)},
        {"art": np.array([[1.0, 0.0]])},
        {"art": Requests(["smile"] * 3, PROMPTS)},
        TAGS,
        alone,
        samples=200,
    )
    assert table[["copies", "copies_change"]].isna().all(axis=None) and faults(table.iloc[0]) == []


def test_without_words_that_the_tagger_knows_quality_is_similarity() -> None:
    table = grid_table(
        {REFERENCE: {"art": features(0.8, [[False, False]] * 3, 0.5, 0.1)}},
        {REFERENCE: REFERENCE},
        {REFERENCE: Timed("ddim", 1.0)},
        {"art": np.array([[1.0, 0.0]])},
        {"art": Requests(["a", "b", "c"], PROMPTS)},
        TAGS,
        TRAINED,
        samples=200,
    )
    assert np.isnan(table["fidelity"].item()) and table["quality"].item() == pytest.approx(0.8)
