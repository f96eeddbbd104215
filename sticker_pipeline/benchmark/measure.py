"""Every metric of every model in every style.

Metrics are in metrics.py, intervals in bootstrap.py, rows and their order in tables.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sticker_pipeline.benchmark.bootstrap import Estimate, average
from sticker_pipeline.benchmark.evaluation import (
    FEW_PROMPTS,
    EvaluationContext,
    GeneratedImages,
    StyleContext,
    style_context,
)
from sticker_pipeline.benchmark.fidelity import unknown_tags
from sticker_pipeline.benchmark.metrics import METRICS
from sticker_pipeline.core.character import OUR_MODELS
from sticker_pipeline.core.verdict import listed

BASE, LORA, RELEASED, REFERENCE, CHANCE = "base", "lora", "released", "reference", "chance"
NO_MODELS = (REFERENCE, CHANCE)  # rows that models are compared with
RECOMMENDED = "LoRA in at most "  # prefix of `lora` in a recommended setting; no rival can have it
OVERALL = "all"  # the style of means over styles
FEW_SOURCES = 5  # with fewer, "95 %" intervals cover the truth in clearly fewer cases (see clip_similarity)


def recommended_model(budget: int) -> str:
    """Name our LoRA in the setting recommended for at most `budget` steps."""
    return f"LoRA in {at_most(budget)}"


def at_most(budget: int) -> str:
    return f"at most {budget} step{'s' if budget != 1 else ''}"


def is_recommended(model: str) -> bool:
    """True for our LoRA in a recommended setting (no other LoRA)."""
    return model.startswith(RECOMMENDED)


def is_rival(model: str) -> bool:
    return model not in OUR_MODELS and not is_recommended(model)


def by_name(model: str) -> tuple[bool, int, str]:
    """Sort key: recommended settings by budget, then other models by name."""
    return (False, len(model), model) if is_recommended(model) else (True, 0, model)


@dataclass(frozen=True)
class Measured:
    """(model, style, metric) -> estimate, of single styles.

    left_out: a sentence each on what has none or too narrow an interval, and why.
    """

    estimates: dict[tuple[str, str, str], Estimate]
    left_out: list[str]


def measure(
    generated: Mapping[str, Mapping[str, GeneratedImages]],
    context: EvaluationContext,
    *,
    samples: int = 2_000,
    seed: int = 0,
) -> Measured:
    """Compute METRICS for each model and style that allow it.

    Arguments as for `benchmark_table`.
    """
    estimates: dict[tuple[str, str, str], Estimate] = {}
    left_out = []
    for name in sorted({style for styles in generated.values() for style in styles}):
        if name not in context.references or not len(context.references[name].vectors):
            left_out.append(
                f"Style '{name}' has no row: no image of it is held out. Give it more sources, or name files in "
                "benchmark.holdout of character.yaml."
            )
            continue
        models = {model: styles[name] for model, styles in generated.items() if name in styles}
        images = len(next(iter(models.values())).embeddings)
        style = style_context(name, context, base=models.get(BASE), images=images, samples=samples, seed=seed)
        left_out += [*_too_few(style), *_cannot_be_had(style, models)]
        estimates |= _of_style(models, style)
    return Measured(estimates, left_out)


def overall(styles: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """OVERALL -> the plain mean over the styles; empty without any."""
    return {OVERALL: average([styles[name] for name in sorted(styles)])} if styles else {}


def _of_style(models: Mapping[str, GeneratedImages], style: StyleContext) -> dict[tuple[str, str, str], Estimate]:
    found: dict[tuple[str, str, str], Estimate | None] = {}
    for metric, row in METRICS.items():
        found |= {(model, style.name, metric): row.of_model(images, style) for model, images in models.items()}
        found[REFERENCE, style.name, metric] = row.of_holdout(style)
        found[CHANCE, style.name, metric] = row.of_chance(style)
    return {key: value for key, value in found.items() if value is not None}


def _too_few(style: StyleContext) -> list[str]:
    return [*_too_few_sources(style), *_too_few_prompts(style)]


def _too_few_prompts(style: StyleContext) -> list[str]:
    if not style.few_prompts:
        return []
    return [
        f"Style '{style.name}': there are fewer than {FEW_PROMPTS} prompts, so its intervals say nothing of others."
    ]


def _too_few_sources(style: StyleContext) -> list[str]:
    sources = len(style.sources)
    if sources >= FEW_SOURCES:
        return []
    if sources == 1:
        return [
            f"Style '{style.name}' has no reference rows for similarity and diversity, and its intervals say nothing "
            "about other references: only one source is held out."
        ]
    return [
        f"Style '{style.name}': only {sources} sources are held out, so its intervals are narrower than they should be."
    ]


def _cannot_be_had(style: StyleContext, models: Mapping[str, GeneratedImages]) -> list[str]:
    """Explain missing rows and incomplete metrics that have inputs."""
    sentences = []
    if style.others is not None and not style.others:
        sentences.append(
            f"Style '{style.name}' has no row for identity: there is no other character to be taken for. "
            "Its style_similarity is to the character's own images."
        )
    if style.requests and any(images.tags is not None for images in models.values()):
        unknown = unknown_tags(style.requests.attributes, style.tag_names)
        if unknown:
            sentences.append(
                f"Style '{style.name}': prompt_fidelity does not count what the tagger has no tag for: "
                f"{listed(unknown)}."
            )
    return sentences
