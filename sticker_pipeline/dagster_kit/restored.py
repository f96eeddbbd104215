"""The history in accord with the artifacts: what it has otherwise is reported anew from their manifests.

A manifest has the version of the content, the code version, and the versions of all inputs. So an asset whose history
was deleted counts as made, one whose files were deleted as stale, and a part of a root that an asset does not use
leaves it as it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from sticker_pipeline.core.storage import Artifact, ArtifactStore
from sticker_pipeline.dagster_kit import compat
from sticker_pipeline.dagster_kit.history import Event, History
from sticker_pipeline.dagster_kit.metadata import SUMMARY
from sticker_pipeline.dagster_kit.scope import Scope, Values, news
from sticker_pipeline.dagster_kit.staleness import is_out_of_date, pointer, stale_assets

GONE = "gone"  # the version of an artifact that was deleted


def observe_and_restore(
    history: History, specs: Sequence[dg.AssetSpec], scope: Scope[Any], store: ArtifactStore, values: Values
) -> int:
    """Observe the roots of the scope, then `restore` its assets; returns how many events were reported."""
    observed = news(values, scope.partition, history.observed)
    for event in observed:
        history.report(event)
    return len(observed) + len(restore(history, specs, scope, store, values))


def stale_now(
    history: History, assets: Sequence[dg.AssetKey], scope: Scope[Any], store: ArtifactStore
) -> list[dg.AssetKey]:
    """Return those of `assets`, in the order of making, that are out of date by the files and settings of this moment.

    They and what differs in the artifacts are reported first. Raises what loading the scope raises, and StorageError.
    """
    scope = scope.loaded(scope.load())
    specs = compat.asset_specs(history.graph, scope.partitions)
    observe_and_restore(history, specs, scope, store, scope.values(store))
    return stale_assets(history, assets, scope.partition)


def restore(
    history: History, specs: Sequence[dg.AssetSpec], scope: Scope[Any], store: ArtifactStore, values: Values
) -> list[dg.AssetKey]:
    """Report those assets of the scope that the history has otherwise than their artifacts; returns them.

    `specs`: the assets of the scope, in the order of making. `values`: those of all its roots, already observed. After
    it, an asset is out of date by the history exactly if it is so by its manifest. Raises StorageError for an artifact
    that is damaged.
    """
    if all(_accords(history, spec, scope, store, values) for spec in specs):
        return []
    # What was read may be old by now: another run may have published, and reported, what it has made.
    store = store.afresh()
    for key in {key for spec in specs for key in (spec.key, *(dep.asset_key for dep in spec.deps))}:
        history.forget(key, scope.partition)
    return [spec.key for spec in specs if _restored(history, spec, scope, store, values)]


def _restored(history: History, spec: dg.AssetSpec, scope: Scope[Any], store: ArtifactStore, values: Values) -> bool:
    if _accords(history, spec, scope, store, values):
        return False
    artifact = store.find(scope.place, scope.artifact_name(spec.key))
    if artifact is None:
        folder = store.folder(scope.place, scope.artifact_name(spec.key))
        history.report(_materialization(spec.key, scope, GONE, GONE, {}, {SUMMARY: f"{folder} was deleted"}))
    else:
        _report(history, spec.key, scope, artifact, unchanged_deps(spec, scope, store, values, artifact))
    return True


def _accords(history: History, spec: dg.AssetSpec, scope: Scope[Any], store: ArtifactStore, values: Values) -> bool:
    """Return True where the history has the asset as its artifact is."""
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
    """Return the dependencies that are as they were when the artifact was made; none, if one of its inputs is gone."""
    now = {dep.asset_key: versions_now(spec, dep.asset_key, scope, store, values) for dep in spec.deps}
    unchanged = [
        key for key, versions in now.items() if all(artifact.inputs.get(name) == of for name, of in versions.items())
    ]
    known = {name for versions in now.values() for name in versions}
    return [] if artifact.inputs.keys() - known else unchanged  # an input is gone, such as a member of a style


def versions_now(
    spec: dg.AssetSpec, dep: dg.AssetKey, scope: Scope[Any], store: ArtifactStore, values: Values
) -> dict[str, str | None]:
    """Return what of `dep` the asset would be made from now, by entry; None for an artifact that is not there."""
    if dep in values:
        return dict(scope.part_versions(spec, {dep: values[dep]}))
    found = scope.artifacts(scope.artifact_name(dep), store)
    return {entry: artifact.data_version if artifact else None for entry, artifact in found.items()}


def _report(
    history: History, asset: dg.AssetKey, scope: Scope[Any], artifact: Artifact, unchanged: Iterable[dg.AssetKey]
) -> None:
    """Report the artifact as made from the events of what is `unchanged`.

    It has the metadata and verdicts of the last materialization with its version, where the history has one.
    """
    before = history.record_of(asset, scope.partition, artifact.data_version)
    made = before.asset_materialization if before else None
    uri = str(artifact.folder)
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
