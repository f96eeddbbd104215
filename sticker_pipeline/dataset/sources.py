"""Sources of a training: where each frame came from, and its caption.

The table is made when a training reads its inputs, stands beside the LoRA, and is copied into its release. So it can be
read after the dataset has changed. `benchmark/tracing.py` searches it.
"""

import io
import math
from collections.abc import Mapping

import pandas as pd

from sticker_pipeline.core.earlier_names import table_of_today
from sticker_pipeline.core.schemas import INDEX, Column, TableSchema, typed
from sticker_pipeline.core.storage import Artifact
from sticker_pipeline.dataset.manifest import HOLDOUT, TRAIN, VALIDATION, DatasetError

SPLITS = (TRAIN, VALIDATION, HOLDOUT)  # in the order of tables
SOURCES = TableSchema(
    "each frame of the training set, as the training read it",
    (
        Column("path", "str", "the source: its file in the character's folder at that time"),
        Column("group", "str", "the group of that file"),
        Column(
            "sha256",
            "str",
            "the hash of the file's bytes, 64 hex digits; empty where raw_media had been made again since frames",
        ),
        Column("frame_index", "int64", "number of the frame in the file, from 0", low=0),
        Column("frame_id", "str", "the frame, as in frames"),
        Column("pixel_sha256", "str", "the hash of its RGBA pixels, 64 hex digits"),
        Column(
            "split",
            "str",
            "train: trained on; validation: the epoch was chosen by its loss; holdout: the benchmark's references",
            values=SPLITS,
        ),
        Column(
            "probability",
            "float64",
            "the probability that a training sample of the character was this frame; 0 in other splits",
            low=0,
            high=1,
        ),
        Column("caption", "str", "its caption in training: tags, separated by commas"),
    ),
    key=("frame_id",),
    file="sources.parquet",
)


def training_sources(training_set: pd.DataFrame, frames: pd.DataFrame, hashes: Mapping[str, str]) -> pd.DataFrame:
    """Return the table SOURCES, in the order of `training_set`.

    `hashes`: path -> SHA-256 (see `file_hashes`). Raises DatasetError for a frame that `frames` no longer has with the
    same pixels: its file is unknown.
    """
    columns = ["frame_id", "file", "path", "group", "frame_index", "pixel_sha256"]
    rows = training_set.merge(frames.loc[frames["kept"], columns], on=["frame_id", "file"], how="left")
    if rows["path"].isna().any():
        missing = rows.loc[rows["path"].isna(), "frame_id"].iloc[0]
        raise DatasetError(f"frame {missing} is not in frames: training_set is older than frames, materialize it again")
    rows["sha256"] = [hashes.get(path, "") for path in rows["path"]]
    return typed(rows, SOURCES)


def file_hashes(frames: Artifact, raw_media: Artifact | None) -> dict[str, str]:
    """Return path -> SHA-256 of the files that `frames` was made from.

    Empty where `raw_media` is missing or was made again since: its hashes may be of other bytes.
    """
    if raw_media is None or raw_media.data_version != frames.inputs.get("raw_media"):
        return {}
    data = raw_media.own_content(INDEX)
    inventory = pd.DataFrame() if data is None else pd.read_parquet(io.BytesIO(data), columns=["path", "sha256"])
    return dict(zip(inventory["path"], inventory["sha256"], strict=True)) if len(inventory) else {}


def read_sources(data: bytes) -> pd.DataFrame:
    """Return the table in a file SOURCES, with today's column names."""
    return table_of_today(pd.read_parquet(io.BytesIO(data)))


def by_source(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row per source of `rows`, a table SOURCES.

    Sorted by split, falling weight, and path. Columns: path, group, sha256, split; frames: their number; weight: the
    sum of their probabilities, 1 over all sources of the split `train`, else 0; caption: the first frame's; captions:
    the number of different ones.
    """
    in_order = rows.sort_values(["path", "frame_index"])
    table = in_order.groupby(["path", "split"], as_index=False).agg(
        group=("group", "first"),
        sha256=("sha256", "first"),
        frames=("frame_id", "size"),
        weight=("probability", math.fsum),
        caption=("caption", "first"),
        captions=("caption", "nunique"),
    )
    table["order"] = table["split"].map(SPLITS.index)
    table = table.sort_values(["order", "weight", "path"], ascending=[True, False, True], ignore_index=True)
    return table[["path", "group", "sha256", "split", "frames", "weight", "caption", "captions"]]
