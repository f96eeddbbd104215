"""`lcm_lora` of the embedded base, distilled for seconds: what is published and shown, not how good it is."""

import json
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from sticker_pipeline.defs import lcm
from sticker_pipeline.profile import PROFILES
from sticker_pipeline.settings import GenerationSettings
from sticker_pipeline.training.lora_file import read_lora
from sticker_pipeline_tests.defs.conftest import Bench

SMALL = {"pictures": 4, "steps": 2, "batch_size": 2, "rank": 4, "measured_prompts": 2, "measured_seeds": 2}


def test_it_is_distilled_and_measured(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROFILES["embedded"], "lcm", {**PROFILES["embedded"]["lcm"], **SMALL})
    monkeypatch.setattr(lcm, "STEPS", (1, 4))
    definition = bench.definitions.resolve_assets_def(dg.AssetKey("lcm_lora"))
    assert dg.materialize([definition], partition_key="embedded", instance=bench.instance).success
    artifact = bench.store.read("_profiles/embedded", "lcm_lora")
    assert artifact.folder == Path(bench.workspace.artifacts) / "_profiles" / "embedded" / "lcm_lora"
    assert read_lora(artifact.folder / "lora.safetensors").adapters
    facts = json.loads((artifact.folder / "lcm.json").read_text())
    assert facts == {"guidance_scale": 2.0, "steps": [1, 4], "scheduler": "lcm"}
    table: pd.DataFrame = artifact.table()
    ways = ["base, steps: 25", "base, steps: 10", "base, steps: 4", "LCM sampler without the LoRA, steps: 4"]
    assert table["model"].unique().tolist() == [
        *ways,
        "LCM-LoRA, steps: 1",
        "LCM-LoRA, steps: 4",
        "base, steps: 25, another seed",
    ]
    assert (table.loc[table["metric"] == "seconds", "mean"] > 0).all()
    shown = bench.metadata("lcm_lora", "embedded")
    assert str(shown["pictures"]).startswith("![")
    assert {"figures", "summary", "loss", "settings"} <= shown.keys()
    assert not (bench.store.work("_profiles/embedded", "lcm_lora") / "state").exists()


def test_guidance_is_distilled_in_and_not_drawn_with() -> None:
    ways = lcm.ways_to_draw(GenerationSettings(steps=25, guidance_scale=5.0))
    assert {way.settings.guidance_scale for way in ways.values() if way.settings.scheduler == "lcm"} == {1.0}
    assert {way.settings.guidance_scale for way in ways.values() if way.settings.scheduler != "lcm"} == {5.0}
    assert [way.settings.steps for way in ways.values() if way.lora] == list(lcm.STEPS)
    assert ways["base, steps: 25"].calls == 50 and ways["LCM-LoRA, steps: 4"].calls == 4
    assert len(ways) == 3 + len(lcm.STEPS)  # 25 steps are the profile's own here
