"""The choice of the epoch that becomes a style's LoRA.

The goal: images of characters that do not exist yet, in the style. So the evidence is images of invented characters, by
each epoch and by the base model (epoch 0, which cannot be chosen), from the same noise. The rule, in this order:

1. *Leaks*: epochs are out if the share of their images that pass for a character of the style, or copy one of its
   images, is more than `most_leaks` above the base model's. If all are, those with the fewest stay.
2. *Prompt fidelity*: epochs are out if their images show fewer of the prompted tags than the base model's by more than
   `most_lost`. If all are, those that show most stay.
3. *Style*: epochs are out that are less similar to the style than the most similar one left, by the interval of the
   paired difference: only differences beyond chance count.
4. *The earliest* left wins: it had the least time to learn the characters.

So where later epochs leak, earlier ones win. Similarity is that to held-out images of the style's characters; that to
training images would reward copying. The chosen epoch is measured on other invented characters and seeds (`goal`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from sticker_pipeline.benchmark.bootstrap import INTERVAL, Estimate, average, difference, row_mean
from sticker_pipeline.benchmark.choice import copy_threshold
from sticker_pipeline.benchmark.evaluation import Embeddings
from sticker_pipeline.benchmark.fidelity import prompt_fidelity
from sticker_pipeline.benchmark.measure import BASE, REFERENCE
from sticker_pipeline.benchmark.metrics import Metric
from sticker_pipeline.benchmark.similarity import cosines, source_means, style_similarity
from sticker_pipeline.core.schemas import Column, TableSchema, typed

BASE_EPOCH = 0
OUTLIERS = 0.05  # share of a character's own images; an image nearer than these passes for it
METRICS: Mapping[str, Metric] = {
    row.name: row
    for row in (
        Metric(
            "style_similarity",
            "in the style",
            "mean cosine to held-out images of the style's characters",
            "higher",
        ),
        Metric("fidelity", "prompt fidelity", "share of the prompted tags that the tagger finds", "higher", ".0%"),
        Metric(
            "leaks",
            "leaks",
            "share that passes for a character of the style, or copies one of its images",
            "lower",
            ".0%",
        ),
        Metric(
            "copies",
            "copies",
            "share nearer to a training image than 95 % of other sources' images are",
            "lower",
            ".0%",
        ),
    )
}
"""Metrics of images of invented characters, by name."""

CHOICE = TableSchema(
    "each epoch, and the base model",
    (
        Column("epoch", "int64", "number of the epoch; 0: the base model", low=0),
        *(Column(row.name, "float64", row.meaning, nullable=True) for row in METRICS.values()),
        Column(
            "behind",
            "float64",
            "style similarity of the most similar epoch less that of this one, paired",
            nullable=True,
        ),
        Column("chosen", "bool", "whether it is used: true in one row"),
        Column("reason", "str", "why it was chosen, or not"),
    ),
    key=("epoch",),
)
GOAL = TableSchema(
    "each metric of the base model, of the LoRA, and of held-out images",
    (
        Column("model", "str", "base, lora, or reference: held-out images beside those of other characters"),
        Column(
            "metric",
            "str",
            "what is measured; with gain: before it, the difference to the base model, paired",
            values=(*METRICS, *(f"gain:{name}" for name in METRICS)),
        ),
        Column("mean", "float64", "the metric's value", nullable=True),
        *INTERVAL,
    ),
    key=("model", "metric"),
    file="goal.parquet",
)


@dataclass(frozen=True)
class GeneratedFeatures:
    """Images of invented characters.

    embeddings: unit rows float[n, d]. found: the tagger's tags, bool[n, tags].
    """

    embeddings: np.ndarray
    found: np.ndarray


@dataclass(frozen=True)
class StyleEvaluationContext:
    """The context in which images of a style are evaluated.

    holdout, trained: character -> its images of that split. asked: the prompted tags of each image, comma-separated.
    tag_names: the tagger's. samples: of the bootstrap.
    """

    holdout: Mapping[str, Embeddings]
    trained: Mapping[str, Embeddings]
    asked: Sequence[str]
    tag_names: Sequence[str]
    samples: int = 2_000

    @cached_property
    def everything(self) -> Embeddings:
        """All characters' training images.

        Sources are prefixed with the character's name, to stay distinct.
        """
        return Embeddings(
            np.concatenate([one.vectors for one in self.trained.values()]),
            [f"{name}/{source}" for name, one in self.trained.items() for source in one.sources],
        )

    @cached_property
    def copy_bound(self) -> float:
        return copy_threshold(self.everything)

    @cached_property
    def references(self) -> dict[str, np.ndarray]:
        """Character -> its held-out sources, rows of similarity.source_means."""
        return {name: source_means(one.vectors, one.sources) for name, one in self.holdout.items()}


StyleMetrics = Mapping[str, Estimate]  # by the names of METRICS


def passing_bound(own: Embeddings) -> float:
    """Cosine to a character's centroid above which an image passes for it.

    The OUTLIERS quantile of the cosines of its own training sources to the centroid of the others. NaN for fewer than
    two sources: then nothing passes.
    """
    sources = source_means(own.vectors, own.sources)
    if len(sources) < 2:
        return math.nan
    rest = sources.sum(axis=0) - sources
    nearness = (sources * rest).sum(axis=1) / (np.linalg.norm(rest, axis=1) * np.linalg.norm(sources, axis=1))
    return float(np.quantile(nearness, OUTLIERS))


def passes_for(images: np.ndarray, trained: Mapping[str, Embeddings]) -> np.ndarray:
    """Name the character that each image passes for; "" for none.

    images: unit rows float[n, d]. Of the characters whose bound it reaches (see passing_bound), the one with the
    nearest centroid. It is fooled by characters that look alike, and by a CLIP that does not distinguish characters:
    then everything passes for one, images of the base model too. So compare it with the base model's share.
    """
    names = sorted(trained)
    nearness = np.stack([_to_centroid(images, trained[name]) for name in names], axis=1)
    nearness[~(nearness >= np.array([passing_bound(trained[name]) for name in names]))] = -np.inf
    best = nearness.argmax(axis=1)
    passed = np.isfinite(nearness.max(axis=1))
    return np.array([names[place] if ok else "" for place, ok in zip(best, passed, strict=True)])


def style_metrics(images: GeneratedFeatures, evaluation: StyleEvaluationContext) -> dict[str, Estimate]:
    """Compute METRICS; prompts are resampled whole.

    Models on the same requests are paired. In `style_similarity` each character counts alike. `leaks` are images that
    pass for a character of the style (see passes_for) or are copies, `copies` those nearer to a training image than
    choice.copy_threshold. Their functions say what fools each; style similarity rises with copies and leaks too.
    """
    samples, prompts = evaluation.samples, evaluation.asked
    references = list(evaluation.references.values())
    copies = cosines(images.embeddings, evaluation.everything.vectors).max(axis=1) > evaluation.copy_bound
    leaks = copies | (passes_for(images.embeddings, evaluation.trained) != "")
    fidelity = prompt_fidelity(
        images.found, evaluation.tag_names, evaluation.asked, samples=samples, prompts=prompts
    ) or Estimate(math.nan, math.nan, math.nan, 0)
    return {
        "style_similarity": style_similarity(images.embeddings, references, samples=samples, prompts=prompts),
        "fidelity": fidelity,
        "leaks": row_mean(leaks.astype(np.float64), samples, 0, prompts),
        "copies": row_mean(copies.astype(np.float64), samples, 0, prompts),
    }


def choose_style_epoch(metrics: Mapping[int, StyleMetrics], *, most_leaks: float, most_lost: float) -> pd.DataFrame:
    """The table CHOICE, by the rule above, BASE_EPOCH first.

    metrics: epoch -> `style_metrics`, all of the same requests. Raises ValueError without the base model or without
    another epoch.
    """
    left = sorted(set(metrics) - {BASE_EPOCH})
    if BASE_EPOCH not in metrics or not left:
        raise ValueError("There is nothing to choose from: images of the base model and of an epoch are needed.")
    base = metrics[BASE_EPOCH]
    leaking = base["leaks"].mean + most_leaks
    obedient = base["fidelity"].mean - most_lost
    reasons = {BASE_EPOCH: "the base model, for comparison."}
    steps = (
        lambda left: _leaking(metrics, left, leaking),
        lambda left: _not_following(metrics, left, obedient),
        lambda left: _less_in_style(metrics, left),
        lambda left: dict.fromkeys(left[1:], f"not: epoch {left[0]} is as good, and earlier."),
    )
    most_similar = _most_similar(metrics, left)
    for step in steps:
        out = step(left)
        reasons |= out
        left = [epoch for epoch in left if epoch not in out]
    (chosen,) = left
    reasons[chosen] = _why(metrics[chosen], base, leaking, obedient)
    rows = [
        {
            "epoch": epoch,
            **{name: metrics[epoch][name].mean for name in METRICS},
            "behind": _behind(metrics, epoch, most_similar).mean,
            "chosen": epoch == chosen,
            "reason": reasons[epoch],
        }
        for epoch in sorted(metrics)
    ]
    return typed(pd.DataFrame(rows), CHOICE)


def goal(features: Mapping[str, GeneratedFeatures], evaluation: StyleEvaluationContext) -> pd.DataFrame:
    """The table GOAL: new characters in the style.

    features: model -> its images for the same requests, among them BASE. Other models have `gain:` metrics too, their
    paired difference to BASE. The REFERENCE row compares each character's held-out images with the others': the value
    of another character in the style.
    """
    metrics = {model: style_metrics(images, evaluation) for model, images in features.items()}
    rows = [(model, metric, found) for model, own in metrics.items() for metric, found in own.items()]
    rows += [
        (model, f"gain:{metric}", difference(found, metrics[BASE][metric]))
        for model, own in metrics.items()
        for metric, found in own.items()
        if model != BASE
    ]
    if reference := _reference(evaluation):
        rows.append((REFERENCE, "style_similarity", reference))
    records = [(m, k, one.mean, one.ci_low, one.ci_high, one.n) for m, k, one in rows]
    return typed(pd.DataFrame(records, columns=GOAL.names), GOAL)


def _leaking(metrics: Mapping[int, StyleMetrics], left: Sequence[int], limit: float) -> dict[int, str]:
    leaks = {epoch: metrics[epoch]["leaks"].mean for epoch in left}
    return {
        epoch: f"not: {share:.0%} of its images pass for a character of the style or copy one; the limit is "
        f"{limit:.0%}."
        for epoch, share in leaks.items()
        if share > max(limit, min(leaks.values()))
    }


def _not_following(metrics: Mapping[int, StyleMetrics], left: Sequence[int], limit: float) -> dict[int, str]:
    shown = {epoch: metrics[epoch]["fidelity"].mean for epoch in left}
    return {
        epoch: f"not: it shows {share:.0%} of the prompted tags; the limit is {limit:.0%}."
        for epoch, share in shown.items()
        if share < min(limit, max(shown.values()))
    }


def _less_in_style(metrics: Mapping[int, StyleMetrics], left: Sequence[int]) -> dict[int, str]:
    best = _most_similar(metrics, left)
    behind = {epoch: _behind(metrics, epoch, best) for epoch in left if epoch != best}
    return {
        epoch: f"not: its style similarity is {found.mean:.3f} below that of epoch {best} (at least "
        f"{found.ci_low:.3f})."
        for epoch, found in behind.items()
        if found.ci_low > 0
    }


def _most_similar(metrics: Mapping[int, StyleMetrics], left: Sequence[int]) -> int:
    return max(left, key=lambda epoch: metrics[epoch]["style_similarity"].mean)  # of equal ones the first


def _behind(metrics: Mapping[int, StyleMetrics], epoch: int, best: int) -> Estimate:
    return difference(metrics[best]["style_similarity"], metrics[epoch]["style_similarity"])


def _why(own: StyleMetrics, base: StyleMetrics, leaking: float, obedient: float) -> str:
    shown = (
        f"style similarity {own['style_similarity'].mean:.3f} (base model {base['style_similarity'].mean:.3f}), "
        f"{own['fidelity'].mean:.0%} of the prompted tags ({base['fidelity'].mean:.0%}), "
        f"{own['leaks'].mean:.0%} leaks ({base['leaks'].mean:.0%})"
    )
    if own["leaks"].mean > leaking:
        return f"chosen: all epochs leak more than {leaking:.0%}, and none leaks less: {shown}."
    if own["fidelity"].mean < obedient:
        return f"chosen: none shows {obedient:.0%} of the prompted tags, and this one shows most: {shown}."
    return f"chosen: the earliest that is as good in style as any that neither leaks nor ignores prompts: {shown}."


def _reference(evaluation: StyleEvaluationContext) -> Estimate | None:
    sources = evaluation.references
    if len(sources) < 2:
        return None
    return average(
        [
            style_similarity(own, [sources[other] for other in sources if other != name], samples=evaluation.samples)
            for name, own in sources.items()
        ]
    )


def _to_centroid(images: np.ndarray, own: Embeddings) -> np.ndarray:
    """Cosine of each image with the mean of the character's sources."""
    centroid = source_means(own.vectors, own.sources).mean(axis=0)
    return cosines(images, (centroid / np.linalg.norm(centroid))[None])[:, 0]
