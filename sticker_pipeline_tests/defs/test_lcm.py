"""`lcm_lora` of the embedded base, distilled for seconds: published files and metadata, not quality."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from sticker_pipeline.core.profile import PROFILES
from sticker_pipeline.core.storage import file_sha256
from sticker_pipeline.defs.few_steps import lcm_lora as lcm
from sticker_pipeline.diffusion.lora.file import read_lora
from sticker_pipeline.generation import few_steps
from sticker_pipeline.roots.character import value as root_value
from sticker_pipeline_tests.defs.conftest import SETTINGS, Bench
from sticker_pipeline_tests.defs.test_sampling_grid import plant

SMALL: dict[str, Any] = {
    "images": 4,
    "steps": 2,
    "batch_size": 2,
    "rank": 4,
    "measured_prompts": 2,
    "measured_seeds": 2,
    "tuning": {"images": 3, "steps": 2, "guidance_scale": 3.0},
}


@pytest.fixture(scope="module")
def distilled(bench: Bench) -> Iterator[Bench]:
    """With an LCM-LoRA of the profile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROFILES["embedded"], "lcm", {**PROFILES["embedded"]["lcm"], **SMALL})
        for module in (few_steps, lcm):
            patch.setattr(module, "STEPS", (1, 4))
        assert make(bench, "profile/lcm_lora", "embedded").success
        yield bench


@pytest.fixture(scope="module")
def moth(bench: Bench) -> Path:
    """The file of the LoRA of a character with a dataset."""
    bench.add_character("moth", "velvet_moth", SETTINGS)
    bench.instance.add_dynamic_partitions("characters", ["moth"])
    dataset = bench.definitions.resolve_job_def("dataset_line")
    assert dataset.execute_in_process(instance=bench.instance, partition_key="moth").success
    return plant(bench.store, "moth", "selected_lora", 1)


def make(bench: Bench, asset: str, partition: str) -> dg.ExecuteInProcessResult:
    definition = bench.definitions.resolve_assets_def(dg.AssetKey.from_user_string(asset))
    return dg.materialize([definition], partition_key=partition, instance=bench.instance, raise_on_error=False)


def test_without_one_of_the_profile_there_is_nothing_to_go_on_from(bench: Bench, moth: Path) -> None:
    assert bench.store.find("_profiles/embedded", "lcm_lora") is None
    result = make(bench, "character_lcm_lora", "moth")
    (failure,) = [event for event in result.all_node_events if event.is_step_failure]
    said = failure.step_failure_data.error
    assert said is not None and "materialize its partition 'embedded' first" in str(said)


def test_it_is_distilled_and_measured(distilled: Bench) -> None:
    bench = distilled
    artifact = bench.store.read("_profiles/embedded", "lcm_lora")
    assert artifact.folder == Path(bench.workspace.artifacts) / "_profiles" / "embedded" / "lcm_lora"
    assert read_lora(artifact.folder / "lora.safetensors").adapters
    facts = json.loads((artifact.folder / "lcm.json").read_text())
    assert facts == {"guidance_scale": 2.0, "steps": [1, 4], "scheduler": "lcm"}
    table: pd.DataFrame = artifact.table()
    ways = ["base, steps: 25", "base, steps: 10", "base, steps: 4", "LCM sampler without an LCM-LoRA, steps: 4"]
    assert table["model"].unique().tolist() == [
        *ways,
        "LCM-LoRA, steps: 1",
        "LCM-LoRA, steps: 4",
        "base, steps: 25, another seed",
    ]
    assert (table.loc[table["metric"] == "seconds", "mean"] > 0).all()
    bench.check_tables("profile/lcm_lora", "_profiles/embedded", "embedded")
    shown = bench.metadata("profile/lcm_lora", "embedded")
    assert str(shown["images"]).startswith("![")
    assert {"metrics", "summary", "loss", "settings"} <= shown.keys()
    assert not (bench.store.work("_profiles/embedded", "lcm_lora") / "state").exists()


def test_that_of_a_character_goes_on_from_it_and_is_used(distilled: Bench, moth: Path) -> None:
    bench = distilled
    assert make(bench, "character_lcm_lora", "moth").success
    start = bench.store.read("_profiles/embedded", "lcm_lora").folder / "lora.safetensors"
    bench.check_tables("character_lcm_lora", "moth", "moth")
    artifact = bench.store.read("moth", "character_lcm_lora")
    facts = json.loads((artifact.folder / "lcm.json").read_text())
    assert facts["character_lora"] == file_sha256(moth) and facts["guidance_scale"] == 3.0
    own = read_lora(artifact.folder / "lora.safetensors")
    assert own.adapters.keys() == read_lora(start).adapters.keys()
    assert own.metadata["ss_steps"] == "2"
    ways = ["LoRA, steps: 25", "LoRA, steps: 10", "LoRA, steps: 4", "LCM sampler without an LCM-LoRA, steps: 4"]
    own_ways = ["LCM-LoRA of the base model, steps: 4", "its own LCM-LoRA, steps: 1", "its own LCM-LoRA, steps: 4"]
    assert artifact.table()["model"].unique().tolist() == [*ways, *own_ways, "LoRA, steps: 25, another seed"]
    assert root_value("sampling_grid", *bench.character("moth"), bench.store)["lcm"] == file_sha256(
        artifact.folder / "lora.safetensors"
    )
    plant(bench.store, "moth", "selected_lora", 2)  # another one, which it was not made for
    assert root_value("sampling_grid", *bench.character("moth"), bench.store)["lcm"] == file_sha256(start)
