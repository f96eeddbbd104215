"""Staleness by Dagster's rule, read for many partitions at once.

An asset is out of date if it was never made, or if its code or its inputs' content (data version) changed. Versions are
compared with those noted when the step began, not with events since the last evaluation: a change during a training is
not lost, and an undone one trains nothing. `dagster_kit/restored.py` keeps history and artifacts in accord.
"""

from collections.abc import Iterable, Sequence

import dagster as dg

from sticker_pipeline.dagster_kit import compat
from sticker_pipeline.dagster_kit.compat import AssetPartition
from sticker_pipeline.dagster_kit.history import Event, History


class Staleness:
    """Cached staleness at one evaluation."""

    def __init__(self, history: History) -> None:
        self.history, self.graph = history, history.graph
        self._known: dict[AssetPartition, bool] = {}
        self._known_above: dict[AssetPartition, bool] = {}

    def out_of_date(self, target: AssetPartition) -> bool:
        if target not in self._known:
            self._known[target] = is_out_of_date(self.history, target.asset_key, target.partition_key)
        return self._known[target]

    def read(self, targets: Iterable[AssetPartition]) -> None:
        """Read the notes of all `targets` at once."""
        of_asset: dict[dg.AssetKey, list[str | None]] = {}
        for target in targets:
            of_asset.setdefault(target.asset_key, []).append(target.partition_key)
        for asset, partitions in of_asset.items():
            self.history.read_noted(asset, partitions)

    def above_out_of_date(self, target: AssetPartition) -> bool:
        """Return True if any direct or indirect input is out of date."""
        if target not in self._known_above:
            self._known_above[target] = any(
                (self.graph.get(dep.asset_key).is_materializable and self.out_of_date(dep))
                or self.above_out_of_date(dep)
                for dep in self._deps(target)
            )
        return self._known_above[target]

    def _deps(self, target: AssetPartition) -> list[AssetPartition]:
        return [
            AssetPartition(dep, target.partition_key if self.graph.get(dep).is_partitioned else None)
            for dep in self.graph.get(target.asset_key).parent_keys
        ]


def is_out_of_date(history: History, asset: dg.AssetKey, partition: str | None) -> bool:
    """Return True if never made, or made from other content or code."""
    made, node = history.latest(asset, partition), history.graph.get(asset)
    if made is None:
        return True
    noted = compat.provenance(history.noted(asset, partition))
    if noted is None:  # a person reported it
        return any(_changed(history, dep, partition, made.storage_id) for dep in node.parent_keys)
    if noted.code_version != node.code_version or set(noted.input_data_versions) != set(node.parent_keys):
        return True
    return any(_changed(history, dep, partition, noted.input_storage_ids.get(dep)) for dep in node.parent_keys)


def _changed(history: History, dep: dg.AssetKey, partition: str | None, event: int | None) -> bool:
    """Return True if `dep`'s content changed since `event` (None: it had none)."""
    is_partitioned = history.graph.get(dep).is_partitioned
    if is_partitioned and partition is None:
        return _any_changed(history, dep, event)
    own = partition if is_partitioned else None
    latest = history.latest(dep, own)
    if latest is None or latest.storage_id <= (event or 0):
        return False
    return event is None or history.version_at(dep, own, event) != latest.version


def _any_changed(history: History, dep: dg.AssetKey, event: int | None) -> bool:
    """Return `_changed` for any partition, for an asset of all of them."""
    since = {name: found for name, found in history.latest_of_all(dep).items() if found.storage_id > (event or 0)}
    if not since or event is None:
        return bool(since)
    before = history.versions_at(dep, event)
    return any(before.get(name) != found.version for name, found in since.items())


def stale_assets(history: History, assets: Sequence[dg.AssetKey], partition: str | None) -> list[dg.AssetKey]:
    """Return the `assets` (upstream first) that are out of date, with all downstream."""
    stale: list[dg.AssetKey] = []
    for key in assets:
        if any(dep in stale for dep in history.graph.get(key).parent_keys) or is_out_of_date(history, key, partition):
            stale.append(key)
    return stale


def pointer(history: History, dep: dg.AssetKey, partition: str | None) -> Event | None:
    """Return the current event of `dep` as input of the partition's asset."""
    if history.graph.get(dep).is_partitioned and partition is None:
        return max(history.latest_of_all(dep).values(), key=lambda event: event.storage_id, default=None)
    return history.latest(dep, partition if history.graph.get(dep).is_partitioned else None)
