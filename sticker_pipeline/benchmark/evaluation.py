"""Images of a benchmark, and the context for their evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sticker_pipeline.benchmark.similarity import source_means

FEW_PROMPTS = 3  # with fewer, single images are resampled: intervals do not cover other prompts


@dataclass(frozen=True)
class Embeddings:
    """Given images: `vectors` float[n, d] of length 1, each with source and medium.

    `mediums` may be empty with one medium, or where unused.
    """

    vectors: np.ndarray
    sources: Sequence[str]
    mediums: Sequence[str] = ()


@dataclass(frozen=True)
class GeneratedImages:
    """Images of one model for the requests of one medium, in order.

    embeddings: float[n, d] of length 1. without_trigger: those of the same requests without the trigger. tags: the
    tagger's tags found, bool[n, tags] (see `fidelity.found_tags`). Metrics that need a missing one have no row.
    """

    embeddings: np.ndarray
    without_trigger: np.ndarray | None = None
    tags: np.ndarray | None = None


@dataclass(frozen=True)
class Requests:
    """The requests of one medium, row by row as the images.

    attributes: the free attributes of each prompt. prompts: if None, or fewer than FEW_PROMPTS different ones, single
    images are resampled (see bootstrap.py).
    """

    attributes: Sequence[str]
    prompts: Sequence[str] | None = None


@dataclass(frozen=True)
class EvaluationContext:
    """Everything that images of one character are evaluated with.

    references: medium -> held-out images. training: all training images, with mediums. others: other character ->
    medium -> held-out images (None: not read; metrics that need them have no rows). tag_names: the tagger's tags.
    """

    references: Mapping[str, Embeddings]
    training: Embeddings
    others: Mapping[str, Mapping[str, Embeddings]] | None = None
    requests: Mapping[str, Requests] = field(default_factory=dict)
    tag_names: Sequence[str] = ()


@dataclass(frozen=True)
class MediumContext:
    """The evaluation context of one medium, shared by all metrics and models.

    sources: a row per held-out source. others: for each other character the sources that represent it, or None (not
    read). alike: for each character the sources that represent the medium. base: the base model's images for the same
    requests, or None. images: of each model. bootstrap: arguments `samples` and `seed` of every estimate.
    """

    name: str
    holdout: Embeddings
    sources: np.ndarray
    training: Embeddings
    others: list[np.ndarray] | None
    alike: list[np.ndarray]
    requests: Requests | None
    tag_names: Sequence[str]
    base: GeneratedImages | None
    images: int
    bootstrap: dict[str, Any]

    @property
    def few_prompts(self) -> bool:
        """True with too few prompts to resample them whole."""
        prompts = self.requests and self.requests.prompts
        return bool(prompts and len(set(prompts)) < FEW_PROMPTS)

    @property
    def resampled(self) -> dict[str, Any]:
        """Arguments of estimates of generated images: `samples`, `seed`, `prompts`."""
        prompts = self.requests.prompts if self.requests and not self.few_prompts else None
        return self.bootstrap | {"prompts": prompts}


def medium_context(
    name: str,
    context: EvaluationContext,
    *,
    base: GeneratedImages | None,
    images: int,
    samples: int,
    seed: int,
) -> MediumContext:
    """Context of the medium `name`, which has held-out images.

    Another character is represented by its sources in this medium, or by all of them where it has none; the medium by
    the others' sources in it, or by the character's own where no other has any.
    """
    holdout = context.references[name]
    sources = source_means(holdout.vectors, holdout.sources)
    others = [
        {medium: source_means(each.vectors, each.sources) for medium, each in mediums.items() if len(each.vectors)}
        for _, mediums in sorted((context.others or {}).items())
    ]
    stand_for = [known[name] if name in known else np.concatenate(list(known.values())) for known in others if known]
    return MediumContext(
        name=name,
        holdout=holdout,
        sources=sources,
        training=context.training,
        others=None if context.others is None else stand_for,
        alike=[known[name] for known in others if name in known] or [sources],
        requests=context.requests.get(name),
        tag_names=context.tag_names,
        base=base,
        images=images,
        bootstrap={"samples": samples, "seed": seed},
    )
