"""The roots of what is about all characters together: which there are, and what they share.

They are observed as a character's own are (observed.py), but have no partitions.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sticker_pipeline.character import Character, character_names
from sticker_pipeline.dagster_kit.scope import Scope, observable_roots, own_artifact
from sticker_pipeline.defs.observed import key
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.profile import Profile
from sticker_pipeline.publishing.contents import LCM_LORA, SELECTED_STYLE_LORA, STYLE_SET, profiles_of, styles_of
from sticker_pipeline.storage import ALL, Artifact, ArtifactStore, StorageError, profile_scope, style_scope

LOGGER = logging.getLogger(__name__)
ROSTER, SHARED = "roster", "shared"
DESCRIPTIONS = {
    ROSTER: "Which characters there are: the folders with a valid character.yaml.",
    SHARED: "What characters have together: LoRAs of their styles, and LCM-LoRAs of their profiles.",
}

OF_ALL = ("leaderboard", "report")  # the assets of all characters together

Valid = Sequence[tuple[Character, Profile]]


@dataclass(frozen=True)
class AllCharacters:
    """Every character that can be worked on, and what is wrong with each of the others."""

    valid: Valid
    problems: list[str]


def of_all(workspace: Workspace, place: str = ALL) -> Scope[AllCharacters]:
    """Return the scope of all characters together."""

    def artifacts(asset: str, store: ArtifactStore) -> Mapping[str, Artifact | None]:
        if asset in OF_ALL:
            return own_artifact(place, asset, store)
        return {f"{who}/{asset}": found for who, found in artifacts_across(workspace, asset).items()}

    return Scope(
        name="all characters",
        partition=None,
        place=place,
        load=lambda: AllCharacters(*workspace.valid_characters()),
        roots=[key(section) for section in DESCRIPTIONS],
        value=lambda section, characters, store: across_value(section, characters.valid, store),
        artifacts=artifacts,
    )


observed_across = observable_roots(
    "observed_across",
    of_all,
    {key(section): description for section, description in DESCRIPTIONS.items()},
    kinds=dict.fromkeys(DESCRIPTIONS, "file"),
)


def artifacts_across(workspace: Workspace, asset: str) -> dict[str, Artifact]:
    """Return the artifact `asset` of each character that has it, by name, sorted.

    One that is damaged is left out, with a warning. Artifacts of characters that were removed do not count.
    """
    found = {}
    for name in character_names(Path(workspace.characters)):
        try:
            artifact = workspace.store.find(name, asset)
        except StorageError as error:
            LOGGER.warning("%s is left out: %s", name, error)
            continue
        if artifact:
            found[name] = artifact
    return found


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
