"""Space on disks and in memory: estimates, free space, write errors.

Estimates are upper bounds in bytes, functions of plain numbers that the work counts.
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

TIGHT = 1.5  # below this times the need, a sentence is logged
MIB = 2**20
GIB = 2**30

PNG_BYTES_PER_PIXEL = 3.1
"""Of a generated RGB image: the size of noise, which PNG cannot compress (with a filter byte for each row). Images of
the embedded base take 1.6 to 2.4.
"""

FRAME_BYTES_PER_PIXEL = {"GIF": 1.4, "APNG": 1.4, "PNG": 2.0}
OTHER_FRAME_BYTES_PER_PIXEL = 3.0
"""Of a frame as an RGBA PNG of compress_level 1, by file format. Measured on 140 to 583 frames each of two demo
characters and three real ones: GIF 0.01 to 1.33, APNG 0.23 to 0.93, PNG 0.03 to 1.54, JPEG 1.19 to 1.65, WebP 0.54 to
1.75. Photographs and videos are assumed to take as much as RGB noise.
"""

FRAME_TABLE_BYTES = 32 * 1024  # of a file's table of frames: at most 32 KB for one frame in that measurement
FRAME_ROW_BYTES = 12 * 1024  # a frame's previews in that table (0.4 to 9 KB) and the sheets (3 KB)

TAG_ROW_BYTES = 1024  # of a frame in the table of tags: at most 100 tags of 10 bytes

ROUGH_BYTES_PER_PIXEL = 16 * 1024
"""Of memory, for each pixel of a training batch: twice the dry run's count for SD1.5 (8.2 KiB, batch 8, 512 px); for
the embedded base it counts 2.0 KiB.
"""

CPU_PROCESS = 1280 * MIB
"""Memory of a CPU training beside its tensors: Python, PyTorch and their libraries. Of the 1,188 MiB resident in a
training of the embedded base, the dry run counts 166.
"""

HISTORY_BYTES = 16 * MIB
"""Growth of Dagster's history by an update: 8.9 MB after the lines of two small characters and some more steps."""

LOG_BYTES_PER_STEP = 1200  # a row of log.parquet in the output and two states, and 14 points of curves

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
    """A failed write, or too little space; the message has the remedy."""


# --- before the work --------------------------------------------------------------------------------------------------


def enough(path: Path, need: int, what: str, say: Say) -> None:
    """Raise SpaceError for fewer than `need` free bytes on `path`'s disk.

    Below TIGHT times the need, `say` so. `what` names the work. `path` need not exist.
    """
    free = free_bytes(path)
    there = f"{path}: {what} needs up to {in_words(need)}, and its disk has {in_words(free)} free"
    if free < need:
        raise SpaceError(f"{there}. {_FREE_SOME}, or choose another folder, and run this again.")
    if free < TIGHT * need:
        say(f"{there}: it just fits.")


def by_disk(needs: Mapping[Path, int]) -> dict[Path, int]:
    """Sum `needs` (path -> bytes) by disk, under the disk's first path."""
    first: dict[int, Path] = {}
    sums: dict[Path, int] = {}
    for path, need in needs.items():
        place = first.setdefault(_existing(path).stat().st_dev, path)
        sums[place] = sums.get(place, 0) + max(0, need)
    return sums


def enough_memory(need: int, what: str, remedy: str, say: Say) -> None:
    """Raise SpaceError for too little memory; `say` when it just fits."""
    available = available_memory()
    there = f"{what} needs up to {in_words(need)} of memory, and {in_words(available)} are available"
    if available < need:
        raise SpaceError(f"{there}. {remedy}, or end other programs, and run this again.")
    if available < TIGHT * need:
        say(f"{there}: it just fits.")


def free_bytes(path: Path) -> int:
    """Return the bytes that this user may write on `path`'s disk."""
    return shutil.disk_usage(_existing(path)).free


def in_words(size: int) -> str:
    """Format bytes for people: 1.25 GB, 31.0 MB, 4.2 kB, 100 bytes."""
    for unit, name, digits in ((10**9, "GB", 2), (10**6, "MB", 1), (10**3, "kB", 1)):
        if size >= unit:
            return f"{size / unit:.{digits}f} {name}"
    return f"{size} bytes"


def available_memory() -> int:
    """Return the bytes available without swapping, to the machine and our cgroups."""
    import psutil

    rooms = [int(psutil.virtual_memory().available)]
    if sys.platform == "linux":
        rooms += cgroup_rooms(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    return min(rooms)


def cgroup_rooms(root: Path, membership: Path) -> list[int]:
    """Return the bytes left in a process's memory-limited cgroups, ancestors included.

    `root`: mount point; `membership`: the process's /proc/<pid>/cgroup. Versions 2 and 1. The file cache counts as
    free.
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
            except (OSError, ValueError):  # no such group, or no limit ("max")
                continue
            cached = re.search(r"^(?:total_)?inactive_file (\d+)$", statistics, re.MULTILINE)
            rooms.append(max(0, limit - used + (int(cached[1]) if cached else 0)))
    return rooms


# --- what kinds of work write -----------------------------------------------------------------------------------------


def frame_bytes(image_format: str, width: int, height: int, frames: int) -> int:
    """Return the bytes of a file's decoded frames: PNGs, table, sheets."""
    each = FRAME_BYTES_PER_PIXEL.get(image_format, OTHER_FRAME_BYTES_PER_PIXEL) * width * height
    return FRAME_TABLE_BYTES + frames * (round(each) + FRAME_ROW_BYTES)


def score_bytes(images: int, labels: int) -> int:
    """Return the bytes of new tagger scores: float32 per label, 64-byte name."""
    return images * (4 * labels + 64) + 4096


def tagged_bytes(images: int, labels: int) -> int:
    """Return the bytes of newly tagged images: scores and table rows."""
    return score_bytes(images, labels) + images * TAG_ROW_BYTES


def image_bytes(images: int, width: int, height: int, copies: int = 1) -> int:
    """Return the bytes of generated PNGs, `copies` each, with table and log rows."""
    return images * (copies * (round(PNG_BYTES_PER_PIXEL * width * height) + 1024) + 1024) + 64 * 1024


def latent_bytes(views: int, channels: int, width: int, height: int, factor: int) -> int:
    """Return bytes of cached posteriors: float32 mean, deviation and mask per cell."""
    return views * (4 * (2 * channels + 1) * (-(-width // factor)) * (-(-height // factor)) + 1024)


def text_bytes(captions: int, variants: int, chunks: int, width: int, dtype_bytes: int) -> int:
    """Return the bytes of cached encodings: 77 vectors per chunk and variant."""
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
    """Return the bytes of a training's checkpoints, states and logs.

    Samples and caches are not included. `parameters`: trained, in `modules` adapted modules. A checkpoint has
    `save_bytes` per parameter; there is one per epoch and one of an interruption. Two states exist while the newer is
    written: float32 weights, any moving average, `optimizer_bytes`. `steps`: of all epochs.
    """
    header = 400 * modules + 16 * 1024  # the names, shapes and metadata in a safetensors file
    checkpoints = (epochs + 1) * (parameters * save_bytes + header)
    state = parameters * 4 * (2 if averaged else 1) + optimizer_bytes + 3 * header
    return checkpoints + 2 * state + steps * LOG_BYTES_PER_STEP + 256 * 1024


def rough_training_memory(weights: int, batch: int, width: int, height: int) -> int:
    """Return a bound far above a CPU training's memory.

    If it fits, counting can be skipped. `weights`: bytes of the float32 base model, held up to three times: as read,
    and laid out for each direction.
    """
    return CPU_PROCESS + 3 * weights + batch * width * height * ROUGH_BYTES_PER_PIXEL


# --- when a write fails -----------------------------------------------------------------------------------------------


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise SpaceError, with `path` and remedy, for a full disk or refused write.

    Other errors pass, such as reading's.
    """
    try:
        yield
    except Exception as error:
        sentence = refusal(path, error)
        if sentence is None:
            raise
        raise SpaceError(sentence) from error


def refusal(path: Path, error: Exception) -> str | None:
    """Explain why `path` could not be written, with remedy; None for other errors."""
    number = _error_number(error)
    if isinstance(error, SpaceError) or number not in _REFUSALS:
        return None
    if number in FULL:
        path = _full_place(path, error)
    folders = (_existing(path), _existing(path.parent))
    if number in (errno.EACCES, errno.EPERM) and all(os.access(folder, os.W_OK) for folder in folders):
        return None  # reading is refused
    why, remedy = _REFUSALS[number]
    return f"{path} cannot be written: {why}. What was written before is whole. {remedy}, and run this again."


def _full_place(path: Path, error: Exception) -> Path:
    """Return the path on the full disk.

    It is the system's file, or the folder of temporary files if that alone is full, else `path`.
    """
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)  # copies name their source first
    if isinstance(name, str):
        return Path(name).absolute()
    try:
        temporary = Path(tempfile.gettempdir())
        return temporary if free_bytes(temporary) < MIB <= free_bytes(path) else path
    except OSError:  # no folder of temporary files
        return path


def _error_number(error: Exception) -> int | None:
    """Return the errno of `error`.

    SQLite has its own messages; Rust libraries (safetensors) state the number.
    """
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
