"""Dagster's history, read for all partitions of an asset at once."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache

import dagster as dg

from sticker_pipeline.dagster_kit import compat
from sticker_pipeline.dagster_kit.compat import DATA_VERSION_TAG

Known = Callable[[dg.AssetKey, str | None], str | None]  # root, partition -> last observed data version
Tags = Mapping[str, str]
Kind = dg.DagsterEventType

SEARCHED = 10  # materializations of a partition searched for a version
AT_A_TIME = 500  # records per query; SQLite allows 999 values
MEMBERS_SECONDS = 1.0  # a page of the UI asks every two


@dataclass(frozen=True)
class Event:
    """The last materialization or observation of an asset or root partition."""

    storage_id: int
    version: str | None


class History:
    """The last event of each asset and partition, and earlier versions, cached.

    Storage ids and versions are read for all partitions at once. Records with steps' notes also hold images: they are
    read only for requested partitions, once per process.
    """

    def __init__(self, instance: dg.DagsterInstance, graph: compat.AssetGraph) -> None:
        self.instance, self.graph = instance, graph
        self._latest: dict[dg.AssetKey, dict[str | None, Event]] = {}
        self._forgotten: dict[dg.AssetKey, set[str]] = {}  # partitions to read again
        self._versions_at = cache(self._read_versions_at)
        self._tags = _tags_by_number(compat.history_id(instance))

    def latest(self, asset: dg.AssetKey, partition: str | None) -> Event | None:
        """Return the last event of the asset's partition (None: unpartitioned)."""
        if partition is not None and partition in self._forgotten.get(asset, ()):
            self._read_forgotten(asset, {partition})
        return self._known(asset).get(partition)

    def latest_of_all(self, asset: dg.AssetKey) -> Mapping[str | None, Event]:
        """Return the last event of each partition."""
        self._read_forgotten(asset, self._forgotten.get(asset, set()))
        return self._known(asset)

    def noted(self, asset: dg.AssetKey, partition: str | None) -> Tags:
        """Return the tags of the partition's last materialization, noted by its step."""
        event = self.latest(asset, partition)
        if event is None:
            return {}
        self._read_tags(asset, [event.storage_id])
        return self._tags.get(event.storage_id, {})

    def read_noted(self, asset: dg.AssetKey, partitions: Iterable[str | None]) -> None:
        """Read `noted` for many partitions at once."""
        known = self.latest_of_all(asset)
        self._read_tags(asset, [known[partition].storage_id for partition in partitions if partition in known])

    def _read_tags(self, asset: dg.AssetKey, numbers: Sequence[int]) -> None:
        for some in _parts([number for number in numbers if number not in self._tags]):
            records = dg.AssetRecordsFilter(asset, storage_ids=some)
            found = self.instance.fetch_materializations(records, len(some)).records
            self._tags |= {record.storage_id: record.event_log_entry.tags or {} for record in found}

    def _known(self, asset: dg.AssetKey) -> dict[str | None, Event]:
        if asset not in self._latest:
            self._latest[asset] = self._read_latest(asset, None)
        return self._latest[asset]

    def _read_forgotten(self, asset: dg.AssetKey, partitions: Set[str]) -> None:
        if not partitions:
            return
        known, found = self._known(asset), self._read_latest(asset, set(partitions))
        for name in partitions - found.keys():
            known.pop(name, None)
        known.update(found)
        self._forgotten[asset] = self._forgotten[asset] - partitions

    def version_at(self, asset: dg.AssetKey, partition: str | None, storage_id: int) -> str | None:
        """Return the partition's data version at this storage id."""
        return self._versions_at(asset, partition, storage_id).get(partition)

    def versions_at(self, asset: dg.AssetKey, storage_id: int) -> Mapping[str | None, str | None]:
        """Return all partitions' data versions at this storage id."""
        return self._versions_at(asset, None, storage_id)

    def record_of(self, asset: dg.AssetKey, partition: str | None, version: str) -> dg.EventLogRecord | None:
        """Return the last materialization with this data version, of the last SEARCHED."""
        if self.latest(asset, partition) is None:
            return None
        records = dg.AssetRecordsFilter(asset, asset_partitions=[partition] if partition else None)
        for most in (1, SEARCHED):  # nearly always the last one; each record has images
            for record in self.instance.fetch_materializations(records, limit=most).records:
                if (record.event_log_entry.tags or {}).get(DATA_VERSION_TAG) == version:
                    return record
        return None

    def forget(self, asset: dg.AssetKey, partition: str | None) -> None:
        """Read the last event again when next used; None: of all partitions."""
        if partition is None or not self.graph.get(asset).is_partitioned:
            self._latest.pop(asset, None)
            self._forgotten.pop(asset, None)
        elif asset in self._latest:
            self._forgotten.setdefault(asset, set()).add(partition)

    def observed(self, root: dg.AssetKey, partition: str | None) -> str | None:
        """Return the root's last observed data version."""
        event = self.latest(root, partition)
        return event.version if event else None

    def report(self, event: dg.AssetMaterialization | dg.AssetObservation) -> None:
        """Store an event without a run."""
        self.instance.report_runless_asset_event(event)
        self.forget(event.asset_key, event.partition)

    def _read_latest(self, asset: dg.AssetKey, partitions: set[str] | None) -> dict[str | None, Event]:
        node = self.graph.get(asset)
        if not node.is_partitioned:
            event = self._unpartitioned(asset, None)
            return {None: event} if event else {}
        numbers = self.instance.get_latest_storage_id_by_partition(asset, _kind(node), partitions)
        tags = compat.latest_versions(self.instance, asset, _kind(node), partitions)
        return {name: Event(number, tags.get(name, {}).get(DATA_VERSION_TAG)) for name, number in numbers.items()}

    def _read_versions_at(
        self, asset: dg.AssetKey, partition: str | None, storage_id: int
    ) -> Mapping[str | None, str | None]:
        node = self.graph.get(asset)
        if not node.is_partitioned:
            event = self._unpartitioned(asset, storage_id + 1)
            return {None: event.version} if event else {}
        wanted = {partition} if partition else None
        found = compat.latest_versions(self.instance, asset, _kind(node), wanted, before=storage_id + 1)
        return {name: tags.get(DATA_VERSION_TAG) for name, tags in found.items()}

    def _unpartitioned(self, asset: dg.AssetKey, before: int | None) -> Event | None:
        external = self.graph.get(asset).is_external
        fetch = self.instance.fetch_observations if external else self.instance.fetch_materializations
        records = fetch(dg.AssetRecordsFilter(asset, before_storage_id=before), limit=1).records
        tags = records[0].event_log_entry.tags or {} if records else {}
        return Event(records[0].storage_id, tags.get(DATA_VERSION_TAG)) if records else None


def _kind(node: compat.AssetNode) -> Kind:
    return Kind.ASSET_OBSERVATION if node.is_external else Kind.ASSET_MATERIALIZATION


@lru_cache(maxsize=4)
def _tags_by_number(history: str) -> dict[int, Tags]:
    """Return this process's cache of a history's tags by storage id.

    Tags never change.
    """
    return {}


def _parts(numbers: Sequence[int]) -> Iterable[Sequence[int]]:
    return (numbers[first : first + AT_A_TIME] for first in range(0, len(numbers), AT_A_TIME))


def latest_observed(instance: dg.DagsterInstance, root: dg.AssetKey, partition: str | None) -> str | None:
    """Return the last observed data version of `root`."""
    record = instance.get_latest_data_version_record(root, is_source=True, partition_key=partition)
    seen = record.asset_observation if record else None
    return seen.tags.get(DATA_VERSION_TAG) if seen else None


@contextmanager
def remembered_partitions(instance: dg.DagsterInstance) -> Iterator[None]:
    """Read each dynamic partition set once in the block.

    Dagster asks thousands of times per evaluation.
    """
    read = cache(instance.get_dynamic_partitions)
    instance.get_dynamic_partitions = lambda partitions_def_name: read(partitions_def_name)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del instance.get_dynamic_partitions


def remember_members(instance: dg.DagsterInstance) -> None:
    """Look up dynamic partitions in the whole set, cached for MEMBERS_SECONDS.

    The UI queries each partition of each check. New partitions are still queried, so found at once; removed ones may
    remain for MEMBERS_SECONDS.
    """
    ask, read = instance.has_dynamic_partition, instance.get_dynamic_partitions
    known: dict[str, tuple[float, frozenset[str]]] = {}

    def has(partitions_def_name: str, partition_key: str) -> bool:
        now = time.monotonic()
        if partitions_def_name not in known or now - known[partitions_def_name][0] > MEMBERS_SECONDS:
            known[partitions_def_name] = (now, frozenset(read(partitions_def_name)))
        return partition_key in known[partitions_def_name][1] or ask(partitions_def_name, partition_key)

    instance.has_dynamic_partition = has  # type: ignore[method-assign]
