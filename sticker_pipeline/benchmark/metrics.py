"""The metrics of the benchmark: one row for each. Adding one is a row here and the function that computes it.

Tables, comparisons, leaderboard, report, model cards and docs/reference/metrics.md follow METRICS and its order. The
functions are those of similarity.py, identity.py, fidelity.py and memorisation.py, where a docstring says for each how
it can be fooled. docs/contributing/index.md adds a metric as an example.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sticker_pipeline.benchmark.bootstrap import Estimate
from sticker_pipeline.benchmark.evaluation import GeneratedImages, StyleContext
from sticker_pipeline.benchmark.fidelity import prompt_fidelity
from sticker_pipeline.benchmark.identity import identity_retrieval, reference_retrieval
from sticker_pipeline.benchmark.memorisation import (
    copied_share,
    fair_clip_share,
    fair_copied_share,
    nearest_training,
    nearest_training_excess,
    one_clip_share,
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

VERSION = "4"  # of the benchmark's code: raise it with METRICS, so that characters are measured anew
SIMILARITY, GAIN, COPIES = "clip_similarity", "clip_similarity_gain", "copies"
Better = Literal["higher", "lower", ""]


@dataclass(frozen=True)
class Metric:
    """What people see of a metric.

    name: in tables and files, and never changed. title: a heading of few words. meaning: a sentence without its full
    stop. better: which way is, "" where neither is. form: how its values are written, in Python's format language.
    """

    name: str
    title: str
    meaning: str
    better: Better
    form: str = ".3f"


@dataclass(frozen=True)
class Measure(Metric):
    """A metric of the benchmark with the functions that compute it; None: it has no row there.

    of_model: of a model's images. of_held_out: of the held-out images among themselves. of_chance: of no model's merit.
    over_base: it is a difference to the base model already, so models are not compared by it once more.
    """

    of_model: Callable[[GeneratedImages, StyleContext], Estimate | None] = lambda images, style: None
    of_held_out: Callable[[StyleContext], Estimate | None] = lambda style: None
    of_chance: Callable[[StyleContext], Estimate | None] = lambda style: None
    over_base: bool = False


def _gain(images: GeneratedImages, style: StyleContext) -> Estimate | None:
    if style.base is None or images is style.base:
        return None
    return similarity_gain(images.embeddings, style.base.embeddings, style.clips, **style.resampled)


def _excess(images: GeneratedImages, style: StyleContext) -> Estimate:
    held_out = style.held_out
    return nearest_training_excess(
        images.embeddings, style.training.vectors, held_out.vectors, held_out.clips, **style.resampled
    )


def _copies(images: GeneratedImages, style: StyleContext) -> Estimate:
    held_out = style.held_out
    return copied_share(images.embeddings, style.training.vectors, held_out.vectors, held_out.clips, **style.resampled)


def _held_out_copies(style: StyleContext) -> Estimate:
    held_out = style.held_out
    return copied_share(held_out.vectors, style.training.vectors, held_out.vectors, held_out.clips, **style.bootstrap)


def _even_clips(style: StyleContext) -> Estimate:
    """Nearest clips spread evenly over the training clips of the style (over all, where it has none)."""
    training = style.training
    own = {clip for clip, name in zip(training.clips, training.styles, strict=True) if name == style.name}
    return fair_clip_share(style.images, len(own or set(training.clips)), **style.bootstrap)


def _identity(images: GeneratedImages, style: StyleContext) -> Estimate | None:
    if style.others is None:
        return None
    return identity_retrieval(images.embeddings, style.clips, style.others, **style.resampled)


def _held_out_identity(style: StyleContext) -> Estimate | None:
    return None if style.others is None else reference_retrieval(style.clips, style.others, **style.bootstrap)


def _guess(style: StyleContext) -> Estimate | None:
    """A guess among all characters."""
    if not style.others:
        return None
    characters = len(style.others) + 1
    return Estimate(1.0 / characters, float("nan"), float("nan"), characters)


def _style(images: GeneratedImages, style: StyleContext) -> Estimate | None:
    return None if style.others is None else style_similarity(images.embeddings, style.alike, **style.resampled)


def _held_out_style(style: StyleContext) -> Estimate | None:
    """None where the style is known by the character's own clips."""
    if not style.others or style.alike[0] is style.clips:
        return None
    return style_similarity(style.clips, style.alike, **style.bootstrap)


def _fidelity(images: GeneratedImages, style: StyleContext) -> Estimate | None:
    if images.tags is None or style.requests is None:
        return None
    return prompt_fidelity(images.tags, style.tag_names, style.requests.attributes, **style.resampled)


def _trigger(images: GeneratedImages, style: StyleContext) -> Estimate | None:
    if images.without_trigger is None:
        return None
    return trigger_effect(images.embeddings, images.without_trigger, style.clips, **style.resampled)


_ROWS = (
    Measure(
        SIMILARITY,
        "similarity",
        "mean CLIP cosine to held-out images, which were never trained on",
        "higher",
        of_model=lambda images, style: clip_similarity(images.embeddings, style.clips, **style.resampled),
        of_held_out=lambda style: reference_similarity(style.clips, **style.bootstrap),
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
        of_model=lambda images, style: diversity(images.embeddings, **style.resampled),
        of_held_out=lambda style: diversity(style.clips, **style.bootstrap),
    ),
    Measure(
        "nearest_training",
        "nearest training image",
        "cosine to it; well above the held-out images' own figure, the LoRA copies",
        "",
        of_model=lambda images, style: nearest_training(images.embeddings, style.training.vectors, **style.resampled),
        of_held_out=lambda style: nearest_training(style.held_out.vectors, style.training.vectors, **style.bootstrap),
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
        of_held_out=_held_out_copies,
        of_chance=lambda style: fair_copied_share(len(style.clips)),
    ),
    Measure(
        "one_clip_share",
        "in one clip",
        "largest share whose nearest training image is in one clip",
        "lower",
        ".0%",
        of_model=lambda images, style: one_clip_share(
            images.embeddings, style.training.vectors, style.training.clips, **style.resampled
        ),
        of_chance=_even_clips,
    ),
    Measure(
        "centroid_similarity",
        "to the mean image",
        "cosine to the mean of the held-out images",
        "higher",
        of_model=lambda images, style: centroid_similarity(images.embeddings, style.clips, **style.resampled),
        of_held_out=lambda style: reference_centroid_similarity(style.clips, **style.bootstrap),
    ),
    Measure(
        "identity",
        "right character",
        "share of images that are nearer to this character than to any other",
        "higher",
        ".0%",
        of_model=_identity,
        of_held_out=_held_out_identity,
        of_chance=_guess,
    ),
    Measure(
        "style_similarity",
        "style",
        "cosine to other characters in the same style: the manner of drawing",
        "",
        of_model=_style,
        of_held_out=_held_out_style,
    ),
    Measure(
        "prompt_fidelity",
        "does as told",
        "share of the prompted tags that the tagger finds",
        "higher",
        ".0%",
        of_model=_fidelity,
    ),
    Measure(
        "trigger_effect",
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
    """Return the metric `name`; one that an older or newer version measured is described by its name alone."""
    return METRICS.get(name) or Metric(name, name.replace("_", " "), "", "")


def signed(form: str) -> str:
    """Return the format of differences between values in the format `form`."""
    return f"+{form.lstrip('+')}"


def written(mean: float, low: float, high: float, form: str) -> str:
    """Return a mean with its interval, if it has one (else NaN), in the format `form`."""
    interval = "" if np.isnan(low) or np.isnan(high) else f" [{low:{form}}, {high:{form}}]"
    return f"{mean:{form}}{interval}"
