"""Recommendations of the sampling grid, as files and settings."""

from dataclasses import asdict
from pathlib import Path

from sticker_pipeline.core.settings import GenerationSettings
from sticker_pipeline.generation.grid_points import Adapters, GridPoint
from sticker_pipeline.generation.recommended import recommended
from sticker_pipeline.generation.sampling_config import SamplingConfig

GENERATION = GenerationSettings(scheduler="ddim", steps=10, guidance_scale=4.0)
CHARACTER, MEDIUM, LCM = (Path(f"{name}.safetensors") for name in ("character", "medium", "lcm"))
FAST, PLAIN = GridPoint(0.5, 0.8, 1.0, 2, 1.0), GridPoint(0.0, 1.0, 0.0, 10, 4.0)


def value(*settings: tuple[int, GridPoint, str]) -> dict[str, object]:
    return {"settings": [{"budget": b, "point": asdict(point), "scheduler": s} for b, point, s in settings]}


def test_the_profiles_own_way_is_left_out() -> None:
    found = recommended(value((2, FAST, "lcm"), (10, PLAIN, "ddim")), Adapters(CHARACTER, MEDIUM, LCM), 1.0, GENERATION)
    settings = GENERATION.model_copy(update={"scheduler": "lcm", "steps": 2, "guidance_scale": 1.0})
    assert found == {2: SamplingConfig("at most 2 steps", [(MEDIUM, 0.5), (CHARACTER, 0.8), (LCM, 1.0)], settings)}


def test_at_another_strength_or_with_another_sampler_it_is_a_setting_of_its_own() -> None:
    plain = value((10, PLAIN, "ddim"))
    assert recommended(plain, Adapters(CHARACTER), 0.7, GENERATION).keys() == {10}
    euler = recommended(value((10, PLAIN, "euler")), Adapters(CHARACTER), 1.0, GENERATION)[10]
    assert euler.settings.scheduler == "euler" and euler.loras == [(CHARACTER, 1.0)]
    assert recommended(value(), Adapters(CHARACTER), 1.0, GENERATION) == {}
