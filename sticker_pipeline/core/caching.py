"""Cached work, checked when it is read: an entry that is damaged counts as none, is removed, and is made again.

An entry is one file: a line with the checksum of the rest, and the rest. What libraries read as files of their own has
its checksums inside (a PNG), or in a file beside (a folder). CRC-32 finds every change of up to 32 bits in a row, at
6 GiB/s; it guards against disks, not against people.
"""

import errno
import io
import json
import logging
import os
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from sticker_pipeline.core.files.space import SpaceError
from sticker_pipeline.core.storage import atomic_file, content_hash, file_sha256, forget

LOG = logging.getLogger(__name__)
Result = TypeVar("Result")
SEALS = "checksums.json"  # in a folder that `seal_folder` sealed
_MARK = b"crc32 "
_HEADER = len(_MARK) + 9  # eight digits and a line break
_PNG = b"\x89PNG\r\n\x1a\n"
_BLOCK = 1 << 20  # bytes
_NOT_THE_FILE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR)  # what says nothing about the file that is read


def checksum(data: bytes | memoryview, before: int = 0) -> int:
    """The CRC-32 of `data`, after data with the checksum `before`."""
    return zlib.crc32(data, before)


def sealed(content: bytes) -> bytes:
    """`content` after a line with its checksum: what `write_cached` writes."""
    return _MARK + b"%08x\n" % checksum(content) + content


def unsealed(data: bytes) -> bytes:
    """The content of what `sealed` gave. Raises ValueError, saying what is wrong, for anything else."""
    content = memoryview(data)[_HEADER:]
    if data[:_HEADER] != _MARK + b"%08x\n" % checksum(content):
        raise ValueError("its checksum does not fit" if data.startswith(_MARK) else "it begins with no checksum")
    return bytes(content)


def write_cached(path: Path, content: bytes) -> None:
    """Write the entry whole, or not at all. Raises SpaceError where it cannot be written."""
    with atomic_file(path) as staging:
        staging.write_bytes(sealed(content))


def read_cached(path: Path) -> bytes | None:
    """The content of an entry; None where there is none, or a damaged one."""
    return read_entry(path, lambda entry: unsealed(entry.read_bytes()))


def write_memo(path: Path, value: Any) -> None:
    """Write `value` (JSON types) as an entry."""
    write_cached(path, json.dumps(value, indent=1).encode("ascii") + b"\n")


def read_memo(path: Path) -> dict[str, Any] | None:
    """The object that `write_memo` wrote; None where there is none, or a damaged one."""
    content = read_cached(path)
    return None if content is None else dict(json.loads(content))


def read_entry(path: Path, read: Callable[[Path], Result]) -> Result | None:
    """Read an entry by `read`; None where it is absent or damaged.

    A damaged one is removed, and named in the log. Damaged is what `read` raises OSError, ValueError, KeyError or
    SyntaxError for (Pillow's, for broken chunks).
    """
    try:
        return read(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, SyntaxError) as error:
        if isinstance(error, OSError) and error.errno in _NOT_THE_FILE:
            raise
        remove_damaged(path, error)
        return None


def remove_damaged(path: Path, why: object) -> None:
    """Remove the file or folder of an entry, and say so in the log. A name that cannot be removed stays."""
    LOG.warning("%s is damaged (%s): it counts as none, and is made again.", path, why)
    forget(path)


# --- folders of files -------------------------------------------------------------------------------------------------


def seal_folder(folder: Path) -> None:
    """Write the checksums of all files in `folder` into a file there: the last of them to be written."""
    write_memo(folder / SEALS, {name: file_checksum(folder / name) for name in _names(folder)})


def check_folder(folder: Path) -> None:
    """Raise ValueError, naming the file, where `folder` is not what `seal_folder` sealed; OSError for none."""
    if folder.is_dir() and not (folder / SEALS).exists():
        raise ValueError("it has no checksums")
    seals = json.loads(unsealed((folder / SEALS).read_bytes()))
    if set(seals) != set(_names(folder)):
        raise ValueError("files are missing, or there are others")
    for name, expected in seals.items():
        if file_checksum(folder / name) != expected:
            raise ValueError(f"the checksum of {name} does not fit")


def intact_folder(folder: Path) -> bool:
    """Return True where `folder` is as it was sealed; remove it where it is damaged."""

    def intact(entry: Path) -> bool:
        check_folder(entry)
        return True

    return bool(read_entry(folder, intact))


def file_checksum(path: Path) -> int:
    """The CRC-32 of the file's bytes, read in blocks."""
    value = 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            value = checksum(block, value)
    return value


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.name != SEALS)


# --- images ---------------------------------------------------------------------------------------------------------


def read_png(path: Path) -> Image.Image:
    """The image of a PNG file, after looking at the checksum of each of its chunks.

    Pillow does not compare those of pixels. Raises OSError, ValueError or SyntaxError for a file that is no whole PNG.
    """
    data = path.read_bytes()
    check_png(data)
    image = Image.open(io.BytesIO(data), formats=("PNG",))
    image.load()
    return image


def check_png(data: bytes) -> None:
    """Raise ValueError where `data` is no PNG, or the checksum of one of its chunks does not fit."""
    view, place = memoryview(data), len(_PNG)
    if data[:place] != _PNG:
        raise ValueError("it is no PNG file")
    while place + 12 <= len(data):
        end = place + 12 + int.from_bytes(view[place : place + 4])
        if end > len(data) or checksum(view[place + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            raise ValueError("the checksum of a chunk does not fit")
        if view[place + 4 : place + 8] == b"IEND":
            return
        place = end
    raise ValueError("it is cut off")


# --- hashes -----------------------------------------------------------------------------------------------------------


def file_hashes(paths: Iterable[Path], memo: Path, sha256: Callable[[Path], str] | None = None) -> dict[Path, str]:
    """Hex SHA-256 of each file, remembered in the JSON file `memo` for as long as size, time and inode stay the same.

    Files that vanish or cannot be read meanwhile are left out; whoever needs them will say so. A `memo` that cannot be
    written is not: it only saves work the next time. `sha256` hashes one file.
    """
    known, hash_file = read_memo(memo) or {}, sha256 or file_sha256
    fresh: dict[str, list[Any]] = {}
    for path in paths:
        try:
            status = path.stat()
            stamp = [status.st_size, status.st_mtime_ns, status.st_ino]
            entry = known.get(str(path))
            fresh[str(path)] = entry if entry and entry[:3] == stamp else [*stamp, hash_file(path)]
        except OSError:
            continue
    if fresh != known:
        with suppress(SpaceError):
            write_memo(memo, fresh)
    return {Path(path): entry[3] for path, entry in fresh.items()}


def folder_hashes(folder: Path, memos: Path, sha256: Callable[[Path], str] | None = None) -> dict[str, str]:
    """Path inside `folder` -> hex SHA-256, of every file below it, remembered in a file of the folder `memos` (see
    `file_hashes`)."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    hashes = file_hashes(files, memos / f"model-{content_hash(str(folder))[:16]}.json", sha256)
    return {path.relative_to(folder).as_posix(): sha for path, sha in hashes.items()}
