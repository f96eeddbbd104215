"""Checks of a character, with their evidence: one step for each asset, so that they cost little. They run whenever
their asset is made; alone, Dagster runs no check of a partition yet. What is checked, and against which bounds, stands
in the stages."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark.embed import embed
from sticker_pipeline.benchmark.features import clip_of
from sticker_pipeline.benchmark.gate import CHECKS
from sticker_pipeline.benchmark.gate_checks import judged
from sticker_pipeline.benchmark.strangers import looked_at, same_character
from sticker_pipeline.character import Character
from sticker_pipeline.dagster_kit.compat import is_planned, latest_checks
from sticker_pipeline.dagster_kit.metadata import picture, table
from sticker_pipeline.dagster_kit.pools import BRIEF
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.markdown import literal
from sticker_pipeline.media.inventory import rejected_files
from sticker_pipeline.pictures import contact_sheet
from sticker_pipeline.profile import Profile
from sticker_pipeline.sampling import balance
from sticker_pipeline.storage import Artifact, StorageError
from sticker_pipeline.tagging.clash import caption_length, known_words, trigger_clash, universal_tags
from sticker_pipeline.tagging.length import token_counter
from sticker_pipeline.tagging.wd14 import load_labels
from sticker_pipeline.training.base_model import config_folder
from sticker_pipeline.verdict import Verdict

LOGGER = logging.getLogger(__name__)
STRANGEST = 20  # frames shown, whether the check passes or not: a person sees at a glance what a number cannot say


def cut_off(instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey], partition: str) -> set[dg.AssetKey]:
    """Return the assets with a check that a run was to make of the partition, and died or was stopped before it did.

    Nothing else would make it again: the asset itself is not out of date.
    """
    latest = latest_checks(instance, checks, partition)
    planned = {key: record.run_id for key, record in latest.items() if is_planned(record)}
    runs = {run_id: instance.get_run_by_id(run_id) for run_id in set(planned.values())}
    ended = {run_id for run_id, run in runs.items() if run is None or run.is_finished}
    return {key.asset_key for key, run_id in planned.items() if run_id in ended}


def _spec(asset: str, name: str, description: str, *, blocking: bool = False) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(name, asset=asset, description=description, blocking=blocking, partitions_def=CHARACTERS)


@dataclass(frozen=True)
class Checking:
    """One character whose artifacts are looked at."""

    workspace: Workspace
    character: Character
    profile: Profile

    def read(self, asset: str) -> Artifact:
        return self.workspace.store.read(self.character.name, asset)


def _checking(context: dg.AssetCheckExecutionContext, workspace: Workspace) -> Checking:
    character = workspace.character(context.op_execution_context.partition_key)
    return Checking(workspace, character, workspace.profile(character))


def _result(asset: str, name: str, verdict: Verdict, extra: Mapping[str, Any] | None = None) -> dg.AssetCheckResult:
    """A failed check is a warning; only where training would be pointless it is an error, which stops what follows."""
    severity = dg.AssetCheckSeverity.ERROR if verdict.pointless else dg.AssetCheckSeverity.WARN
    return _rated(asset, name, verdict, severity, extra)


def _rated(
    asset: str,
    name: str,
    verdict: Verdict,
    severity: dg.AssetCheckSeverity,
    extra: Mapping[str, Any] | None = None,
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=verdict.passed,
        asset_key=dg.AssetKey(asset),
        check_name=name,
        severity=severity,
        description=literal(verdict.summary),  # which the UI renders as markdown; `letters` reads it
        metadata={"evidence": table(verdict.evidence), **(extra or {})},
    )


@dg.multi_asset_check(specs=[_spec("raw_media", "rejected_files", "No file that was meant as a picture is refused.")])
def raw_media_checks(context: dg.AssetCheckExecutionContext, workspace: Workspace) -> Iterator[dg.AssetCheckResult]:
    inventory = _checking(context, workspace).read("raw_media").table()
    yield _result("raw_media", "rejected_files", rejected_files(inventory))


@dg.multi_asset_check(
    specs=[
        _spec("frames", "different_enough", "The clips do not all show nearly the same drawing."),
        _spec("frames", "same_character", "No frame looks like somebody else, in the eyes of the profile's CLIP."),
    ],
    pool=BRIEF,
)
def frames_checks(context: dg.AssetCheckExecutionContext, workspace: Workspace) -> Iterator[dg.AssetCheckResult]:
    checking = _checking(context, workspace)
    artifact = checking.read("frames")
    frames = artifact.table()
    yield _result("frames", "different_enough", balance.different_enough(frames))
    embedder = clip_of(checking.profile, workspace.store)
    seen = looked_at(frames)
    verdict = same_character(seen, embed(embedder, (Image.open(artifact.folder / name) for name in seen["file"])))
    yield _result(
        "frames",
        "same_character",
        verdict,
        {"strangest": picture(_strangest(verdict, frames, artifact.folder), "strangest")},
    )


@dg.multi_asset_check(
    specs=[_spec("frame_weights", "balanced", "Every group, and every clip, has a fair part of the draws.")]
)
def frame_weights_checks(context: dg.AssetCheckExecutionContext, workspace: Workspace) -> Iterator[dg.AssetCheckResult]:
    weights = _checking(context, workspace).read("frame_weights").table()
    yield _result("frame_weights", "balanced", balance.balanced(weights))


@dg.multi_asset_check(
    specs=[
        _spec("curated_tags", "trigger_clash", "The trigger means nothing yet to the tagger or to the text encoder."),
        _spec("curated_tags", "universal_tags", "No tag is on nearly all images of several characters."),
        _spec("curated_tags", "caption_length", "The text encoder reads every caption to its end."),
    ]
)
def curated_tags_checks(context: dg.AssetCheckExecutionContext, workspace: Workspace) -> Iterator[dg.AssetCheckResult]:
    checking = _checking(context, workspace)
    captions = checking.read("curated_tags").table()
    with config_folder(checking.profile.base, checking.profile.family) as configs:
        words, counter = known_words(configs / "tokenizer"), token_counter(configs / "tokenizer")
    clash = trigger_clash(checking.character.trigger, load_labels(checking.profile.tagger), words)
    yield _result("curated_tags", "trigger_clash", clash)
    yield _result("curated_tags", "universal_tags", _universal_tags(workspace, checking.profile.name))
    yield _result("curated_tags", "caption_length", caption_length(captions, counter.count, counter.most))


@dg.multi_asset_check(
    specs=[_spec("training_set", "enough_images", "There is enough to learn a character from.", blocking=True)]
)
def training_set_checks(context: dg.AssetCheckExecutionContext, workspace: Workspace) -> Iterator[dg.AssetCheckResult]:
    checking = _checking(context, workspace)
    rows = checking.read("training_set").table()
    trained = rows.loc[rows["split"] == "train", "frame_id"]
    lineage = checking.read("frames").table().set_index("frame_id").loc[trained, ["group", "clip_id"]]
    yield _result("training_set", "enough_images", balance.enough_images(lineage.reset_index()))


@dg.multi_asset_check(specs=[_spec("benchmark", name, told, blocking=True) for name, told in CHECKS.items()])
def benchmark_checks(context: dg.AssetCheckExecutionContext, workspace: Workspace) -> Iterator[dg.AssetCheckResult]:
    """The gate: what fails here keeps a LoRA from being released."""
    checking = _checking(context, workspace)
    for check in judged(checking.read("benchmark"), checking.character):
        yield _rated("benchmark", check.name, check.verdict, dg.AssetCheckSeverity.ERROR)


def _universal_tags(workspace: Workspace, profile: str) -> Verdict:
    """Over all characters of the same profile that have captions; one that cannot be worked on is left out."""
    captions: dict[str, pd.DataFrame] = {}
    clips: dict[str, pd.Series] = {}
    taught: dict[str, set[str]] = {}
    for character, own in workspace.valid_characters()[0]:
        name = character.name
        try:
            artifact = workspace.store.find(name, "curated_tags")
            if artifact is None or own.name != profile:
                continue
            found = artifact.table(), workspace.store.read(name, "frames").table()
        except StorageError as error:
            LOGGER.warning("%s is left out: %s", name, error)
            continue
        captions[name], clips[name] = found[0], found[1].set_index("frame_id")["clip_id"]
        taught[name] = {character.trigger, *(tag for group in character.groups.values() for tag in group.learned)}
    return universal_tags(captions, clips, taught)


def _strangest(verdict: Verdict, frames: pd.DataFrame, folder: Path) -> Image.Image:
    files = frames.set_index("frame_id")["file"]
    rows = verdict.evidence[:STRANGEST]
    captions = [
        f"{value:.1f} {path.rpartition('/')[2]}" for path, value in zip(rows["path"], rows["strangeness"], strict=True)
    ]
    return contact_sheet(
        [Image.open(folder / files[frame]) for frame in rows["frame_id"]], captions, columns=7, cell=128
    )
