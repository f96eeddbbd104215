"""Blobs: files by SHA-256, in a bucket and on this machine."""

import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sticker_pipeline.core.files.space import SpaceError, writing
from sticker_pipeline.core.object_store.bucket import Bucket, Meta
from sticker_pipeline.core.storage import StorageError, atomic_file, file_sha256, link_or_copy

BLOBS = "_blobs"
CHANGES = "_changes"  # on this machine: a folder for each upload under way
VERSIONS = "_versions"  # on this machine: a folder for each version of an artifact or tree
REQUESTS = 16  # at a time
DAY = 24 * 3600.0
FRESH = 3 * DAY  # an older blob is written again when published: `collect` removes unused ones of a week
Item = TypeVar("Item")


def blob_key(sha256: str) -> str:
    return f"{BLOBS}/{sha256}"


def upload(bucket: Bucket, files: Mapping[str, Path]) -> None:
    """Write the blobs that the bucket lacks.

    files: hex SHA-256 -> file. Blobs older than FRESH are written again.
    """

    def one(sha256: str) -> None:
        key, path = blob_key(sha256), files[sha256]
        found = bucket.head(key)
        if found is None or not _is_good(found, path.stat().st_size):
            bucket.put(key, path)

    _each(one, files)


def _is_good(found: Meta, size: int) -> bool:
    return found.size == size and time.time() - found.changed < FRESH


def download(bucket: Bucket, scratch: Path, wanted: Mapping[Path, str], to: Callable[[Path, Path], object]) -> None:
    """Put blobs at missing paths of `wanted` (path -> hex SHA-256).

    to: `link_or_copy`, or `shutil.copyfile` for files that are written again. Raises StorageError for a missing or
    damaged blob, SpaceError for a full disk. Space is first made by removing copies that nobody used for a day.
    """
    missing = {path: sha256 for path, sha256 in wanted.items() if not path.exists()}

    def one(path: Path) -> None:
        place(bucket, scratch, missing[path], path, to)

    try:
        _each(one, missing)
    except SpaceError:
        tidy(scratch, DAY)
        _each(one, [path for path in missing if not path.exists()])


def place(bucket: Bucket, scratch: Path, sha256: str, path: Path, to: Callable[[Path, Path], object]) -> None:
    """Put a blob at `path` by `to`, whole or not at all."""
    blob = local_blob(scratch, sha256)
    if not blob.is_file() or file_sha256(blob) != sha256:
        _fetch(bucket, sha256, blob)
    with atomic_file(path) as staging:
        to(blob, staging)


def keep(scratch: Path, sha256: str, path: Path) -> None:
    """Keep `path`, never written again, as a blob's local copy."""
    blob = local_blob(scratch, sha256)
    if not blob.exists():
        with atomic_file(blob) as staging:
            link_or_copy(path, staging)


def local_blob(scratch: Path, sha256: str) -> Path:
    return scratch / BLOBS / sha256[:2] / sha256


def _fetch(bucket: Bucket, sha256: str, blob: Path) -> None:
    key = blob_key(sha256)
    with writing(blob):
        blob.parent.mkdir(parents=True, exist_ok=True)
        partial = blob.with_name(f".{sha256}.{uuid.uuid4().hex[:8]}")
        try:
            for _ in range(2):  # a second time, before the bucket's object is called damaged
                if not bucket.download(key, partial):
                    bucket.check()
                    raise StorageError(f"{bucket.url}/{key} is missing: materialize what it belongs to again.")
                if file_sha256(partial) == sha256:
                    partial.replace(blob)
                    return
        finally:
            partial.unlink(missing_ok=True)
    bucket.delete([key])  # the next publication writes it again
    raise StorageError(f"{bucket.url}/{key} was damaged and is removed: materialize what it belongs to again.")


@contextmanager
def private_folder(scratch: Path) -> Iterator[Path]:
    """Yield a new folder; remove it, and those of killed processes.

    Those are a day old. Raises SpaceError for a full disk.
    """
    for left in (scratch / CHANGES).glob("*"):
        with suppress(OSError):
            if left.stat().st_mtime < time.time() - DAY:
                shutil.rmtree(left)
    place = scratch / CHANGES / uuid.uuid4().hex
    with writing(place):
        place.mkdir(parents=True)
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def tidy(scratch: Path, older: float) -> None:
    """Remove local copies of versions unused for `older` seconds.

    Blobs that no other version has go, too.
    """
    before = time.time() - older
    for version in (scratch / VERSIONS).glob("*"):
        with suppress(OSError):
            if version.stat().st_mtime < before:
                shutil.rmtree(version)
    for blob in (scratch / BLOBS).glob("*/*"):
        with suppress(OSError):
            about = blob.stat()
            if about.st_nlink == 1 and about.st_mtime < before:
                blob.unlink()


def _each(do: Callable[[Item], Any], items: Iterable[Item]) -> None:
    """Call `do` for all items, some at a time; raise the first error."""
    with ThreadPoolExecutor(REQUESTS) as pool:
        futures = [pool.submit(do, item) for item in items]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
