"""Inventory of a character's folder: files accepted, rejected or ignored, and why.

Files are classified by content; nothing is decoded or written there.
"""

import hashlib
import os
import stat
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from sticker_pipeline.core.character import (
    FILE_NAME,
    PACK,
    REGULARISATION,
    RIVALS,
    CharacterError,
    is_system_folder,
    links_file,
)
from sticker_pipeline.core.files.inside import DEEPEST, Entry, OutsideError, list_folder, status
from sticker_pipeline.core.schemas import Column, TableSchema, typed
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.texts import MOST_NAMED, TextError, closest, composed, hidden_letters, quoted, tidy_lines
from sticker_pipeline.core.verdict import Verdict
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.header import is_image, read_header, what_is_it
from sticker_pipeline.media.limits import read_within
from sticker_pipeline.media.other_files import beside_images, caption_text
from sticker_pipeline.media.sidecars import EXCLUDED, MAX_BYTES, NO_WORD, is_caption_file, name_captions, thumbnails_of

INVENTORY = TableSchema(
    "each file in the character's folder",
    (
        Column(
            "path",
            "str",
            "where the file lies in the character's folder, with slashes; other bytes than UTF-8 as escapes",
        ),
        Column("group", "str", "the group of images that it belongs to; empty outside of all groups"),
        Column("sha256", "str", "the hash of its bytes, 64 hex digits; empty where they were not read"),
        Column("bytes", "int64", "its size", low=0),
        Column("format", "str", "the format by content, such as GIF or PNG; empty where it is no image"),
        Column("width", "int64", "pixels of a frame as it is shown; 0 where it is no image", low=0),
        Column("height", "int64", "pixels of a frame as it is shown; 0 where it is no image", low=0),
        Column("n_frames", "int64", "frames that decoding gives; 0 where it is no image", low=0),
        Column(
            "status",
            "str",
            "accepted: its frames are used; rejected: meant as an image, or not readable; ignored: anything else",
            values=("accepted", "rejected", "ignored"),
        ),
        Column("reason", "str", "why it is not accepted; for an accepted file, its missing parts"),
        Column("remark", "str", "a hint on a file that is used whole, or on a text"),
    ),
)
# Names skipped at the top of a folder, and why; "" omits them from the inventory.
OF_A_CHARACTER = {FILE_NAME: "", RIVALS: "", PACK: ""}
OF_ANY_FOLDER = {
    FILE_NAME: "a character's settings, which are made anew",
    PACK: "the folder pack is for picks and overrides of the sticker pack: rename it to take it as a group",
    RIVALS: "the folder rivals is for other people's LoRAs: rename it to take it as a group",
    REGULARISATION: "the folder regularisation is for images of no character: rename it to take it as a group",
}
# Pages of an exported Telegram chat; the page's icons lie beside them.
TELEGRAM_PAGES = ("messages.html", "export_results.html")
TELEGRAM_ICONS = ("images", "icons of Telegram's page: what was sent is in photos, stickers and video_files")
OF_A_SYSTEM = "a folder of the system, as for thumbnails or deleted files"
READ_ALREADY = "a link to a folder that is read already"
SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
TOO_DEEP = f"folders lie more than {DEEPEST} deep in each other: move it up"
MOST_BEHIND_LINKS = 100_000  # files and folders behind links to folders
TOO_MANY = f"links to folders lead to more than {MOST_BEHIND_LINKS:,} files: copy those that are meant"
NAME_HIDES = "the name of its folder holds invisible characters ({}): rename it"


@dataclass(frozen=True)
class Row:
    """One row of the inventory; INVENTORY describes its columns."""

    path: str
    group: str = ""
    sha256: str = ""
    bytes: int = 0
    format: str = ""
    width: int = 0
    height: int = 0
    n_frames: int = 0
    status: str = "rejected"
    reason: str = ""
    remark: str = ""


def scan(
    folder: Path, groups: Collection[str] | None, limits: MediaSettings, roots: Sequence[Path] = ()
) -> pd.DataFrame:
    """Return each file under `folder`, sorted by path: table INVENTORY.

    `groups` are the subfolders with media; then character.yaml and rivals/ are omitted. None: `folder` is no character
    yet; it and all its subfolders hold media. Links are followed below `roots` (default: `folder`;
    `core/files/inside.py`), else rejected; each folder is read once.

    Raises MediaError for no folder, and CharacterError when `groups` is None and links to folders lead to more than
    MOST_BEHIND_LINKS files.
    """
    if not folder.is_dir():
        raise MediaError(f"{folder} is not a folder")
    roots = roots or [folder]
    walked = _walk(folder, OF_ANY_FOLDER if groups is None else OF_A_CHARACTER, roots)
    excluded = set(map(composed, limits.exclude))
    found = [one._replace(ignored=EXCLUDED) if composed(one.relative) in excluded else one for one in walked]
    if groups is None and any(one.rejected == TOO_MANY for one in found):
        raise CharacterError(f"{folder}: {TOO_MANY}.")
    rows = sorted((_judge(one, groups, limits, roots) for one in found), key=lambda row: row.path)
    table = pd.DataFrame([vars(row) for row in rows], columns=INVENTORY.names)
    return name_captions(_without_thumbnails(typed(table, INVENTORY)))


def idle_exclusions(inventory: pd.DataFrame, limits: MediaSettings) -> list[str]:
    """Return a sentence for each path in `limits.exclude` without a file."""
    paths = inventory["path"].tolist()
    known = set(map(composed, paths))
    idle = [path for path in limits.exclude if composed(path) not in known]
    hints = [closest(path, paths) for path in idle[:MOST_NAMED]] + [""] * len(idle[MOST_NAMED:])
    return [f"media.exclude: there is no file {quoted(path)}.{hint}" for path, hint in zip(idle, hints, strict=True)]


def _without_thumbnails(table: pd.DataFrame) -> pd.DataFrame:
    """Mark thumbnails of accepted images as ignored, in place."""
    accepted = table[table["status"] == "accepted"]
    found = thumbnails_of(dict(zip(accepted["path"], accepted["width"] * accepted["height"], strict=True)))
    rows = table["path"].isin(found)
    table.loc[rows, "status"] = "ignored"
    table.loc[rows, "reason"] = [f"the thumbnail of {found[path]}" for path in table.loc[rows, "path"]]
    return table


def rejected_files(inventory: pd.DataFrame) -> Verdict:
    """Check that every file meant as an image is used whole."""
    refused = inventory[inventory["status"] == "rejected"]
    partly = inventory[(inventory["status"] == "accepted") & (inventory["reason"] != "")]
    evidence = pd.concat([refused, partly])[["path", "status", "reason"]].reset_index(drop=True)
    if evidence.empty:
        return Verdict(True, "Every file is used whole, or ignored for a reason.", evidence)
    summary = f"Files refused: {len(refused)}, used in part: {len(partly)}. Mend, convert or remove them."
    return Verdict(False, summary, evidence)


class _Found(NamedTuple):
    """A path in the folder; `relative` is posix.

    `ignored`, `rejected`: reasons not to open it. `size`: of a regular file. `leaves`: a link out of the folder.
    """

    path: Path
    relative: str
    ignored: str = ""
    rejected: str = ""
    is_file: bool = False
    size: int = 0
    leaves: bool = False


def media_files(folder: Path, roots: Sequence[Path] = ()) -> list[Path]:
    """Return the regular files that `scan` reads, unopened.

    While they are unchanged, so are the inventory's accepted rows.
    """
    return sorted(found.path for found in _looked_at(folder, roots) if found.is_file)


def unopened_files(folder: Path, roots: Sequence[Path] = ()) -> dict[Path, str]:
    """Return other entries -> "", or why a folder is not read.

    These are links to nothing or out of `roots`, pipes, devices, and folders.
    """
    found = sorted(found for found in _looked_at(folder, roots) if not found.is_file)
    return {one.path: "" if one.leaves else one.rejected for one in found}


def refused_links(folder: Path, roots: Sequence[Path] = ()) -> dict[str, str]:
    """Return links out of `roots`: relative path -> reason; nothing is read."""
    return dict(sorted((found.relative, found.rejected) for found in _looked_at(folder, roots) if found.leaves))


def _looked_at(folder: Path, roots: Sequence[Path]) -> Iterator[_Found]:
    found = _walk(folder, OF_A_CHARACTER, roots or [folder])
    return (entry for entry in found if not entry.ignored and not entry.path.name.startswith("."))


def _walk(folder: Path, aside: Mapping[str, str], roots: Sequence[Path]) -> Iterator[_Found]:
    """Yield entries below `folder`.

    `aside`: names skipped at its top -> reason ("": omitted). Real folders precede links, so a folder has its own name;
    one read already (a loop or second link) is ignored with a reason. Rejected: folders deeper than DEEPEST, and
    remaining links once they lead to more than MOST_BEHIND_LINKS files.
    """
    seen: set[tuple[int, int]] = set()
    real, links = [(folder, "")], deque[tuple[Path, str]]()
    behind_links, is_behind = 0, False
    while real or links:
        is_behind = is_behind or not real
        current, within = real.pop() if real else links.popleft()
        if within.count("/") >= DEEPEST:
            yield _Found(current, within, rejected=TOO_DEEP)
            continue
        try:
            if is_behind and _identity(current, roots) in seen:
                yield _Found(current, within, ignored=READ_ALREADY)
                continue
            identity, entries = list_folder(current, roots)
        except OSError as error:
            yield _Found(current, within or os.curdir, rejected=f"cannot be read: {error.strerror}")
            continue
        if identity in seen:
            yield _Found(current, within, ignored=READ_ALREADY)
            continue
        seen.add(identity)
        behind_links += len(entries) if is_behind else 0
        if behind_links > MOST_BEHIND_LINKS:
            yield _Found(current, within, rejected=TOO_MANY)
            return
        is_export = any(entry.name in TELEGRAM_PAGES for entry in entries)
        for entry in entries:
            path, relative = current / entry.name, f"{within}/{entry.name}" if within else entry.name
            found = _look_at(path, relative, entry, folder, aside, roots)
            if is_export and entry.name == TELEGRAM_ICONS[0]:
                yield _Found(path, relative, ignored=TELEGRAM_ICONS[1])
            elif current == folder and entry.name in aside:
                if aside[entry.name]:
                    yield _Found(path, relative, ignored=aside[entry.name])
            elif found:
                yield found
            elif is_system_folder(entry.name):
                hidden = entry.name.startswith(".")
                reason = "a hidden folder" if hidden else OF_A_SYSTEM
                yield _Found(path, relative, ignored=reason)
            else:
                (links if entry.is_link else real).append((path, relative))


def _identity(folder: Path, roots: Sequence[Path]) -> tuple[int, int]:
    about = status(folder, roots)
    return about.st_dev, about.st_ino


def _look_at(
    path: Path, relative: str, entry: Entry, folder: Path, aside: Mapping[str, str], roots: Sequence[Path]
) -> _Found | None:
    """Return the entry at `path`, or a link's target; None for folders."""
    if entry.is_folder:
        return None
    if not entry.is_link:
        return _Found(path, relative, is_file=stat.S_ISREG(entry.mode), size=entry.size)
    try:
        about = status(path, roots)
    except OutsideError as error:
        return _Found(path, relative, rejected=_leaves(error, folder, aside), leaves=True)
    except OSError:  # a link to nothing or itself: reported when read
        return _Found(path, relative)
    if stat.S_ISDIR(about.st_mode):
        return None
    is_file = stat.S_ISREG(about.st_mode)
    return _Found(path, relative, is_file=is_file, size=about.st_size if is_file else 0)


def left_behind(error: OutsideError) -> str:
    """Return reason and remedy for a link omitted from a new character."""
    return f"{error.strerror}: copy the files, or give --follow-links"


def _leaves(error: OutsideError, folder: Path, aside: Mapping[str, str]) -> str:
    if aside is OF_ANY_FOLDER:
        return left_behind(error)
    place = f"{links_file(folder).name}, beside {folder.name}"
    return f"{error.strerror}: copy the files, or write the folder that holds them into {place}"


def hidden_because(name: str) -> str:
    """Return why a file called `name` is skipped, else ""."""
    if _is_in_icloud(name):
        return "kept in iCloud: download it"
    return "a file of the operating system or hidden" if name.startswith(".") or name.lower() in SYSTEM_FILES else ""


def _is_in_icloud(name: str) -> bool:
    """Detect iCloud's placeholder: `.fox.png.icloud` for `fox.png` (macOS)."""
    return name.startswith(".") and name.endswith(".icloud")


def _judge(found: _Found, groups: Collection[str] | None, limits: MediaSettings, roots: Sequence[Path]) -> Row:
    name = found.relative.rpartition("/")[2]
    group = found.relative.partition("/")[0] if "/" in found.relative else ""
    path = found.relative.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    group = group if groups is None or group in groups else ""
    row = Row(path, group, bytes=found.size)
    if found.ignored or (hidden_because(name) and not _is_in_icloud(name)):
        return _with(row, status="ignored", reason=found.ignored or hidden_because(name))
    if path != found.relative:
        return _with(row, group="", reason="its name is not UTF-8: rename it")
    if hidden := hidden_letters(group) if groups is None else "":
        return _with(row, group="", reason=NAME_HIDES.format(hidden))
    if not group and groups is not None:
        top = found.relative.partition("/")[0]
        reason = f"the folder {top} is not a group" if "/" in found.relative else "not in a group's folder"
        return _with(row, status="ignored", reason=reason)
    if found.rejected or _is_in_icloud(name):
        return _with(row, reason=found.rejected or hidden_because(name))
    return _judge_content(row, found.path, limits, roots)


def _judge_content(row: Row, path: Path, limits: MediaSettings, roots: Sequence[Path]) -> Row:
    try:
        data = read_within(path, limits, roots)
    except MediaError as error:
        return _with(row, reason=str(error))
    row = _with(row, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    if not is_image(data):
        return _judge_other(row, path, data)
    try:
        header = read_header(data, limits)
    except MediaError as error:
        return _with(row, reason=str(error))
    return _with(
        row,
        format=header.format,
        width=header.width,
        height=header.height,
        n_frames=header.n_frames,
        status="accepted",
        reason=header.note,
        remark=header.remark,
    )


def _judge_other(row: Row, path: Path, data: bytes) -> Row:
    """Return the row of a non-image, ignored if usual beside images."""
    if is_caption_file(path.name) and len(data) <= MAX_BYTES:
        try:
            has_words = bool(tidy_lines(caption_text(data)))
        except TextError as error:
            return _with(row, reason=str(error))
        row = _with(row, remark="" if has_words else NO_WORD)
    if kind := beside_images(path.suffix, data):
        return _with(row, status="ignored", reason=kind)
    return _with(row, reason=what_is_it(data))


def _with(row: Row, **changes: str | int) -> Row:
    return Row(**{**vars(row), **changes})
