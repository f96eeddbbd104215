"""Frames of a character as rows, filtered and counted by tag.

All frames of 30,000 are in memory as columns; a filter is a few comparisons of arrays.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from sticker_pipeline.core.storage import Artifact, ArtifactStore
from sticker_pipeline.media.sidecars import EXCLUDED, WRITTEN_CAPTIONS
from sticker_pipeline.tagging.captions import parse_caption
from sticker_pipeline.tagging.curation import DROPPED as DROPPED_TAGS

ARTIFACTS = ("raw_media", "frames", "frame_weights", "curated_tags", "training_set")
KEPT, DROPPED, REJECTED, IGNORED = "kept", "dropped", "rejected", "excluded"
STATES = ("train", "validation", "holdout", KEPT, DROPPED, REJECTED, IGNORED)
ORDERS = ("path", "weight", "tags")
MOST_SUGGESTED = 30
COLUMNS: dict[str, Any] = {
    "frame_id": "",
    "path": "",
    "group": "",
    "frame_index": 0,
    "state": "",
    "reason": "",
    "duplicate_of": "",
    "caption": "",
    "weight": 0.0,
    "file": "",
    "pixel_sha256": "",
    "sha256": "",
    "width": 0,
    "height": 0,
}

Stamp = tuple[str, ...]
HASHES = ["pixel_sha256", "sha256"]


class FilterError(ValueError):
    """A filter with an unknown key or value."""


@dataclass(frozen=True)
class Rows:
    """Frames of one character, one row each, and its files without frames.

    `table`: COLUMNS, by path and frame. `tags`: all tags of captions, sorted. `row`, `tag`: int32 [pairs], the rows
    and the places in `tags` of each tag of each caption. `stamp`: of the manifests read, see `stamp_of`.
    """

    table: pd.DataFrame
    tags: Sequence[str]
    row: np.ndarray
    tag: np.ndarray
    stamp: Stamp


def read_rows(store: ArtifactStore, name: str) -> Rows:
    """Return the frames of character `name`; empty without raw_media.

    Artifacts may be missing. Raises StorageError for a damaged one.
    """
    stamp = stamp_of(store, name)
    found = {asset: artifact for asset in ARTIFACTS if (artifact := store.find(name, asset))}
    if "raw_media" not in found:
        return with_tags(pd.DataFrame(columns=list(COLUMNS)), stamp)
    files = found["raw_media"].table()
    table = _frames(found, files)
    unused = _files_without_frames(files, set(table["path"]))
    table = pd.concat([table, unused], ignore_index=True)[list(COLUMNS)]
    table = table.sort_values(["path", "frame_index"], kind="stable", ignore_index=True)
    return with_tags(table, stamp)


def stamp_of(store: ArtifactStore, name: str) -> Stamp:
    """Return each artifact's stamp; publishing changes it.

    They are compared at each request; a manifest of 30,000 files takes a tenth of a second to read.
    """
    return tuple(store.stamp(name, asset) for asset in ARTIFACTS)


def _frames(found: Mapping[str, Artifact], files: pd.DataFrame) -> pd.DataFrame:
    if "frames" not in found:
        return pd.DataFrame(columns=list(COLUMNS))
    table = found["frames"].table().merge(files[["path", "sha256"]], on="path", how="left")
    table["state"] = np.where(table["kept"], KEPT, DROPPED)
    table = table.assign(caption="", weight=0.0).set_index("frame_id")
    for asset, column, name in (
        ("frame_weights", "probability", "weight"),
        ("curated_tags", "caption", "caption"),
        ("training_set", "split", "state"),
        ("training_set", "probability", "weight"),
        ("training_set", "caption", "caption"),
    ):
        if asset in found:
            table[name] = found[asset].table().set_index("frame_id")[column].reindex(table.index).fillna(table[name])
    return table.reset_index().fillna({"sha256": ""})


def _files_without_frames(files: pd.DataFrame, decoded: set[str]) -> pd.DataFrame:
    """Return rows of files meant as images, without any frame."""
    is_meant = (files["status"] == "rejected") | (files["reason"] == EXCLUDED)
    rows = files[is_meant & ~files["path"].isin(decoded)].copy()
    for column, value in COLUMNS.items():
        if column not in rows:
            rows[column] = value
    rows["state"] = np.where(rows["status"] == "rejected", REJECTED, IGNORED)
    return rows


def with_tags(table: pd.DataFrame, stamp: Stamp = ()) -> Rows:
    """Return the rows of `table` with the tags of its captions."""
    code, captions = pd.factorize(table["caption"])
    each = [_tags_of(str(caption)) for caption in captions]
    tags = sorted({tag for own in each for tag in own})
    place = {tag: number for number, tag in enumerate(tags)}
    coded = [np.array([place[tag] for tag in dict.fromkeys(own)], np.int32) for own in each]
    counts = np.array([len(own) for own in coded], np.int64)[code] if len(coded) else np.zeros(0, np.int64)
    row = np.repeat(np.arange(len(table), dtype=np.int32), counts)
    tag = np.concatenate([coded[number] for number in code]) if len(code) else np.zeros(0, np.int32)
    return Rows(table, tags, row, tag, stamp)


@lru_cache(maxsize=1 << 17)
def _tags_of(caption: str) -> tuple[str, ...]:
    return tuple(tag for tag, _ in parse_caption(caption))


def with_captions(rows: Rows, captions: Mapping[str, str]) -> Rows:
    """Return the rows with new `captions` (path -> caption)."""
    new = rows.table["path"].map(captions)
    changed = new.notna() & (rows.table["file"] != "")
    if not changed.any():
        return rows
    table = rows.table.assign(caption=rows.table["caption"].where(~changed, new))
    return with_tags(table, rows.stamp)


def matching(
    rows: Rows, tags: str = "", group: str = "", state: str = "", source: str = "", order: str = "path"
) -> np.ndarray:
    """Return the row numbers that match, in order: int64.

    - tags: tags or parts of tags, separated by commas; all must be there. `-` before one: it must not.
    - group, state: equal. source: a part of the path, in any case.
    - order: path; weight (heaviest first); tags (fewest first).

    Raises FilterError for an unknown state or order.
    """
    if state and state not in STATES:
        raise FilterError(f"state={state}: there are {', '.join(STATES)}.")
    if order not in ORDERS:
        raise FilterError(f"order={order}: there are {', '.join(ORDERS)}.")
    table, chosen = rows.table, np.ones(len(rows.table), dtype=bool)
    for column, value in (("group", group), ("state", state)):
        if value:
            chosen &= (table[column] == value).to_numpy()
    if source:
        chosen &= table["path"].str.contains(source, case=False, regex=False).to_numpy(dtype=bool)
    for term in filter(None, (part.strip() for part in tags.split(","))):
        is_excluded = term.startswith("-") and term not in rows.tags  # some emoticons begin so
        has = _has_tag(rows, term.removeprefix("-").strip() if is_excluded else term)
        chosen &= ~has if is_excluded else has
    return _ordered(rows, np.flatnonzero(chosen), order)


def _has_tag(rows: Rows, term: str) -> np.ndarray:
    """Return bool [rows]: has the tag `term`, or one that contains it."""
    low = term.casefold()
    names = [tag.casefold() for tag in rows.tags]
    exact = np.array([name == low for name in names], dtype=bool)
    wanted = exact if exact.any() else np.array([low in name for name in names], dtype=bool)
    has = np.zeros(len(rows.table), dtype=bool)
    if len(wanted):
        has[rows.row[wanted[rows.tag]]] = True
    return has


def _ordered(rows: Rows, found: np.ndarray, order: str) -> np.ndarray:
    if order == "weight":
        return found[np.argsort(-rows.table["weight"].to_numpy(float)[found], kind="stable")]
    if order == "tags":
        counts = np.bincount(rows.row, minlength=len(rows.table))
        return found[np.argsort(counts[found], kind="stable")]
    return found


def window(rows: Rows, found: Sequence[int] | np.ndarray, start: int, count: int) -> list[dict[str, Any]]:
    """Return the rows `found[start : start + count]` as JSON types.

    `v`, the beginning of the pixels' hash, stands for the hashes: an address with it never changes its content.
    """
    part = rows.table.iloc[list(found[start : start + count])]
    part = part.assign(v=part["pixel_sha256"].str[:12])
    return [{str(key): value for key, value in row.items()} for row in part.drop(columns=HASHES).to_dict("records")]


def suggestions(rows: Rows, beginning: str, among: np.ndarray | None = None) -> list[tuple[str, int]]:
    """Return the most frequent tags with `beginning`, and their frames.

    Tags that begin with it come first. `among`: count only these row numbers.
    """
    tag = rows.tag
    if among is not None:
        chosen = np.zeros(len(rows.table), dtype=bool)
        chosen[among] = True
        tag = tag[chosen[rows.row]]
    counts, low = np.bincount(tag, minlength=len(rows.tags)), beginning.casefold().strip()
    found = [
        (not name.casefold().startswith(low), -int(count), name)
        for name, count in zip(rows.tags, counts, strict=True)
        if count and low in name.casefold()
    ]
    return [(name, -count) for _, count, name in sorted(found)[:MOST_SUGGESTED]]


def files_of(rows: Rows, found: Iterable[int]) -> list[str]:
    """Return the paths of the kept frames among `found`, each once."""
    part = rows.table.iloc[list(found)]
    return list(dict.fromkeys(part.loc[part["file"] != "", "path"]))


def captions_by_file(rows: Rows) -> dict[str, list[str]]:
    """Return the captions of each file's kept frames."""
    kept = rows.table.loc[rows.table["file"] != "", ["path", "caption"]]
    return {str(path): captions.tolist() for path, captions in kept.groupby("path", sort=False)["caption"]}


def common_caption(captions: Sequence[str], first: Collection[str]) -> str:
    """Return the tags on more than half of a file's frames.

    Without `first`: trigger and learned tags, which captions get anyway. Order: that of the first frames with them.
    """
    each = [dict.fromkeys(_tags_of(caption)) for caption in captions]
    counts = Counter(tag for own in each for tag in own)
    return ", ".join(tag for tag, count in counts.items() if 2 * count > len(each) and tag not in first)


def duplicates(rows: Rows, start: int, count: int) -> tuple[int, list[dict[str, Any]]]:
    """Return the number of frames with duplicates, and some of them.

    Each: `kept` (a row as in `window`) and `dropped` (rows).
    """
    table = rows.table
    of_keeper: dict[str, list[int]] = {}
    for number, keeper in enumerate(table["duplicate_of"]):
        if keeper:
            of_keeper.setdefault(str(keeper), []).append(number)
    place = {str(frame): number for number, frame in enumerate(table["frame_id"])}
    keepers = [keeper for keeper in of_keeper if keeper in place]
    shown = [
        {
            "kept": window(rows, [place[keeper]], 0, 1)[0],
            "dropped": window(rows, of_keeper[keeper], 0, MOST_SUGGESTED),
        }
        for keeper in keepers[start : start + count]
    ]
    return len(keepers), shown


def written_captions(store: ArtifactStore, name: str) -> dict[str, tuple[str, str]]:
    """Return image -> (its caption file, its caption), as raw_media found them."""
    artifact = store.find(name, "raw_media")
    table = artifact.table(WRITTEN_CAPTIONS.file) if artifact else pd.DataFrame(columns=WRITTEN_CAPTIONS.names)
    pairs = zip(table["caption_file"], table["caption"], strict=True)
    return dict(zip(table["path"], pairs, strict=True))


def dropped_tags(store: ArtifactStore, name: str, frame_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return the tags that these frames' captions leave out.

    Each with its reason and number of frames.
    """
    artifact = store.find(name, "curated_tags")
    table = artifact.table(DROPPED_TAGS.file) if artifact else pd.DataFrame(columns=DROPPED_TAGS.names)
    found = table[table["frame_id"].isin(frame_ids)]
    count = Counter(zip(found["tag"], found["reason"], strict=True))
    return [{"tag": tag, "reason": reason, "frames": number} for (tag, reason), number in count.items()]


def counts(rows: Rows) -> dict[str, int]:
    """Return state -> number of rows, without empty ones."""
    found = rows.table["state"].value_counts()
    return {state: int(found[state]) for state in STATES if state in found}
