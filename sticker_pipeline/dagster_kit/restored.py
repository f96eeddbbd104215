"""Reports artifacts that differ from Dagster's history, by their manifests.

A manifest has the versions of content, code and inputs. So an asset with a deleted history counts as made, one with
deleted files as stale, and an unused part of a root changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from sticker_pipeline.core.storage import Artifact, ArtifactStore
from sticker_pipeline.dagster_kit import compat
from sticker_pipeline.dagster_kit.history import Event, History
from sticker_pipeline.dagster_kit.metadata import SUMMARY
from sticker_pipeline.dagster_kit.noticed import Noticed
from sticker_pipeline.dagster_kit.scope import Scope, Values, news
from sticker_pipeline.dagster_kit.staleness import is_out_of_date, pointer, stale_assets

GONE = "gone"  # version of a deleted artifact


def observe_and_restore(
    history: History, specs: Sequence[dg.AssetSpec], scope: Scope[Any], store: ArtifactStore, values: Values
) -> Noticed:
    """Observe the scope's roots, then `restore`; return the events."""
    observed = news(values, scope.partition, history.observed)
    for event in observed:
        history.report(event)
    return Noticed(observed, restore(history, specs, scope, store, values))


def stale_now(
    history: History, assets: Sequence[dg.AssetKey], scope: Scope[Any], store: ArtifactStore
) -> list[dg.AssetKey]:
    """Return those of `assets` that are wanted and out of date now.

    assets: upstream first. Observes the roots and restores the history first. Raises errors of loading the scope, and
    StorageError.
    """
    subject = scope.load()
    scope = scope.loaded(subject)
    specs = compat.asset_specs(history.graph, scope.partitions)
    observe_and_restore(history, specs, scope, store, scope.values(store))
    wanted = [asset for asset in assets if scope.is_wanted(asset, subject)]
    return stale_assets(history, wanted, scope.partition)


def restore(
    history: History, specs: Sequence[dg.AssetSpec], scope: Scope[Any], store: ArtifactStore, values: Values
) -> list[dg.AssetKey]:
    """Report the scope's assets that differ between history and artifacts; return them.

    `specs`: upstream first. `values`: of all roots, observed. Afterwards history and manifests agree on what is out of
    date. Raises StorageError for a damaged artifact.
    """
    if all(_accords(history, spec, scope, store, values) for spec in specs):
        return []
    # Another run may have published and reported meanwhile.
    store = store.afresh()
    for key in {key for spec in specs for key in (spec.key, *(dep.asset_key for dep in spec.deps))}:
        history.forget(key, scope.partition)
    return [spec.key for spec in specs if _restored(history, spec, scope, store, values)]


def _restored(history: History, spec: dg.AssetSpec, scope: Scope[Any], store: ArtifactStore, values: Values) -> bool:
    if _accords(history, spec, scope, store, values):
        return False
    artifact = store.find(scope.place, scope.artifact_name(spec.key))
    if artifact is None:
        uri = store.uri(scope.place, scope.artifact_name(spec.key))
        history.report(_materialization(spec.key, scope, GONE, GONE, {}, {SUMMARY: f"{uri} was deleted"}))
    else:
        _report(history, spec.key, scope, artifact, unchanged_deps(spec, scope, store, values, artifact))
    return True


def _accords(history: History, spec: dg.AssetSpec, scope: Scope[Any], store: ArtifactStore, values: Values) -> bool:
    artifact, event = store.find(scope.place, scope.artifact_name(spec.key)), history.latest(spec.key, scope.partition)
    if artifact is None:
        return event is None or event.version == GONE
    if event is None or event.version != artifact.data_version:
        return False
    unchanged = unchanged_deps(spec, scope, store, values, artifact)
    is_current = artifact.code_version == spec.code_version and len(unchanged) == len(list(spec.deps))
    return is_current != is_out_of_date(history, spec.key, scope.partition)


def unchanged_deps(
    spec: dg.AssetSpec, scope: Scope[Any], store: ArtifactStore, values: Values, artifact: Artifact
) -> list[dg.AssetKey]:
    """Return the dependencies unchanged since the artifact was made.

    The list is empty if an input is gone.
    """
    now = {dep.asset_key: versions_now(spec, dep.asset_key, scope, store, values) for dep in spec.deps}
    unchanged = [
        key for key, versions in now.items() if all(artifact.inputs.get(name) == of for name, of in versions.items())
    ]
    known = {name for versions in now.values() for name in versions}
    return [] if artifact.inputs.keys() - known else unchanged  # gone: for instance a member of a style


def versions_now(
    spec: dg.AssetSpec, dep: dg.AssetKey, scope: Scope[Any], store: ArtifactStore, values: Values
) -> dict[str, str | None]:
    """Return current versions of `dep` by input entry; None: missing artifact."""
    if dep in values:
        return dict(scope.part_versions(spec, {dep: values[dep]}))
    found = scope.artifacts(scope.artifact_name(dep), store)
    return {entry: artifact.data_version if artifact else None for entry, artifact in found.items()}


def _report(
    history: History, asset: dg.AssetKey, scope: Scope[Any], artifact: Artifact, unchanged: Iterable[dg.AssetKey]
) -> None:
    """Report the artifact as made from the current events of `unchanged`.

    Copies metadata and check results of the last materialization with its version, if any.
    """
    before = history.record_of(asset, scope.partition, artifact.data_version)
    made = before.asset_materialization if before else None
    uri = artifact.uri
    metadata = made.metadata if made else {SUMMARY: "made before the history began", "dagster/uri": uri}
    inputs = {dep: pointer(history, dep, scope.partition) for dep in unchanged}
    verdicts = (
        compat.verdicts_on(history.instance, history.graph, asset, scope.partition, before.storage_id) if before else []
    )
    history.report(_materialization(asset, scope, artifact.data_version, artifact.code_version, inputs, metadata))
    again = history.latest(asset, scope.partition)
    assert again is not None
    for verdict in verdicts:
        compat.report_verdict(history.instance, verdict, again.storage_id)


def _materialization(
    asset: dg.AssetKey,
    scope: Scope[Any],
    version: str,
    code_version: str,
    inputs: dict[dg.AssetKey, Event | None],
    metadata: Mapping[str, Any],
) -> dg.AssetMaterialization:
    noted = {dep: (event.version, event.storage_id) for dep, event in inputs.items() if event}
    tags = compat.provenance_tags(version, code_version, noted)
    return dg.AssetMaterialization(asset, partition=scope.partition, metadata=metadata, tags=tags)
