"""Jobs: number of images, folders, and their origin: cache or an opened model."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sticker_pipeline.core.profile import Profile
from sticker_pipeline.generation import jobs
from sticker_pipeline.generation.generate import open_pipeline
from sticker_pipeline.generation.jobs import COLUMNS, GenerationJob, Generator, generate_job, image_count
from sticker_pipeline.generation.prompts import Prompt

PROMPTS = [Prompt("art", "girl, smile", "smile"), Prompt("art", "girl, angry", "angry")]
LORA = [(Path("lora.safetensors"), 1.0)]


def test_only_a_model_with_a_trigger_of_its_own_is_asked_without_it(tiny_profile: Profile) -> None:
    setting = GenerationJob("LoRA in 2 steps", PROMPTS, LORA, tiny_profile.generation, below="lora")
    assert image_count(GenerationJob("base", PROMPTS), seeds=3) == 2 * 3
    assert image_count(GenerationJob("lora", PROMPTS, LORA), seeds=3) == 2 * 2 * 3
    assert image_count(setting, seeds=3) == 2 * 3


def test_images_of_a_setting_lie_below_those_of_its_lora() -> None:
    assert GenerationJob("base", PROMPTS).folder == "base"
    assert GenerationJob("LoRA in at most 2 steps", PROMPTS, below="lora").folder == "lora/LoRA_in_at_most_2_steps"


def test_a_job_is_generated_once_and_comes_from_the_cache_then(
    tiny_profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, int, int]] = []
    opened: list[str] = []
    benchmark = tiny_profile.benchmark.model_copy(update={"seeds_per_prompt": 2})
    profile = tiny_profile.model_copy(update={"benchmark": benchmark})
    pipeline = open_pipeline(profile)

    def open_with(scheduler: str) -> object:
        opened.append(scheduler)
        return pipeline

    generator = Generator(profile, "ab12", tmp_path / "cache", open_with, lambda *count: said.append(count))
    job = GenerationJob("base", PROMPTS)
    rows = generate_job(generator, job, tmp_path / "first")
    assert list(rows.columns) == COLUMNS
    assert rows["file"].tolist() == [f"base/art_{number:03d}.png" for number in range(4)]
    assert rows["image"].tolist() == [f"base-{number:03d}" for number in range(4)]
    assert rows["attributes"].tolist() == ["smile", "smile", "angry", "angry"]
    assert rows["seed"].nunique() == 4
    assert opened == ["dpmsolver++"] and said == [("images", 4, 4)]
    monkeypatch.setattr(jobs, "generate", None)  # nothing may call it
    again = generate_job(generator, job, tmp_path / "second", "base/again")
    assert again["file"].tolist() == [f"base/again/art_{number:03d}.png" for number in range(4)]
    assert len(opened) == 1 and said[1:] == [("images", 4, 4)]
    for before, after in zip(rows["file"], again["file"], strict=True):
        with Image.open(tmp_path / "first" / before) as one, Image.open(tmp_path / "second" / after) as other:
            assert (np.asarray(one) == np.asarray(other)).all()
