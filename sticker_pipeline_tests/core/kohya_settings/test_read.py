"""Whole files: their settings, the report, and all faults at once."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sticker_pipeline.core.kohya_settings.form import EXTRA, KohyaSettingsError, rows
from sticker_pipeline.core.kohya_settings.read import COLUMNS, NOT_STATED, examine_kohya_settings, report_table
from sticker_pipeline.core.settings import BucketSettings, TrainingSettings, without_effect
from sticker_pipeline_tests.core.kohya_settings.files import FILLED, SD15, line, read


def test_a_filled_form_becomes_these_settings(tmp_path: Path) -> None:
    imported = read(tmp_path, FILLED)
    assert imported.training == {
        "prediction": "epsilon",
        "zero_terminal_snr": False,
        "targets": "all",
        "rank": 64,
        "alpha": 32.0,
        "epochs": 10,
        "batch_size": 2,
        "gradient_accumulation": 1,
        "flip": False,
        "crops": 1,
        "background_weight": 1.0,
        "shuffle_tags": True,
        "keep_tags": 2,
        "tag_dropout": 0.0,
        "caption_dropout": 0.0,
        "max_tokens": 75,
        "clip_skip": 1,
        "optimizer": "adamw8bit",
        "weight_decay": 0.1,
        "betas": (0.9, 0.99),
        "learning_rate_unet": 0.0002,
        "learning_rate_text_encoder": 5e-05,
        "schedule": "cosine_restarts",
        "cycles": 3,
        "warmup_fraction": 0.05,
        "max_grad_norm": 1.0,
        "max_weight_norm": None,
        "min_timestep": 0,
        "max_timestep": 1000,
        "loss_weighting": "min_snr",
        "min_snr_gamma": 5.0,
        "noise_offset": 0.0,
        "multires_noise_iterations": 0,
        "seed": 1234,
        "precision": "bfloat16",
    }
    assert imported.buckets == {"shape": "aspect", "step": 64, "upscale": False, "min_side": 64, "max_side": 4096}
    assert line(imported, "learning_rate").verdict == "ignored by sd-scripts"
    assert line(imported, "max_grad_norm").value == NOT_STATED
    settings, buckets = TrainingSettings.model_validate(imported.training), BucketSettings(**imported.buckets)
    stated = {"training": imported.training, "buckets": imported.buckets}
    assert without_effect(settings, buckets, "sd15", stated) == []


def test_the_report_has_a_row_for_each_key_of_the_file(tmp_path: Path) -> None:
    imported = read(tmp_path, FILLED)
    table = report_table(imported)
    assert list(table.columns) == COLUMNS
    assert list(table["key"]) == [line.key for line in imported.report]
    assert set(table["key"]) >= set(FILLED) and table["key"].is_unique
    assert (table["effect"] != "").all()
    row = table.set_index("key").loc["lr_scheduler_num_cycles"]
    assert list(row) == ["3", "taken over", "cycles = 3"]


def test_a_flag_has_a_line_beside_the_field_that_it_replaces(tmp_path: Path) -> None:
    imported = read(tmp_path, {**FILLED, EXTRA: "--network_dim 8"})
    assert imported.training["rank"] == 8
    assert (line(imported, "--network_dim").value, line(imported, "--network_dim").verdict) == ("8", "taken over")
    field = line(imported, "network_dim")
    assert (field.value, field.verdict) == ("64", "ignored by sd-scripts")
    assert field.effect == "additional_parameters has --network_dim"


def test_all_faults_are_said_at_once(tmp_path: Path) -> None:
    bad = {
        **FILLED,
        "netwrk_dim": 8,
        "network_dropout": 0.1,
        "scale_weight_norms": -1,
        "color_aug": True,
        "network_dim": 100000,
        "seed": "x",
        EXTRA: "--base_weights a.safetensors --max_grad_norm=-1",
    }
    with pytest.raises(KohyaSettingsError) as error:
        read(tmp_path, bad)
    faults = str(error.value).splitlines()
    assert len(faults) == 8
    assert all(fault.startswith(f"{tmp_path / 'kohya.json'}: ") for fault in faults)
    for words in (
        "unknown key 'netwrk_dim'. Did you mean 'network_dim'?",
        "'network_dropout' = 0.1: adapters have no dropout here",
        "'scale_weight_norms' = -1: here it is max_weight_norm = -1.0, and input should be greater than 0.",
        "'color_aug' = True: colours are not changed here",
        "'network_dim' = 100000: here it is rank = 100000, and input should be less than or equal to 320.",
        "'seed' = 'x': it must be a number.",
        "'additional_parameters': --base_weights a.safetensors: ",
        "'additional_parameters': --max_grad_norm -1.0: here it is max_grad_norm = -1.0, and ",
    ):
        assert any(words in fault for fault in faults), words


def test_what_would_be_taken_over_is_said_beside_the_refusals(tmp_path: Path) -> None:
    good, bad = read(tmp_path, FILLED), {**FILLED, "network_dropout": 0.1, "netwrk_dim": 8, "seed": "x", EXTRA: "--x 1"}
    with pytest.raises(KohyaSettingsError):
        read(tmp_path, bad)
    found = examine_kohya_settings(tmp_path / "kohya.json", SD15)
    assert found.buckets == good.buckets
    assert found.training == {name: value for name, value in good.training.items() if name != "seed"}
    refused = {line.key: line.value for line in found.report if line.verdict == "refused"}
    assert refused == {"network_dropout": "0.1", "netwrk_dim": "8", "seed": "x", "--x": "1"}
    assert len(found.refusals) == 4 and all(any(key in said for said in found.refusals) for key in refused)
    assert [line.key for line in found.report].count("seed") == 1
    assert line(found, "network_dim") == line(good, "network_dim")
    assert good.refusals == ()


ANYTHING = st.one_of(
    *(st.none(), st.booleans(), st.integers(-10, 10**6), st.floats(-2, 2000), st.text("ab0.-=, ", max_size=6)),
    st.sampled_from(
        ["1e-4", "0.5", "a=1", "conv_dim=8", "T_max=3", "cosine", "Adafactor", "LyCORIS/LoCon", "--seed 1"]
    ),
    st.lists(st.one_of(st.integers(0, 9), st.sampled_from(["betas=0.9,0.99", "algo=loha", "x"])), max_size=2),
    st.dictionaries(st.sampled_from(["a", "network_dim"]), st.integers(0, 9), max_size=1),
)


@pytest.mark.parametrize("suffix", ["json", "toml"])
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.data())
def test_whatever_a_file_says_each_of_its_keys_has_a_line(tmp_path: Path, suffix: str, values: st.DataObject) -> None:
    names = [row.flag for row in rows().values() if row.flag] + ["network_module", "network_args", "nonsense"]
    keys = [key for key in rows() if not key.startswith("--")] + ["nonsense"] if suffix == "json" else names
    data = values.draw(st.dictionaries(st.sampled_from(keys), ANYTHING, max_size=8)) | {"network_dim": 4}
    path = tmp_path / f"any.{suffix}"
    if suffix == "json":
        path.write_text(json.dumps(data))
    else:
        data = {key: value for key, value in data.items() if not isinstance(value, dict | None)}
        path.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in data.items()))
    found = examine_kohya_settings(path, SD15)
    told = {line.key.split()[0] for line in found.report}
    assert {key for key, value in data.items() if value not in (None, [])} - {"network_args"} <= told
    TrainingSettings.model_validate(found.training)
    BucketSettings.model_validate(found.buckets)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False))
def test_stating_defaults_changes_nothing(tmp_path: Path, chance: random.Random) -> None:
    keys = [key for key in rows() if not key.startswith("--")]
    chosen = chance.sample(keys, chance.randrange(len(keys)))
    imported, empty = read(tmp_path, {key: rows()[key].default for key in chosen}), read(tmp_path, {})
    assert (imported.training, imported.buckets) == (empty.training, empty.buckets)
    assert {line.key for line in imported.report if line.value != NOT_STATED} == set(chosen)
