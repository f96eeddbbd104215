"""The training set: captions, sampling probabilities and splits of frames.

The split `holdout` is the benchmark's references; nothing may be chosen by them. The epoch is chosen by the loss on
other sources, the split `validation`.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from sticker_pipeline.core.schemas import Column, TableSchema
from sticker_pipeline.core.settings import BucketSettings
from sticker_pipeline.core.texts import UserError, closest, name_finder
from sticker_pipeline.dataset.buckets import BucketError, assign_buckets

TRAIN, HOLDOUT, VALIDATION = "train", "holdout", "validation"
TRAINING_SET = TableSchema(
    "each kept frame",
    (
        Column("frame_id", "str", "the frame, as in frames"),
        Column("file", "str", "its PNG file in the artifact frames"),
        Column("caption", "str", "its caption in training: tags, separated by commas"),
        Column(
            "probability",
            "float64",
            "the probability that a training sample is this frame; 0 in other splits",
            low=0,
            high=1,
        ),
        Column("bucket_width", "int64", "pixels to which it is resized and cut, a multiple of 8", low=8),
        Column("bucket_height", "int64", "pixels to which it is resized and cut, a multiple of 8", low=8),
        Column(
            "split",
            "str",
            "train: trained on; validation: the epoch is chosen by its loss; holdout: the benchmark's references",
            values=(TRAIN, VALIDATION, HOLDOUT),
        ),
    ),
    key=("frame_id",),
)
MIN_SOURCES = 3  # smaller groups give no sources away
MIN_VALIDATED = 8  # smaller groups give none to validation: training and holdout need them more


class DatasetError(UserError):
    """Frames or a holdout without a possible training set."""


def training_set(
    frames: pd.DataFrame,
    weights: pd.DataFrame,
    captions: pd.DataFrame,
    holdout: float | Sequence[str],
    resolution: int,
    buckets: BucketSettings,
    *,
    validation: float = 0.0,
) -> pd.DataFrame:
    """Return the kept frames with the columns of TRAINING_SET, in order.

    `holdout`: the share of each group's sources not to train on (see holdout_sources), or files (paths in the
    character's folder, see named_sources); `validation`: the share for that split (see validation_sources). Both have
    probability 0; one common factor rescales the others to sum 1, so their proportions do not change. Buckets are from
    assign_buckets.

    Raises DatasetError for no kept frame, one without weight or caption, a named file that is missing or without image,
    a holdout that leaves nothing to train on, and buckets without a size for `resolution`.
    """
    kept = frames[frames["kept"].astype(bool)]
    if kept.empty:
        raise DatasetError("no frame is kept: look at the reasons in raw_media and frames, and add images")
    table = kept[["frame_id", "file", "source_id"]].reset_index(drop=True)
    table["caption"] = _matched(table["frame_id"], captions, "caption", "curated_tags")
    probability = _matched(table["frame_id"], weights, "probability", "frame_weights").to_numpy(dtype=np.float64)
    held = holdout_sources(kept, holdout) if isinstance(holdout, float) else named_sources(frames, holdout)
    validated = validation_sources(kept, held, validation)
    in_holdout, in_validation = (table["source_id"].isin(sources).to_numpy() for sources in (held, validated))
    trained = ~(in_holdout | in_validation)
    total = math.fsum(probability[trained])
    if not total > 0:
        raise DatasetError(
            f"benchmark.holdout keeps every source from training, {len(held | validated)} in all: hold out fewer "
            "files, or add images"
        )
    table["probability"] = np.where(trained, probability / total, 0.0)
    table["split"] = np.where(in_holdout, HOLDOUT, np.where(in_validation, VALIDATION, TRAIN))
    try:
        sizes = assign_buckets(kept["width"].to_numpy(), kept["height"].to_numpy(), resolution, buckets)
    except BucketError as error:
        raise DatasetError(str(error)) from error
    return table.assign(bucket_width=sizes[:, 0], bucket_height=sizes[:, 1])[TRAINING_SET.names]


def holdout_sources(kept: pd.DataFrame, share: float) -> set[str]:
    """Choose a holdout of `share` (0..1) of each group's sources.

    A group of n ≥ MIN_SOURCES gives round(n·share), from 1 to n − 1; a smaller one none. Stills go first, as animations
    give training many frames; then the hash of the name decides, so that a new file hardly changes the holdout.
    """
    held: set[str] = set()
    for _, group in kept.groupby("group", sort=True):
        order = in_turn(group)
        held.update(order[: held_out_of(len(order), share)])
    return held


def held_out_of(sources: int, share: float) -> int:
    """Return how many sources a group of `sources` gives to the holdout."""
    return 0 if sources < MIN_SOURCES else min(max(1, math.floor(sources * share + 0.5)), sources - 1)


def in_turn(frames: pd.DataFrame) -> list[str]:
    """Return the sources of `frames` in the order of the holdout."""
    lengths = frames.groupby("source_id", sort=True).size()
    return sorted(lengths.index, key=lambda source: (lengths[source] > 1, _turn(source)))


def validation_sources(kept: pd.DataFrame, held: set[str], share: float) -> set[str]:
    """Choose the `share` of each group's sources for validation, not in `held`.

    A group of n ≥ MIN_VALIDATED gives round(n·share), at least 1, at most half of those not held out, in the order of
    holdout_sources. A smaller group, or a share of 0, gives none.
    """
    chosen: set[str] = set()
    for _, group in kept.groupby("group", sort=True):
        order = in_turn(group)
        free = [source for source in order if source not in held]
        if share and len(order) >= MIN_VALIDATED:
            wanted = min(max(1, math.floor(len(order) * share + 0.5)), len(free) // 2)
            chosen.update(free[:wanted])
    return chosen


def named_sources(frames: pd.DataFrame, files: Sequence[str]) -> set[str]:
    """Return the sources of a holdout of named `files`.

    Includes sources that keep a duplicate of their images, which would be trained on otherwise. Raises DatasetError for
    an unknown file, or one without an image.
    """
    source_of = dict(zip(frames["frame_id"], frames["source_id"], strict=True))
    rows = frames.groupby("source_id", sort=True)
    sources = [str(source) for source in rows.groups]
    held: set[str] = set()
    find = name_finder(sources)
    for named in files:
        file = find(named)
        if file is None:
            hint = closest(named, sources)
            raise DatasetError(f"benchmark.holdout: there is no accepted image file {named!r}.{hint}")
        source = rows.get_group(file)
        keepers = {source_of[name] for name in source["duplicate_of"] if name}
        if not keepers and not source["kept"].any():
            raise DatasetError(f"benchmark.holdout: {file!r} has no usable image: {source['reason'].iloc[0]}")
        held |= {file} | keepers
    return held


def _matched(frame_ids: pd.Series, table: pd.DataFrame, column: str, asset: str) -> pd.Series:
    """Look up `column` of `table` for each frame. Raises DatasetError for a missing frame."""
    values = frame_ids.map(table.set_index("frame_id")[column])
    if values.isna().any():
        missing = frame_ids[values.isna()].iloc[0]
        raise DatasetError(f"frame {missing} has no {column}: {asset} is older than frames, materialize it again")
    return values


def _turn(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()
