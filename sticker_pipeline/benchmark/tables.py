"""The benchmark's table, the leaderboard over characters, and both as text for a terminal and for the UI.

The figures themselves are worked out in similarity.py.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from sticker_pipeline.benchmark.similarity import (
    Estimate,
    clip_means,
    clip_similarity,
    diversity,
    nearest_training,
    reference_similarity,
    similarity_gain,
)

BASE, LORA, REFERENCE = "base", "lora", "reference"
METRICS = ("clip_similarity", "clip_similarity_gain", "diversity", "nearest_training")
FEW_CLIPS = 5  # with fewer, "95 %" intervals cover the truth in clearly fewer cases (see clip_similarity)
COLUMNS = ["model", "style", "metric", "mean", "ci_low", "ci_high", "n"]


@dataclass(frozen=True)
class References:
    """Held-out pictures of one style: unit embeddings float[m, d], and the clip that each row comes from."""

    embeddings: np.ndarray
    clips: Sequence[str]


@dataclass(frozen=True)
class BenchmarkResult:
    """`table` has COLUMNS; `left_out` says, a sentence each, what has no row or too narrow an interval, and why."""

    table: pd.DataFrame
    left_out: list[str]


def benchmark_table(
    generated: Mapping[str, Mapping[str, np.ndarray]],
    references: Mapping[str, References],
    training: np.ndarray,
    *,
    samples: int = 2_000,
    seed: int = 0,
) -> BenchmarkResult:
    """Every metric for each model and style, with 95 % intervals.

    generated: model -> style -> unit embeddings float[n, d], rows in the order of the requests,
    which are the same for all models.
    references: style -> held-out references. training: unit embeddings float[t, d] of all training pictures.

    Metrics: `clip_similarity` to held-out clips, `clip_similarity_gain` over the model `base` on the same seeds,
    `diversity`, `nearest_training`. `n` is the number of generated images; in the rows of the model `reference`, which
    say what held-out pictures get among themselves, the number of held-out clips (for `nearest_training`, of
    pictures). Rows are sorted: base, lora, other models by name, reference; then style; then metric.
    """
    left_out, rows = [], []
    for style in sorted({style for styles in generated.values() for style in styles}):
        held_out = references.get(style)
        if held_out is None or not len(held_out.embeddings):
            left_out.append(
                f"Style '{style}' has no row: no picture of it is held out. Give it more clips, or name files in "
                "benchmark.holdout of character.yaml."
            )
            continue
        clips = clip_means(held_out.embeddings, held_out.clips)
        left_out += _too_few(style, len(clips))
        for model in generated:
            metrics = _model_metrics(generated, model, style, clips, training, samples, seed)
            rows += [(model, style, metric, estimate) for metric, estimate in metrics.items()]
        metrics = _reference_metrics(held_out.embeddings, clips, training, samples, seed)
        rows += [(REFERENCE, style, metric, estimate) for metric, estimate in metrics.items()]
    return BenchmarkResult(_table(rows), left_out)


def leaderboard(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The benchmark tables of all characters in one, `character` first, characters sorted by name."""
    parts = [tables[character].assign(character=character) for character in sorted(tables)]
    if not parts:
        return pd.DataFrame(columns=["character", *COLUMNS])
    return pd.concat(parts, ignore_index=True)[["character", *COLUMNS]]


def leaderboard_text(table: pd.DataFrame) -> str:
    """CLIP similarity of each model beside the base model's: one aligned line per character, style and model."""
    header, *lines = _leaderboard_cells(table)
    widths = [max(len(line[column]) for line in [header, *lines]) for column in range(len(header))]
    ruled = [header, ["-" * width for width in widths], *lines]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in ruled
    )


def leaderboard_markdown(table: pd.DataFrame) -> str:
    """The same lines as a markdown table."""
    header, *lines = _leaderboard_cells(table)
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *lines])


def _too_few(style: str, clips: int) -> list[str]:
    if clips >= FEW_CLIPS:
        return []
    if clips == 1:
        return [
            f"Style '{style}' has no reference rows for similarity and diversity, and its intervals say nothing about "
            "other references: only one clip is held out."
        ]
    return [f"Style '{style}': only {clips} clips are held out, so its intervals are narrower than they should be."]


def _model_metrics(
    generated: Mapping[str, Mapping[str, np.ndarray]],
    model: str,
    style: str,
    clips: np.ndarray,
    training: np.ndarray,
    samples: int,
    seed: int,
) -> dict[str, Estimate | None]:
    images, base = generated[model].get(style), generated.get(BASE, {}).get(style)
    if images is None:
        return {}
    gain = None
    if model != BASE and base is not None:
        gain = similarity_gain(images, base, clips, samples=samples, seed=seed)
    return {
        "clip_similarity": clip_similarity(images, clips, samples=samples, seed=seed),
        "clip_similarity_gain": gain,
        "diversity": diversity(images, samples=samples, seed=seed),
        "nearest_training": nearest_training(images, training, samples=samples, seed=seed),
    }


def _reference_metrics(
    pictures: np.ndarray, clips: np.ndarray, training: np.ndarray, samples: int, seed: int
) -> dict[str, Estimate | None]:
    return {
        "clip_similarity": reference_similarity(clips, samples=samples, seed=seed),
        "diversity": diversity(clips, samples=samples, seed=seed),
        "nearest_training": nearest_training(pictures, training, samples=samples, seed=seed),
    }


def _table(rows: Sequence[tuple[str, str, str, Estimate | None]]) -> pd.DataFrame:
    ranks = {BASE: 0, LORA: 1, REFERENCE: 3}
    kept = [row for row in rows if row[3] is not None]
    kept.sort(key=lambda row: (ranks.get(row[0], 2), row[0], row[1], METRICS.index(row[2])))
    records = [
        {"model": model, "style": style, "metric": metric, **asdict(estimate)}
        for model, style, metric, estimate in kept
        if estimate is not None
    ]
    table = pd.DataFrame(records, columns=COLUMNS)
    table[["mean", "ci_low", "ci_high"]] = table[["mean", "ci_low", "ci_high"]].astype(float)
    return table.astype({"model": "str", "style": "str", "metric": "str", "n": "int64"})


def _leaderboard_cells(table: pd.DataFrame) -> list[list[str]]:
    """Header and lines of the leaderboard as people read it: one line per character, style and model but the base."""
    lines = [["character", "style", "model", "similarity", "base model", "gain", "references", "n"]]
    cells = {(row["character"], row["style"], row["model"], row["metric"]): row for row in table.to_dict("records")}
    for character, style, model, metric in sorted(cells, key=lambda key: (key[0], key[1], key[2] != LORA, key[2])):
        if metric != "clip_similarity" or model in (BASE, REFERENCE):
            continue
        own = cells[character, style, model, metric]
        lines.append(
            [
                character,
                style,
                model,
                _interval(own),
                _interval(cells.get((character, style, BASE, metric))),
                _interval(cells.get((character, style, model, "clip_similarity_gain")), signed=True),
                _interval(cells.get((character, style, REFERENCE, metric))),
                str(own["n"]),
            ]
        )
    return lines


def _interval(row: Mapping[Hashable, Any] | None, *, signed: bool = False) -> str:
    if row is None:
        return "–"
    form = "+.3f" if signed else ".3f"
    if math.isnan(row["ci_low"]):
        return f"{row['mean']:{form}}"
    return f"{row['mean']:{form}} [{row['ci_low']:{form}}, {row['ci_high']:{form}}]"
