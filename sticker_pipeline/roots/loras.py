"""LoRAs used together with a character's own: its style's, and the LCM-LoRA."""

import json
from pathlib import Path

from sticker_pipeline.benchmark.releases import Release, current, releases_folder
from sticker_pipeline.core.character import Character
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.storage import Artifact, ArtifactStore, file_sha256, profile_scope, style_scope
from sticker_pipeline.generation.grid_points import Adapters

LORA_FILE = "lora.safetensors"  # in every artifact of one LoRA
LCM_FACTS = "lcm.json"  # beside an LCM-LoRA: how to sample with it, and the LoRA that it was made for


def release_to_sample(character: Character, profile: Profile, store: ArtifactStore) -> Release | None:
    """Return the current release if of the profile's base model family."""
    release = current(releases_folder(store, character.name))
    return release if release and release.record.family == profile.family else None


def style_lora(character: Character, store: ArtifactStore) -> Artifact | None:
    """Return the LoRA of the character's style, if there is one."""
    style = character.settings.style
    return store.find(style_scope(style), "selected_style_lora") if style else None


def lcm_lora(profile: Profile, store: ArtifactStore) -> Artifact | None:
    """Return the profile's LCM-LoRA, if there is one."""
    return store.find(profile_scope(profile.name), "lcm_lora")


def lcm_for(sha256: str, character: Character, profile: Profile, store: ArtifactStore) -> Artifact | None:
    """Return the character's LCM-LoRA if made for this hash, else the profile's."""
    own = store.find(character.name, "character_lcm_lora")
    return own if own and _made_for(own) == sha256 else lcm_lora(profile, store)


def adapters_of(lora: Path, character: Character, profile: Profile, store: ArtifactStore) -> Adapters:
    """Return the character's LoRA with those used together with it."""
    style, lcm = style_lora(character, store), lcm_for(file_sha256(lora), character, profile, store)
    return Adapters(lora, style.file(LORA_FILE) if style else None, lcm.file(LORA_FILE) if lcm else None)


def _made_for(lcm: Artifact) -> str | None:
    """Return the LoRA hash it was made for; None if `lcm.json` is damaged."""
    try:
        made_for: str = json.loads((lcm.fetched([LCM_FACTS]) / LCM_FACTS).read_text(encoding="utf-8"))["character_lora"]
    except (OSError, ValueError, KeyError):
        return None
    return made_for
