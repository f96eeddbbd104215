"""A scope is what a partition stands for: a character, a style, a profile, or all characters together.

Its roots are the settings and files that its assets are made from. They are observed, so that Dagster knows their
versions. A root has parts, and an asset names those that it uses: an edit of another part leaves the asset as it is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import dagster as dg

from sticker_pipeline.core.files.places import Places
from sticker_pipeline.core.storage import ALL, Artifact, ArtifactStore, artifact_of, content_hash
from sticker_pipeline.dagster_kit.compat import DATA_VERSION_TAG
from sticker_pipeline.dagster_kit.history import Known

Subject = TypeVar("Subject", covariant=True)
Values = Mapping[dg.AssetKey, Mapping[str, Any]]  # root -> part -> its value, as JSON types
USES = "uses/"  # how the tag of an asset begins that names a part of a root
Dep = str | dg.AssetKey | dg.AssetsDefinition
MEDIA = dg.AssetKey(["character", "media"])


class Deployment(Protocol):
    """The folders that scopes lie in."""

    @property
    def store(self) -> ArtifactStore: ...

    @property
    def places(self) -> Places: ...


@dataclass(frozen=True)
class Root:
    """Settings or files with one version. `parts`: what each is, by its name, which is unique in the scope."""

    key: dg.AssetKey
    description: str
    parts: Mapping[str, str]
    kind: str = "yaml"


def made_from(roots: Sequence[Root], *deps: Dep, uses: Sequence[str]) -> dict[str, Any]:
    """Return `deps` and `tags` of an asset that is made from other assets and from these parts of `roots`.

    Raises KeyError for a part of no root.
    """
    of_part = {part: root.key for root in roots for part in root.parts}
    used = dict.fromkeys(of_part[part] for part in uses)
    return {"deps": [*deps, *used], "tags": {f"{USES}{part}": "" for part in uses}}


def used_parts(spec: dg.AssetSpec, root: Root) -> list[str]:
    """Return the parts of the root that the asset uses."""
    return [part for part in root.parts if f"{USES}{part}" in spec.tags]


def one_hash(entry: str, value: Any) -> dict[str, str]:
    """Return the `entry` of a part among an artifact's inputs: one hash of its value."""
    return {entry: content_hash(value)}


def own_artifact(place: str, asset: str, store: ArtifactStore) -> dict[str, Artifact | None]:
    """Return the artifact of a scope by its name; None where it was not made."""
    return {asset: store.find(place, asset)}


@dataclass(frozen=True)
class Scope(Generic[Subject]):
    """The subject of a partition: a character, a style, a profile, or all characters.

    - `name`: unique among scopes.
    - `place`: its scope in the store.
    - `load`: returns the subject as it is now, or raises what says what to mend.
    - `value`: returns the value of a part of a root.
    - `artifacts`: returns the artifacts of an upstream asset by their names among the inputs.
    - `versions`: returns the inputs that stand for a part and its value.
    - `check`: raises what is in the way of a step.
    - `change`: returns the subject with other values of a section of its settings, as if they stood there, or raises
      what is wrong with them. None where no step takes any.
    """

    name: str
    partitions: dg.PartitionsDefinition | None
    partition: str | None
    place: str
    load: Callable[[], Subject]
    roots: Sequence[Root]
    value: Callable[[str, Any, ArtifactStore], Any]
    artifacts: Callable[[str, ArtifactStore], Mapping[str, Artifact | None]]
    versions: Callable[[str, Any], Mapping[str, str]] = one_hash
    check: Callable[[Any], None] = lambda subject: None
    change: Callable[[Any, str, Mapping[str, Any]], Any] | None = None

    def artifact_name(self, asset: dg.AssetKey) -> str:
        """Return the name of the asset's artifact in the store."""
        return artifact_of(asset.to_user_string())

    def loaded(self, subject: Any) -> "Scope[Subject]":
        """Return the scope with a `subject` that is loaded already."""
        return replace(self, load=lambda: subject)

    def values(self, store: ArtifactStore, keys: Sequence[dg.AssetKey] | None = None) -> Values:
        """Return the roots with these `keys` (default: all) with the values of their parts."""
        subject = self.load()
        wanted = [root for root in self.roots if keys is None or root.key in keys]
        return {root.key: {part: self.value(part, subject, store) for part in root.parts} for root in wanted}

    def used(self, spec: dg.AssetSpec, values: Values) -> dict[str, Any]:
        """Return the parts that the asset uses, of the roots in `values`."""
        roots = [root for root in self.roots if root.key in values]
        return {part: values[root.key][part] for root in roots for part in used_parts(spec, root)}

    def part_versions(self, spec: dg.AssetSpec, values: Values) -> dict[str, str]:
        """Return what stands among the inputs of the asset's artifact for the parts of roots that it uses."""
        found: dict[str, str] = {}
        for root in self.roots:
            for part in used_parts(spec, root) if root.key in values else ():
                found |= self.versions(f"{root.key.path[0]}/{part}", values[root.key][part])
        return found


# Observable, and not merely external: only of observable assets does an automation condition see observations.
def observable_roots(
    name: str,
    scope_of: Callable[[Any, str], Scope[Any]],
    roots: Sequence[Root],
    partitions: dg.PartitionsDefinition | None = None,
) -> dg.AssetsDefinition:
    """Return the roots of a kind of scope as assets, which "Observe" in the UI observes for one."""
    specs = [
        dg.AssetSpec(
            root.key,
            description="\n\n".join([root.description, *(f"- {part}: {text}" for part, text in root.parts.items())]),
            group_name=root.key.path[0],
            kinds={root.kind},
        )
        for root in roots
    ]

    @dg.multi_observable_source_asset(name=name, specs=specs, partitions_def=partitions, can_subset=True)
    def observe_roots(
        context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Any]
    ) -> Iterator[dg.ObserveResult]:
        scope = scope_of(workspace, context.partition_key if partitions else ALL)
        for root, value in scope.values(workspace.store, sorted(context.selected_asset_keys)).items():
            version = dg.DataVersion(content_hash(value))
            yield dg.ObserveResult(asset_key=root, data_version=version, metadata=shown(root, value))

    return observe_roots


def observation(root: dg.AssetKey, partition: str | None, value: Mapping[str, Any]) -> dg.AssetObservation:
    """Return the observation that `root` has the `value` now."""
    version = content_hash(value)
    return dg.AssetObservation(root, partition=partition, metadata=shown(root, value), tags={DATA_VERSION_TAG: version})


def shown(root: dg.AssetKey, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a root: each part, and of media the number of files."""
    parts = dict(value)
    files = {"files": len(parts.pop("media")["files"])} if root == MEDIA else {}
    return files | {part: dg.MetadataValue.json(content) for part, content in parts.items()}


def news(values: Values, partition: str | None, known: Known) -> list[dg.AssetObservation]:
    """Return the observations of those roots that have another value than is `known`."""
    return [
        observation(root, partition, value)
        for root, value in values.items()
        if known(root, partition) != content_hash(value)
    ]
