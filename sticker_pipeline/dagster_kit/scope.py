"""Scope, the subject of a partition: character, style, profile, or all characters.

Its roots are the settings and files behind its assets, observed so that Dagster has their versions. An asset names the
parts of roots that it uses: edits of other parts leave it current.
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
Values = Mapping[dg.AssetKey, Mapping[str, Any]]  # root -> part -> value, as JSON types
USES = "uses/"  # tag prefix of the parts of roots that an asset uses
Dep = str | dg.AssetKey | dg.AssetsDefinition
MEDIA = dg.AssetKey(["character", "media"])
FILES = "files"  # number of files, in the metadata of MEDIA


class Deployment(Protocol):
    """A store, and the folders of scopes."""

    @property
    def store(self) -> ArtifactStore: ...

    @property
    def places(self) -> Places: ...


@dataclass(frozen=True)
class Root:
    """Settings or files with one version.

    `parts`: name (unique in the scope) -> description.
    """

    key: dg.AssetKey
    description: str
    parts: Mapping[str, str]
    kind: str = "yaml"


def made_from(roots: Sequence[Root], *deps: Dep, uses: Sequence[str]) -> dict[str, Any]:
    """Return `deps` and `tags` of an asset made from `deps` and parts of `roots`.

    Raises KeyError for a part of no root.
    """
    of_part = {part: root.key for root in roots for part in root.parts}
    used = dict.fromkeys(of_part[part] for part in uses)
    return {"deps": [*deps, *used], "tags": {f"{USES}{part}": "" for part in uses}}


def used_parts(spec: dg.AssetSpec, root: Root) -> list[str]:
    """Return the root's parts that the asset uses."""
    return [part for part in root.parts if f"{USES}{part}" in spec.tags]


def one_hash(entry: str, value: Any) -> dict[str, str]:
    """Return an artifact's input `entry` for a part: its value's hash."""
    return {entry: content_hash(value)}


def own_artifact(place: str, asset: str, store: ArtifactStore) -> dict[str, Artifact | None]:
    """Return the scope's artifact by name; None if missing."""
    return {asset: store.find(place, asset)}


@dataclass(frozen=True)
class Scope(Generic[Subject]):
    """A subject, its roots and its place in the store.

    - `name`: unique among scopes.
    - `place`: its scope in the store.
    - `load`: returns the current subject, or raises an error with a remedy.
    - `value`: returns the value of a root's part.
    - `artifacts`: returns an upstream asset's artifacts by input name.
    - `versions`: returns the input entries of a part's value.
    - `check`: raises an error that prevents a step.
    - `is_wanted`: tells whether an asset is made without anybody's request.
    - `change`: returns the subject with other values in a settings section, or raises their error. None: not supported.
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
    is_wanted: Callable[[dg.AssetKey, Any], bool] = lambda asset, subject: True
    change: Callable[[Any, str, Mapping[str, Any]], Any] | None = None

    def artifact_name(self, asset: dg.AssetKey) -> str:
        """Return the asset's artifact name."""
        return artifact_of(asset.to_user_string())

    def loaded(self, subject: Any) -> "Scope[Subject]":
        """Return the scope with a loaded `subject`."""
        return replace(self, load=lambda: subject)

    def values(self, store: ArtifactStore, keys: Sequence[dg.AssetKey] | None = None) -> Values:
        """Return part values of the roots `keys` (default: all)."""
        subject = self.load()
        wanted = [root for root in self.roots if keys is None or root.key in keys]
        return {root.key: {part: self.value(part, subject, store) for part in root.parts} for root in wanted}

    def used(self, spec: dg.AssetSpec, values: Values) -> dict[str, Any]:
        """Return the used parts of the roots in `values`."""
        roots = [root for root in self.roots if root.key in values]
        return {part: values[root.key][part] for root in roots for part in used_parts(spec, root)}

    def part_versions(self, spec: dg.AssetSpec, values: Values) -> dict[str, str]:
        """Return the input entries of the used parts."""
        found: dict[str, str] = {}
        for root in self.roots:
            for part in used_parts(spec, root) if root.key in values else ():
                found |= self.versions(f"{root.key.path[0]}/{part}", values[root.key][part])
        return found


# Observable, not external: automation conditions react only to observations of observable assets.
def observable_roots(
    name: str,
    scope_of: Callable[[Any, str], Scope[Any]],
    roots: Sequence[Root],
    partitions: dg.PartitionsDefinition | None = None,
) -> dg.AssetsDefinition:
    """Return roots as assets, observed by "Observe" in the UI."""
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
    """Return the observation of `value` for `root`."""
    version = content_hash(value)
    return dg.AssetObservation(root, partition=partition, metadata=shown(root, value), tags={DATA_VERSION_TAG: version})


def shown(root: dg.AssetKey, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a root's metadata: its parts; of media the number of files."""
    parts = dict(value)
    files = {FILES: len(parts.pop("media")["files"])} if root == MEDIA else {}
    return files | {part: dg.MetadataValue.json(content) for part, content in parts.items()}


def news(values: Values, partition: str | None, known: Known) -> list[dg.AssetObservation]:
    """Return observations of roots whose value differs from `known`."""
    return [
        observation(root, partition, value)
        for root, value in values.items()
        if known(root, partition) != content_hash(value)
    ]
