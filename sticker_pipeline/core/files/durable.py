"""Bytes synced to the disk before a name points at them.

Against power cuts, for artifacts, releases and training states, which are expensive. Caches have checksums instead.
"""

import errno
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

THREADS = 16  # a journal writes at once what several threads wait for


def sync_file(path: Path) -> None:
    with path.open("r+b" if sys.platform == "win32" else "rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the folder's names are on the disk, where supported."""
    if sys.platform == "win32":  # folders cannot be opened
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # unsupported by the file system
            raise
    finally:
        os.close(number)


def sync_tree(folder: Path) -> None:
    """Wait until the folder and everything below are on the disk."""
    paths = sorted(folder.rglob("*"))
    _sync((path for path in paths if path.is_file()), [folder, *(path for path in paths if path.is_dir())])


def _sync(files: Iterable[Path], folders: Iterable[Path]) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(sync_file, files))
        list(pool.map(sync_folder, folders))
