"""The metrics of the benchmark, one row each.

Tables, comparisons, leaderboard, report, model cards and docs/reference/metrics.md follow METRICS and its order.
similarity.py, identity.py, fidelity.py and memorisation.py say how each can be fooled. docs/contributing/index.md adds
a metric as an example.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sticker_pipeline.benchmark.bootstrap import Estimate
from sticker_pipeline.benchmark.evaluation import GeneratedImages, MediumContext
from sticker_pipeline.benchmark.fidelity import prompt_fidelity
from sticker_pipeline.benchmark.identity import identity_retrieval, reference_retrieval
from sticker_pipeline.benchmark.memorisation import (
    copied_share,
    fair_copied_share,
    fair_source_share,
    nearest_training,
    nearest_training_excess,
    one_source_share,
)
from sticker_pipeline.benchmark.similarity import (
    centroid_similarity,
    clip_similarity,
    diversity,
    reference_centroid_similarity,
    reference_similarity,
    similarity_gain,
    style_similarity,
    trigger_effect,
)

VERSION = "4"  # of the benchmark's code: raise it with METRICS, so that characters are measured again
SIMILARITY, GAIN, COPIES, TRIGGER = "clip_similarity", "clip_similarity_gain", "copies", "trigger_effect"
Better = Literal["higher", "lower", ""]


@dataclass(frozen=True)
class Metric:
    """The presentation of a metric.

    name: in tables and files; never changed. title: a short heading. meaning: a sentence without its full stop. better:
    the better direction, or "". form: format of its values, in Python's format language.
    """

    name: str
    title: str
    meaning: str
    better: Better
    form: str = ".3f"


@dataclass(frozen=True)
class Measure(Metric):
    """A metric of the benchmark with its functions; None: no row.

    of_model: of a model's images. of_holdout: of held-out images among themselves. of_chance: by chance. over_base: it
    is already a difference to the base model, so models are not compared by it.
    """

    of_model: Callable[[GeneratedImages, MediumContext], Estimate | None] = lambda images, medium: None
    of_holdout: Callable[[MediumContext], Estimate | None] = lambda medium: None
    of_chance: Callable[[MediumContext], Estimate | None] = lambda medium: None
    over_base: bool = False


def _gain(images: GeneratedImages, medium: MediumContext) -> Estimate | None:
    if medium.base is None or images is medium.base:
        return None
    return similarity_gain(images.embeddings, medium.base.embeddings, medium.sources, **medium.resampled)


def _excess(images: GeneratedImages, medium: MediumContext) -> Estimate:
    holdout = medium.holdout
    return nearest_training_excess(
        images.embeddings, medium.training.vectors, holdout.vectors, holdout.sources, **medium.resampled
    )


def _copies(images: GeneratedImages, medium: MediumContext) -> Estimate:
    holdout = medium.holdout
    return copied_share(
        images.embeddings, medium.training.vectors, holdout.vectors, holdout.sources, **medium.resampled
    )


def _holdout_copies(medium: MediumContext) -> Estimate:
    holdout = medium.holdout
    return copied_share(holdout.vectors, medium.training.vectors, holdout.vectors, holdout.sources, **medium.bootstrap)


def _even_sources(medium: MediumContext) -> Estimate:
    """Share by chance over the medium's training sources (all, without any)."""
    training = medium.training
    own = {source for source, name in zip(training.sources, training.mediums, strict=True) if name == medium.name}
    return fair_source_share(medium.images, len(own or set(training.sources)), **medium.bootstrap)


def _identity(images: GeneratedImages, medium: MediumContext) -> Estimate | None:
    if medium.others is None:
        return None
    return identity_retrieval(images.embeddings, medium.sources, medium.others, **medium.resampled)


def _holdout_identity(medium: MediumContext) -> Estimate | None:
    return None if medium.others is None else reference_retrieval(medium.sources, medium.others, **medium.bootstrap)


def _guess(medium: MediumContext) -> Estimate | None:
    if not medium.others:
        return None
    characters = len(medium.others) + 1
    return Estimate(1.0 / characters, float("nan"), float("nan"), characters)


def _medium(images: GeneratedImages, medium: MediumContext) -> Estimate | None:
    return None if medium.others is None else style_similarity(images.embeddings, medium.alike, **medium.resampled)


def _holdout_medium(medium: MediumContext) -> Estimate | None:
    """None where the character's own sources represent the medium."""
    if not medium.others or medium.alike[0] is medium.sources:
        return None
    return style_similarity(medium.sources, medium.alike, **medium.bootstrap)


def _fidelity(images: GeneratedImages, medium: MediumContext) -> Estimate | None:
    if images.tags is None or medium.requests is None:
        return None
    return prompt_fidelity(images.tags, medium.tag_names, medium.requests.attributes, **medium.resampled)


def _trigger(images: GeneratedImages, medium: MediumContext) -> Estimate | None:
    if images.without_trigger is None:
        return None
    return trigger_effect(images.embeddings, images.without_trigger, medium.sources, **medium.resampled)


_ROWS = (
    Measure(
        SIMILARITY,
        "similarity",
        "mean CLIP cosine to held-out images, which were never trained on",
        "higher",
        of_model=lambda images, medium: clip_similarity(images.embeddings, medium.sources, **medium.resampled),
        of_holdout=lambda medium: reference_similarity(medium.sources, **medium.bootstrap),
    ),
    Measure(
        GAIN,
        "gain over base",
        "similarity less the base model's, same prompts and seeds",
        "higher",
        "+.3f",
        of_model=_gain,
        over_base=True,
    ),
    Measure(
        "diversity",
        "diversity",
        "mean distance between images; near 0 all are the same",
        "",
        of_model=lambda images, medium: diversity(images.embeddings, **medium.resampled),
        of_holdout=lambda medium: diversity(medium.sources, **medium.bootstrap),
    ),
    Measure(
        "nearest_training",
        "nearest training image",
        "cosine to it; if it is well above that of held-out images, the LoRA copies",
        "",
        of_model=lambda images, medium: nearest_training(
            images.embeddings, medium.training.vectors, **medium.resampled
        ),
        of_holdout=lambda medium: nearest_training(medium.holdout.vectors, medium.training.vectors, **medium.bootstrap),
    ),
    Measure(
        "nearest_training_excess",
        "nearer than held-out",
        "how much nearer to training images than held-out images are",
        "lower",
        "+.3f",
        of_model=_excess,
    ),
    Measure(
        COPIES,
        "copies",
        "share nearer to a training image than 95 % of the held-out images are",
        "lower",
        ".0%",
        of_model=_copies,
        of_holdout=_holdout_copies,
        of_chance=lambda medium: fair_copied_share(len(medium.sources)),
    ),
    Measure(
        "one_source_share",
        "in one source",
        "largest share whose nearest training image is in one source",
        "lower",
        ".0%",
        of_model=lambda images, medium: one_source_share(
            images.embeddings, medium.training.vectors, medium.training.sources, **medium.resampled
        ),
        of_chance=_even_sources,
    ),
    Measure(
        "centroid_similarity",
        "to the mean image",
        "cosine to the mean of the held-out images",
        "higher",
        of_model=lambda images, medium: centroid_similarity(images.embeddings, medium.sources, **medium.resampled),
        of_holdout=lambda medium: reference_centroid_similarity(medium.sources, **medium.bootstrap),
    ),
    Measure(
        "identity",
        "right character",
        "share of images that are nearer to this character than to any other",
        "higher",
        ".0%",
        of_model=_identity,
        of_holdout=_holdout_identity,
        of_chance=_guess,
    ),
    Measure(
        "style_similarity",
        "style",
        "cosine to other characters in the same medium: the manner of drawing",
        "",
        of_model=_medium,
        of_holdout=_holdout_medium,
    ),
    Measure(
        "prompt_fidelity",
        "prompt fidelity",
        "share of the prompted tags that the tagger finds",
        "higher",
        ".0%",
        of_model=_fidelity,
    ),
    Measure(
        TRIGGER,
        "trigger effect",
        "similarity with the trigger less that without it",
        "higher",
        "+.3f",
        of_model=_trigger,
    ),
)
METRICS: Mapping[str, Measure] = {row.name: row for row in _ROWS}
"""By name, in the order in which tables and pages show them."""


def described(name: str) -> Metric:
    """The metric `name`; one of another version has only its name."""
    return METRICS.get(name) or Metric(name, name.replace("_", " "), "", "")


def trigger_note(lowest: Mapping[str, float | None]) -> str:
    """Return a sentence if a LoRA's trigger adds nothing, else "".

    lowest: metric -> lower end of its interval (NaN or None: none), of the LoRA over all mediums. It adds nothing where
    that of the trigger effect is not above 0. That the LoRA alone makes the character is said only if it gains over the
    base model.
    """
    effect, gain = lowest.get(TRIGGER), lowest.get(GAIN)
    if effect is None or not effect <= 0:
        return ""
    why = ": the LoRA alone makes the character" if gain is not None and gain > 0 else ""
    return f"The trigger adds nothing measurable{why}."


def signed(form: str) -> str:
    """Format of differences between values in the format `form`."""
    return f"+{form.lstrip('+')}"


def written(mean: float, low: float, high: float, form: str) -> str:
    """Format a mean and its interval (NaN: none) by `form`."""
    interval = "" if np.isnan(low) or np.isnan(high) else f" [{low:{form}}, {high:{form}}]"
    return f"{mean:{form}}{interval}"
