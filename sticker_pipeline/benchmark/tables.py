"""Tables of the benchmark, two models and all characters; their text."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from sticker_pipeline.benchmark.bootstrap import INTERVAL, Estimate, difference
from sticker_pipeline.benchmark.evaluation import EvaluationContext, GeneratedImages
from sticker_pipeline.benchmark.measure import (
    BASE,
    CHANCE,
    LORA,
    OVERALL,
    REFERENCE,
    by_name,
    measure,
    overall,
)
from sticker_pipeline.benchmark.metrics import GAIN, METRICS, SIMILARITY, described, written
from sticker_pipeline.core import markdown
from sticker_pipeline.core.markdown import literal
from sticker_pipeline.core.schemas import Column, TableSchema, typed

METRIC = Column("metric", "str", "what is measured", values=tuple(METRICS))
MEDIUM = Column("medium", "str", "the medium of the images, such as art or sticker; all: the mean over the mediums")
BENCHMARK = TableSchema(
    "each metric of each model in each medium",
    (
        Column(
            "model",
            "str",
            "the model that generated: base, lora, released or a rival; reference and chance are for comparison",
        ),
        MEDIUM,
        METRIC,
        Column("mean", "float64", "the metric's value", nullable=True),
        *INTERVAL,
    ),
    key=("model", "medium", "metric"),
)
COMPARED = TableSchema(
    "each metric in each medium",
    (
        METRIC,
        MEDIUM,
        Column("difference", "float64", "value of the one model less that of the other, paired", nullable=True),
        *INTERVAL,
    ),
    key=("metric", "medium"),
)
LEADERBOARD = TableSchema(
    "each metric of each model of each character in each medium",
    (
        Column("character", "str", "the character of the benchmark"),
        *(replace(each, values=()) for each in BENCHMARK.columns),  # an earlier version may have other metrics
    ),
    key=("character", *BENCHMARK.key),
)
OVER_CHARACTERS = "Means over the characters, of all mediums:"


@dataclass(frozen=True)
class BenchmarkResult:
    """The table BENCHMARK with the inputs of `compare`.

    left_out: sentences on missing rows and too narrow intervals, with reasons. estimates: (model, medium, metric) ->
    estimate with `draws`, of single mediums.
    """

    table: pd.DataFrame
    left_out: list[str]
    estimates: Mapping[tuple[str, str, str], Estimate]


def benchmark_table(
    generated: Mapping[str, Mapping[str, GeneratedImages]],
    context: EvaluationContext,
    *,
    samples: int = 2_000,
    seed: int = 0,
) -> BenchmarkResult:
    """Compute METRICS for each model and medium, with 95 % intervals.

    generated: model -> medium -> images for the medium's requests, which all models share. The medium `all` is the
    plain mean over the mediums in which a model has the metric, resampled within each. `n` is the number of generated
    images that have the metric.

    Two rows are not models: `reference` is held-out images among themselves (`n` sources; `nearest_training`, `copies`:
    images), `chance` is the value by chance (`identity`: `n` characters; `copies`: `n` held-out sources;
    `one_source_share`: `n` training sources). Sorted: base, lora, lora in recommended settings, other models by name,
    reference, chance; then medium, `all` first; then metric.
    """
    measured = measure(generated, context, samples=samples, seed=seed)
    return BenchmarkResult(_table(measured.estimates), measured.left_out, measured.estimates)


def compare(result: BenchmarkResult, model: str, other: str) -> pd.DataFrame:
    """Subtract `other` from `model` in each metric: the table COMPARED.

    Sorted by metric (METRICS), `all` (the mediums that both have) first. Images of the same requests are paired, and
    both models share resampled images and references: the interval is that of the difference. `Metric.better` says
    whether more is better. Metrics over the base model are left out. Raises ValueError for a model without rows.
    """
    models = {model for model, _, _ in result.estimates}
    if missing := sorted({model, other} - models):
        raise ValueError(f"There are no metrics of {missing[0]!r}; there are of {', '.join(sorted(models))}.")
    rows = []
    for metric in [metric for metric, row in METRICS.items() if not row.over_base]:
        own = {medium: value for (name, medium, of), value in result.estimates.items() if (name, of) == (model, metric)}
        theirs = {
            medium: value for (name, medium, of), value in result.estimates.items() if (name, of) == (other, metric)
        }
        pairs = {medium: difference(own[medium], theirs[medium]) for medium in sorted(own.keys() & theirs.keys())}
        rows += [(metric, medium, value) for medium, value in {**overall(pairs), **pairs}.items()]
    records = [
        {"metric": metric, "medium": medium, "difference": value.mean, **_bounds(value)}
        for metric, medium, value in rows
    ]
    return typed(pd.DataFrame(records, columns=COMPARED.names), COMPARED)


def leaderboard(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Join the characters' benchmark tables, sorted by `character`.

    It is the first column.
    """
    parts = [tables[character].assign(character=character) for character in sorted(tables)]
    return typed(pd.concat(parts or [pd.DataFrame(columns=LEADERBOARD.names)], ignore_index=True), LEADERBOARD)


def leaderboard_text(table: pd.DataFrame) -> str:
    """Format the leaderboard as aligned lines, and the means over characters.

    CLIP similarity beside the base model's, by character, medium and model; then each metric's mean.
    """
    parts = [_aligned(_leaderboard_cells(table))]
    if len(cells := _metric_cells(table)) > 1:
        parts += [f"{OVER_CHARACTERS}\n{_aligned(cells)}"]
    return "\n\n".join(parts)


def leaderboard_markdown(table: pd.DataFrame) -> str:
    """Format the same lines as markdown tables."""
    parts = [_markdown(_leaderboard_cells(table), names=3)]
    if len(cells := _metric_cells(table)) > 1:
        parts += [OVER_CHARACTERS, _markdown(cells, names=1)]
    return "\n\n".join(parts)


def _aligned(cells: Sequence[Sequence[str]]) -> str:
    header, *lines = cells
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    ruled = [header, ["-" * width for width in widths], *lines]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in ruled
    )


def _markdown(cells: Sequence[Sequence[str]], *, names: int) -> str:
    """Escape the first `names` columns, whose text is not ours."""
    header, *lines = cells
    ruled = ["---"] * len(header)
    return markdown.table([header, ruled, *([*map(literal, line[:names]), *line[names:]] for line in lines)])


def _table(estimates: Mapping[tuple[str, str, str], Estimate]) -> pd.DataFrame:
    by_medium: dict[tuple[str, str], dict[str, Estimate]] = {}
    for (model, medium, metric), value in sorted(estimates.items()):
        by_medium.setdefault((model, metric), {})[medium] = value
    rows = [
        (model, medium, metric, value)
        for (model, metric), mediums in by_medium.items()
        for medium, value in {**overall(mediums), **mediums}.items()
    ]
    places = {metric: place for place, metric in enumerate(METRICS)}
    ranks = {BASE: 0, LORA: 1, REFERENCE: 3, CHANCE: 4}
    rows.sort(key=lambda row: (ranks.get(row[0], 2), by_name(row[0]), row[1] != OVERALL, row[1], places[row[2]]))
    records = [
        {"model": model, "medium": medium, "metric": metric, "mean": value.mean, **_bounds(value)}
        for model, medium, metric, value in rows
    ]
    return typed(pd.DataFrame(records, columns=BENCHMARK.names), BENCHMARK)


def _bounds(value: Estimate) -> dict[str, float | int]:
    return {"ci_low": value.ci_low, "ci_high": value.ci_high, "n": value.n}


def _leaderboard_cells(table: pd.DataFrame) -> list[list[str]]:
    """Header and lines of the leaderboard, without the base model.

    By character, medium and model.
    """
    lines = [["character", "medium", "model", "similarity", "base model", "gain", "references", "n"]]
    cells = {(row["character"], row["medium"], row["model"], row["metric"]): row for row in table.to_dict("records")}
    order = sorted(cells, key=lambda key: (key[0], key[1] != OVERALL, key[1], key[2] != LORA, by_name(key[2])))
    for character, medium, model, metric in order:
        if metric != SIMILARITY or model in (BASE, REFERENCE):
            continue
        own = cells[character, medium, model, metric]
        lines.append(
            [
                character,
                medium,
                model,
                _interval(own, SIMILARITY),
                _interval(cells.get((character, medium, BASE, metric)), SIMILARITY),
                _interval(cells.get((character, medium, model, GAIN)), GAIN),
                _interval(cells.get((character, medium, REFERENCE, metric)), SIMILARITY),
                str(own["n"]),
            ]
        )
    return lines


def _interval(row: Mapping[Hashable, Any] | None, metric: str) -> str:
    return "–" if row is None else written(row["mean"], row["ci_low"], row["ci_high"], described(metric).form)


def _metric_cells(table: pd.DataFrame) -> list[list[str]]:
    """Header and lines of the means over characters, over all mediums.

    One line per metric of our LoRA.
    """
    rows = table[(table["medium"] == OVERALL) & table["mean"].notna()]
    means = rows.groupby(["model", "metric"])["mean"].agg(["mean", "size"])
    known = {metric for model, metric in means.index if model == LORA}
    return [
        ["metric", "better", "LoRA", "base model", "references", "characters"],
        *(
            [
                described(metric).title,
                described(metric).better or "–",
                *(_mean(means, model, metric) for model in (LORA, BASE, REFERENCE)),
                str(means["size"][LORA, metric]),
            ]
            for metric in [*(name for name in METRICS if name in known), *sorted(known - METRICS.keys())]
        ),
    ]


def _mean(means: pd.DataFrame, model: str, metric: str) -> str:
    if (model, metric) not in means.index:
        return "–"
    return format(float(means["mean"][model, metric]), described(metric).form)
