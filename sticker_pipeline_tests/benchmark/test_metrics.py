"""Registry of metrics: its rows, and the code that reads them."""

import math
from dataclasses import replace

import numpy as np
import pytest

from sticker_pipeline.benchmark import few_steps, metrics, style_choice
from sticker_pipeline.benchmark.bootstrap import Estimate
from sticker_pipeline.benchmark.evaluation import Embeddings, EvaluationContext, GeneratedImages
from sticker_pipeline.benchmark.metrics import (
    GAIN,
    METRICS,
    TRIGGER,
    Measure,
    Metric,
    described,
    signed,
    trigger_note,
    written,
)
from sticker_pipeline.benchmark.tables import BenchmarkResult, benchmark_table, compare

X, Y = np.eye(2)
ROWS = [*METRICS.values(), *style_choice.METRICS.values(), *few_steps.METRICS.values()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_is_named_once_and_written_in_its_format(row: Metric) -> None:
    assert row.name.isidentifier() and row.title and row.meaning
    assert not row.meaning.endswith("."), "a card goes on after it"
    assert row.better in ("higher", "lower", "")
    assert format(0.5, signed(row.form)).startswith("+")


def test_titles_are_told_apart() -> None:
    for table in (METRICS, style_choice.METRICS, few_steps.METRICS):
        assert len({row.title for row in table.values()}) == len(table)


def test_names_and_their_order_are_those_of_tables_that_exist() -> None:
    """New metrics come behind: tables of equal content stay equal."""
    assert list(METRICS)[:12] == [
        *("clip_similarity", "clip_similarity_gain", "diversity", "nearest_training", "nearest_training_excess"),
        *("copies", "one_source_share", "centroid_similarity", "identity", "style_similarity", "prompt_fidelity"),
        "trigger_effect",
    ]


def measured() -> BenchmarkResult:
    """Two models in one medium; the training images have one source of it and one of another."""
    generated = {"base": [X, X], "lora": [X, Y]}
    context = EvaluationContext(
        {"art": Embeddings(np.array([X, Y]), ["a", "b"])}, Embeddings(np.array([X, Y]), ["c", "d"], ["art", "sticker"])
    )
    images = {model: {"art": GeneratedImages(np.array(rows))} for model, rows in generated.items()}
    return benchmark_table(images, context, samples=50)


def test_a_row_more_is_measured_and_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Measure(
        "half",
        "half",
        "half of the number of images",
        "higher",
        of_model=lambda images, medium: Estimate(len(images.embeddings) / 2, math.nan, math.nan, 1),
        of_holdout=lambda medium: Estimate(len(medium.sources) / 2, math.nan, math.nan, 1),
        of_chance=lambda medium: Estimate(medium.images / 2, math.nan, math.nan, 1),
    )
    before = measured()
    monkeypatch.setitem(metrics.METRICS, "half", row)  # type: ignore[arg-type]
    after = measured()
    rows = after.table[(after.table["metric"] == "half") & (after.table["medium"] == "art")]
    assert dict(zip(rows["model"], rows["mean"], strict=True)) == dict.fromkeys(
        ("base", "lora", "reference", "chance"), 1
    )
    assert "half" in set(compare(after, "lora", "base")["metric"])
    assert set(after.table["metric"]) - set(before.table["metric"]) == {"half"}

    monkeypatch.setitem(metrics.METRICS, "half", replace(row, over_base=True))  # type: ignore[arg-type]
    assert "half" not in set(compare(measured(), "lora", "base")["metric"])


def test_the_gain_is_that_over_the_base_model_and_it_has_none_itself() -> None:
    table = measured().table.set_index(["model", "medium", "metric"])["mean"]
    assert ("base", "art", GAIN) not in table.index
    assert (
        table["lora", "art", GAIN] == table["lora", "art", "clip_similarity"] - table["base", "art", "clip_similarity"]
    )


def test_a_metric_that_is_not_known_here_is_described_by_its_name() -> None:
    assert described("of_a_later_version") == Metric("of_a_later_version", "of a later version", "", "")


@pytest.mark.parametrize(
    ("low", "high", "form", "text"),
    [(0.25, 0.75, ".3f", "0.500 [0.250, 0.750]"), (0.25, 0.75, ".0%", "50% [25%, 75%]"), (math.nan, 1, "+.1f", "+0.5")],
)
def test_values_are_written_in_the_format_of_their_metric(low: float, high: float, form: str, text: str) -> None:
    assert written(0.5, low, high, form) == text


@pytest.mark.parametrize(
    ("lowest", "said"),
    [
        ({}, ""),
        ({TRIGGER: 1e-9, GAIN: 0.5}, ""),
        ({TRIGGER: None, GAIN: 0.5}, ""),
        ({TRIGGER: float("nan"), GAIN: 0.5}, ""),
        ({TRIGGER: 0.0, GAIN: 0.5}, "The trigger adds nothing measurable: the LoRA alone makes the character."),
        ({TRIGGER: -0.2, GAIN: 0.0}, "The trigger adds nothing measurable."),
        ({TRIGGER: -0.2, GAIN: float("nan")}, "The trigger adds nothing measurable."),
        ({TRIGGER: -0.2}, "The trigger adds nothing measurable."),
    ],
)
def test_a_trigger_that_adds_nothing_is_said(lowest: dict[str, float | None], said: str) -> None:
    """A LoRA that has learned nothing makes no character, with or without its trigger."""
    assert trigger_note(lowest) == said
