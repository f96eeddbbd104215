"""Measures and reasons of candidates, from first principles."""

import numpy as np
import pandas as pd
import pytest

from sticker_pipeline.packing.candidates import (
    OwnImages,
    likeness,
    measured,
    nearest_character,
    reason,
    score,
)

FINE = {
    "origin": "generated", "twin": "", "cut_out": True, "flat": 1.0, "specks": 0, "cut_off": False, "fidelity": 1.0,
    "attributes": "smile, v", "nearest_character": "anki", "nearest": 0.5, "copy_bound": 0.9,
}  # fmt: skip


def own(**changes: object) -> OwnImages:
    eye = np.eye(4)
    usual: dict[str, object] = {
        "vectors": eye[:2], "sources": ["a", "b"], "training": eye[:2], "holdout": eye[2:3], "holdout_sources": ["h"],
        "others": {},
    }  # fmt: skip
    return OwnImages(**{**usual, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"cut_out": False, "flat": 0.4}, "its background is not flat: 40% of its border is one colour"),
        ({"specks": 4}, "4 specks of background are left"),
        ({"specks": 3}, ""),
        ({"cut_off": True}, "the subject is cut off by the edge of the image"),
        ({"fidelity": 0.49}, "of the asked tags (smile, v) 49% are found"),
        ({"fidelity": float("nan")}, ""),  # the tagger knows none of them
        ({"nearest_character": "moth"}, "it looks more like moth"),
        ({"nearest_character": ""}, ""),
        ({"nearest": 0.95}, "a copy: 0.950 like a training image, above 0.900"),
        ({"nearest": 0.95, "copy_bound": float("nan")}, ""),
        ({"origin": "own", "cut_off": True, "nearest": 1.0, "fidelity": 0.0}, ""),  # its own file is no copy
        ({"origin": "own", "twin": "s/a.png"}, "it shows the same as s/a.png"),
        (
            {"specks": 9, "cut_off": True},
            "9 specks of background are left; the subject is cut off by the edge of the image",
        ),
    ],
)  # fmt: skip
def test_reasons(changes: dict[str, object], said: str) -> None:
    assert reason({**FINE, **changes}, "anki") == said


def test_likeness_counts_each_source_once() -> None:
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    images = own(vectors=vectors, sources=["a", "a", "b"])
    assert likeness(np.array([[1.0, 0.0]]), images).tolist() == [0.5]


def test_the_nearest_of_all_characters() -> None:
    images = own(others={"moth": np.eye(4)[2:3], "empty": np.zeros((0, 4))})
    assert nearest_character(np.eye(4)[[0, 2]], "anki", images) == ["anki", "moth"]
    assert nearest_character(np.eye(4)[:1], "anki", own()) == [""]


def test_measures_of_candidates() -> None:
    rows = pd.DataFrame({"attributes": ["smile, v", "unknown"]})
    found = np.array([[True, False], [True, True]])
    table = measured(rows, np.eye(4)[[0, 3]], found, ["smile", "v"], own(others={"moth": np.eye(4)[3:]}), "anki")
    assert table["fidelity"].tolist()[0] == 0.5 and np.isnan(table["fidelity"][1])
    assert table["nearest"].tolist() == [1.0, 0.0]
    assert table["nearest_character"].tolist() == ["anki", "moth"]
    bare = measured(rows, np.eye(4)[[0, 3]], found, ["smile", "v"], own(training=np.zeros((0, 4))), "anki")
    assert bare["nearest"].isna().all() and bare["copy_bound"].isna().all()


def test_the_score_is_fidelity_plus_scaled_likeness() -> None:
    nothing = float("nan")
    rows = pd.DataFrame({"fidelity": [1.0, 0.5, nothing, nothing], "likeness": [0.8, 0.9, 0.85, nothing]})
    assert score(rows) == pytest.approx([1.0, 1.5, 0.5, 0.0])
    assert score(rows.assign(likeness=nothing)).tolist() == [1.0, 0.5, 0.0, 0.0]
    assert score(rows[:0]).tolist() == []
