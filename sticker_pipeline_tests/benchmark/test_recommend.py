"""Rule of the recommended setting, clause by clause."""

import json
import math
from pathlib import Path
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
    Recommendation,
    Recommendations,
    RecommendError,
    Setting,
    advice_table,
    as_json,
    faults,
    headline,
    pareto_front,
    read_recommendations,
    recommendations,
    settings_for,
    write_recommendations,
)
from sticker_pipeline.core.storage import file_sha256
from sticker_pipeline.generation.grid_points import Adapters, GridPoint


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    sound = {
        "style_weight": 0.0, "character_weight": 1.0, "lcm_weight": 0.0, "steps": 10, "guidance_scale": 4.0,
        "scheduler": "ddim", "quality": 0.5, "quality_low": 0.4, "quality_high": 0.6, "seconds": 1.0,
        "similarity": 0.5, "fidelity": 0.5, "veil": 0.0, "contrast_shift": 0.0, "saturation_shift": 0.0,
        "sharpness_shift": 0.0, "copies_change": 0.0,
    }  # fmt: skip
    return pd.DataFrame([sound | row for row in rows])


def test_more_steps_than_the_budget_are_out() -> None:
    rows = table({"steps": 4, "quality": 0.4}, {"steps": 10, "quality": 0.8})
    small, large = recommendations(rows, [4, 10])
    assert small.setting and large.setting
    assert (small.setting["steps"], large.setting["steps"]) == (4, 10)
    assert list(large.setting) == list(SETTING) and large.metrics["quality"] == 0.8


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
        ("copies_change", 1, "copying"),
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


def test_darker_and_sharper_images_have_no_fault() -> None:
    assert faults(table({"veil": -0.5, "sharpness_shift": 0.5}).iloc[0]) == []


def test_where_all_have_a_fault_none_is_recommended_and_the_best_says_why() -> None:
    rows = table({"quality": 0.9, "veil": 0.25, "steps": 2}, {"quality": 0.3, "contrast_shift": -0.5, "steps": 2})
    none, nothing = recommendations(rows, [2, 1])
    assert none.setting is None and none.metrics == {}
    assert none.why.endswith("has a fault; the best is hazy (white veil +25 %).")
    assert nothing.setting is None and nothing.why == "No setting of at most 1 step was tried."


def test_json_has_no_numbers_that_json_has_not() -> None:
    (found,) = as_json(recommendations(table({"fidelity": math.nan, "quality_low": math.nan}), [10]))
    assert found["metrics"]["fidelity"] is None and found["metrics"]["quality"] == 0.5
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


LORAS = {"character": "c", "style": "s", "lcm": "l"}
FAST, SLOW = GridPoint(0.0, 0.8, 1.0, 4, 1.0), GridPoint(0.5, 1.0, 0.0, 25, 7.0)


def recommended(**by_budget: GridPoint | None) -> Recommendations:
    """`at_4=CELL`: what is recommended for at most 4 steps."""
    budgets = []
    for name, point in by_budget.items():
        scheduler = "lcm" if point and point.lcm_weight else "ddim"
        setting = {**vars(point), "scheduler": scheduler} if point else None
        budgets.append(Recommendation(int(name.removeprefix("at_")), setting, "", {}))
    return Recommendations("sd15", dict(LORAS), budgets)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    advice = recommendations(table({"steps": 4, "lcm_weight": 1.0, "scheduler": "lcm"}), [2, 4])
    content = {"profile": "sd15", "character": "release 1", "loras": LORAS, "budgets": as_json(advice)}
    path = tmp_path / "recommended.json"
    path.write_text(json.dumps(content))
    found = read_recommendations(path)
    assert found == Recommendations("sd15", LORAS, advice)
    assert settings_for(found, "sd15", LORAS) == ([Setting(4, GridPoint(0.0, 1.0, 1.0, 4, 4.0), "lcm")], [])


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    budget = {"budget": 2, "setting": None, "why": "none", "figures": {"quality": 0.5}}
    path = tmp_path / "recommended.json"
    path.write_text(json.dumps({"profile": "sd15", "character": "x", "loras": LORAS, "budgets": [budget]}))
    assert read_recommendations(path).budgets == [Recommendation(2, None, "none", {"quality": 0.5})]


@pytest.mark.parametrize("content", ["", "{}", '{"profile": "x", "loras": {}, "budgets": [{"steps": 4}]}'])
def test_a_file_that_cannot_be_read_says_what_to_do(tmp_path: Path, content: str) -> None:
    path = tmp_path / "recommended.json"
    path.write_text(content)
    with pytest.raises(RecommendError, match=r"recommended.json cannot be read .*materialize `sampling_grid` again"):
        read_recommendations(path)


def test_a_setting_stands_once_for_its_smallest_budget() -> None:
    found = recommended(at_25=SLOW, at_8=FAST, at_2=None, at_15=FAST, at_4=FAST)
    assert settings_for(found, "sd15", LORAS) == ([Setting(4, FAST, "lcm"), Setting(25, SLOW, "ddim")], [])


def test_nothing_recommended_is_nothing_to_say() -> None:
    assert settings_for(recommended(at_4=None), "sd15", {**LORAS, "character": "another"}) == ([], [])


@pytest.mark.parametrize(("profile", "character"), [("sd15", "another"), ("sd15", None), ("sdxl", "c")])
def test_for_another_lora_nothing_counts(profile: str, character: str | None) -> None:
    found, left_out = settings_for(recommended(at_4=FAST), profile, {**LORAS, "character": character})
    assert found == []
    (said,) = left_out
    assert said.startswith("The settings that `sampling_grid` recommends are for another LoRA of the character")
    assert said.endswith("once this LoRA is released.")


@pytest.mark.parametrize("now", ["another", None])
def test_a_setting_counts_while_the_loras_that_it_uses_are_the_same(now: str | None) -> None:
    both = GridPoint(0.5, 1.0, 1.0, 8, 1.0)
    found = recommended(at_4=FAST, at_8=both, at_25=SLOW)
    assert settings_for(found, "sd15", {**LORAS, "lcm": now}) == (
        [Setting(25, SLOW, "ddim")],
        [
            f"The setting that `sampling_grid` recommends for at most {budget} steps is not used: it was measured with "
            "another LCM-LoRA. Materialize it again."
            for budget in (4, 8)
        ],
    )
    settings, left_out = settings_for(found, "sd15", {**LORAS, "style": now, "lcm": now})
    assert settings == []
    assert "with another LoRA of the style and another LCM-LoRA." in left_out[1]
    assert "with another LoRA of the style. " in left_out[2]


def test_advice_is_said_in_words() -> None:
    setting = {"style_weight": 0.0, "character_weight": 0.8, "lcm_weight": 1.0, "steps": 2, "guidance_scale": 1.0}
    none = Recommendation(1, None, "No setting of at most 1 step was tried.", {})
    fast = Recommendation(2, {**setting, "scheduler": "lcm"}, "why", {"quality": 0.5})
    bare = Recommendation(4, {**setting, "character_weight": 0.0, "lcm_weight": 0.0}, "why", {"quality": 0.25})
    assert headline([none]) == headline([]) == "every setting has a fault"
    assert headline([none, fast]) == "at most 2 steps: character 0.8, lcm 1, 2 steps, CFG 1, quality 0.500"
    rows = advice_table([none, fast, bare])
    assert rows["steps_at_most"].tolist() == [1, 2, 4]
    assert rows["setting"].tolist() == ["none", "character 0.8, lcm 1, 2 steps, CFG 1", "no LoRA, 2 steps, CFG 1"]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    lora = tmp_path / "lora.safetensors"
    lora.write_bytes(b"lora")
    row = table({"steps": 4})
    found = recommendations(row, [4])
    write_recommendations(tmp_path, "embedded", "release 1", Adapters(lora), found)
    read = read_recommendations(tmp_path / "recommended.json")
    assert read == Recommendations("embedded", {"character": file_sha256(lora), "style": None, "lcm": None}, found)
    assert json.loads((tmp_path / "recommended.json").read_text())["character"] == "release 1"
