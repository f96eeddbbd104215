from pathlib import Path

import pytest

from sticker_pipeline.core.profile import Profile, load_profile
from sticker_pipeline.core.settings import GenerationSettings


@pytest.fixture
def tiny_profile(tiny_base: Path) -> Profile:
    settings = GenerationSettings(scheduler="dpmsolver++", steps=4, guidance_scale=4.0, batch_size=4)
    profile = load_profile("embedded", Path("models"))
    return profile.model_copy(update={"base": tiny_base, "resolution": 32, "generation": settings})
