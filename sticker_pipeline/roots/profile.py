"""The value of a profile's root: inputs of its LCM-LoRA."""

from typing import Any

from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline.roots.hashes import base_hash, model_hash


def value(profile: Profile, store: ArtifactStore) -> dict[str, Any]:
    """Return the inputs of the LCM-LoRA and its metrics, as JSON types."""
    return {
        "base": base_hash(profile.base, store),
        **{name: model_hash(getattr(profile, name), store) for name in ("clip", "tagger")},
        "resolution": profile.resolution,
        "lcm": profile.lcm.model_dump(mode="json", exclude={"tuning"}),
        "generation": profile.generation.model_dump(mode="json"),
        "tagging": profile.tagging.model_dump(mode="json", exclude={"batch_size", "provider"}),
    }
