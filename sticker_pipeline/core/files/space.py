"""Space on disks and in memory: what long work needs, compared with what there is; and what a failed write says.

Estimates are upper bounds in bytes, functions of plain numbers. Who counts these numbers stands where the work is done.
"""

import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

Say = Callable[[str], None]

TIGHT = 1.5  # with less than this times what is needed, a sentence is logged
MIB = 2**20
GIB = 2**30

PNG_BYTES_PER_PIXEL = 3.1
"""Of a generated RGB image: what noise takes, which PNG cannot shrink (a filter byte a row included). Images of the
embedded base take 1.6 to 2.4."""

FRAME_BYTES_PER_PIXEL = {"GIF": 1.4, "APNG": 1.4, "PNG": 2.0}
OTHER_FRAME_BYTES_PER_PIXEL = 3.0
"""Of a frame as an RGBA PNG of compress_level 1, by the format of its file. Measured on 140 to 583 frames each of two
demo characters and three real ones: GIF 0.01 to 1.33, APNG 0.23 to 0.93, PNG 0.03 to 1.54, JPEG 1.19 to 1.65, WebP
0.54 to 1.75. Photographs and videos are taken to need what RGB noise does."""

FRAME_TABLE_BYTES = 32 * 1024  # a file's table of frames: at most 32 KB of one frame in the same measurement
FRAME_ROW_BYTES = 12 * 1024  # each frame's previews in that table and in the sheets: 0.4 to 9 KB, and 3 KB

TAG_ROW_BYTES = 1024  # of one frame in the table of tags: 10 bytes each, at most 100 of them

ROUGH_BYTES_PER_PIXEL = 16 * 1024
"""Of memory, for each pixel of a batch that is trained on: twice what the dry run counts for SD1.5 (8.2 KiB, batch 8,
512 px); for the embedded base it counts 2.0 KiB."""

CPU_PROCESS = 1280 * MIB
"""What a training on a CPU takes beside its tensors: Python, PyTorch and what they load. Of the 1,188 MiB resident in a
training of the embedded base, the dry run counts 166."""

HISTORY_BYTES = 16 * MIB
"""What an update adds to Dagster's history: 8.9 MB after the lines of two small characters and some more steps."""

LOG_BYTES_PER_STEP = 1200  # a row of log.parquet, in the output and in two states, and 14 points of curves

_FREE_SOME = "Make room there"
_REFUSALS = {
    errno.ENOSPC: ("its disk is full", _FREE_SOME),
    errno.EROFS: ("its file system is read-only", "Mount it for writing, or choose another folder"),
    errno.EACCES: ("writing there is not allowed", "Allow it, or choose another folder"),
    errno.EPERM: ("writing there is not allowed", "Allow it, or choose another folder"),
    errno.EFBIG: (
        "a file would be larger than its file system or this process (ulimit -f) may have",
        "Raise that limit",
    ),
    errno.ENOTDIR: ("there is a file where a folder has to be", "Move that file away"),
}
if hasattr(errno, "EDQUOT"):  # where the system has quotas
    _REFUSALS[errno.EDQUOT] = ("the quota of its disk is used up", f"{_FREE_SOME}, or have the quota raised")


FULL = {number for number in (errno.ENOSPC, errno.EROFS, getattr(errno, "EDQUOT", None)) if number}


_SQLITE = {"database or disk is full": errno.ENOSPC, "attempt to write a readonly database": errno.EROFS}


class SpaceError(OSError):
    """Something cannot be written, or would not fit; the message says where, why, and what to do."""


# --- before the work --------------------------------------------------------------------------------------------------


def enough(path: Path, need: int, what: str, say: Say) -> None:
    """Raise SpaceError where fewer than `need` bytes are free on the disk of `path`; `say` so where they just fit.

    `what` is the work that needs them. Nothing of `path` has to exist yet.
    """
    free = free_bytes(path)
    there = f"{path}: {what} needs up to {in_words(need)}, and its disk has {in_words(free)} free"
    if free < need:
        raise SpaceError(f"{there}. {_FREE_SOME}, or choose another folder, and run this again.")
    if free < TIGHT * need:
        say(f"{there}: it just fits.")


def by_disk(needs: Mapping[Path, int]) -> dict[Path, int]:
    """`needs` (path -> bytes) with those on one disk added up, under the first of their paths."""
    first: dict[int, Path] = {}
    sums: dict[Path, int] = {}
    for path, need in needs.items():
        place = first.setdefault(_existing(path).stat().st_dev, path)
        sums[place] = sums.get(place, 0) + max(0, need)
    return sums


def enough_memory(need: int, what: str, remedy: str, say: Say) -> None:
    """Raise SpaceError where less than `need` bytes of memory can be had; `say` so where they just fit."""
    available = available_memory()
    there = f"{what} needs up to {in_words(need)} of memory, and {in_words(available)} can be had"
    if available < need:
        raise SpaceError(f"{there}. {remedy}, or end other programs, and run this again.")
    if available < TIGHT * need:
        say(f"{there}: it just fits.")


def free_bytes(path: Path) -> int:
    """Bytes that this user may still write on the disk of `path`, or of its nearest folder that exists."""
    return shutil.disk_usage(_existing(path)).free


def in_words(size: int) -> str:
    """`size` in bytes as a person reads it: 1.25 GB, 31.0 MB, 4.2 kB, 100 bytes."""
    for unit, name, digits in ((10**9, "GB", 2), (10**6, "MB", 1), (10**3, "kB", 1)):
        if size >= unit:
            return f"{size / unit:.{digits}f} {name}"
    return f"{size} bytes"


def available_memory() -> int:
    """Bytes of memory that can be had without swapping: of the machine, and of this process's cgroups."""
    import psutil

    rooms = [int(psutil.virtual_memory().available)]
    if sys.platform == "linux":
        rooms += cgroup_rooms(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    return min(rooms)


def cgroup_rooms(root: Path, membership: Path) -> list[int]:
    """Bytes left in each cgroup with a limit of memory that a process is in: its own, and those around it.

    `root`: where cgroups are mounted; `membership`: the process's /proc/<pid>/cgroup. Version 2 and version 1. What the
    cache of files takes counts as free.
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    rooms: list[int] = []
    for line in lines:
        _, controllers, own = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "memory" if controllers else root
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        place = Path(own.lstrip("/"))
        for folder in [place, *place.parents]:
            try:
                limit, used = (int((top / folder / name).read_text(encoding="utf-8")) for name in names)
                statistics = (top / folder / "memory.stat").read_text(encoding="utf-8")
            except (OSError, ValueError):  # no such group, or no limit: "max"
                continue
            cached = re.search(r"^(?:total_)?inactive_file (\d+)$", statistics, re.MULTILINE)
            rooms.append(max(0, limit - used + (int(cached[1]) if cached else 0)))
    return rooms


# --- what kinds of work write -----------------------------------------------------------------------------------------


def frame_bytes(image_format: str, width: int, height: int, frames: int) -> int:
    """What the decoded frames of one file take: their PNGs, their table and their part of the sheets."""
    each = FRAME_BYTES_PER_PIXEL.get(image_format, OTHER_FRAME_BYTES_PER_PIXEL) * width * height
    return FRAME_TABLE_BYTES + frames * (round(each) + FRAME_ROW_BYTES)


def score_bytes(images: int, labels: int) -> int:
    """What the tagger's scores of so many new images take: a float32 of each label and a name of 64 bytes."""
    return images * (4 * labels + 64) + 4096


def tagged_bytes(images: int, labels: int) -> int:
    """What so many new images take that are tagged: their scores, and their rows of the table of tags."""
    return score_bytes(images, labels) + images * TAG_ROW_BYTES


def image_bytes(images: int, width: int, height: int, copies: int = 1) -> int:
    """What generated images take as PNG, `copies` times each, and a row of their table and log."""
    return images * (copies * (round(PNG_BYTES_PER_PIXEL * width * height) + 1024) + 1024) + 64 * 1024


def latent_bytes(views: int, channels: int, width: int, height: int, factor: int) -> int:
    """What the cached posteriors of so many new views take: mean, deviation and mask as float32 of each cell."""
    return views * (4 * (2 * channels + 1) * (-(-width // factor)) * (-(-height // factor)) + 1024)


def text_bytes(captions: int, variants: int, chunks: int, width: int, dtype_bytes: int) -> int:
    """What the cached encodings of so many new captions take: 77 vectors of each chunk of each variant."""
    return captions * (variants * (77 * chunks + 1) * width * dtype_bytes + 1024)


def training_bytes(
    parameters: int,
    modules: int,
    epochs: int,
    steps: int,
    save_bytes: int,
    optimizer_bytes: int,
    averaged: bool,
) -> int:
    """What a training's checkpoints, states and logs take, without its samples and caches.

    `parameters` learn, in so many adapted `modules`; a checkpoint has `save_bytes` for each. There is one of each epoch
    and one of an interruption. Of the states, with float32 weights, their moving average if there is one and
    `optimizer_bytes`, there are two while the newer is written. `steps`: of all epochs.
    """
    header = 400 * modules + 16 * 1024  # the names, shapes and metadata in a safetensors file
    checkpoints = (epochs + 1) * (parameters * save_bytes + header)
    state = parameters * 4 * (2 if averaged else 1) + optimizer_bytes + 3 * header
    return checkpoints + 2 * state + steps * LOG_BYTES_PER_STEP + 256 * 1024


def rough_training_memory(weights: int, batch: int, width: int, height: int) -> int:
    """Bytes of memory that a training on a CPU stays far below: where these can be had, none need be counted.

    `weights`: bytes of the base model's weights in float32. They may be held three times: as they were read, and laid
    out for each direction.
    """
    return CPU_PROCESS + 3 * weights + batch * width * height * ROUGH_BYTES_PER_PIXEL


# --- when a write fails -----------------------------------------------------------------------------------------------


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise SpaceError, naming `path` and what to do, where the block meets a full disk or may not write.

    Other errors pass, those of reading among them.
    """
    try:
        yield
    except Exception as error:
        sentence = refusal(path, error)
        if sentence is None:
            raise
        raise SpaceError(sentence) from error


def refusal(path: Path, error: Exception) -> str | None:
    """Why `path` could not be written and what to do; None where `error` is about something else."""
    number = _error_number(error)
    if isinstance(error, SpaceError) or number not in _REFUSALS:
        return None
    if number in FULL:
        path = _full_place(path, error)
    folders = (_existing(path), _existing(path.parent))
    if number in (errno.EACCES, errno.EPERM) and all(os.access(folder, os.W_OK) for folder in folders):
        return None  # what it may not do is read
    why, remedy = _REFUSALS[number]
    return f"{path} cannot be written: {why}. What was written before is whole. {remedy}, and run this again."


def _full_place(path: Path, error: Exception) -> Path:
    """Find the path on the full disk: the file that the system names, or `path`, or the folder of temporary files
    where `path` has room and that has none."""
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)  # a copy names what it reads first
    if isinstance(name, str):
        return Path(name).absolute()
    try:
        temporary = Path(tempfile.gettempdir())
        return temporary if free_bytes(temporary) < MIB <= free_bytes(path) else path
    except OSError:  # there is no folder of temporary files
        return path


def _error_number(error: Exception) -> int | None:
    """The errno of `error`. SQLite has words of its own; libraries in Rust, such as safetensors, state the system's
    number in their message."""
    if isinstance(error, OSError):
        return error.errno
    for words, number in _SQLITE.items():
        if words in str(error):
            return number
    stated = re.search(r"\(os error (\d+)\)", str(error))
    if stated is None:
        return None
    if sys.platform == "win32":
        return OSError(0, "", None, int(stated[1])).errno
    return int(stated[1])


def _existing(path: Path) -> Path:
    return next((folder for folder in (path, *path.parents) if folder.exists()), Path())
