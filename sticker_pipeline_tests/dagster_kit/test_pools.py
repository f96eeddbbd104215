"""Steps with short GPU use take turns with trainings only if there is a GPU; each asks a fleet for its GPU."""

import json
from pathlib import Path

import pytest

from sticker_pipeline.dagster_kit.pools import BRIEF, GPU, RequestError, brief_pool, gpu_request, has_gpu
from sticker_pipeline.definitions import defs

LONG = {
    "lora",
    "selected_lora",
    "samples",
    "benchmark",
    "comfyui_workflow",
    "sampling_grid",
    "profile/lcm_lora",
    "style/lora",
}


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_gpu_is_one_that_may_be_used(tmp_path: Path, hidden: str) -> None:
    driver = tmp_path / "nvidia"
    assert not has_gpu({"PATH": str(tmp_path)}, driver)
    driver.mkdir()
    assert has_gpu({"PATH": str(tmp_path)}, driver)
    assert not has_gpu({"PATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": hidden}, driver)
    assert has_gpu({"PATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "1"}, driver)


def test_nvidias_own_tool_tells_too(tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    assert has_gpu({"PATH": str(tmp_path)}, tmp_path / "none")


def test_long_steps_take_turns_always() -> None:
    definitions = defs()
    pools = {
        key.to_user_string(): definitions.resolve_assets_def(key).op.pool
        for key in definitions.resolve_asset_graph().materializable_asset_keys
    }
    assert {pools[name] for name in LONG} == {GPU}
    assert pools["wd14_tags"] == BRIEF == (GPU if has_gpu() else None)


@pytest.mark.parametrize("here", [True, False])
def test_a_fleets_steps_do_not_ask_this_machine(here: bool) -> None:
    assert brief_pool({"STICKER_EXECUTOR": "local"}, here) == brief_pool({}, here) == (GPU if here else None)
    for executor in ("ray", "k8s"):
        assert brief_pool({"STICKER_EXECUTOR": executor}, here) == GPU
        assert brief_pool({"STICKER_EXECUTOR": executor, "STICKER_STEP_GPUS": "0"}, here) is None


def test_each_step_of_the_pool_requests_a_gpu_and_no_other() -> None:
    steps = {node.name: node for job in defs().resolve_all_job_defs() for node in job.all_node_defs}
    wanted = gpu_request(GPU)
    asked = {
        name: {key: json.loads(step.tags[key]) for key in wanted if key in step.tags} for name, step in steps.items()
    }
    assert asked == {name: wanted if step.pool == GPU else {} for name, step in steps.items()}
    assert wanted in asked.values()


def test_a_fleet_without_gpus_is_asked_for_none() -> None:
    assert gpu_request(GPU, {"STICKER_STEP_GPUS": "0"}) == gpu_request(None, {}) == {}
    assert gpu_request(GPU, {"STICKER_STEP_GPUS": "2"})["dagster-ray/config"] == {"num_gpus": 2}
    with pytest.raises(RequestError) as caught:
        gpu_request(GPU, {"STICKER_STEP_GPUS": "half"})
    assert str(caught.value) == "STICKER_STEP_GPUS: 'half' is no number of GPUs. Write a whole number, or 0 for none."
