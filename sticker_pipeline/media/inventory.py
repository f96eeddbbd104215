"""The inventory: every file in a character's folder, and whether it is taken, refused or passed over, and why.

Files are judged by their content; nothing is decoded here and nothing is written into the folder.
"""

import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sticker_pipeline.character import FILE_NAME
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.header import is_picture, is_text, read_header, what_is_it
from sticker_pipeline.media.limits import read_within
from sticker_pipeline.media.sidecars import name_captions
from sticker_pipeline.settings import MediaSettings
from sticker_pipeline.verdict import Verdict

COLUMNS = ["path", "group", "sha256", "bytes", "format", "width", "height", "n_frames", "status", "reason", "remark"]
NOT_MEDIA = (FILE_NAME, "rivals")  # at the top of the folder: not the inventory's business
SYSTEM_FILES = ("thumbs.db", "desktop.ini", "icon\r")
# Text that lies beside pictures on purpose: captions, notes, listings, licences.
TEXT_SUFFIXES = (".txt", ".md", ".caption", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".toml", ".log", "")
KINDS = {
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
}


@dataclass(frozen=True)
class Row:
    """One row of the inventory. `reason` of an accepted file says what is missing from it, such as that it is cut off;
    `remark` is worth knowing of a file that is taken whole."""

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


def scan(folder: Path, groups: Collection[str], limits: MediaSettings) -> pd.DataFrame:
    """Every file under `folder` except character.yaml and rivals/, sorted by path, with the columns COLUMNS.

    `groups` are the names of the subfolders that hold media. `status` is accepted, rejected (a file that was meant as a
    picture, or cannot be read) or ignored (system files, captions, files outside the groups); `reason` says why.
    `n_frames` is the number of frames that decoding gives. Links are followed, each folder is read once.
    Raises MediaError, naming the folder, when there is no folder.
    """
    if not folder.is_dir():
        raise MediaError(f"{folder} is not a folder")
    rows = sorted((_judge(found, groups, limits) for found in _walk(folder)), key=lambda row: row.path)
    table = pd.DataFrame([vars(row) for row in rows], columns=COLUMNS)
    numbers = ["bytes", "width", "height", "n_frames"]
    return name_captions(table.astype({name: "int64" if name in numbers else "str" for name in COLUMNS}))


def rejected_files(inventory: pd.DataFrame) -> Verdict:
    """Whether every file that was meant as a picture is taken whole. `inventory` as from `scan`."""
    refused = inventory[inventory["status"] == "rejected"]
    partly = inventory[(inventory["status"] == "accepted") & (inventory["reason"] != "")]
    evidence = pd.concat([refused, partly])[["path", "status", "reason"]].reset_index(drop=True)
    if evidence.empty:
        return Verdict(True, "Every file is taken whole or passed over for a reason.", evidence)
    summary = f"Files refused: {len(refused)}, taken in part: {len(partly)}. Mend, convert or remove them."
    return Verdict(False, summary, evidence)


def media_files(folder: Path) -> list[Path]:
    """The regular files that `scan` looks at, unopened: when none of them changed, neither did the inventory."""
    found = (entry.path for entry in _walk(folder) if not entry.ignored and not entry.path.name.startswith("."))
    return sorted(path for path in found if path.is_file())


@dataclass(frozen=True)
class _Found:
    """Something in the folder: its path, relative posix, and why it is not to be opened, if so."""

    path: Path
    relative: str
    ignored: str = ""
    rejected: str = ""


def _walk(folder: Path) -> Iterator[_Found]:
    """Files below `folder`. Real folders come before links to folders, so that a folder goes by its own name; one that
    was read already (a loop, or a second link) is passed over with a reason."""
    seen: set[tuple[int, int]] = set()
    real, links = [folder], list[Path]()
    while real or links:
        current = real.pop() if real else links.pop(0)
        try:
            identity = _identity(current)
            entries = sorted(os.scandir(current), key=lambda entry: entry.name)
        except OSError as error:
            yield _Found(current, _relative(current, folder), rejected=f"cannot be read: {error.strerror}")
            continue
        if identity in seen:
            yield _Found(current, _relative(current, folder), ignored="a link to a folder that is read already")
            continue
        seen.add(identity)
        for entry in entries:
            path = Path(entry.path)
            if current == folder and entry.name in NOT_MEDIA:
                continue
            if not _is_folder(path):
                yield _Found(path, _relative(path, folder))
            elif entry.name.startswith("."):
                yield _Found(path, _relative(path, folder), ignored="a hidden folder")
            else:
                (links if entry.is_symlink() else real).append(path)


def _is_folder(path: Path) -> bool:
    """Whether `path` is, or links to, a folder; False where that cannot be known."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _judge(found: _Found, groups: Collection[str], limits: MediaSettings) -> Row:
    """The row of one found path."""
    name = found.relative.rpartition("/")[2]
    group = found.relative.partition("/")[0] if "/" in found.relative else ""
    path = found.relative.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    size = _size(found.path)
    group = group if group in groups else ""
    row = Row(path, group, bytes=size)
    if found.ignored or name.startswith(".") or name.lower() in SYSTEM_FILES:
        return _with(row, status="ignored", reason=found.ignored or "a file of the operating system or hidden")
    if not group:
        top = found.relative.partition("/")[0]
        reason = f"the folder {top} is not a group" if "/" in found.relative else "not in a group's folder"
        return _with(row, status="ignored", reason=reason)
    if found.rejected:
        return _with(row, reason=found.rejected)
    if path != found.relative:
        return _with(row, reason="its name is not UTF-8: rename it")
    return _judge_content(row, found.path, limits)


def _judge_content(row: Row, path: Path, limits: MediaSettings) -> Row:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = next((name for test, name in KINDS.items() if test(mode)), "a special file")
            return _with(row, reason=f"not a picture: {kind}, which is never opened")
        data = read_within(path, limits)
    except MediaError as error:
        return _with(row, reason=str(error))
    except FileNotFoundError:
        return _with(row, reason="a link to a file that does not exist")
    except OSError as error:
        return _with(row, reason=f"cannot be read: {error.strerror}")
    row = _with(row, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    if not is_picture(data):
        if path.suffix.lower() in TEXT_SUFFIXES and is_text(data):
            return _with(row, status="ignored", reason="text, such as a caption or notes")
        return _with(row, reason=what_is_it(data))
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


def _size(path: Path) -> int:
    try:
        status = path.stat()
    except OSError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _with(row: Row, **changes: str | int) -> Row:
    return Row(**{**vars(row), **changes})
