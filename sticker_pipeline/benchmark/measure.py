"""Which figures a benchmark has: every metric, of every model, in every style, from what it is given.

What a metric is belongs to similarity.py, identity.py, fidelity.py and memorisation.py; how an interval comes about to
bootstrap.py; rows and their order to tables.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sticker_pipeline.benchmark.bootstrap import Estimate, average
from sticker_pipeline.benchmark.fidelity import prompt_fidelity, unknown_tags
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
    clip_means,
    clip_similarity,
    diversity,
    reference_centroid_similarity,
    reference_similarity,
    similarity_gain,
    style_similarity,
    trigger_effect,
)
from sticker_pipeline.character import OUR_MODELS
from sticker_pipeline.verdict import listed

BASE, LORA, RELEASED, REFERENCE, CHANCE = "base", "lora", "released", "reference", "chance"
NO_MODELS = (REFERENCE, CHANCE)  # rows that say what to hold models against
RECOMMENDED = "LoRA in at most "  # so begin the rows of `lora` in a recommended setting; no rival can be called so
OVERALL = "all"  # the style that stands for all of them
GAIN = "clip_similarity_gain"
METRICS = (
    "clip_similarity",
    GAIN,
    "diversity",
    "nearest_training",
    "nearest_training_excess",
    "copies",
    "one_clip_share",
    "centroid_similarity",
    "identity",
    "style_similarity",
    "prompt_fidelity",
    "trigger_effect",
)
FEW_PROMPTS = 3  # with fewer, whole prompts cannot be resampled: intervals are then about these very prompts
FEW_CLIPS = 5  # with fewer, "95 %" intervals cover the truth in clearly fewer cases (see clip_similarity)


def recommended_model(budget: int) -> str:
    """What our LoRA is called in the setting that is recommended for at most `budget` steps."""
    return f"LoRA in {at_most(budget)}"


def at_most(budget: int) -> str:
    return f"at most {budget} step{'s' if budget != 1 else ''}"


def is_recommended(model: str) -> bool:
    """Whether these are rows of our LoRA in a recommended setting: another way to draw, and no other LoRA."""
    return model.startswith(RECOMMENDED)


def is_rival(model: str) -> bool:
    return model not in OUR_MODELS and not is_recommended(model)


def by_name(model: str) -> tuple[bool, int, str]:
    """Sorts models: recommended settings by their budgets, then the others by name."""
    return (False, len(model), model) if is_recommended(model) else (True, 0, model)


@dataclass(frozen=True)
class Pictures:
    """What one model drew for the requests of one style, row by row: unit embeddings float[n, d]; those of the same
    requests without the trigger; and which of the tagger's tags are found on each (bool[n, tags], see
    fidelity.found_tags). Metrics of what is None have no rows."""

    embeddings: np.ndarray
    without_trigger: np.ndarray | None = None
    tags: np.ndarray | None = None


@dataclass(frozen=True)
class References:
    """Pictures of one character in one style: unit embeddings float[m, d], and the clip that each row comes from."""

    embeddings: np.ndarray
    clips: Sequence[str]


@dataclass(frozen=True)
class Training:
    """All training pictures of a character: unit embeddings float[t, d], and the clip and style of each."""

    embeddings: np.ndarray
    clips: Sequence[str]
    styles: Sequence[str]


@dataclass(frozen=True)
class Requests:
    """What was asked for in one style, row by row as the pictures: the free attributes of the prompt, and the prompt
    (None, or fewer than FEW_PROMPTS: every picture is resampled by itself, see bootstrap.py)."""

    attributes: Sequence[str]
    prompts: Sequence[str] | None = None


@dataclass(frozen=True)
class Yardstick:
    """What pictures of one character are measured with.

    references: style -> held-out pictures. others: of each other character the same (None: not looked at, and metrics
    that need them have no rows). requests: style -> what was asked for. tag_names: the tagger's tags.
    """

    references: Mapping[str, References]
    training: Training
    others: Mapping[str, Mapping[str, References]] | None = None
    requests: Mapping[str, Requests] = field(default_factory=dict)
    tag_names: Sequence[str] = ()


@dataclass(frozen=True)
class Measured:
    """(model, style, metric) -> estimate, of single styles; and, a sentence each, what has none or too narrow an
    interval, and why."""

    estimates: dict[tuple[str, str, str], Estimate]
    left_out: list[str]


@dataclass(frozen=True)
class _Style:
    """The yardstick of one style. `clips`: one row for each held-out clip; `others`: for each other character the clips
    that stand for it, None where nobody looked; `alike`: for each character the clips that stand for the style; `how`:
    the arguments `samples` and `seed` of every metric."""

    name: str
    held_out: References
    clips: np.ndarray
    training: Training
    others: list[np.ndarray] | None
    alike: list[np.ndarray]
    requests: Requests | None
    tag_names: Sequence[str]
    how: dict[str, Any]


def measure(
    generated: Mapping[str, Mapping[str, Pictures]], yardstick: Yardstick, *, samples: int = 2_000, seed: int = 0
) -> Measured:
    """Every metric of METRICS for each model and style that it can be had for. Arguments as for `benchmark_table`."""
    estimates: dict[tuple[str, str, str], Estimate] = {}
    left_out = []
    for name in sorted({style for styles in generated.values() for style in styles}):
        if name not in yardstick.references or not len(yardstick.references[name].embeddings):
            left_out.append(
                f"Style '{name}' has no row: no picture of it is held out. Give it more clips, or name files in "
                "benchmark.holdout of character.yaml."
            )
            continue
        style = _style(name, yardstick, {"samples": samples, "seed": seed})
        drawn = {model: styles[name] for model, styles in generated.items() if name in styles}
        left_out += [*_too_few(style), *_cannot_be_had(style, drawn)]
        base = drawn.get(BASE)
        figures = {
            model: _of_model(pictures, style) | _gain(model, pictures, base, style) for model, pictures in drawn.items()
        }
        figures[REFERENCE] = _of_references(style)
        figures[CHANCE] = _of_chance(style, len(next(iter(drawn.values())).embeddings))
        for model, values in figures.items():
            estimates |= {(model, name, metric): value for metric, value in values.items() if value is not None}
    return Measured(estimates, left_out)


def overall(styles: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """OVERALL -> the plain mean over the styles; nothing where there is none."""
    return {OVERALL: average([styles[name] for name in sorted(styles)])} if styles else {}


def _style(name: str, yardstick: Yardstick, how: dict[str, Any]) -> _Style:
    """Another character is known by its clips in this style, or by all that it has where it has none in this style. The
    style itself is known by what others have in it, or by the character's own where nobody else has any."""
    held_out = yardstick.references[name]
    clips = clip_means(held_out.embeddings, held_out.clips)
    others = [
        {style: clip_means(each.embeddings, each.clips) for style, each in styles.items() if len(each.embeddings)}
        for _, styles in sorted((yardstick.others or {}).items())
    ]
    stand_for = [known[name] if name in known else np.concatenate(list(known.values())) for known in others if known]
    return _Style(
        name=name,
        held_out=held_out,
        clips=clips,
        training=yardstick.training,
        others=None if yardstick.others is None else stand_for,
        alike=[known[name] for known in others if name in known] or [clips],
        requests=yardstick.requests.get(name),
        tag_names=yardstick.tag_names,
        how=how,
    )


def _of_model(pictures: Pictures, style: _Style) -> dict[str, Estimate | None]:
    how = _for_pictures(style)
    images, clips, training, held_out = pictures.embeddings, style.clips, style.training, style.held_out
    figures: dict[str, Estimate | None] = {
        "clip_similarity": clip_similarity(images, clips, **how),
        "diversity": diversity(images, **how),
        "nearest_training": nearest_training(images, training.embeddings, **how),
        "nearest_training_excess": nearest_training_excess(
            images, training.embeddings, held_out.embeddings, held_out.clips, **how
        ),
        "copies": copied_share(images, training.embeddings, held_out.embeddings, held_out.clips, **how),
        "one_clip_share": one_clip_share(images, training.embeddings, training.clips, **how),
        "centroid_similarity": centroid_similarity(images, clips, **how),
    }
    if style.others is not None:
        figures["identity"] = identity_retrieval(images, clips, style.others, **how)
        figures["style_similarity"] = style_similarity(images, style.alike, **how)
    if pictures.tags is not None and style.requests is not None:
        figures["prompt_fidelity"] = prompt_fidelity(pictures.tags, style.tag_names, style.requests.attributes, **how)
    if pictures.without_trigger is not None:
        figures["trigger_effect"] = trigger_effect(images, pictures.without_trigger, clips, **how)
    return figures


def _gain(model: str, pictures: Pictures, base: Pictures | None, style: _Style) -> dict[str, Estimate | None]:
    if model == BASE or base is None:
        return {}
    return {GAIN: similarity_gain(pictures.embeddings, base.embeddings, style.clips, **_for_pictures(style))}


def _for_pictures(style: _Style) -> dict[str, Any]:
    return style.how | {"prompts": None if _few_prompts(style) else style.requests and style.requests.prompts}


def _few_prompts(style: _Style) -> bool:
    return bool(style.requests and style.requests.prompts and len(set(style.requests.prompts)) < FEW_PROMPTS)


def _of_references(style: _Style) -> dict[str, Estimate | None]:
    """What the metrics are of held-out pictures themselves, where that means anything."""
    held_out, training = style.held_out, style.training.embeddings
    figures: dict[str, Estimate | None] = {
        "clip_similarity": reference_similarity(style.clips, **style.how),
        "diversity": diversity(style.clips, **style.how),
        "nearest_training": nearest_training(held_out.embeddings, training, **style.how),
        "copies": copied_share(held_out.embeddings, training, held_out.embeddings, held_out.clips, **style.how),
        "centroid_similarity": reference_centroid_similarity(style.clips, **style.how),
    }
    if style.others is not None:
        figures["identity"] = reference_retrieval(style.clips, style.others, **style.how)
        if style.others and style.alike[0] is not style.clips:
            figures["style_similarity"] = style_similarity(style.clips, style.alike, **style.how)
    return figures


def _of_chance(style: _Style, images: int) -> dict[str, Estimate | None]:
    """What is no model's merit: a guess among the characters, what an honest model copies by chance, and nearest clips
    drawn evenly from the training clips of the style (from all, where it has none)."""
    training = style.training
    own = {clip for clip, name in zip(training.clips, training.styles, strict=True) if name == style.name}
    figures: dict[str, Estimate | None] = {
        "copies": fair_copied_share(len(style.clips)),
        "one_clip_share": fair_clip_share(images, len(own or set(training.clips)), **style.how),
    }
    if style.others:
        characters = len(style.others) + 1
        figures["identity"] = Estimate(1.0 / characters, float("nan"), float("nan"), characters)
    return figures


def _too_few(style: _Style) -> list[str]:
    return [*_too_few_clips(style), *_too_few_prompts(style)]


def _too_few_prompts(style: _Style) -> list[str]:
    if not _few_prompts(style):
        return []
    return [
        f"Style '{style.name}': there are fewer than {FEW_PROMPTS} prompts, so its intervals say nothing of others."
    ]


def _too_few_clips(style: _Style) -> list[str]:
    clips = len(style.clips)
    if clips >= FEW_CLIPS:
        return []
    if clips == 1:
        return [
            f"Style '{style.name}' has no reference rows for similarity and diversity, and its intervals say nothing "
            "about other references: only one clip is held out."
        ]
    return [
        f"Style '{style.name}': only {clips} clips are held out, so its intervals are narrower than they should be."
    ]


def _cannot_be_had(style: _Style, drawn: Mapping[str, Pictures]) -> list[str]:
    """Metrics that somebody gave something for, and that still have no row or leave something out."""
    sentences = []
    if style.others is not None and not style.others:
        sentences.append(
            f"Style '{style.name}' has no row for identity_retrieval: there is no other character to be taken for. "
            "Its style_similarity is to the character's own pictures."
        )
    if style.requests and any(pictures.tags is not None for pictures in drawn.values()):
        unknown = unknown_tags(style.requests.attributes, style.tag_names)
        if unknown:
            sentences.append(
                f"Style '{style.name}': prompt_fidelity does not count what the tagger has no tag for: "
                f"{listed(unknown)}."
            )
    return sentences
