"""Staleness, read from the artifacts themselves: it also holds when the run history was deleted."""

from typing import Any

import dagster as dg

from sticker_pipeline.dagster_kit.scope import Scope
from sticker_pipeline.storage import ArtifactStore


def current_inputs(spec: dg.AssetSpec, scope: Scope[Any], store: ArtifactStore) -> dict[str, str | None]:
    """Return the data versions that the asset would be made from now; None for an artifact that is not there."""
    subject = scope.load()
    versions: dict[str, str | None] = {}
    for dep in spec.deps:
        name = dep.asset_key.path[-1]
        if dep.asset_key in scope.roots:
            versions |= scope.versions(dep.asset_key, scope.value(name, subject, store))
        else:
            found = scope.artifacts(name, store)
            versions |= {entry: artifact.data_version if artifact else None for entry, artifact in found.items()}
    return versions


def is_current(spec: dg.AssetSpec, scope: Scope[Any], store: ArtifactStore) -> bool:
    """Return True where the artifact was made by this code from what there is now: Dagster's rule for "stale"."""
    artifact = store.find(scope.place, spec.key.path[-1])
    if artifact is None or artifact.code_version != spec.code_version:
        return False
    return artifact.inputs == current_inputs(spec, scope, store)


def stale_assets(definitions: dg.Definitions, job: str, scope: Scope[Any], store: ArtifactStore) -> list[dg.AssetKey]:
    """Return the assets of the job that are out of date, and all that follow from them, in the order of making.

    `store` may be a snapshot, for a look at many scopes.
    """
    scope = scope.loaded(scope.load())
    graph = definitions.resolve_job_def(job).asset_layer.asset_graph
    stale: list[dg.AssetKey] = []
    for key in graph.toposorted_asset_keys:
        if key not in graph.materializable_asset_keys:
            continue
        spec = definitions.resolve_assets_def(key).get_asset_spec(key)
        if any(dep.asset_key in stale for dep in spec.deps) or not is_current(spec, scope, store):
            stale.append(key)
    return stale
