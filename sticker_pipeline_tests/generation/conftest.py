from pathlib import Path

import pytest

from sticker_pipeline.profile import Profile, load_profile
from sticker_pipeline.settings import GenerationSettings
from sticker_pipeline_tests.tiny_models import build_tiny_pipeline


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_pipeline(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture
def tiny_profile(tiny_base: Path) -> Profile:
    settings = GenerationSettings(scheduler="dpmsolver++", steps=4, guidance_scale=4.0, batch_size=4)
    profile = load_profile("embedded", Path("models"))
    return profile.model_copy(update={"base": tiny_base, "resolution": 32, "generation": settings})
