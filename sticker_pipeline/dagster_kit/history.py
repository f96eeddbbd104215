"""Dagster's history, read for all partitions of an asset at once."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache

import dagster as dg

from sticker_pipeline.dagster_kit.compat import DATA_VERSION_TAG

Known = Callable[[dg.AssetKey, str | None], str | None]  # root, partition -> the data version that was observed last

AT_A_TIME = 500  # records of one query; SQLite allows 999 values in one
MEMBERS_SECONDS = 1.0  # a page asks every two


def latest_materializations(instance: dg.DagsterInstance, asset: dg.AssetKey) -> dict[str, dg.EventLogRecord]:
    """Partition -> the record of its last materialization, of a partitioned asset."""
    ids = list(instance.get_latest_storage_id_by_partition(asset, dg.DagsterEventType.ASSET_MATERIALIZATION).values())
    found = {}
    for first in range(0, len(ids), AT_A_TIME):
        some = ids[first : first + AT_A_TIME]
        for record in instance.fetch_materializations(
            dg.AssetRecordsFilter(asset, storage_ids=some), len(some)
        ).records:
            assert record.partition_key is not None
            found[record.partition_key] = record
    return found


def latest_version(instance: dg.DagsterInstance, root: dg.AssetKey, partition: str | None) -> str | None:
    """The data version of `root` that was observed last."""
    record = instance.get_latest_data_version_record(root, is_source=True, partition_key=partition)
    seen = record.asset_observation if record else None
    return seen.tags.get(DATA_VERSION_TAG) if seen else None


def latest_versions(instance: dg.DagsterInstance) -> Known:
    """`latest_version` for looks at many partitions: each root is read once, for all of them."""

    @cache
    def of_all(root: dg.AssetKey) -> Mapping[str, Mapping[str, str]]:
        return instance.event_log_storage.get_latest_tags_by_partition(
            root, dg.DagsterEventType.ASSET_OBSERVATION, [DATA_VERSION_TAG]
        )

    def known(root: dg.AssetKey, partition: str | None) -> str | None:
        if partition is None:
            return latest_version(instance, root, None)
        return of_all(root).get(partition, {}).get(DATA_VERSION_TAG)

    return known


@contextmanager
def remembered_partitions(instance: dg.DagsterInstance) -> Iterator[None]:
    """Read each set of dynamic partitions once in the block: Dagster asks for them thousands of times in a look."""
    read = cache(instance.get_dynamic_partitions)
    instance.get_dynamic_partitions = lambda partitions_def_name: read(partitions_def_name)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del instance.get_dynamic_partitions


def remember_members(instance: dg.DagsterInstance) -> None:
    """Find a dynamic partition in the whole set of them, which is read at most once in MEMBERS_SECONDS.

    The UI asks for each partition of each check, with a query each. A partition that is not in the set is looked up,
    so a new one is there at once; one that was removed may stay so long.
    """
    ask, read = instance.has_dynamic_partition, instance.get_dynamic_partitions
    known: dict[str, tuple[float, frozenset[str]]] = {}

    def has(partitions_def_name: str, partition_key: str) -> bool:
        now = time.monotonic()
        if partitions_def_name not in known or now - known[partitions_def_name][0] > MEMBERS_SECONDS:
            known[partitions_def_name] = (now, frozenset(read(partitions_def_name)))
        return partition_key in known[partitions_def_name][1] or ask(partitions_def_name, partition_key)

    instance.has_dynamic_partition = has  # type: ignore[method-assign]
