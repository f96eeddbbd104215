"""All assets on a tiny SDXL: two text encoders, time ids, a VAE unsafe in half precision.

Its images are noise. The files' content is tested, and that each step accepts such a base model.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sticker_pipeline.benchmark.few_steps import METRICS as FEW_STEPS_METRICS
from sticker_pipeline.core.profile import PROFILES
from sticker_pipeline.defs.few_steps import lcm_lora as lcm
from sticker_pipeline.diffusion.lora.file import LoraFile, read_lora
from sticker_pipeline.generation import few_steps
from sticker_pipeline.publishing.contents import few_steps as few_steps_report
from sticker_pipeline.tagging.wd14 import load_labels
from sticker_pipeline.training.logs.progress import Progress
from sticker_pipeline.training.spec import load_spec
from sticker_pipeline.training.specs import with_samples_per_epoch
from sticker_pipeline.training.train import train
from sticker_pipeline_tests.defs.conftest import Bench
from sticker_pipeline_tests.single_file import write_single_file
from sticker_pipeline_tests.test_definitions import LINE
from sticker_pipeline_tests.tiny_models import build_tiny_sdxl

SIDE = 32
SETTINGS = """\
trigger: skv_small
profile: sdxl
groups:
  gifs: {learned: [small_sticker]}
  art: {medium: art}
training: {epochs: 1, samples_per_epoch: 8, batch_size: 2, rank: 4}
benchmark: {holdout: 0.3, prompts: [smile]}
"""
BOTH_TEXT_ENCODERS = SETTINGS.replace("rank: 4", "rank: 4, learning_rate_text_encoder: 0.0005")
LCM = {"images": 4, "steps": 2, "batch_size": 2, "rank": 4, "measured_prompts": 2, "measured_seeds": 2}
ENDS = {"lora_unet_input_blocks_4_1_proj_in", "lora_unet_output_blocks_2_1_transformer_blocks_1_attn2_to_k"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, embedded_models: Path) -> Path:
    """A tiny SDXL where the profile looks for its base, beside the embedded tagger and CLIP."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "embedded").symlink_to(embedded_models)
    tags = [label.name for label in load_labels(embedded_models / "tagger")]
    words = sorted({word for tag in tags for word in tag.split() if word.isalpha()})  # letters would fill the captions
    build_tiny_sdxl(folder / PROFILES["sdxl"]["base"], words=words)
    return folder


def tiny_profile() -> dict[str, Any]:
    """The profile `sdxl` for models of tests, and with little to do: what it says about SDXL itself stays."""
    own = PROFILES["sdxl"]
    return {
        **own,
        **{name: PROFILES["embedded"][name] for name in ("tagger", "clip", "tagging")},
        "resolution": SIDE,
        "buckets": {**own["buckets"], "step": 32},
        "generation": {**own["generation"], "steps": 2, "batch_size": 8},
        "benchmark": {**own["benchmark"], "seeds_per_prompt": 2},
        "lcm": {**own["lcm"], **LCM},
    }


@pytest.fixture(scope="module")
def made(bench: Bench) -> Iterator[Bench]:
    """The character `small` of the profile `sdxl`, brought up to date."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROFILES, "sdxl", tiny_profile())
        bench.add_character("small", "bram_thistle", BOTH_TEXT_ENCODERS)
        assert bench.update("small")
        yield bench


def keys_of(lora: LoraFile) -> dict[str, set[str]]:
    """The kohya names in the file, by the part of the model that they begin with."""
    parts = ("lora_unet_", "lora_te1_text_model_", "lora_te2_text_model_")
    found = {part: {key for key in lora.adapters if key.startswith(part)} for part in parts}
    assert set.union(*found.values()) == set(lora.adapters)
    return found


def make_captions(bench: Bench) -> None:
    job = bench.definitions.resolve_job_def("character_line")
    keys = [dg.AssetKey("curated_tags")]
    assert job.execute_in_process(instance=bench.instance, partition_key="small", asset_selection=keys).success


def test_a_character_goes_down_the_whole_line(made: Bench) -> None:
    not_passed = {"released_lora", "comfyui_workflow"}  # the gate may refuse what four steps have taught
    assert {asset for asset in LINE if made.store.find("small", asset)} | not_passed == set(LINE)
    spec = json.loads((made.store.read("small", "lora").folder / "spec.json").read_text())
    assert (spec["family"], spec["resolution"], spec["buckets"]["upscale"]) == ("sdxl", SIDE, False)
    log = pd.read_parquet(made.store.read("small", "lora").folder / "log.parquet")
    assert len(log) == 8 // 2 and np.isfinite(log["loss"]).all() and (log["lr_text_encoder"] > 0).any()


def test_its_lora_has_sdxls_names_for_unet_and_both_text_encoders(made: Bench) -> None:
    lora = read_lora(made.store.read("small", "selected_lora").folder / "lora.safetensors", "sdxl")
    found = keys_of(lora)
    assert all(found.values()) and found["lora_unet_"] >= ENDS
    # without the first layers: no U-Net of SDXL has attention there
    assert not any(key.startswith(("lora_unet_input_blocks_1_", "lora_unet_down_blocks")) for key in lora.adapters)
    # the layer before the last is read of both, and of the second the pooled output of the last
    layers = {part: {key.split("_layers_")[1][0] for key in found[part]} for part in list(found)[1:]}
    assert "1" in layers["lora_te2_text_model_"] and "0" in layers["lora_te1_text_model_"]
    learned = {part: any(lora.adapters[key].up.abs().max() > 0 for key in keys) for part, keys in found.items()}
    assert learned == dict.fromkeys(found, True)
    assert lora.metadata["ss_base_model_version"] == "sdxl_base_v1-0"
    assert lora.metadata["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"


def test_its_images_are_drawn_and_measured(made: Bench) -> None:
    samples = made.store.read("small", "samples")
    rows = samples.table()
    assert rows.groupby(["model", "medium"]).size().to_dict() == {
        (model, style): 2 for model in ("base", "lora") for style in ("art", "sticker")
    }
    pixels = {
        model: np.stack([np.asarray(Image.open(samples.folder / name)) for name in part["file"]])
        for model, part in rows.groupby("model")
    }
    assert pixels["base"].shape == (4, SIDE, SIDE, 3)
    assert all(values.std() > 5 for values in pixels.values()), "images of a VAE that overflows are black"
    assert (pixels["base"] != pixels["lora"]).any()
    table = made.store.read("small", "benchmark").table()
    assert np.isfinite(table.loc[table["metric"] == "clip_similarity", "mean"]).all()


def test_a_single_file_is_another_base_and_trains_the_unet_alone_by_default(
    made: Bench, models: Path, tmp_path: Path
) -> None:
    folder = models / PROFILES["sdxl"]["base"]
    single = write_single_file(folder, "sdxl", folder.with_name("base.safetensors"))
    for path in folder.rglob("*.safetensors"):
        path.unlink()  # what is left says how large the parts are: without it they are those of the true SDXL
    (made.folder("small") / "character.yaml").write_text(SETTINGS)
    assert made.stale("small") == LINE[LINE.index("lora") :]
    make_captions(made)  # whose checks ask the tokenizer
    _, profile = made.character("small")
    assert profile.base == single and profile.training.learning_rate_text_encoder == 0
    spec = load_spec(made.store.read("small", "lora").folder / "spec.json")
    settings = with_samples_per_epoch(profile.training, 1)
    changes = {"base": single, "base_sha": "ab12", "settings": settings, "output": tmp_path / "out"}
    lora = read_lora(train(spec.model_copy(update=changes), Progress(lambda line: None)), "sdxl")
    found = keys_of(lora)
    assert found["lora_unet_"] >= ENDS and not found["lora_te1_text_model_"] and not found["lora_te2_text_model_"]
    assert lora.metadata["ss_base_model_version"] == "sdxl_base_v1-0"


def test_its_base_is_taught_to_draw_in_a_few_steps(made: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (few_steps, lcm):
        monkeypatch.setattr(module, "STEPS", (1, 4))
    monkeypatch.setattr(few_steps, "MANY", 6)
    definition = made.definitions.resolve_assets_def(dg.AssetKey(["profile", "lcm_lora"]))
    assert dg.materialize([definition], partition_key="sdxl", instance=made.instance).success
    artifact = made.store.read("_profiles/sdxl", "lcm_lora")
    lora = read_lora(artifact.folder / "lora.safetensors", "sdxl")
    found = keys_of(lora)
    assert found["lora_unet_"] >= ENDS and not found["lora_te1_text_model_"] and not found["lora_te2_text_model_"]
    assert "lora_unet_input_blocks_1_0_in_layers_2" in found["lora_unet_"], "its convolutions are taught as well"
    assert lora.metadata["ss_base_model_version"] == "sdxl_base_v1-0"
    table = artifact.table()
    assert (table.loc[table["metric"] == "seconds", "mean"] > 0).all()
    assert {"LCM-LoRA, steps: 1", "LCM-LoRA, steps: 4"} <= set(table["model"])
    shown = few_steps_report(made.store, "sdxl")  # as the report has it
    assert shown is not None and shown.guidance_scale == 2.0
    assert {one.metric for one in shown.estimates} == set(FEW_STEPS_METRICS)
