"""Every metric of every model in every medium."""

from collections.abc import Mapping
from dataclasses import dataclass

from sticker_pipeline.benchmark.bootstrap import Estimate, average
from sticker_pipeline.benchmark.evaluation import (
    FEW_PROMPTS,
    EvaluationContext,
    GeneratedImages,
    MediumContext,
    medium_context,
)
from sticker_pipeline.benchmark.fidelity import unknown_tags
from sticker_pipeline.benchmark.metrics import METRICS
from sticker_pipeline.core.character import OUR_MODELS
from sticker_pipeline.core.texts import are, counted
from sticker_pipeline.core.verdict import listed
from sticker_pipeline.generation.recommended import at_most

BASE, LORA, RELEASED, REFERENCE, CHANCE = "base", "lora", "released", "reference", "chance"
NO_MODELS = (REFERENCE, CHANCE)  # rows that models are compared with
RECOMMENDED = "LoRA in at most "  # name prefix of `lora` in a recommended setting; no rival can have it
OVERALL = "all"  # the medium of means over mediums
FEW_SOURCES = 5  # with fewer, "95 %" intervals cover the truth clearly less often (see clip_similarity)


def recommended_model(budget: int) -> str:
    """Name our LoRA in the setting recommended for at most `budget` steps."""
    return f"LoRA in {at_most(budget)}"


def is_recommended(model: str) -> bool:
    """True for our LoRA in a recommended setting."""
    return model.startswith(RECOMMENDED)


def is_rival(model: str) -> bool:
    return model not in OUR_MODELS and not is_recommended(model)


def by_name(model: str) -> tuple[bool, int, str]:
    """Sort key: recommended settings by budget, then other models by name."""
    return (False, len(model), model) if is_recommended(model) else (True, 0, model)


@dataclass(frozen=True)
class Measured:
    """(model, medium, metric) -> estimate, of single mediums.

    left_out: sentences on missing rows and too narrow intervals, with reasons.
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
    """Compute METRICS for each model and medium that allow it.

    Arguments as for `benchmark_table`.
    """
    estimates: dict[tuple[str, str, str], Estimate] = {}
    left_out = []
    for name in sorted({medium for mediums in generated.values() for medium in mediums}):
        if name not in context.references or not len(context.references[name].vectors):
            left_out.append(
                f"Medium '{name}' has no row: no image of it is held out. Give it more sources, or name files in "
                "benchmark.holdout of character.yaml."
            )
            continue
        models = {model: mediums[name] for model, mediums in generated.items() if name in mediums}
        images = len(next(iter(models.values())).embeddings)
        medium = medium_context(name, context, base=models.get(BASE), images=images, samples=samples, seed=seed)
        left_out += [*_too_few(medium), *_cannot_be_had(medium, models)]
        estimates |= _of_medium(models, medium)
    return Measured(estimates, left_out)


def overall(mediums: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """OVERALL -> the plain mean over the mediums; empty without any."""
    return {OVERALL: average([mediums[name] for name in sorted(mediums)])} if mediums else {}


def _of_medium(models: Mapping[str, GeneratedImages], medium: MediumContext) -> dict[tuple[str, str, str], Estimate]:
    found: dict[tuple[str, str, str], Estimate | None] = {}
    for metric, row in METRICS.items():
        found |= {(model, medium.name, metric): row.of_model(images, medium) for model, images in models.items()}
        found[REFERENCE, medium.name, metric] = row.of_holdout(medium)
        found[CHANCE, medium.name, metric] = row.of_chance(medium)
    return {key: value for key, value in found.items() if value is not None}


def _too_few(medium: MediumContext) -> list[str]:
    return [*_too_few_sources(medium), *_too_few_prompts(medium)]


def _too_few_prompts(medium: MediumContext) -> list[str]:
    if not medium.few_prompts:
        return []
    return [
        f"Medium '{medium.name}': there are fewer than {FEW_PROMPTS} prompts, so its intervals do not cover other "
        "prompts."
    ]


def _too_few_sources(medium: MediumContext) -> list[str]:
    sources = len(medium.sources)
    if sources >= FEW_SOURCES:
        return []
    if sources == 1:
        return [
            f"Medium '{medium.name}' has no reference rows for similarity and diversity, and its intervals do not "
            "cover other references: only one source is held out."
        ]
    return [
        f"Medium '{medium.name}': only {counted(sources, 'source')} {are(sources)} held out, so its intervals are "
        "narrower than they should be."
    ]


def _cannot_be_had(medium: MediumContext, models: Mapping[str, GeneratedImages]) -> list[str]:
    """Explain missing rows and incomplete metrics that have inputs."""
    sentences = []
    if medium.others is not None and not medium.others:
        sentences.append(
            f"Medium '{medium.name}' has no row for identity: there is no other character to compare with. "
            "Its style_similarity is to the character's own images."
        )
    if medium.requests and any(images.tags is not None for images in models.values()):
        unknown = unknown_tags(medium.requests.attributes, medium.tag_names)
        if unknown:
            sentences.append(
                f"Medium '{medium.name}': prompt_fidelity does not count words that the tagger has no tag for: "
                f"{listed(unknown)}."
            )
    return sentences
