"""Specs of distillations, of a base model or character, for given prompts."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.settings import ConsistencySettings
from sticker_pipeline.core.storage import file_sha256
from sticker_pipeline.dataset.manifest import TRAIN
from sticker_pipeline.sampling.epochs import systematic_counts
from sticker_pipeline.training.distill.spec import ConsistencySpec, Tuning


def base_spec(profile: Profile, base_sha: str, prompts: list[str], output: Path) -> ConsistencySpec:
    """Spec of the base model (hash `base_sha`), on images that it generates."""
    return ConsistencySpec(
        name=f"lcm-{profile.name}",
        output=output,
        prompts=prompts,
        settings=profile.lcm,
        **_of_profile(profile, base_sha),
    )


def character_spec(
    name: str,
    profile: Profile,
    base_sha: str,
    rows: pd.DataFrame,
    frames: Path,
    *,
    start: Path,
    lora: Path,
    output: Path,
) -> ConsistencySpec:
    """Spec that continues `start` for the character `name` and its `lora`.

    Images and captions are sampled once by weight, systematically, from the training set's table `rows`; files are in
    `frames`.
    """
    tuning = profile.lcm.tuning
    rows = rows[rows["split"] == TRAIN]
    counts = systematic_counts(rows["probability"].to_numpy(dtype=np.float64), tuning.images, profile.lcm.seed, 0)
    chosen = rows.loc[np.repeat(rows.index, counts)]
    settings: ConsistencySettings = profile.lcm.model_copy(update=tuning.model_dump())
    return ConsistencySpec(
        name=f"lcm-{name}",
        output=output,
        prompts=chosen["caption"].tolist(),
        settings=settings,
        tuning=Tuning(
            start=start,
            start_sha=file_sha256(start),
            lora=lora,
            lora_sha=file_sha256(lora),
            frames=frames,
            files=chosen["file"].tolist(),
            background=profile.background,
        ),
        **_of_profile(profile, base_sha),
    )


def _of_profile(profile: Profile, base_sha: str) -> dict[str, Any]:
    return {
        "family": profile.family,
        "base": profile.base,
        "base_sha": base_sha,
        "resolution": profile.resolution,
        "generation": profile.generation,
        "accelerate": profile.training.accelerate,
    }
