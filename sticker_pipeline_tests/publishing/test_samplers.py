"""Names of samplers. benchmarks/bench_comfyui.py compares ComfyUI's images with our samplers'."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sticker_pipeline.core.settings import GenerationSettings
from sticker_pipeline.diffusion.architectures import CONFIGS
from sticker_pipeline.diffusion.base_model import BaseNoise, base_noise
from sticker_pipeline.diffusion.samplers import SCHEDULERS, make_scheduler
from sticker_pipeline.publishing.samplers import (
    SAMPLERS,
    SCHEDULES,
    SamplerError,
    a1111_names,
    our_sampler,
)
from sticker_pipeline_tests.publishing.comfyui_nodes import known_nodes

TRAINED_LEVELS = 1000


def test_every_name_is_one_of_comfyui() -> None:
    sampler, schedule = (
        next(each["choices"] for each in known_nodes()["KSampler"]["inputs"] if each["name"] == name)
        for name in ("sampler_name", "scheduler")
    )
    assert set(SAMPLERS.values()) <= set(sampler)
    assert set(SCHEDULES.values()) <= set(schedule)


def test_every_name_has_its_name_in_a1111() -> None:
    for label, name in SAMPLERS.items():
        for schedule_label, schedule in SCHEDULES.items():
            assert a1111_names(name, schedule) == (label, schedule_label)
    with pytest.raises(SamplerError, match="'heunpp2' is none of euler_ancestral"):
        a1111_names("heunpp2", "karras")
    with pytest.raises(SamplerError, match="'linear_quadratic' is none of karras"):
        a1111_names("euler", "linear_quadratic")


def comfyui_levels(schedule: str, steps: int) -> list[float]:
    """Time steps of ComfyUI's schedules over 1000 trained levels, as their names are defined there."""
    last = TRAINED_LEVELS - 1
    if schedule == "normal":
        return np.linspace(last, 0, steps).tolist()
    if schedule == "sgm_uniform":
        return np.linspace(last, 0, steps + 1)[:-1].tolist()
    if schedule == "simple":
        return [last - int(step * TRAINED_LEVELS / steps) for step in range(steps)]
    assert schedule == "ddim_uniform"
    return list(range(1, TRAINED_LEVELS, TRAINED_LEVELS // steps))[::-1]


@pytest.mark.parametrize("spacing", [None, "linspace", "leading", "trailing"])
@pytest.mark.parametrize("name", [*get_args(GenerationSettings.model_fields["scheduler"].annotation)])
@pytest.mark.parametrize("steps", [10, 25])
def test_our_samplers_and_comfyuis_have_the_same_noise_levels(name: str, spacing: str | None, steps: int) -> None:
    import diffusers

    config = {**CONFIGS["sd15"]["scheduler"], **({"timestep_spacing": spacing} if spacing else {})}
    scheduler = make_scheduler(name, diffusers.DDIMScheduler.from_config(config).config)
    scheduler.set_timesteps(steps)
    levels = comfyui_levels(our_sampler(name, BaseNoise(spacing=spacing))[1], steps)
    assert len(levels) == steps
    near = 1.25 * TRAINED_LEVELS / steps if (name, spacing) == ("dpmsolver++", "leading") else 1  # is near only
    assert np.abs(np.array(levels) - scheduler.timesteps.numpy()).max() <= near


@pytest.mark.parametrize("steps", range(1, 9))
def test_levels_of_lcm_are_near_those_that_comfyui_users_take_with_it(steps: int) -> None:
    import diffusers

    scheduler = make_scheduler("lcm", diffusers.DDIMScheduler.from_config(CONFIGS["sd15"]["scheduler"]).config)
    scheduler.set_timesteps(steps)
    assert our_sampler("lcm", BaseNoise()) == ("lcm", "sgm_uniform")
    assert a1111_names("lcm", "sgm_uniform") == ("LCM", "SGM Uniform")
    for schedule in ("sgm_uniform", "simple"):
        assert np.abs(np.array(comfyui_levels(schedule, steps)) - scheduler.timesteps.numpy()).max() <= 17


def test_zero_terminal_snr_decides_the_levels_as_in_our_sampler() -> None:
    import diffusers

    config = {**CONFIGS["sd15"]["scheduler"], "rescale_betas_zero_snr": True}
    for name in SCHEDULERS.keys() - {"lcm"}:  # which has levels of its own
        scheduler = make_scheduler(name, diffusers.DDIMScheduler.from_config(config).config)
        scheduler.set_timesteps(25)
        _, schedule = our_sampler(name, BaseNoise(spacing="leading", zero_snr=True))
        assert comfyui_levels(schedule, 25) == scheduler.timesteps.tolist()


def test_unknown_values_are_named() -> None:
    with pytest.raises(SamplerError, match=r"'unipc' is none of euler, dpmsolver\+\+, ddim"):
        our_sampler("unipc", BaseNoise())
    with pytest.raises(SamplerError, match="'karras' is none of linspace"):
        our_sampler("euler", BaseNoise(spacing="karras"))


def test_what_a_folder_and_a_single_file_say_of_noise(embedded_models: Path, tmp_path: Path) -> None:
    assert base_noise(embedded_models / "base") == BaseNoise(v_prediction=True, spacing="trailing")
    single = tmp_path / "base.safetensors"
    save_file({"w": torch.zeros(1)}, single)
    assert base_noise(single) == BaseNoise()
    save_file({"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}, single)
    assert base_noise(single) == BaseNoise(v_prediction=True, zero_snr=True)
    beside = tmp_path / "base" / "scheduler"
    beside.mkdir(parents=True)
    (beside / "scheduler_config.json").write_text('{"timestep_spacing": "leading"}')
    assert base_noise(single) == BaseNoise(v_prediction=True, zero_snr=True, spacing="leading")
