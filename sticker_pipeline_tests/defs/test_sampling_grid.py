"""Sampling grid of a small character on the embedded models: planted LoRAs, everything else real."""

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
import torch
from PIL import Image

from sticker_pipeline.benchmark.grid_table import ESTIMATED
from sticker_pipeline.benchmark.releases import publish, releases_folder
from sticker_pipeline.core.storage import ArtifactStore, file_sha256
from sticker_pipeline.diffusion.lora.file import Adapter, LoraFile, write_lora
from sticker_pipeline.diffusion.samplers import SCHEDULERS
from sticker_pipeline.generation import jobs, timing
from sticker_pipeline.roots.character import value as root_value
from sticker_pipeline_tests.defs.conftest import SETTINGS, Bench
from sticker_pipeline_tests.publishing.candidates import candidate

NAME = "gridded"
KEY = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
GRID = """\
style: flat
sampling_grid:
  style_weights: [0, 1]
  character_weights: [0.5, 1]
  lcm_weights: [0, 1]
  steps: [2]
  guidance_scales: [1, 4]
  prompts_per_medium: 1
"""


def plant(store: ArtifactStore, scope: str, asset: str, seed: int) -> Path:
    """An artifact with a LoRA that changes one layer; the file."""
    generator = torch.Generator().manual_seed(seed)
    with store.writing(scope, asset) as staging:
        down, up = torch.randn(2, 128, generator=generator), torch.randn(128, 2, generator=generator)
        write_lora(staging / "lora.safetensors", LoraFile({KEY: Adapter(down, up, 1.0)}), "float32")
        return (
            store.publish(staging, scope, asset, code_version="1", inputs={}, settings={}).folder / "lora.safetensors"
        )


def make_grid(bench: Bench) -> dg.ExecuteInProcessResult:
    job = bench.definitions.resolve_job_def("compare_sampling_settings")
    return job.execute_in_process(instance=bench.instance, partition_key=NAME, raise_on_error=False)


def table(bench: Bench) -> pd.DataFrame:
    return bench.store.read(NAME, "sampling_grid").table()


@pytest.fixture(scope="module")
def gridded(bench: Bench) -> Iterator[Bench]:
    """A dataset, a LoRA of the character, and the grid of it alone."""
    bench.add_character(NAME, "bram_thistle", SETTINGS + GRID)
    bench.instance.add_dynamic_partitions("characters", [NAME])
    dataset = bench.definitions.resolve_job_def("dataset_line")
    assert dataset.execute_in_process(instance=bench.instance, partition_key=NAME).success
    plant(bench.store, NAME, "selected_lora", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCHEDULERS, "lcm", ("LCMScheduler", {}))
        assert make_grid(bench).success
        yield bench


def test_without_other_adapters_their_axes_are_zero(gridded: Bench) -> None:
    rows = table(gridded)
    own = [(0.0, weight, 0.0, 2, scale) for weight, scale in product((0.5, 1.0), (1.0, 4.0))]
    against = [(0.0, weight, 0.0, 10, 4.0) for weight in (0.5, 1.0)]  # as the profile draws
    setting = ["style_weight", "character_weight", "lcm_weight", "steps", "guidance_scale"]
    assert list(rows[setting].itertuples(index=False, name=None)) == [*own, *against]
    assert rows["n"].tolist() == [2] * 6  # a prompt in each of two styles
    assert (rows["seconds"] > 0).all() and rows["pareto"].any()
    assert rows[list(ESTIMATED)].notna().all(axis=None)
    assert rows.loc[rows["steps"] == 10, ["quality_change", "contrast_shift", "veil"]].eq(0).all(axis=None)
    quick = rows[rows["steps"] == 2]
    assert quick.groupby("guidance_scale")["seconds"].nunique().tolist() == [1, 1]  # weights cost nothing
    assert quick["contrast_shift"].abs().min() > 0


def test_the_artifact_has_the_grids_and_what_is_recommended(gridded: Bench) -> None:
    artifact = gridded.store.read(NAME, "sampling_grid")
    assert set(artifact.files) == {
        "index.parquet", "recommended.json", "pareto.png", "grid_art.png", "grid_sticker.png",
    }  # fmt: skip
    with Image.open(artifact.folder / "grid_art.png") as grid:
        assert grid.size == (84 + 2 * 100, 4 + 12 + 2 * 100)  # two weights across, two guidance scales downwards
    found = json.loads((artifact.folder / "recommended.json").read_text())
    lora = gridded.store.folder(NAME, "selected_lora") / "lora.safetensors"
    assert found["character"] == "the selected LoRA"
    assert found["loras"] == {"character": file_sha256(lora), "style": None, "lcm": None}
    assert [each["budget"] for each in found["budgets"]] == [2, 10]
    assert all(each["setting"] is None or each["setting"]["steps"] <= each["budget"] for each in found["budgets"])
    metadata = gridded.metadata("sampling_grid", NAME)
    assert str(metadata["pareto"]).startswith("![") and "grid_art" in metadata and "recommended" in metadata


def test_its_table_is_as_declared(gridded: Bench) -> None:
    gridded.check_tables("sampling_grid", NAME, NAME)


def test_again_it_draws_and_measures_nothing(gridded: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("it was drawn before")

    before = gridded.store.read(NAME, "sampling_grid").data_version
    monkeypatch.setattr(jobs, "generate", fail)
    monkeypatch.setattr(timing, "generate", fail)
    assert make_grid(gridded).success
    assert gridded.store.read(NAME, "sampling_grid").data_version == before


def test_a_grid_that_is_too_large_is_refused_before_anything_is_drawn(gridded: Bench) -> None:
    settings = gridded.folder(NAME) / "character.yaml"
    before = settings.read_text()
    settings.write_text(before + "  most_images: 11\n")
    try:
        result = make_grid(gridded)
    finally:
        settings.write_text(before)
    (failure,) = [event for event in result.all_node_events if event.is_step_failure]
    said = failure.step_failure_data.error
    assert said is not None and "6 settings of 2 images each, 12 in all" in str(said.cause)


def test_the_adapters_that_exist_are_used_together(gridded: Bench) -> None:
    style = plant(gridded.store, "_styles/flat", "selected_style_lora", 2)
    lcm = plant(gridded.store, "_profiles/embedded", "lcm_lora", 3)
    character, profile = gridded.character(NAME)
    value = root_value("sampling_grid", character, profile, gridded.store)
    assert (value["style"], value["lcm"], value["release"]) == (file_sha256(style), file_sha256(lcm), None)
    assert make_grid(gridded).success
    rows = table(gridded)
    assert len(rows) == 2 * 2 * 2 * 2 + 2 * 2  # the grid, and the way in which the profile draws for each pair of LoRAs
    assert set(rows.loc[rows["lcm_weight"] > 0, "scheduler"]) == {"lcm"}
    assert set(rows.loc[rows["lcm_weight"] == 0, "scheduler"]) == {profile.generation.scheduler}
    setting = ["style_weight", "character_weight", "lcm_weight", "steps", "guidance_scale"]
    assert not rows.duplicated(["similarity", "fidelity", "contrast"]).any()  # each weight changes the images
    assert not rows.duplicated(setting).any()
    artifact = gridded.store.read(NAME, "sampling_grid")
    assert {name for name in artifact.files if name.startswith("grid")} == {
        f"grid_{style}_style_{weight}.png" for style in ("art", "sticker") for weight in (0, 1)
    }
    with Image.open(artifact.folder / "grid_art_style_1.png") as grid:
        assert grid.size == (84 + 4 * 100, 4 + 24 + 2 * 100)


def test_a_release_is_used_rather_than_the_newest_lora(gridded: Bench, tmp_path: Path) -> None:
    lora = plant(gridded.store, NAME, "other_lora", 4)
    character, profile = gridded.character(NAME)
    changes = {"character": NAME, "lora": lora, "beginnings": {"art": ["skv_old"]}, "trigger": "skv_old"}
    publish(releases_folder(gridded.store, NAME), candidate(tmp_path, b"", **changes), datetime.now(UTC))
    assert root_value("sampling_grid", character, profile, gridded.store)["release"] == file_sha256(lora)
    before = table(gridded)
    assert make_grid(gridded).success
    found = json.loads((gridded.store.folder(NAME, "sampling_grid") / "recommended.json").read_text())
    assert (found["character"], found["loras"]["character"]) == ("release 1", file_sha256(lora))
    after = table(gridded)
    assert not math.isclose(before["similarity"].iloc[0], after["similarity"].iloc[0])
    assert before["seconds"].tolist() == after["seconds"].tolist()
