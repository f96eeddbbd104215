"""Cached work, verified on reading; damaged entries are removed and made again.

An entry is one file: a line with the checksum of the content, then the content. PNG files have checksums inside,
folders beside their files. CRC-32 finds every change of up to 32 bits in a row, at 6 GiB/s; it guards against disk
faults, not people.
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
SEALS = "checksums.json"  # in a sealed folder
_MARK = b"crc32 "
_HEADER = len(_MARK) + 9  # eight digits and a line break
_PNG = b"\x89PNG\r\n\x1a\n"
_BLOCK = 1 << 20  # bytes
_NOT_THE_FILE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR)  # errors that are not about the file


def checksum(data: bytes | memoryview, before: int = 0) -> int:
    """Return the CRC-32 of `data`, continued from the checksum `before`."""
    return zlib.crc32(data, before)


def sealed(content: bytes) -> bytes:
    return _MARK + b"%08x\n" % checksum(content) + content


def unsealed(data: bytes) -> bytes:
    """Return the content of `sealed` data. Raises ValueError for other data."""
    content = memoryview(data)[_HEADER:]
    if data[:_HEADER] != _MARK + b"%08x\n" % checksum(content):
        raise ValueError("its checksum does not fit" if data.startswith(_MARK) else "it begins with no checksum")
    return bytes(content)


def write_cached(path: Path, content: bytes) -> None:
    """Write the entry atomically. Raises SpaceError."""
    with atomic_file(path) as staging:
        staging.write_bytes(sealed(content))


def read_cached(path: Path) -> bytes | None:
    """Return the content of an entry; None if absent or damaged."""
    return read_entry(path, lambda entry: unsealed(entry.read_bytes()))


def write_memo(path: Path, value: Any) -> None:
    write_cached(path, json.dumps(value, indent=1).encode("ascii") + b"\n")


def read_memo(path: Path) -> dict[str, Any] | None:
    """Return `write_memo`'s object; None if absent or damaged."""
    content = read_cached(path)
    return None if content is None else dict(json.loads(content))


def read_entry(path: Path, read: Callable[[Path], Result]) -> Result | None:
    """Return `read(path)`; None if the entry is absent or damaged.

    Damaged: `read` raises OSError, ValueError, KeyError or SyntaxError (Pillow's, for broken chunks). The entry is then
    removed and logged.
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
    """Remove a damaged file or folder, if possible, and log it."""
    LOG.warning("%s is damaged (%s): it is treated as missing and made again.", path, why)
    forget(path)


# --- folders of files -------------------------------------------------------------------------------------------------


def seal_folder(folder: Path) -> None:
    """Write the checksums of the files in `folder`, as its last file."""
    write_memo(folder / SEALS, {name: file_checksum(folder / name) for name in _names(folder)})


def check_folder(folder: Path) -> None:
    """Raise ValueError, naming the file, for a changed folder; OSError for none."""
    if folder.is_dir() and not (folder / SEALS).exists():
        raise ValueError("it has no checksums")
    seals = json.loads(unsealed((folder / SEALS).read_bytes()))
    if set(seals) != set(_names(folder)):
        raise ValueError("files are missing, or there are others")
    for name, expected in seals.items():
        if file_checksum(folder / name) != expected:
            raise ValueError(f"the checksum of {name} does not fit")


def intact_folder(folder: Path) -> bool:
    """Tell whether `folder` is as sealed; remove a damaged one."""

    def intact(entry: Path) -> bool:
        check_folder(entry)
        return True

    return bool(read_entry(folder, intact))


def file_checksum(path: Path) -> int:
    value = 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            value = checksum(block, value)
    return value


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.name != SEALS)


# --- images ---------------------------------------------------------------------------------------------------------


def read_png(path: Path) -> Image.Image:
    """Read a PNG file and verify each chunk's checksum.

    Pillow skips those of pixels. Raises OSError, ValueError or SyntaxError for an incomplete PNG.
    """
    data = path.read_bytes()
    check_png(data)
    image = Image.open(io.BytesIO(data), formats=("PNG",))
    image.load()
    return image


def check_png(data: bytes) -> None:
    """Raise ValueError unless `data` is a PNG with correct checksums."""
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
    """Return each file's hex SHA-256, cached in `memo` by size, time and inode.

    Unreadable files are left out; their users report them. An unwritable `memo` is skipped. `sha256` hashes one file.
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
    """Return the hex SHA-256 of files by relative path, cached in `memos`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    hashes = file_hashes(files, memos / f"model-{content_hash(str(folder))[:16]}.json", sha256)
    return {path.relative_to(folder).as_posix(): sha for path, sha in hashes.items()}
