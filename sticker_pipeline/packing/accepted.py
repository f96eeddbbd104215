"""Accepted candidates: a retraining does not take them away.

They are kept with the pack.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from sticker_pipeline.core.schemas import typed
from sticker_pipeline.core.storage import Artifact, StorageError, link_or_copy, write_table
from sticker_pipeline.packing.candidates import CANDIDATES, GENERATED
from sticker_pipeline.packing.picks import Picks

FOLDER = "accepted"
ACCEPTED = replace(CANDIDATES, rows="each accepted candidate that was generated", file="accepted.parquet")


def with_accepted(
    rows: pd.DataFrame, files: Mapping[str, Path], picks: Picks, before: Artifact | None
) -> tuple[pd.DataFrame, dict[str, Path]]:
    """Add accepted candidates that only the pack `before` has.

    rows: as CANDIDATES. files: candidate -> image. A damaged pack of before adds nothing.
    """
    if before is None or ACCEPTED.file not in before.files:
        return rows, dict(files)
    try:
        kept = before.table(ACCEPTED.file)
        wanted = kept[kept["candidate"].isin(picks.accept.values()) & ~kept["candidate"].isin(rows["candidate"])]
        found = {name: before.file(file) for name, file in zip(wanted["candidate"], wanted["file"], strict=True)}
    except StorageError:
        return rows, dict(files)
    return pd.concat([rows, wanted], ignore_index=True), {**files, **found}


def write_accepted(
    staging: Path, rows: pd.DataFrame, choice: pd.DataFrame, files: Mapping[str, Path], picks: Picks
) -> None:
    """Keep the images and rows of accepted generated candidates that were chosen."""
    chosen = set(choice[choice["chosen"]]["candidate"]) & set(picks.accept.values())
    kept = rows[rows["candidate"].isin(chosen) & (rows["origin"] == GENERATED)]
    (staging / FOLDER).mkdir(exist_ok=True)
    kept = kept.assign(file=[f"{FOLDER}/{name}.png" for name in kept["candidate"]])
    for name, file in zip(kept["candidate"], kept["file"], strict=True):
        link_or_copy(files[name], staging / file)
    write_table(typed(kept, ACCEPTED), staging, ACCEPTED)
