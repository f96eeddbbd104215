"""Specs of trainings of a character and of a style, prompts given."""

from pathlib import Path
from typing import Any

from sticker_pipeline.core.character import Character
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.schemas import INDEX
from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.core.storage import Artifact, ArtifactStore
from sticker_pipeline.dataset.manifest import TRAIN
from sticker_pipeline.dataset.style_set import IMAGES
from sticker_pipeline.sampling.weights import SAMPLES_PER_SOURCE
from sticker_pipeline.training.spec import TrainingSpec

SAMPLE_PROMPTS = 2


def character_spec(
    character: Character,
    profile: Profile,
    base_sha: str,
    training_set: Artifact,
    frames: Artifact,
    *,
    prompts: list[str],
    regularisation: Path | None,
    store: ArtifactStore,
) -> TrainingSpec:
    """Spec of a character's training; at most SAMPLE_PROMPTS of `prompts` become samples."""
    rows, lineage = training_set.table(), frames.table()
    sources = dict(zip(lineage["frame_id"], lineage["source_id"], strict=True))
    return TrainingSpec(
        name=character.name,
        trigger=character.trigger,
        training_set=training_set.fetched(),
        training_set_sha256=training_set.sha256(INDEX),
        frames=frames.fetched(),
        output=store.work(character.name, "lora"),
        regularisation=regularisation,
        regularisation_roots=character.roots if profile.training.regularisation else (),
        settings=with_samples_per_epoch(
            profile.training, rows.loc[rows["split"] == TRAIN, "frame_id"].map(sources).nunique()
        ),
        sample_prompts=prompts[:: max(1, len(prompts) // SAMPLE_PROMPTS)][:SAMPLE_PROMPTS],
        **_of_profile(profile, base_sha, store),
    )


def style_spec(
    name: str,
    profile: Profile,
    base_sha: str,
    training_set: Artifact,
    *,
    prompts: list[str],
    output: Path,
    store: ArtifactStore,
) -> TrainingSpec:
    """Spec of the style `name`, without a trigger; all `prompts` become samples."""
    rows = training_set.table()
    return TrainingSpec(
        name=name,
        trigger=None,
        training_set=training_set.fetched(),
        training_set_sha256=training_set.sha256(INDEX),
        frames=training_set.fetched() / IMAGES,
        output=output,
        settings=with_samples_per_epoch(profile.training, rows.loc[rows["split"] == TRAIN, "source_id"].nunique()),
        sample_prompts=prompts,
        **_of_profile(profile, base_sha, store),
    )


def with_samples_per_epoch(settings: TrainingSettings, sources: int) -> TrainingSettings:
    """`settings` with samples_per_epoch, by default from the number of `sources`."""
    if settings.samples_per_epoch is not None:
        return settings
    return settings.model_copy(update={"samples_per_epoch": SAMPLES_PER_SOURCE * sources})


def _of_profile(profile: Profile, base_sha: str, store: ArtifactStore) -> dict[str, Any]:
    return {
        "family": profile.family,
        "base": profile.base,
        "base_sha": base_sha,
        "cache": store.cache("training"),
        "resolution": profile.resolution,
        "background": profile.background,
        "buckets": profile.buckets,
        "generation": profile.generation,
    }
