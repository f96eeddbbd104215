"""What is out of date, read from the artifacts themselves."""

from collections.abc import Mapping

import dagster as dg

from sticker_pipeline.character import Character
from sticker_pipeline.defs.across import ROSTER, SHARED, across_value, artifacts_across
from sticker_pipeline.defs.observed import PREFIX, key, section_value
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.profile import Profile
from sticker_pipeline.storage import ALL, ArtifactStore, content_hash


def current_inputs(
    spec: dg.AssetSpec,
    scope: str,
    workspace: Workspace,
    store: ArtifactStore,
    character: Character | None,
    profile: Profile | None,
) -> dict[str, str | None]:
    """The data versions that the asset would be made from now; None for an artifact that is not there.

    `store`: the workspace's, or a snapshot of it.
    """
    versions: dict[str, str | None] = {}
    for dep in spec.deps:
        name = dep.asset_key.path[-1]
        if dep.asset_key in (key(ROSTER), key(SHARED)):
            versions[f"{PREFIX}/{name}"] = content_hash(across_value(name, workspace.valid_characters()[0], store))
        elif dep.asset_key.path[0] == PREFIX:
            assert character is not None
            assert profile is not None
            value = section_value(name, character, profile, store)
            versions[f"{PREFIX}/{name}"] = content_hash(value)
        elif scope == ALL and (across := store.find(ALL, name)):
            versions[name] = across.data_version
        elif scope == ALL:
            versions |= {f"{who}/{name}": one.data_version for who, one in artifacts_across(workspace, name).items()}
        else:
            found = store.find(scope, name)
            versions[name] = found.data_version if found else None
    return versions


def is_current(spec: dg.AssetSpec, scope: str, store: ArtifactStore, inputs: Mapping[str, str | None]) -> bool:
    """Whether the published artifact was made by this code from these inputs: Dagster's own rule for staleness, read
    from the artifacts themselves, so that it also holds when they or the run history were deleted."""
    artifact = store.find(scope, spec.key.path[-1])
    return artifact is not None and artifact.code_version == spec.code_version and artifact.inputs == dict(inputs)
