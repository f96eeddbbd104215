"""The images that a benchmark looks at, and the context of one character and one style that they are evaluated in.

The metrics themselves belong to metrics.py; who evaluates which model in which style, to measure.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sticker_pipeline.benchmark.similarity import source_means

FEW_PROMPTS = 3  # with fewer, whole prompts cannot be resampled: intervals are then about these very prompts


@dataclass(frozen=True)
class Embeddings:
    """Images that people gave: `vectors` float[n, d] of length 1, and the source and the style of each row.

    `styles` may be empty where all images have one style, or where nobody asks for it.
    """

    vectors: np.ndarray
    sources: Sequence[str]
    styles: Sequence[str] = ()


@dataclass(frozen=True)
class GeneratedImages:
    """Images of one model for the requests of one style, row by row.

    embeddings: float[n, d] of length 1. without_trigger: those of the same requests without the trigger. tags: which of
    the tagger's tags are found on each, bool[n, tags] (see `fidelity.found_tags`). Metrics of what is None have no row.
    """

    embeddings: np.ndarray
    without_trigger: np.ndarray | None = None
    tags: np.ndarray | None = None


@dataclass(frozen=True)
class Requests:
    """The requests of one style, row by row as the images: the free attributes of each prompt, and the prompt.

    `prompts` None, or fewer than FEW_PROMPTS different ones: every image is resampled by itself (see bootstrap.py).
    """

    attributes: Sequence[str]
    prompts: Sequence[str] | None = None


@dataclass(frozen=True)
class EvaluationContext:
    """All that images of one character are evaluated with.

    references: style -> held-out images. training: all training images, with their styles. others: of each other
    character the held-out images by style (None: not looked at, and metrics that need them have no rows). requests:
    style -> what was asked for. tag_names: the tagger's tags.
    """

    references: Mapping[str, Embeddings]
    training: Embeddings
    others: Mapping[str, Mapping[str, Embeddings]] | None = None
    requests: Mapping[str, Requests] = field(default_factory=dict)
    tag_names: Sequence[str] = ()


@dataclass(frozen=True)
class StyleContext:
    """The evaluation context of one style; each metric is computed from this and a model's images.

    sources: a row for each held-out source. others: for each other character the sources that stand for it, None where
    nobody looked. alike: for each character the sources that stand for the style. base: the base model's images for the
    same requests, None where there are none. images: the number of images of each model. bootstrap: the arguments
    `samples` and `seed` of every estimate."""

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
        """Whether there are too few prompts to resample them whole."""
        prompts = self.requests and self.requests.prompts
        return bool(prompts and len(set(prompts)) < FEW_PROMPTS)

    @property
    def resampled(self) -> dict[str, Any]:
        """Arguments of every estimate about generated images: `samples`, `seed` and `prompts`."""
        prompts = self.requests.prompts if self.requests and not self.few_prompts else None
        return self.bootstrap | {"prompts": prompts}


def style_context(
    name: str,
    context: EvaluationContext,
    *,
    base: GeneratedImages | None,
    images: int,
    samples: int,
    seed: int,
) -> StyleContext:
    """Return the context of the style `name`, which has held-out images.

    Another character is known by its sources in this style, or by all that it has where it has none in this style. The
    style itself is known by what others have in it, or by the character's own where nobody else has any.
    """
    holdout = context.references[name]
    sources = source_means(holdout.vectors, holdout.sources)
    others = [
        {style: source_means(each.vectors, each.sources) for style, each in styles.items() if len(each.vectors)}
        for _, styles in sorted((context.others or {}).items())
    ]
    stand_for = [known[name] if name in known else np.concatenate(list(known.values())) for known in others if known]
    return StyleContext(
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
