"""Events reported by a look at the folders, in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from sticker_pipeline.core.texts import listed
from sticker_pipeline.dagster_kit.scope import FILES

FILES_CHANGED = "files changed"


@dataclass(frozen=True)
class Noticed:
    """Roots observed, and assets restored (`restored.py`), of one scope."""

    observed: Sequence[dg.AssetObservation] = ()
    restored: Sequence[dg.AssetKey] = ()

    @property
    def events(self) -> int:
        return len(self.observed) + len(self.restored)


def described(instance: dg.DagsterInstance, noticed: Noticed) -> str:
    """Return what changed since the observations before: `one new file; curation changed`."""
    files, parts = "", list[str]()
    for event in noticed.observed:
        before = _metadata_before(instance, event)
        differ = [part for part, value in event.metadata.items() if before.get(part) != value]
        parts += [part for part in differ if part != FILES]
        if FILES in differ or not differ:  # the files of a root have no other metadata than their number
            files = _files(before.get(FILES), event.metadata.get(FILES))
    artifacts = [key.to_user_string() for key in noticed.restored]
    phrases = [
        files,
        f"{listed(parts)} changed" if parts else "",
        f"artifacts differ from the history: {listed(artifacts)}" if artifacts else "",
    ]
    return "; ".join(filter(None, phrases))


def _metadata_before(instance: dg.DagsterInstance, event: dg.AssetObservation) -> Mapping[str, dg.MetadataValue]:
    """Return the metadata of the observation before `event`, the last one."""
    partitions = [event.partition] if event.partition else None
    records = instance.fetch_observations(
        dg.AssetRecordsFilter(event.asset_key, asset_partitions=partitions), limit=2
    ).records
    found = records[1].asset_observation if len(records) > 1 else None
    return found.metadata if found else {}


def _files(before: dg.MetadataValue | None, now: dg.MetadataValue | None) -> str:
    was, is_now = (int(str(value.value)) if value else 0 for value in (before, now))
    more = is_now - was
    if not more:
        return FILES_CHANGED
    number = "one" if abs(more) == 1 else f"{abs(more):,}"
    return f"{number} {'new' if more > 0 else 'removed'} {'file' if abs(more) == 1 else 'files'}"
