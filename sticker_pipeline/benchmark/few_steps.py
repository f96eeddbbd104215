"""Cost and savings of few steps, compared with many (generation/few_steps.py)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark.bootstrap import INTERVAL, Estimate, difference, row_mean
from sticker_pipeline.benchmark.embed import embed
from sticker_pipeline.benchmark.features import embedder_of, tags_found_in
from sticker_pipeline.benchmark.fidelity import prompt_fidelity
from sticker_pipeline.benchmark.metrics import Metric
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.schemas import Column, TableSchema, typed
from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline.core.texts import counted
from sticker_pipeline.generation.few_steps import StepComparison
from sticker_pipeline.tagging.wd14 import open_tagger

SECONDS, CALLS = "seconds", "unet_calls"
LIKENESS, FIDELITY, FIDELITY_CHANGE = "likeness", "fidelity", "fidelity_change"
METRICS: Mapping[str, Metric] = {
    row.name: row
    for row in (
        Metric(SECONDS, "seconds", "wall-clock time per image; unreliable on a busy machine", "lower", ".2f"),
        Metric(CALLS, "U-Net calls", "per image", "lower", ".0f"),
        Metric(LIKENESS, "likeness", "cosine to the reference's image (first row) of the same prompt and seed", ""),
        Metric(FIDELITY, "prompt fidelity", "share of the prompted tags that the tagger finds", "higher", ".0%"),
        Metric(FIDELITY_CHANGE, "fidelity change", "prompt fidelity less the reference's, paired", "higher", "+.0%"),
    )
}
"""Metrics of few steps by name, in the order of tables."""

FEW_STEPS = TableSchema(
    "each metric of each configuration",
    (
        Column("model", "str", "the configuration: model or LoRA, and number of steps"),
        Column(
            "metric",
            "str",
            "seconds and unet_calls per image; likeness to the reference's image; fidelity: share of the prompted "
            "tags found; fidelity_change: that less the reference's",
            values=(SECONDS, CALLS, LIKENESS, FIDELITY, FIDELITY_CHANGE),
        ),
        Column("mean", "float64", "the metric's value", nullable=True),
        *INTERVAL,
    ),
    key=("model", "metric"),
)


@dataclass(frozen=True)
class Features:
    """Images of one model, prompt by prompt with equally many seeds.

    seconds, calls (of the U-Net): per image. embeddings: float[n, d] of length 1. found: bool[n, tags], as
    `fidelity.found_tags`.
    """

    seconds: float
    calls: int
    embeddings: np.ndarray
    found: np.ndarray


def few_step_table(
    models: Mapping[str, Features],
    reference: str,
    prompts: Sequence[str],
    names: Sequence[str],
    *,
    samples: int = 2_000,
) -> pd.DataFrame:
    """The table FEW_STEPS of `models`, for the same prompts and seeds.

    prompts: of each image. names: the tagger's tags. METRICS have the meanings; seconds and calls have no interval, and
    calls exclude text and VAE. Compare likeness, to the model `reference`, with the row "<reference>, another seed": it
    rewards the same composition, and does not measure quality. Fidelity is over all words of a prompt; for its change,
    prompts are resampled together.
    """
    first = models[reference]
    of_reference = _fidelity(first, names, prompts, samples)
    rows: list[tuple[str, str, Estimate]] = []
    for name, features in models.items():
        costs = {SECONDS: features.seconds, CALLS: features.calls}
        rows += [(name, cost, Estimate(value, np.nan, np.nan, len(prompts))) for cost, value in costs.items()]
        same = (features.embeddings.astype(np.float64) * first.embeddings).sum(axis=1)
        rows.append((name, LIKENESS, row_mean(same, samples, 0, prompts)))
        fidelity = _fidelity(features, names, prompts, samples)
        if fidelity is not None and of_reference is not None:
            rows.append((name, FIDELITY, fidelity))
            rows.append((name, FIDELITY_CHANGE, difference(fidelity, of_reference)))
    others = row_mean(_other_seeds(first.embeddings, prompts), samples, 0, prompts)
    rows.append((f"{reference}, another seed", LIKENESS, others))
    records = [(name, metric, found.mean, found.ci_low, found.ci_high, found.n) for name, metric, found in rows]
    return typed(pd.DataFrame(records, columns=FEW_STEPS.names), FEW_STEPS)


def measured_comparison(
    comparison: StepComparison, seconds: Mapping[str, float], profile: Profile, store: ArtifactStore
) -> pd.DataFrame:
    """The table FEW_STEPS of `comparison`, with its `seconds` per image."""
    tagger = open_tagger(profile.tagger, profile.tagging.provider)
    embedder = embedder_of(profile, store)
    features = {
        config.name: Features(
            seconds[config.name],
            config.calls,
            embed(embedder, (Image.open(comparison.folder / file) for file in comparison.files(config))),
            tags_found_in(tagger, profile, store, comparison.folder, comparison.files(config)),
        )
        for config in comparison.configs
    }
    return few_step_table(
        features,
        comparison.reference.name,
        [request.prompt for request in comparison.requests],
        [label.name for label in tagger.labels],
        samples=profile.benchmark.bootstrap_samples,
    )


def headline(table: pd.DataFrame, comparison: StepComparison) -> str:
    """Summarise in one line the speed and fidelity of few steps."""
    rows = zip(table["model"], table["metric"], table["mean"], strict=True)
    means = {(str(model), str(metric)): float(mean) for model, metric, mean in rows}
    reference, ours = comparison.reference, comparison.summarised
    speed = means[reference.name, SECONDS] / means[ours.name, SECONDS]
    change = means.get((ours.name, FIDELITY_CHANGE))
    found = "" if change is None else f", prompted tags found {change:+.3f}"
    return f"{counted(ours.settings.steps, 'step')}: {speed:.1f} times as fast as {reference.settings.steps}{found}"


def side_by_side(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Format `table` for people, a row per model.

    Cells are "mean [low, high]"; speed is relative to the reference.
    """
    cells = table.assign(shown=list(map(_shown, table["mean"], table["ci_low"], table["ci_high"])))
    wide = cells.pivot(index="model", columns="metric", values="shown").reindex(table["model"].unique()).fillna("")
    seconds = table[table["metric"] == SECONDS].set_index("model")["mean"]
    speed = (seconds[reference] / seconds).map("{:.1f}×".format).reindex(wide.index).fillna("")
    order = [name for name in METRICS if name in wide]
    return wide[order].assign(speed=speed).reset_index()


def _fidelity(features: Features, names: Sequence[str], prompts: Sequence[str], samples: int) -> Estimate | None:
    return prompt_fidelity(features.found, names, prompts, samples=samples, prompts=prompts)


def _other_seeds(embeddings: np.ndarray, prompts: Sequence[str]) -> np.ndarray:
    """Cosine of each image to the next of its prompt, float64[n]."""
    by_prompt = embeddings.astype(np.float64).reshape(len(dict.fromkeys(prompts)), -1, embeddings.shape[1])
    return (by_prompt * np.roll(by_prompt, 1, axis=1)).sum(axis=2).ravel()


def _shown(mean: float, low: float, high: float) -> str:
    return f"{mean:.3g}" if np.isnan(low) else f"{mean:.3f} [{low:.3f}, {high:.3f}]"
