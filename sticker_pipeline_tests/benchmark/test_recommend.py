"""The rule by which a setting is recommended, clause by clause."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sticker_pipeline.benchmark.recommend import (
    LIMIT,
    SETTING,
    TOLERANCE,
    as_json,
    faults,
    pareto_front,
    recommendations,
)


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    sound = {
        "style_weight": 0.0, "character_weight": 1.0, "lcm_weight": 0.0, "steps": 10, "guidance_scale": 4.0,
        "scheduler": "ddim", "quality": 0.5, "quality_low": 0.4, "quality_high": 0.6, "seconds": 1.0,
        "similarity": 0.5, "fidelity": 0.5, "veil": 0.0, "contrast_shift": 0.0, "saturation_shift": 0.0,
        "sharpness_shift": 0.0,
    }  # fmt: skip
    return pd.DataFrame([sound | row for row in rows])


def test_more_steps_than_the_budget_are_out() -> None:
    rows = table({"steps": 4, "quality": 0.4}, {"steps": 10, "quality": 0.8})
    small, large = recommendations(rows, [4, 10])
    assert small.setting and large.setting
    assert (small.setting["steps"], large.setting["steps"]) == (4, 10)
    assert list(large.setting) == list(SETTING) and large.figures["quality"] == 0.8


def test_of_those_as_good_as_the_best_the_fastest_is_taken() -> None:
    inside, outside = 0.8 * (1 - TOLERANCE) + 1e-9, 0.8 * (1 - TOLERANCE) - 1e-9
    rows = table(
        {"character_weight": 1.0, "quality": 0.8, "seconds": 3.0},
        {"character_weight": 0.8, "quality": inside, "seconds": 1.0},
        {"character_weight": 0.6, "quality": outside, "seconds": 0.1},
    )
    (found,) = recommendations(rows, [10])
    assert found.setting and found.setting["character_weight"] == 0.8
    assert "Of 3 settings of at most 10 steps 3 have no fault; the quality of 2 is within 3 % of the best" in found.why


def test_of_equally_fast_ones_the_best_is_taken() -> None:
    rows = table({"character_weight": 0.6, "quality": 0.79}, {"character_weight": 0.8, "quality": 0.8})
    (found,) = recommendations(rows, [10])
    assert found.setting and found.setting["character_weight"] == 0.8


@pytest.mark.parametrize(
    ("column", "sign", "word"),
    [
        ("veil", 1, "hazy"),
        ("contrast_shift", 1, "burnt"),
        ("contrast_shift", -1, "flat"),
        ("saturation_shift", 1, "garish"),
        ("saturation_shift", -1, "pale"),
        ("sharpness_shift", -1, "blurred"),
    ],
)
def test_a_fault_puts_a_setting_out_however_good_it_is(column: str, sign: int, word: str) -> None:
    within, beyond = ({column: sign * (LIMIT + change)} for change in (-1e-6, 1e-6))
    rows = table({"quality": 0.9, "lcm_weight": 1.0, **beyond}, {"quality": 0.4, **within})
    (found,) = recommendations(rows, [10])
    assert found.setting and found.setting["lcm_weight"] == 0.0
    assert [fault.split()[0] for fault in faults(rows.iloc[0])] == [word]
    assert faults(rows.iloc[1]) == []


def test_darker_and_sharper_pictures_have_no_fault() -> None:
    assert faults(table({"veil": -0.5, "sharpness_shift": 0.5}).iloc[0]) == []


def test_where_all_have_a_fault_none_is_recommended_and_the_best_says_why() -> None:
    rows = table({"quality": 0.9, "veil": 0.25, "steps": 2}, {"quality": 0.3, "contrast_shift": -0.5, "steps": 2})
    none, nothing = recommendations(rows, [2, 1])
    assert none.setting is None and none.figures == {}
    assert none.why.endswith("has a fault; the best is hazy (white veil +25 %).")
    assert nothing.setting is None and nothing.why == "No setting of at most 1 steps was tried."


def test_json_has_no_numbers_that_json_has_not() -> None:
    (found,) = as_json(recommendations(table({"fidelity": math.nan, "quality_low": math.nan}), [10]))
    assert found["figures"]["fidelity"] is None and found["figures"]["quality"] == 0.5
    assert found["setting"]["steps"] == 10 and type(found["setting"]["steps"]) is int


def test_the_front_by_hand() -> None:
    seconds = np.array([1.0, 1.0, 2.0, 3.0, 3.0, 4.0, 0.5])
    quality = np.array([0.5, 0.4, 0.5, 0.9, 0.9, 0.8, math.nan])
    assert pareto_front(seconds, quality).tolist() == [True, False, False, True, True, False, False]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=20))
def test_the_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    seconds, quality = (np.array(values, dtype=float) for values in zip(*points, strict=True))
    expected = [not any((s <= own and q >= mine) and (s < own or q > mine) for s, q in points) for own, mine in points]
    assert pareto_front(seconds, quality).tolist() == expected
