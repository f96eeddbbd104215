"""A scope is what a partition stands for: a character, a style, a profile, or all characters together.

Its roots are the settings and files that its assets are made from. They are observed, so that Dagster knows their
versions.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import dagster as dg

from sticker_pipeline.dagster_kit.compat import DATA_VERSION_TAG
from sticker_pipeline.dagster_kit.history import Known, latest_version
from sticker_pipeline.places import Places
from sticker_pipeline.storage import ALL, Artifact, ArtifactStore, content_hash

Subject = TypeVar("Subject", covariant=True)
Roots = Mapping[dg.AssetKey, Any]  # root -> its value, as JSON types
MEDIA = dg.AssetKey(["character", "media"])


class Deployment(Protocol):
    """The folders that scopes lie in."""

    @property
    def store(self) -> ArtifactStore: ...

    @property
    def places(self) -> Places: ...


def one_hash(root: dg.AssetKey, value: Any) -> dict[str, str]:
    """Return the entry of a root among an artifact's inputs: one hash of its value."""
    return {root.to_user_string(): content_hash(value)}


def own_artifact(place: str, asset: str, store: ArtifactStore) -> dict[str, Artifact | None]:
    """Return the artifact of a scope by its name; None where it was not made."""
    return {asset: store.find(place, asset)}


@dataclass(frozen=True)
class Scope(Generic[Subject]):
    """The subject of a partition: a character, a style, a profile, or all characters.

    `name` is unique among scopes, `place` its scope in the store. `load` gives it as it is now, or raises what says
    what to mend. `value` gives the value of a root by its last part. `artifacts` gives the artifacts of an upstream
    asset by their names among the inputs. `versions` gives what stands among the inputs for a root and its value.
    `check` raises what is in the way of a step. `change` gives the subject with other values of a section of its
    settings, as if they stood there, or raises what is wrong with them; None where no step takes any.
    """

    name: str
    partition: str | None
    place: str
    load: Callable[[], Subject]
    roots: Sequence[dg.AssetKey]
    value: Callable[[str, Any, ArtifactStore], Any]
    artifacts: Callable[[str, ArtifactStore], Mapping[str, Artifact | None]]
    versions: Callable[[dg.AssetKey, Any], Mapping[str, str]] = one_hash
    check: Callable[[Any], None] = lambda subject: None
    change: Callable[[Any, str, Mapping[str, Any]], Any] | None = None

    def loaded(self, subject: Any) -> "Scope[Subject]":
        """Return the scope with a `subject` that is loaded already."""
        return replace(self, load=lambda: subject)

    def values(self, store: ArtifactStore) -> dict[dg.AssetKey, Any]:
        """Return every root with its value."""
        subject = self.load()
        return {root: self.value(root.path[-1], subject, store) for root in self.roots}


# Observable, and not merely external: only of observable assets does an automation condition see observations.
def observable_roots(
    name: str,
    scope_of: Callable[[Any, str], Scope[Any]],
    descriptions: Mapping[dg.AssetKey, str],
    *,
    partitions: dg.PartitionsDefinition | None = None,
    kinds: Mapping[str, str] | None = None,
) -> dg.AssetsDefinition:
    """Return the roots of a kind of scope as assets, which "Observe" in the UI observes for one.

    `kinds` has the kind of a root by its last part; `yaml` is that of others.
    """
    specs = [
        dg.AssetSpec(
            root,
            description=description,
            group_name=root.path[0],
            kinds={(kinds or {}).get(root.path[-1], "yaml")},
        )
        for root, description in descriptions.items()
    ]

    @dg.multi_observable_source_asset(name=name, specs=specs, partitions_def=partitions, can_subset=True)
    def observe_roots(
        context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Any]
    ) -> Iterator[dg.ObserveResult]:
        scope = scope_of(workspace, context.partition_key if partitions else ALL)
        subject = scope.load()
        for root in scope.roots:
            if root in context.selected_asset_keys:
                value = scope.value(root.path[-1], subject, workspace.store)
                version = dg.DataVersion(content_hash(value))
                yield dg.ObserveResult(asset_key=root, data_version=version, metadata=shown(root, value))

    return observe_roots


def observation(root: dg.AssetKey, partition: str | None, value: Any) -> dg.AssetObservation:
    """Return the observation that `root` has the `value` (JSON types) now."""
    version = content_hash(value)
    return dg.AssetObservation(root, partition=partition, metadata=shown(root, value), tags={DATA_VERSION_TAG: version})


def shown(root: dg.AssetKey, value: Any) -> dict[str, Any]:
    """Return the metadata of a root: of media the number of files."""
    return {"files": len(value["files"])} if root == MEDIA else {"value": dg.MetadataValue.json(value)}


def news(roots: Roots, partition: str | None, known: Known) -> list[dg.AssetObservation]:
    """Return the observations of those of `roots` that have another value than is `known`."""
    return [
        observation(root, partition, value)
        for root, value in roots.items()
        if known(root, partition) != content_hash(value)
    ]


def observe(instance: dg.DagsterInstance, partition: str | None, roots: Roots) -> bool:
    """Report those of `roots` whose value Dagster has not seen yet; returns whether there are any."""
    found = news(roots, partition, partial(latest_version, instance))
    for each in found:
        instance.report_runless_asset_event(each)
    return bool(found)
