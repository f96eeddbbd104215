"""Thresholds against the table and values by hand; MCut against a plain, slow version."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.core.profile import Profile, ProfileError, load_profile
from sticker_pipeline.core.settings import TaggingSettings
from sticker_pipeline.tagging import thresholds
from sticker_pipeline.tagging.thresholds import Thresholds, described, mcut, model_thresholds, per_frame, resolved


def profile(tagger: str, **tagging: object) -> Profile:
    data = load_profile("sd15", Path("models"))
    return data.model_copy(
        update={"tagger": Path("models") / tagger, "tagging": TaggingSettings.model_validate(tagging)}
    )


def test_the_table_has_the_model_cards_numbers() -> None:
    assert model_thresholds() == {
        "wd-vit-tagger-v3": 0.2614,
        "wd-swinv2-tagger-v3": 0.2653,
        "wd-convnext-tagger-v3": 0.2682,
        "wd-vit-large-tagger-v3": 0.2606,
        "wd-eva02-large-tagger-v3": 0.5296,
        "wd-v1-4-moat-tagger-v2": 0.3771,
        "wd-v1-4-swinv2-tagger-v2": 0.3771,
        "wd-v1-4-convnext-tagger-v2": 0.3685,
        "wd-v1-4-convnextv2-tagger-v2": 0.3710,
        "wd-v1-4-vit-tagger-v2": 0.3537,
    }


@pytest.mark.parametrize("tagger", model_thresholds())
def test_model_is_the_number_of_the_tagger(tagger: str) -> None:
    assert resolved(profile(tagger)) == Thresholds(model_thresholds()[tagger], 0.85, f"P=R of {tagger}")


@pytest.mark.parametrize(("name", "number"), [("sd15", 0.2614), ("sdxl", 0.2653)])
def test_real_profiles_rely_on_their_taggers_number(name: str, number: float) -> None:
    found = resolved(load_profile(name, Path("models")))
    assert (found.general, found.character) == (number, 0.85)


def test_a_tagger_without_a_number_is_named_with_what_to_write() -> None:
    with pytest.raises(ProfileError) as error:
        resolved(profile("my-tagger"))
    text = str(error.value)
    assert "'my-tagger'" in text and "wd-v1-4-moat-tagger-v2" in text
    assert "`tagging: {general_threshold: 0.35}`" in text and "`mcut`" in text
    assert resolved(profile("my-tagger", general_threshold=0.4)).general == 0.4
    assert resolved(profile("my-tagger", general_threshold="mcut")).general == "mcut"


def test_mcut_by_hand() -> None:
    scores = np.array(
        [
            [0.9, 0.1, 0.8, 0.2, 0.15],  # 0.9 0.8 | 0.2 0.15 0.1
            [0.5, 0.5, 0.5, 0.5, 0.5],  # no gap at all: everything counts
            [1.0, 0.0, 0.5, 0.5, 0.5],  # two gaps of 0.5: the upper one
            [0.0, 0.0, 0.0, 0.0, 1.0],
        ],
        dtype=np.float32,
    )
    np.testing.assert_allclose(mcut(scores), [0.5, 0.5, 0.75, 0.5], atol=1e-7)
    assert mcut(scores[:, :1]).tolist() == scores[:, 0].tolist()
    assert mcut(scores[:, :0]).tolist() == [0] * 4
    assert mcut(scores[:0]).shape == (0,)


def slow_mcut(row: list[float]) -> tuple[float, int]:
    """The threshold and how many scores reach it, one score after the other."""
    ordered = sorted(row, reverse=True)
    best = 0
    for i in range(len(ordered) - 1):
        if np.float32(ordered[i]) - np.float32(ordered[i + 1]) > np.float32(ordered[best]) - np.float32(
            ordered[best + 1]
        ):
            best = i
    reaching = best + 1 if ordered[best] > ordered[best + 1] else len(ordered)
    return (ordered[best] + ordered[best + 1]) / 2, reaching


@settings(max_examples=200, deadline=None)
@given(
    st.integers(2, 12).flatmap(
        lambda n: st.lists(st.lists(st.floats(0, 1, width=32), min_size=n, max_size=n), min_size=1, max_size=5)
    )
)
def test_mcut_equals_an_obvious_slow_version(rows: list[list[float]]) -> None:
    scores = np.array(rows, dtype=np.float32)
    result = mcut(scores)
    assert result.dtype == np.float32
    expected = [slow_mcut(row) for row in scores.tolist()]
    np.testing.assert_allclose(result, [threshold for threshold, _ in expected], atol=1e-7)
    assert (scores >= result[:, None]).sum(axis=1).tolist() == [reaching for _, reaching in expected]


def test_neighbouring_floats_are_still_cut_apart() -> None:
    upper = np.float32(0.75)
    row = np.array([[upper, np.nextafter(upper, np.float32(0))]])
    assert (row >= mcut(row)[:, None]).tolist() == [[True, False]]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 7), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_chunks_change_nothing_and_each_category_is_cut_by_itself(frames: int, chunk: int, seed: int) -> None:
    scores = np.random.default_rng(seed).uniform(0, 1, (frames, 9)).astype(np.float32)
    columns = {"general": np.array([0, 2, 4, 6]), "character": np.array([1, 3, 5]), "rating": np.array([7, 8])}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thresholds, "ROWS_AT_A_TIME", chunk)
        limits = per_frame(Thresholds("mcut", "mcut"), scores, columns)
    assert limits["general"].tolist() == mcut(scores[:, [0, 2, 4, 6]]).tolist()
    expected = [max(0.15, value) for value in mcut(scores[:, [1, 3, 5]]).tolist()]
    np.testing.assert_allclose(limits["character"], expected, atol=1e-7)


def test_no_character_counts_where_all_of_them_are_near_zero() -> None:
    scores = np.array([[0.001, 0.07, 0.002]], dtype=np.float32)
    columns = {"general": np.array([], dtype=int), "character": np.arange(3), "rating": np.array([], dtype=int)}
    assert per_frame(Thresholds(0.5, "mcut"), scores, columns)["character"].tolist() == [np.float32(0.15)]


def test_what_was_in_force_is_said_in_one_line() -> None:
    limits = {"general": np.array([0.2, 0.3, 0.7], np.float32), "character": np.array([0.85] * 3, np.float32)}
    fixed = Thresholds(0.2614, 0.85, "P=R of wd-vit-tagger-v3")
    assert described(fixed, limits) == "general ≥ 0.2614 (P=R of wd-vit-tagger-v3); character ≥ 0.85"
    found = described(Thresholds("mcut", 0.85), limits)
    assert found == "general ≥ MCut of each image (0.2 to 0.7, median 0.3); character ≥ 0.85"
    nothing = {name: values[:0] for name, values in limits.items()}
    assert described(Thresholds("mcut", 0.85), nothing) == "general ≥ MCut of each image; character ≥ 0.85"
