"""Checks of a character's dataset, with evidence: one cheap step per asset.

They run with their asset: Dagster cannot yet check one partition alone. The stages have rules and bounds.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import dagster as dg
from PIL import Image

from sticker_pipeline.benchmark.embed import embed
from sticker_pipeline.benchmark.features import embedder_of, with_mediums
from sticker_pipeline.benchmark.forecast import CHECKS as FORECASTS
from sticker_pipeline.benchmark.forecast import verdicts
from sticker_pipeline.benchmark.outliers import looked_at, outlier_sheet, same_character
from sticker_pipeline.core.storage import Artifact
from sticker_pipeline.core.verdict import Verdict
from sticker_pipeline.dagster_kit.checks import check_result, check_specs
from sticker_pipeline.dagster_kit.metadata import inline_image
from sticker_pipeline.dagster_kit.pools import BRIEF, gpu_request
from sticker_pipeline.dataset.manifest import TRAIN
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import OneCharacter, of_character
from sticker_pipeline.diffusion.base_model import config_folder
from sticker_pipeline.media.inventory import rejected_files
from sticker_pipeline.roots.style import of_its_style
from sticker_pipeline.sampling import balance
from sticker_pipeline.tagging.clash import caption_length, known_words, trigger_clash, universal_tags_of
from sticker_pipeline.tagging.length import token_counter
from sticker_pipeline.tagging.wd14 import load_labels

LOGGER = logging.getLogger(__name__)


def _subject(context: dg.AssetCheckExecutionContext, workspace: Workspace) -> OneCharacter:
    return of_character(workspace, context.op_execution_context.partition_key).load()


def _artifacts(context: dg.AssetCheckExecutionContext, workspace: Workspace) -> Callable[[str], Artifact]:
    return partial(workspace.store.read, _subject(context, workspace).character.name)


def _result(asset: str, name: str, verdict: Verdict, extra: Mapping[str, Any] | None = None) -> dg.AssetCheckResult:
    """Return a check's result; a failure is a warning.

    It is an error, which stops later steps, only if training would be pointless.
    """
    return check_result(asset, name, verdict, error=verdict.pointless, extra=extra)


@dg.multi_asset_check(
    specs=check_specs("raw_media", CHARACTERS, {"rejected_files": "No file that was meant as an image is refused."})
)
def raw_media_checks(context: dg.AssetCheckExecutionContext, workspace: Workspace) -> Iterator[dg.AssetCheckResult]:
    inventory = _artifacts(context, workspace)("raw_media").table()
    yield _result("raw_media", "rejected_files", rejected_files(inventory))


@dg.multi_asset_check(
    specs=check_specs(
        "frames",
        CHARACTERS,
        {
            "different_enough": "The sources do not all show nearly the same image.",
            "same_character": "No frame looks like another character to the profile's CLIP.",
        },
    ),
    pool=BRIEF,
    op_tags=gpu_request(BRIEF),
)
def frames_checks(context: dg.AssetCheckExecutionContext, workspace: Workspace) -> Iterator[dg.AssetCheckResult]:
    own = _subject(context, workspace)
    artifact = workspace.store.read(own.character.name, "frames")
    frames = artifact.table()
    yield _result("frames", "different_enough", balance.different_enough(frames))
    embedder = embedder_of(own.profile, workspace.store)
    seen = looked_at(frames)
    folder = artifact.fetched(seen["file"])
    verdict = same_character(seen, embed(embedder, (Image.open(folder / name) for name in seen["file"])))
    sheet = outlier_sheet(verdict, frames, folder)
    yield _result("frames", "same_character", verdict, {"outliers": inline_image(sheet, "outliers")})


@dg.multi_asset_check(
    specs=check_specs(
        "frame_weights", CHARACTERS, {"balanced": "Every group, and every source, has a fair share of the samples."}
    )
)
def frame_weights_checks(context: dg.AssetCheckExecutionContext, workspace: Workspace) -> Iterator[dg.AssetCheckResult]:
    weights = _artifacts(context, workspace)("frame_weights").table()
    yield _result("frame_weights", "balanced", balance.balanced(weights))


@dg.multi_asset_check(
    specs=check_specs(
        "curated_tags",
        CHARACTERS,
        {
            "trigger_clash": "The trigger has no meaning yet to the tagger or to the text encoder.",
            "universal_tags": "No tag is on nearly all images of several characters of its style.",
            "caption_length": "The text encoder reads every caption to its end.",
        },
    )
)
def curated_tags_checks(context: dg.AssetCheckExecutionContext, workspace: Workspace) -> Iterator[dg.AssetCheckResult]:
    own = _subject(context, workspace)
    captions = workspace.store.read(own.character.name, "curated_tags").table()
    with config_folder(own.profile.base, own.profile.family) as configs:
        words, counter = known_words(configs / "tokenizer"), token_counter(configs / "tokenizer")
    clash = trigger_clash(own.character.trigger, load_labels(own.profile.tagger), words)
    yield _result("curated_tags", "trigger_clash", clash)
    others = workspace.valid_characters()[0] if own.character.settings.style else []
    universal = universal_tags_of(of_its_style(own.character, others), workspace.store, LOGGER.warning)
    yield _result("curated_tags", "universal_tags", universal)
    yield _result("curated_tags", "caption_length", caption_length(captions, counter.count, counter.most))


@dg.multi_asset_check(
    specs=check_specs(
        "training_set",
        CHARACTERS,
        {"enough_images": "There are enough images to learn a character from."},
        blocking=True,
    )
    + check_specs("training_set", CHARACTERS, FORECASTS)
)
def training_set_checks(context: dg.AssetCheckExecutionContext, workspace: Workspace) -> Iterator[dg.AssetCheckResult]:
    own, read = _subject(context, workspace), _artifacts(context, workspace)
    rows = with_mediums(own.character, read("training_set"), read("frames"))
    yield _result("training_set", "enough_images", balance.enough_images(rows[rows["split"] == TRAIN]))
    for name, verdict in verdicts(rows, own.character, own.profile).items():
        yield _result("training_set", name, verdict)
