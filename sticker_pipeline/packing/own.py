"""Own stickers and GIFs as candidates, by files' names and tags."""

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import pandas as pd

from sticker_pipeline.core.character import Group
from sticker_pipeline.packing.slots import Slot, common_prefix, slot_of_name, slot_of_tags, words_in

MOST_LETTERS = 40  # of a slot that is named by a file


@dataclass(frozen=True)
class OwnFile:
    """An own file and what it says.

    `path`: relative to the character's folder. `slot`: a known one, or `own_slot`: named by the file. `twin`: the file
    that shows the same; "" without one.
    """

    path: str
    sha256: str
    slot: str
    own_slot: str
    twin: str = ""


def sticker_files(raw_media: pd.DataFrame, groups: Mapping[str, Group]) -> pd.DataFrame:
    """Return the accepted files of the groups of stickers.

    Without such groups: of all groups.
    """
    mediums = raw_media["group"].map(lambda group: groups[group].medium if group in groups else "")
    accepted = raw_media["status"] == "accepted"
    stickers = raw_media[accepted & (mediums == "sticker")]
    return stickers if len(stickers) else raw_media[accepted]


def own_files(
    media: pd.DataFrame, frames: pd.DataFrame, tags: Mapping[str, Collection[str]], slots: Sequence[Slot]
) -> list[OwnFile]:
    """Return the files of `media` with their slots, by path.

    frames: the artifact's table. tags: path -> the tagger's tags on its kept frames. A file's name decides the slot,
    else its tags.
    """
    paths, hashes = media["path"].tolist(), media["sha256"].tolist()
    prefixes = {group: common_prefix([PurePosixPath(path).stem for path in part]) for group, part in _by_folder(paths)}
    twins = _twins(frames)
    names = _names(paths)
    found = []
    for path, sha256 in sorted(zip(paths, hashes, strict=True)):
        pure = PurePosixPath(path)
        slot = slot_of_name(pure.stem, slots, prefixes[str(pure.parent)]) or slot_of_tags(tags.get(path, ()), slots)
        found.append(OwnFile(path, sha256, slot.name if slot else names[path], names[path], twins.get(path, "")))
    return found


def tags_of_files(tags: pd.DataFrame, frames: pd.DataFrame) -> dict[str, set[str]]:
    """Return path -> tags on at least half of its kept frames.

    tags: as WD14_TAGS, one row for each frame and tag.
    """
    path_of = dict(zip(frames["frame_id"], frames["path"], strict=True))
    kept = frames[frames["kept"]].groupby("path").size()
    counts = tags.assign(path=tags["frame_id"].map(path_of)).groupby(["path", "tag"]).size()
    found: dict[str, set[str]] = {}
    for path, tag, count in counts.reset_index(name="count").itertuples(index=False):
        if 2 * count >= kept.get(path, 0):
            found.setdefault(path, set()).add(tag)
    return found


def _by_folder(paths: Sequence[str]) -> list[tuple[str, list[str]]]:
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(str(PurePosixPath(path).parent), []).append(path)
    return list(folders.items())


def _twins(frames: pd.DataFrame) -> dict[str, str]:
    """Return path -> the path that all its frames duplicate."""
    path_of = dict(zip(frames["frame_id"], frames["path"], strict=True))
    kept = set(frames[frames["kept"]]["path"])
    doubles = frames[(frames["duplicate_of"] != "") & ~frames["path"].isin(kept)]
    return {str(path): path_of[first] for path, first in zip(doubles["path"], doubles["duplicate_of"], strict=True)}


def _names(paths: Sequence[str]) -> dict[str, str]:
    """Return a slot's name for each path, of its own words.

    A hash is added where two are alike.
    """
    plain = {path: name_of(PurePosixPath(path).stem) for path in paths}
    count = pd.Series(list(plain.values())).value_counts()
    return {
        path: name if name and count[name] == 1 else f"{name or 'sticker'}_{_short(path)}"
        for path, name in plain.items()
    }


def name_of(stem: str) -> str:
    """Return a file's name as a slot; it may be empty.

    Lower-case letters, digits and `_`.
    """
    words = re.sub(r"[^a-z0-9]+", "_", " ".join(words_in(stem) + re.findall(r"\d+", stem)))
    return words.strip("_")[:MOST_LETTERS].strip("_")


def _short(path: str) -> str:
    return hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()[:4]
