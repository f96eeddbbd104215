"""The choice of a style's epoch: the rule, and its evidence on planted embeddings."""

import math
from dataclasses import replace

import numpy as np
import pytest

from sticker_pipeline.benchmark.bootstrap import Estimate, estimate
from sticker_pipeline.benchmark.evaluation import Embeddings
from sticker_pipeline.benchmark.style_choice import (
    CHOICE,
    GOAL,
    METRICS,
    GeneratedFeatures,
    StyleEvaluationContext,
    choose_style_epoch,
    goal,
    passes_for,
    passing_bound,
    style_metrics,
)
from sticker_pipeline.core.schemas import check


def metrics(similarity: float, fidelity: float, leaks: float, spread: float = 0.0) -> dict[str, Estimate]:
    """Figures whose draws of the similarity go from `spread` below it to `spread` above."""
    draws = similarity + np.linspace(-spread, spread, 201)
    known = {"fidelity": fidelity, "leaks": leaks, "copies": 0.0}
    return {
        "style_similarity": estimate(similarity, draws, 12),
        **{name: estimate(value, np.full(201, value), 12) for name, value in known.items()},
    }


def told(rows: dict[int, tuple[float, float, float]], leaks: float = 0.1, lost: float = 0.1) -> dict[int, str]:
    """epoch -> reason, of epochs with (style similarity, fidelity, leaks)."""
    choice = choose_style_epoch({epoch: metrics(*row) for epoch, row in rows.items()}, most_leaks=leaks, most_lost=lost)
    chosen = choice.loc[choice["chosen"], "epoch"].tolist()
    reasons = dict(zip(choice["epoch"], choice["reason"], strict=True))
    assert [epoch for epoch, reason in reasons.items() if reason.startswith("chosen")] == chosen
    return reasons


def test_where_later_epochs_leak_an_earlier_one_wins() -> None:
    rows = {
        6: (0.60, 0.74, 0.50),
        0: (0.10, 0.80, 0.02),
        1: (0.20, 0.85, 0.00),
        2: (0.40, 0.60, 0.00),
        3: (0.34, 0.75, 0.05),
        4: (0.34, 0.74, 0.11),
        5: (0.34, 0.71, 0.12),
    }
    assert told(rows) == {
        0: "the base model, for comparison.",
        1: "not: its style similarity is 0.140 below that of epoch 3 (at least 0.140).",
        2: "not: it shows 60% of the prompted tags; the limit is 70%.",
        3: "chosen: the earliest that is as good in style as any that neither leaks nor ignores prompts: "
        "style similarity 0.340 (base model 0.100), 75% of the prompted tags (80%), 5% leaks (2%).",
        4: "not: epoch 3 is as good, and earlier.",
        5: "not: epoch 3 is as good, and earlier.",
        6: "not: 50% of its images pass for a character of the style or copy one; the limit is 12%.",
    }


def test_only_a_paired_difference_that_shows_puts_an_epoch_out() -> None:
    """Prompts that are hard for all epochs say nothing about which is better; prompts that are hard for one do."""
    together = {epoch: metrics(value, 0.8, 0.0, spread=0.5) for epoch, value in ((0, 0.1), (1, 0.30), (2, 0.31))}
    choice = choose_style_epoch(together, most_leaks=0.1, most_lost=0.1).set_index("epoch")
    assert choice["chosen"].to_dict() == {0: False, 1: False, 2: True}
    assert choice["behind"].tolist() == pytest.approx([0.21, 0.01, 0.0])
    shaky = {**together[1], "style_similarity": estimate(0.30, 0.30 + np.linspace(0.5, -0.5, 201), 12)}
    choice = choose_style_epoch({**together, 1: shaky}, most_leaks=0.1, most_lost=0.1).set_index("epoch")
    assert choice.loc[1, "chosen"] and choice.loc[2, "reason"] == "not: epoch 1 is as good, and earlier."


def test_where_all_leak_or_disobey_the_least_bad_is_chosen_and_says_so() -> None:
    leaking = told({0: (0.1, 0.8, 0.0), 1: (0.2, 0.8, 0.5), 2: (0.9, 0.8, 0.6)})
    assert leaking[1].startswith("chosen: all epochs leak more than 10%, and none leaks less: ")
    disobeying = told({0: (0.1, 0.8, 0.0), 1: (0.2, 0.2, 0.0), 2: (0.1, 0.3, 0.0)})
    assert disobeying[2].startswith("chosen: none shows 70% of the prompted tags, and this one shows most: ")


@pytest.mark.parametrize("epochs", [[0], [1, 2], []])
def test_without_base_model_or_epoch_there_is_nothing_to_choose_from(epochs: list[int]) -> None:
    with pytest.raises(ValueError, match="nothing to choose from"):
        choose_style_epoch({epoch: metrics(0.5, 0.5, 0) for epoch in epochs}, most_leaks=0.1, most_lost=0.1)


def unit(*rows: tuple[float, ...]) -> np.ndarray:
    values = np.array(rows, dtype=np.float64)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


ADA = Embeddings(unit((1, 0.1, 0), (1, -0.1, 0), (1, 0, 0.1), (1, 0, -0.1)), ["a", "b", "c", "d"])
BO = Embeddings(unit((0, 1, 0.1), (0, 1, -0.1), (0.1, 1, 0)), ["a", "b", "b"])


def test_the_bound_is_that_of_the_characters_own_sources() -> None:
    own = ADA.vectors
    nearness = [
        float(own[row] @ rest / np.linalg.norm(rest)) for row in range(4) for rest in [np.delete(own, row, 0).sum(0)]
    ]
    assert passing_bound(ADA) == pytest.approx(np.quantile(nearness, 0.05), abs=1e-12)
    assert math.isnan(passing_bound(Embeddings(ADA.vectors, ["one"] * 4)))


def test_who_an_image_passes_for() -> None:
    images = unit((1, 0, 0), (0, 1, 0), (1, 1, 1), (-1, 0, 0))
    assert passes_for(images, {"bo": BO, "ada": ADA}).tolist() == ["ada", "bo", "", ""]
    one_source = Embeddings(BO.vectors, ["one"] * 3)
    assert passes_for(images, {"bo": one_source, "ada": ADA}).tolist() == ["ada", "", "", ""]


def evaluation() -> StyleEvaluationContext:
    holdout = {"ada": Embeddings(unit((1, 0, 1)), ["h"]), "bo": Embeddings(unit((0, 1, 1)), ["h"])}
    asked = ["smile, hat", "smile, hat", "angry, hat", "angry, hat"]
    return StyleEvaluationContext(holdout, {"ada": ADA, "bo": BO}, asked, ["smile", "angry", "hat"], samples=200)


# a copy of a training image, one that passes for bo, and two that are somebody else in the style
LEARNED = GeneratedFeatures(
    np.concatenate([ADA.vectors[:1], unit((0.02, 1, 0.02), (0, 0, 1), (0.1, 0.1, 1))]),
    np.array([[1, 0, 1], [1, 0, 0], [0, 0, 0], [0, 1, 1]], dtype=bool),
)
PLAIN = GeneratedFeatures(unit((-1, 0, 0), (-1, 0, 0.1), (-1, 0.1, 0), (-1, 0, 0)), np.ones((4, 3), dtype=bool))


def test_the_figures_are_what_they_say() -> None:
    found = style_metrics(LEARNED, evaluation())
    references = np.concatenate([one.vectors for one in evaluation().holdout.values()])
    assert found["style_similarity"].mean == pytest.approx(float((LEARNED.embeddings @ references.T).mean()))
    assert found["fidelity"].mean == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert found["leaks"].mean == 0.5
    assert found["copies"].mean == 0.5  # the one that passes for bo lies between two images of bo's
    assert {
        name: one.mean for name, one in style_metrics(PLAIN, evaluation()).items() if name != "style_similarity"
    } == {
        "fidelity": 1.0,
        "leaks": 0.0,
        "copies": 0.0,
    }


def test_the_goal_is_paired_with_the_base_model() -> None:
    table = goal({"base": PLAIN, "lora": LEARNED}, evaluation()).set_index(["model", "metric"])
    for metric in METRICS:
        difference = table.loc[("lora", metric), "mean"] - table.loc[("base", metric), "mean"]
        assert table.loc[("lora", f"gain:{metric}"), "mean"] == pytest.approx(difference)
    assert ("base", "gain:leaks") not in table.index
    assert table.loc[("reference", "style_similarity"), "mean"] == pytest.approx(0.5)  # of (1,0,1) and (0,1,1)


def test_both_tables_are_as_their_schemas_say() -> None:
    """The metrics of a tagger that knows none of the asked tags have no fidelity."""
    images = {"base": PLAIN, "lora": LEARNED}
    check(goal(images, evaluation()), GOAL)
    unknown = replace(evaluation(), tag_names=["x", "y", "z"])
    check(goal(images, unknown), GOAL)
    seen = {0: style_metrics(PLAIN, unknown), 1: style_metrics(LEARNED, unknown)}
    assert np.isnan(seen[1]["fidelity"].mean)
    check(choose_style_epoch(seen, most_leaks=0.1, most_lost=0.1), CHOICE)
