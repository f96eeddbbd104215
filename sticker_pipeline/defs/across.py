"""The roots of what is about all characters together: which there are, and what they share.

They are observed as a character's own are (observed.py), but have no partitions.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from sticker_pipeline.character import Character
from sticker_pipeline.defs.observed import DATA_VERSION_TAG, key, report_if_new
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.profile import Profile
from sticker_pipeline.publishing.contents import LCM_LORA, SELECTED_STYLE_LORA, STYLE_SET, profiles_of, styles_of
from sticker_pipeline.storage import ArtifactStore, StorageError, content_hash, profile_scope, style_scope

ROSTER, SHARED = "roster", "shared"
DESCRIPTIONS = {
    ROSTER: "Which characters there are: the folders with a valid character.yaml.",
    SHARED: "What characters have together: LoRAs of their styles, and LCM-LoRAs of their profiles.",
}

Valid = Sequence[tuple[Character, Profile]]


@dg.multi_observable_source_asset(
    specs=[
        dg.AssetSpec(
            key(section), description=description, group_name="character", kinds={"file"}, owners=["team:characters"]
        )
        for section, description in DESCRIPTIONS.items()
    ],
    can_subset=True,
)
def observed_across(context: dg.AssetExecutionContext, workspace: Workspace) -> Iterator[dg.ObserveResult]:
    valid, _ = workspace.valid_characters()
    for section in DESCRIPTIONS:
        if key(section) in context.selected_asset_keys:
            value = across_value(section, valid, workspace.store)
            version = dg.DataVersion(content_hash(value))
            yield dg.ObserveResult(asset_key=key(section), data_version=version, metadata=_metadata(value))


def across_value(section: str, valid: Valid, store: ArtifactStore) -> Any:
    """All that `section` stands for, as JSON types: of ROSTER the names, sorted; of SHARED `style/asset` and
    `profile/asset` -> data version, of what is there. `valid`: all characters with a valid character.yaml."""
    match section:
        case "roster":
            return sorted(character.name for character, _ in valid)
        case "shared":
            assets = (STYLE_SET, SELECTED_STYLE_LORA)
            places = [(name, style_scope(name), asset) for name in styles_of(valid) for asset in assets]
            places += [(name, profile_scope(name), LCM_LORA) for name in profiles_of(valid)]
            found = {f"{name}/{asset}": _version(store, scope, asset) for name, scope, asset in places}
            return {name: version for name, version in found.items() if version}
        case _:
            raise KeyError(section)


def _version(store: ArtifactStore, scope: str, asset: str) -> str | None:
    """The data version of an artifact; None where there is none, or a damaged one, which whoever reads it will say."""
    try:
        found = store.find(scope, asset)
    except StorageError:
        return None
    return found.data_version if found else None


def across_observations(
    section: str, valid: Valid, store: ArtifactStore, known: dict[str, str]
) -> Iterator[dg.AssetObservation]:
    """An observation of `section` if its version differs from `known` (section -> version), which is brought up to
    date."""
    value = across_value(section, valid, store)
    if known.get(section) != content_hash(value):
        known[section] = content_hash(value)
        yield across_observation(section, value)


def observe_across(instance: dg.DagsterInstance, values: Mapping[str, Any]) -> list[str]:
    """Report those of `values` (section -> value) that Dagster has not seen yet, and return their sections."""
    return [
        section
        for section, value in values.items()
        if report_if_new(instance, across_observation(section, value), None)
    ]


def across_observation(section: str, value: Any) -> dg.AssetObservation:
    """That `section` stands for `value` now."""
    tags = {DATA_VERSION_TAG: content_hash(value)}
    return dg.AssetObservation(asset_key=key(section), metadata=_metadata(value), tags=tags)


def _metadata(value: Any) -> dict[str, Any]:
    return {"value": dg.MetadataValue.json(value)}
