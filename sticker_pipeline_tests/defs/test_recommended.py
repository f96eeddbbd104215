"""Recommended settings are generated, measured and published; LoRAs and recommendations are planted."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sticker_pipeline.benchmark.gate_checks import gate_checks
from sticker_pipeline.benchmark.releases import place, publish, releases_folder
from sticker_pipeline.core.profile import PROFILES
from sticker_pipeline.core.storage import content_hash, file_sha256
from sticker_pipeline.diffusion.lora.trained_for import TrainedFor
from sticker_pipeline.generation.image_cache import cached_images, decisive
from sticker_pipeline.generation.prompts import Request
from sticker_pipeline.roots.character import value as root_value
from sticker_pipeline_tests.defs.conftest import SETTINGS, Bench
from sticker_pipeline_tests.defs.test_sampling_grid import plant
from sticker_pipeline_tests.publishing.candidates import candidate

NAME = "fast"
FAST = {
    "style_weight": 0.5, "character_weight": 0.8, "lcm_weight": 1.0, "steps": 2, "guidance_scale": 1.0,
    "scheduler": "lcm",
}  # fmt: skip
PLAIN = {
    "style_weight": 0.0, "character_weight": 1.0, "lcm_weight": 0.0, "steps": 10, "guidance_scale": 4.0,
    "scheduler": "dpmsolver++",
}  # fmt: skip
MODEL = "LoRA in at most 2 steps"
NOTHING: dict[str, Any] = {"settings": [], "left_out": []}


def recommend(
    bench: Bench, character: Path, style: Path, lcm: Path, by_budget: dict[int, dict[str, Any] | None]
) -> None:
    """A sampling grid that recommends just this, of these files."""
    loras = {name: file_sha256(path) for name, path in (("character", character), ("style", style), ("lcm", lcm))}
    budgets = [
        {"budget": budget, "setting": setting, "why": "planted", "metrics": {}} for budget, setting in by_budget.items()
    ]
    with bench.store.writing(NAME, "sampling_grid") as staging:
        content = {"profile": "embedded", "character": "the selected LoRA", "loras": loras, "budgets": budgets}
        (staging / "recommended.json").write_text(json.dumps(content))
        inputs = {"character/generation": content_hash(value(bench, "generation"))}
        bench.store.publish(staging, NAME, "sampling_grid", code_version="1", inputs=inputs, settings={})


def make(bench: Bench, *assets: str) -> None:
    job = bench.definitions.resolve_job_def("character_line")
    keys = [dg.AssetKey(asset) for asset in assets]
    job.execute_in_process(instance=bench.instance, partition_key=NAME, asset_selection=keys, raise_on_error=False)


def value(bench: Bench, section: str) -> dict[str, Any]:
    character, profile = bench.character(NAME)
    return root_value(section, character, profile, bench.store)


def up_to_date(bench: Bench) -> bool:
    """Return whether `samples` was made from the current recommendations."""
    made_from = bench.store.read(NAME, "samples").inputs["character/recommended"]
    return made_from == content_hash(value(bench, "recommended"))


def own(table: pd.DataFrame) -> pd.DataFrame:
    """Without the rows of settings."""
    return table[table["model"] != MODEL].reset_index(drop=True)


@pytest.fixture(scope="module")
def loras(bench: Bench) -> dict[str, Path]:
    """A dataset, and LoRAs by what they are of."""
    bench.add_character(NAME, "bram_thistle", SETTINGS + "style: flat\n")
    bench.instance.add_dynamic_partitions("characters", [NAME])
    dataset = bench.definitions.resolve_job_def("dataset_line")
    assert dataset.execute_in_process(instance=bench.instance, partition_key=NAME).success
    return {
        "character": plant(bench.store, NAME, "selected_lora", 1),
        "style": plant(bench.store, "_styles/flat", "selected_style_lora", 2),
        "lcm": plant(bench.store, "_profiles/embedded", "lcm_lora", 3),
    }


@pytest.fixture(scope="module")
def before(bench: Bench, loras: dict[str, Path]) -> dict[str, Any]:
    """State without a sampling grid."""
    assert value(bench, "recommended") == value(bench, "recommended_release") == NOTHING
    make(bench, "samples", "benchmark")
    benchmark = bench.store.read(NAME, "benchmark")
    return {
        "samples": bench.store.read(NAME, "samples").table(),
        "benchmark": benchmark.table(),
        "checks": gate_checks(benchmark, bench.character(NAME)[0]),
    }


@pytest.fixture(scope="module")
def measured(bench: Bench, loras: dict[str, Path], before: dict[str, Any]) -> Iterator[Bench]:
    recommend(bench, **loras, by_budget={1: None, 2: FAST, 4: FAST, 10: PLAIN})
    make(bench, "samples", "benchmark")
    yield bench


def test_without_a_sampling_grid_there_are_the_rows_of_before(bench: Bench, before: dict[str, Any]) -> None:
    assert before["samples"]["model"].unique().tolist() == ["base", "lora"]
    assert set(before["benchmark"]["model"]) == {"base", "lora", "reference", "chance"}


def test_each_recommended_setting_is_drawn_once_beside_the_lora(measured: Bench, before: dict[str, Any]) -> None:
    samples = measured.store.read(NAME, "samples")
    rows = samples.table()
    assert rows["model"].unique().tolist() == ["base", "lora", MODEL]  # the profile's own setting is the row `lora`
    pd.testing.assert_frame_equal(own(rows), before["samples"])
    fast, plain = (rows[rows["model"] == model].reset_index(drop=True) for model in (MODEL, "lora"))
    asked = ["medium", "prompt", "attributes", "seed"]
    pd.testing.assert_frame_equal(fast[asked], plain[asked])
    assert not rows["image"].duplicated().any() and not rows["file"].duplicated().any()
    without = samples.table("without_trigger.parquet")
    assert without["model"].unique().tolist() == ["lora"]
    assert json.loads((samples.folder / "left_out.json").read_text()) == []


def test_it_is_drawn_with_its_weights_steps_guidance_and_sampler(measured: Bench, loras: dict[str, Path]) -> None:
    """The image is what the cache has under just these."""
    samples = measured.store.read(NAME, "samples")
    row = samples.table().query("model == @MODEL").iloc[-1]
    profile = measured.character(NAME)[1]
    settings = profile.generation.model_copy(update={"steps": 2, "guidance_scale": 1.0, "scheduler": "lcm"})
    files = [(file_sha256(loras[name]), weight) for name, weight in (("style", 0.5), ("character", 0.8), ("lcm", 1.0))]
    decided = decisive(value(measured, "generation")["base"], files, settings, profile.resolution, TrainedFor())

    def never(missing: Sequence[Request]) -> Iterator[Image.Image]:
        raise AssertionError(f"{missing} was drawn with something else")

    requests = [Request(row["medium"], row["prompt"], int(row["seed"]))]
    (expected,) = cached_images(requests, decided, measured.store.cache("pictures"), never, 1)
    with Image.open(samples.folder / row["file"]) as image:
        assert (np.asarray(image) == np.asarray(expected)).all()


def test_it_is_measured_beside_the_lora_and_changes_nothing_else(measured: Bench, before: dict[str, Any]) -> None:
    benchmark = measured.store.read(NAME, "benchmark")
    table = benchmark.table()
    pd.testing.assert_frame_equal(own(table), before["benchmark"])
    by_model = table.groupby("model")["metric"].agg(set)
    assert by_model[MODEL] == by_model["lora"] - {"trigger_effect"}
    compared = benchmark.table("compared.parquet")
    assert compared["other"].unique().tolist() == ["base", MODEL]
    assert compared.loc[compared["other"] == MODEL, "difference"].abs().max() > 0
    after = gate_checks(benchmark, measured.character(NAME)[0])
    assert [(check.name, check.verdict.passed, check.verdict.summary) for check in after] == [
        (check.name, check.verdict.passed, check.verdict.summary) for check in before["checks"]
    ]
    assert MODEL in str(measured.metadata("benchmark", NAME)["table"])


def test_the_same_recommendation_makes_nothing_again(measured: Bench, loras: dict[str, Path]) -> None:
    assert up_to_date(measured)
    seen = value(measured, "recommended")
    recommend(measured, **loras, by_budget={2: FAST, 8: FAST, 10: PLAIN})
    assert value(measured, "recommended") == seen
    assert up_to_date(measured)
    recommend(measured, **loras, by_budget={2: FAST | {"steps": 1}, 10: PLAIN})
    assert not up_to_date(measured)
    recommend(measured, **loras, by_budget={2: FAST, 4: FAST, 10: PLAIN})
    assert up_to_date(measured)


def test_what_was_measured_with_another_lora_is_left_out_and_said(
    measured: Bench, loras: dict[str, Path], before: dict[str, Any]
) -> None:
    try:
        plant(measured.store, "_profiles/embedded", "lcm_lora", 4)
        assert not up_to_date(measured)
        make(measured, "samples")
        samples = measured.store.read(NAME, "samples")
        pd.testing.assert_frame_equal(samples.table(), before["samples"])
        (said,) = json.loads((samples.folder / "left_out.json").read_text())
        assert "for at most 2 steps is not used: it was measured with another LCM-LoRA" in said
    finally:
        plant(measured.store, "_profiles/embedded", "lcm_lora", 3)
    plant(measured.store, NAME, "selected_lora", 5)
    found = value(measured, "recommended")
    assert found["settings"] == [] and "for another LoRA of the character" in found["left_out"][0]
    plant(measured.store, NAME, "selected_lora", 1)
    assert value(measured, "recommended")["left_out"] == []


def test_what_was_made_in_another_way_to_draw_is_left_out(measured: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(PROFILES["embedded"], "generation", {**PROFILES["embedded"]["generation"], "steps": 11})
        found = value(measured, "recommended")
    assert found["settings"] == [] and "other sampling settings of the profile" in found["left_out"][0]
    assert value(measured, "recommended")["settings"]


def test_a_damaged_recommendation_is_left_out_and_named(measured: Bench) -> None:
    file = measured.store.folder(NAME, "sampling_grid") / "recommended.json"
    whole = file.read_text()
    for damaged in ("{", json.dumps(json.loads(whole) | {"loras": {}}), whole.replace("lcm_weight", "weight")):
        file.write_text(damaged)
        found = value(measured, "recommended")
        assert found["settings"] == [] and f"{file} cannot be read" in found["left_out"][0]
    file.write_text(whole)
    assert value(measured, "recommended")["settings"]


def test_the_release_is_published_in_each_setting(measured: Bench, loras: dict[str, Path], tmp_path: Path) -> None:
    assert value(measured, "recommended_release") == NOTHING  # nothing is released
    content = loras["character"].read_bytes()
    changes = {"character": NAME, "beginnings": {"art": ["skv_old"]}, "trigger": "skv_old"}
    release = publish(releases_folder(measured.store, NAME), candidate(tmp_path, content, **changes), datetime.now(UTC))
    with measured.store.writing(NAME, "released_lora") as staging:
        place(release.release, staging)
        measured.store.publish(staging, NAME, "released_lora", code_version="1", inputs={}, settings={})
    assert value(measured, "recommended_release") == value(measured, "recommended")
    make(measured, "comfyui_workflow")
    artifact = measured.store.read(NAME, "comfyui_workflow")
    rows = artifact.table()
    assert rows["setting"].tolist() == ["as released"] * 2 + ["at most 2 steps"] * 2
    assert rows["file"].tolist() == ["art_000.png", "sticker_001.png"] + [
        f"at_most_2_steps/{name}" for name in ("art_000.png", "sticker_001.png")
    ]
    assert rows["prompt"].str.startswith("skv_old").all()

    # the LoRAs that the workflows name, as they are
    files = {
        f"{NAME}.safetensors": loras["character"],
        "flat.selected_style_lora.safetensors": loras["style"],
        "embedded.lcm_lora.safetensors": loras["lcm"],
    }
    folder = artifact.folder / "loras"
    assert {path.name: file_sha256(path) for path in folder.iterdir()} == {
        name: file_sha256(path) for name, path in files.items()
    }
    assert (folder / "embedded.lcm_lora.safetensors").samefile(loras["lcm"])

    released, fast = (
        json.loads((artifact.folder / part / "workflow_api.json").read_text())
        for part in ("", rows["file"][2].split("/")[0])
    )
    assert loaded(released) == [(f"{NAME}.safetensors", 1.0)]
    assert loaded(fast) == [
        ("flat.selected_style_lora.safetensors", 0.5),
        (f"{NAME}.safetensors", 0.8),
        ("embedded.lcm_lora.safetensors", 1.0),
    ]
    samplers = [sampler(each) for each in (released, fast)]
    assert [(each["steps"], each["cfg"]) for each in samplers] == [(10, 4.0), (2, 1.0)]
    assert (samplers[1]["sampler_name"], samplers[1]["scheduler"]) == ("lcm", "sgm_uniform")
    assert (artifact.folder / "at_most_2_steps" / "workflow.json").is_file()
    with Image.open(artifact.folder / rows["file"][2]) as image:
        assert json.loads(image.info["prompt"]) == fast
        first, *_, last = image.info["parameters"].split("\n")
    tags = "<lora:flat.selected_style_lora:0.5> <lora:fast:0.8> <lora:embedded.lcm_lora:1>"
    assert first == f"{rows['prompt'][2]} {tags}"
    assert last.startswith("Steps: 2, Sampler: LCM, Schedule type: SGM Uniform, CFG scale: 1, ")


def loaded(api: dict[str, Any]) -> list[tuple[str, float]]:
    """The LoRAs from the base model to the sampler, with their strengths."""
    found, node = [], api[sampler(api)["model"][0]]
    while node["class_type"] != "CheckpointLoaderSimple":
        if node["class_type"] == "LoraLoader":
            assert node["inputs"]["strength_model"] == node["inputs"]["strength_clip"]
            found.append((node["inputs"]["lora_name"], node["inputs"]["strength_model"]))
        node = api[node["inputs"]["model"][0]]
    return found[::-1]


def sampler(api: dict[str, Any]) -> dict[str, Any]:
    (inputs,) = (node["inputs"] for node in api.values() if node["class_type"] == "KSampler")
    return dict(inputs)
