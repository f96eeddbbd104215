"""All characters together: artifacts, and values of shared roots."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sticker_pipeline.core.character import Character, character_names
from sticker_pipeline.core.profile import Profile, toy_note
from sticker_pipeline.core.storage import Artifact, ArtifactStore, StorageError, profile_scope, style_scope

LOGGER = logging.getLogger(__name__)
RELEASED_LORA, SELECTED_STYLE_LORA, LCM_LORA = "released_lora", "selected_style_lora", "lcm_lora"
STYLE_SET = "style_training_set"
Valid = Sequence[tuple[Character, Profile]]


@dataclass(frozen=True)
class AllCharacters:
    """All valid characters, and problems of the others."""

    valid: Valid
    problems: list[str]


def artifacts_across(characters: Path, store: ArtifactStore, asset: str) -> dict[str, Artifact]:
    """Return the artifact `asset` of each character that has it, sorted.

    Damaged ones are left out with a warning; removed characters do not count.
    """
    found = {}
    for name in character_names(characters):
        try:
            artifact = store.find(name, asset)
        except StorageError as error:
            LOGGER.warning("%s is left out: %s", name, error)
            continue
        if artifact:
            found[name] = artifact
    return found


def value(part: str, valid: Valid, store: ArtifactStore) -> Any:
    """Return the value of `part`, as JSON types.

    "roster": names, sorted. "shared": `style/asset` and `profile/asset` -> data version, if any. `valid`: all
    characters with a valid character.yaml. Raises KeyError for another part.
    """
    match part:
        case "roster":
            return sorted(character.name for character, _ in valid)
        case "shared":
            assets = (STYLE_SET, SELECTED_STYLE_LORA)
            places = [(name, style_scope(name), asset) for name in styles_of(valid) for asset in assets]
            places += [(name, profile_scope(name), LCM_LORA) for name in profiles_of(valid)]
            found = {f"{name}/{asset}": _version(store, scope, asset) for name, scope, asset in places}
            return {name: version for name, version in found.items() if version}
        case _:
            raise KeyError(part)


def _version(store: ArtifactStore, scope: str, asset: str) -> str | None:
    """Return an artifact's data version; None if missing or damaged.

    Its reader reports that.
    """
    try:
        found = store.find(scope, asset)
    except StorageError:
        return None
    return found.data_version if found else None


def styles_of(characters: Iterable[tuple[Character, Profile]]) -> list[str]:
    """Return the styles of `characters`, sorted."""
    return sorted({character.settings.style for character, _ in characters if character.settings.style})


def toys_of(characters: Iterable[tuple[Character, Profile]]) -> dict[str, str]:
    """Return profile -> its `toy_note`, of those that have one."""
    return {profile.name: note for _, profile in characters if (note := toy_note(profile))}


def profiles_of(characters: Iterable[tuple[Character, Profile]]) -> list[str]:
    """Return the profiles of `characters`, sorted."""
    return sorted({profile.name for _, profile in characters})
