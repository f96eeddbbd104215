"""Names and tables of the files for ComfyUI and A1111."""

import json
from datetime import UTC, datetime
from pathlib import Path

from sticker_pipeline.benchmark.releases import Record, publish
from sticker_pipeline.core.profile import TOY, Profile, load_profile
from sticker_pipeline.core.settings import GenerationSettings
from sticker_pipeline.generation.sampling_config import SamplingConfig
from sticker_pipeline.publishing.base_name import BaseName, how_to_use
from sticker_pipeline.publishing.comfyui_files import (
    AS_RELEASED,
    configs_table,
    folder_of,
    how_to_open,
    lora_name,
    published_configs,
)
from sticker_pipeline_tests.publishing.candidates import candidate

GENERATION = GenerationSettings(scheduler="ddim", steps=10, guidance_scale=4.0)
FAST = GENERATION.model_copy(update={"scheduler": "lcm", "steps": 2, "guidance_scale": 1.0})
RELEASED = Path("artifacts/luma/released_lora/luma.safetensors")
LCM = Path("artifacts/_profiles/sd15/lcm_lora/lora.safetensors")


def record(folder: Path) -> Record:
    published = publish(folder / "releases", candidate(folder, b"a"), datetime(2026, 1, 1, tzinfo=UTC))
    return published.release.record


def test_loras_of_several_characters_have_different_names(tmp_path: Path) -> None:
    release = record(tmp_path)
    assert lora_name(release, RELEASED) == release.file == "luma.safetensors"
    assert lora_name(release, LCM) == "sd15.lcm_lora.safetensors"


def test_the_release_itself_comes_first_and_each_setting_has_a_folder(tmp_path: Path) -> None:
    fast = SamplingConfig("at most 2 steps", [(RELEASED, 0.8), (LCM, 1.0)], FAST)
    configs = published_configs(RELEASED, 0.9, GENERATION, [fast])
    folders = {config.name: folder_of(config) for config in configs}
    assert folders == {AS_RELEASED: "", "at most 2 steps": "at_most_2_steps"}
    assert configs_table(record(tmp_path), configs).to_dict("list") == {
        "setting": ["as released", "at most 2 steps"],
        "loras": ["luma.safetensors 0.9", "luma.safetensors 0.8, sd15.lcm_lora.safetensors 1"],
        "steps": [10, 2],
        "cfg": [4.0, 1.0],
        "sampler": ["ddim", "lcm"],
        "workflow": ["workflow.json", "at_most_2_steps/workflow.json"],
    }


def profile_with(folder: Path, channels: int) -> Profile:
    (folder / "vae").mkdir(parents=True)
    (folder / "vae" / "config.json").write_text(json.dumps({"latent_channels": channels}))
    return load_profile("embedded", Path("models")).model_copy(update={"base": folder})


def test_a_base_model_that_comfyui_cannot_open_is_said(tmp_path: Path) -> None:
    release, base = replace_trigger(record(tmp_path / "r")), BaseName("sd15", "sd15/base", file="mine.safetensors")
    said = how_to_open(profile_with(tmp_path / "sixteen", 16), release, base)
    assert "its latents have 16 channels" in said and "workflow.json" not in said
    four = profile_with(tmp_path / "four", 4)
    for profile in (four, profile_with(tmp_path / "x", 9).model_copy(update={"base": LCM})):
        said = how_to_open(profile, release, base)
        assert "workflow.json" in said and "begin the prompt with `skv_other`" in said
    toy = BaseName("sd15", "embedded/base", toy=TOY)
    assert how_to_open(four, release, toy) == how_to_use(release, toy)
    assert "Neither ComfyUI nor A1111 opens its base model" in how_to_use(release, toy)
    assert "`sticker-pipeline update luma`" in how_to_use(release, toy)


def replace_trigger(release: Record) -> Record:
    return release.model_copy(update={"trigger": "skv_other"})
