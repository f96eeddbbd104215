"""Prompt following of images: share of prompted tags that the tagger finds.

`embedded/report.py` has the limits of these shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sticker_pipeline.embedded import base, tagger
from sticker_pipeline.embedded.dataset import Drawings
from sticker_pipeline.embedded.scene import VOCABULARY

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

SHORT = 5  # tags of a short prompt, about as many as in curated captions


@dataclass(frozen=True)
class Share:
    """Share (0–1) of `asked` prompted tags of a kind that the tagger finds."""

    found: float
    asked: int


@dataclass(frozen=True)
class Sampling:
    """A diffusers scheduler class by name, steps and guidance scale."""

    scheduler: str
    steps: int
    guidance: float


SAMPLERS = (
    Sampling("DDIMScheduler", 24, 4.0),
    Sampling("EulerDiscreteScheduler", 20, 4.0),
    Sampling("EulerAncestralDiscreteScheduler", 20, 4.0),
    Sampling("DPMSolverMultistepScheduler", 20, 4.0),
    Sampling("DPMSolverMultistepScheduler", 10, 4.0),
    Sampling("LCMScheduler", 8, 2.0),
    Sampling("LCMScheduler", 4, 2.0),
)
"""Samplers in the report: standard schedulers, and few steps as with LCM."""


def spread_rows(fresh: Drawings, count: int) -> np.ndarray:
    """Choose evenly spread rows int64 [count] of `fresh`, half stickers, half art."""
    kinds = (np.flatnonzero(fresh.sticker), np.flatnonzero(~fresh.sticker))
    halves = [rows[np.linspace(0, len(rows) - 1, count // 2).astype(int)] for rows in kinds]
    return np.sort(np.concatenate(halves))


def short_prompt(tags: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Sample SHORT of `tags` (all, if there are fewer), in random order."""
    return [tags[index] for index in rng.permutation(len(tags))[:SHORT]]


def draw(
    pipeline: StableDiffusionPipeline, prompts: Sequence[Sequence[str]], sampling: Sampling, *, seed: int
) -> np.ndarray:
    """Generate each prompt's image from its own noise: `uint8[N, 96, 96, 3]`."""
    import diffusers

    usual = pipeline.scheduler
    pipeline.scheduler = getattr(diffusers, sampling.scheduler).from_config(usual.config)
    try:
        texts = [", ".join(prompt) for prompt in prompts]
        images = base.samples(pipeline, texts, seed=seed, steps=sampling.steps, guidance=sampling.guidance)
    finally:
        pipeline.scheduler = usual
    return np.stack([np.asarray(image.convert("RGB")) for image in images])


def shares(models: Path, images: np.ndarray, prompts: Sequence[Sequence[str]]) -> dict[str, Share]:
    """Share by kind of prompted tags that the tagger in `models` finds.

    A found tag has a score of at least the tagger's threshold. `images`: RGB [N, 96, 96, 3] in 0–255, one per prompt.
    Kinds and their order: `VOCABULARY` in `embedded/scene.py`.
    """
    labels = tagger.read_labels(models / "tagger" / "selected_tags.csv")
    column = {label.name: number for number, label in enumerate(labels)}
    scores = tagger.score_images(models / "tagger" / "model.onnx", images)
    hits: dict[str, list[bool]] = {kind: [] for kind in dict.fromkeys(VOCABULARY.values())}
    for row, prompt in enumerate(prompts):
        for tag in prompt:
            hits[VOCABULARY[tag]].append(bool(scores[row, column[tag]] >= tagger.THRESHOLD))
    return {kind: Share(float(np.mean(found)), len(found)) for kind, found in hits.items() if found}


def mean_share(found: Mapping[str, Share], kinds: Sequence[str]) -> float:
    """The unweighted mean share of `kinds`."""
    return float(np.mean([found[kind].found for kind in kinds]))
