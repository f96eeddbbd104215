"""The release candidate, and the outcome of a gate's checks.

`benchmark/releases.py` defines releases.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd

from sticker_pipeline.benchmark.features import with_mediums
from sticker_pipeline.benchmark.gate import Check, decision, may_be_released
from sticker_pipeline.benchmark.releases import Candidate, Data, Release, SamplingRecord, current, lineage, publish
from sticker_pipeline.core.character import Character
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.storage import Artifact, ArtifactStore
from sticker_pipeline.dataset.manifest import HOLDOUT, TRAIN
from sticker_pipeline.dataset.sources import SOURCES
from sticker_pipeline.generation.prompts import beginnings, benchmark_prompts
from sticker_pipeline.publishing.base_name import place_of
from sticker_pipeline.roots.loras import LORA_FILE
from sticker_pipeline.training.logs.results import checkpoint_epochs
from sticker_pipeline.training.spec import FILE_NAME, load_spec, without_paths

OUTCOMES = {
    "first": "the first one",
    "new": "it replaces the one before",
    "again": "the same LoRA was released before, and is current again",
    "already": "the LoRA is released already",
    "withdrawn": "it stays: a person chose it, and not the new LoRA",
}


def release_that_counts(
    folder: Path, checks: Sequence[Check], candidate: Callable[[], Candidate], time: datetime
) -> tuple[Release | None, str]:
    """Publish the candidate if `checks` allow it; return current release and outcome.

    `candidate` is called only then: it is published with `time`.
    """
    if may_be_released(checks):
        published = publish(folder, candidate(), time)
        is_first = published.outcome == "new" and published.release.record.number == 1
        return published.release, OUTCOMES["first" if is_first else published.outcome]
    stays = current(folder)
    return stays, f"{'it stays' if stays else 'nothing is released yet'}: the new LoRA is {decision(checks)}"


def candidate_of(
    character: Character,
    profile: Profile,
    inputs: Mapping[str, Artifact],
    checks: Sequence[Check],
    models: Path,
    store: ArtifactStore,
) -> Candidate:
    """Return the selected LoRA with its release record.

    `inputs`: artifacts by asset. Paths are relative to `models`.
    """
    chosen = inputs["selected_lora"].table().query("chosen").iloc[0]
    spec, generation = load_spec(inputs["lora"].file(FILE_NAME)), profile.generation
    return Candidate(
        character=character.name,
        trigger=character.trigger,
        beginnings=beginnings(character),
        lora=inputs["selected_lora"].file(LORA_FILE),
        base_model=place_of(profile, models),
        family=profile.family,
        profile=profile.name,
        epoch=int(chosen["epoch"]),
        why_epoch=str(chosen["reason"]),
        sampling=SamplingRecord(
            scheduler=generation.scheduler,
            steps=generation.steps,
            guidance_scale=generation.guidance_scale,
            negative_prompt=generation.negative_prompt,
            resolution=profile.resolution,
            strength=1.0,
            prompts=[prompt.text for prompt in benchmark_prompts(character, profile)],
        ),
        data=_data(with_mediums(character, inputs["training_set"], inputs["frames"])),
        inputs=lineage(store, character.name, ["benchmark", "lora"]),
        spec=without_paths(spec),
        metrics=inputs["benchmark"].table(),
        checks=checks,
        sources=recorded_sources(inputs["lora"], inputs["selected_lora"]),
    )


def recorded_sources(training: Artifact, selected: Artifact) -> bytes | None:
    """Return the file SOURCES of the selected LoRA's training.

    None for a training of an earlier version, or one that replaced the selected LoRA's.
    """
    checkpoints = {training.sha256(name) for name in checkpoint_epochs(training)}
    if SOURCES.file not in training.files or selected.sha256(LORA_FILE) not in checkpoints:
        return None
    return training.own_content(SOURCES.file)


def gate_table(checks: Sequence[Check]) -> pd.DataFrame:
    """Return a row per check: name, passed, summary."""
    rows = [(check.name, check.verdict.passed, check.verdict.summary) for check in checks]
    return pd.DataFrame(rows, columns=["check", "passed", "summary"])


def history_table(releases: Sequence[Release], number: int) -> pd.DataFrame:
    """Return a row per release: number, current or not, time, epoch.

    Release `number` is the current one.
    """
    rows = [
        (one.record.number, one.record.number == number, f"{one.record.published:%Y-%m-%d %H:%M}", one.record.epoch)
        for one in releases
    ]
    return pd.DataFrame(rows, columns=["release", "counts", "published", "epoch"])


def _data(rows: pd.DataFrame) -> Data:
    trained, holdout = (rows[rows["split"] == split] for split in (TRAIN, HOLDOUT))
    return Data(
        images=len(trained),
        sources=trained["source_id"].nunique(),
        holdout_images=len(holdout),
        holdout_sources=holdout["source_id"].nunique(),
    )
