"""Bytes that are on the disk before a name points at them: what is lost at a power cut is what was not yet named.

Only for what cannot be made again cheaply: artifacts, releases and states of trainings. Caches have checksums instead.
"""

import errno
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

THREADS = 16  # that wait for the disk together: a journal writes what they wait for at once


def sync_file(path: Path) -> None:
    """Wait until the bytes of the file are on the disk."""
    with path.open("r+b" if sys.platform == "win32" else "rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the names in the folder are on the disk, where the system can say so."""
    if sys.platform == "win32":  # it opens no folder
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # of file systems that have no such thing
            raise
    finally:
        os.close(number)


def sync_tree(folder: Path) -> None:
    """Wait until everything below the folder, and its own names, are on the disk."""
    paths = sorted(folder.rglob("*"))
    _sync((path for path in paths if path.is_file()), [folder, *(path for path in paths if path.is_dir())])


def _sync(files: Iterable[Path], folders: Iterable[Path]) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(sync_file, files))
        list(pool.map(sync_folder, folders))
