"""Removal of blobs that no manifest names."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sticker_pipeline.core.object_store.blobs import BLOBS, DAY, FRESH, REQUESTS
from sticker_pipeline.core.object_store.bucket import Bucket, Meta
from sticker_pipeline.core.object_store.store import every_manifest
from sticker_pipeline.core.storage import StorageError

WEEK = 7 * DAY  # more than FRESH: a blob that a running publication relies on is younger
BATCH = 100  # keys of one deletion, asked for once more directly before it


@dataclass(frozen=True)
class Collected:
    """Numbers and bytes of blobs; `young`: unused, and not removable yet."""

    used: int
    used_bytes: int
    removed: int
    removed_bytes: int
    young: int


def collect(
    bucket: Bucket, *, remove: bool, older: float = WEEK, count: Callable[[int, int], None] = lambda done, all: None
) -> Collected:
    """Count blobs that no manifest names; `remove` those of `older` seconds.

    Raises StorageError for a damaged manifest: nothing is removed then. Raises ValueError for an age near FRESH.
    """
    if older < FRESH + DAY:
        raise ValueError(f"blobs of less than {(FRESH + DAY) / DAY:.0f} days may be in use")
    used, before = used_blobs(bucket), time.time() - older
    found = list(bucket.listed(BLOBS))
    unused = [meta for meta in found if meta.key.rpartition("/")[2] not in used]
    old = [meta for meta in unused if meta.changed < before]
    for start in range(0, len(old) if remove else 0, BATCH):
        bucket.delete(_still_old(bucket, old[start : start + BATCH], before))
        count(min(start + BATCH, len(old)), len(old))
    return Collected(
        used=len(found) - len(unused),
        used_bytes=sum(meta.size for meta in found) - sum(meta.size for meta in unused),
        removed=len(old),
        removed_bytes=sum(meta.size for meta in old),
        young=len(unused) - len(old),
    )


def _still_old(bucket: Bucket, blobs: list[Meta], before: float) -> list[str]:
    """Return the keys of blobs that no publication has written again meanwhile."""
    with ThreadPoolExecutor(REQUESTS) as pool:
        found = pool.map(lambda meta: bucket.head(meta.key), blobs)
    return [meta.key for meta in found if meta and meta.changed < before]


def used_blobs(bucket: Bucket) -> set[str]:
    """Return the hex SHA-256 of all files that a manifest names."""

    def named(meta: Meta) -> set[str]:
        found = bucket.get(meta.key)
        try:
            return {str(entry["sha256"]) for entry in json.loads(found[0])["files"].values()} if found else set()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StorageError(
                f"{bucket.url}/{meta.key} is no manifest. Nothing was removed. Move it away, or materialize what it "
                "belongs to again."
            ) from error

    with ThreadPoolExecutor(REQUESTS) as pool:
        return set[str]().union(*pool.map(named, [meta for meta in every_manifest(bucket) if is_manifest(meta.key)]))


def is_manifest(key: str) -> bool:
    return key.endswith(".json")
