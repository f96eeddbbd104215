"""`training.preset: kohya_import`: the file goes over the profile, and character.yaml over the file."""

import json
from pathlib import Path
from typing import Any

import pytest

from sticker_pipeline.core.character import Character, load_character
from sticker_pipeline.core.profile import ProfileError, character_kohya_import, character_profile, load_profile
from sticker_pipeline_tests.core.kohya_settings.files import FILLED, line


def character(folder: Path, training: str, data: Any = FILLED, more: str = "") -> Character:
    (folder / "luma" / "gifs").mkdir(parents=True, exist_ok=True)
    (folder / "luma" / "kohya.json").write_text(json.dumps(data))
    (folder / "luma" / "character.yaml").write_text(f"trigger: a\nprofile: sd15\ntraining: {training}\n{more}")
    return load_character(folder / "luma")


def test_the_file_goes_over_the_profile_and_character_yaml_over_the_file(tmp_path: Path) -> None:
    text = "{preset: kohya_import, kohya_json: kohya.json, rank: 4}"
    profile = character_profile(character(tmp_path, text, more="buckets: {step: 128}\n"), tmp_path)
    training, base = profile.training, load_profile("sd15", tmp_path).training
    assert (base.rank, base.learning_rate_unet, base.caption_dropout, base.caption_variants) == (32, 1e-5, 0.05, 16)
    assert training.rank == 4
    assert (training.alpha, training.learning_rate_unet, training.caption_dropout) == (32.0, 2e-4, 0.0)
    assert training.caption_variants == 16
    assert (training.preset, training.kohya_json) == ("kohya_import", "kohya.json")
    assert (profile.buckets.step, profile.buckets.upscale, profile.buckets.min_side) == (128, False, 64)


def test_the_report_comes_with_the_same_reading(tmp_path: Path) -> None:
    chosen = character(tmp_path, "{preset: kohya_import, kohya_json: kohya.json}")
    imported = character_kohya_import(chosen, tmp_path)
    assert imported is not None and line(imported, "network_dim").effect == "rank = 64"
    training = character_profile(chosen, tmp_path).training.model_dump()
    assert {name: training[name] for name in imported.training} == imported.training
    assert character_kohya_import(character(tmp_path, "{rank: 4}"), tmp_path) is None


def test_a_toml_file_of_sd_scripts_serves_as_well(tmp_path: Path) -> None:
    text = 'network_module = "networks.lora"\nnetwork_dim = 16\nscale_weight_norms = 1.0\noptimizer_type = "Adafactor"'
    (tmp_path / "luma").mkdir()
    (tmp_path / "luma" / "config.toml").write_text(text)
    chosen = character(tmp_path, "{preset: kohya_import, kohya_json: config.toml}")
    training = character_profile(chosen, tmp_path).training
    assert (training.rank, training.max_weight_norm, training.schedule) == (16, 1.0, "relative")
    assert (training.learning_rate_unet, training.adafactor_scale_parameter) == (1.0, True)
    refused = character(tmp_path, "{preset: kohya_import, kohya_json: config.toml, warmup_fraction: 0.2}")
    with pytest.raises(ProfileError, match=r"'training\.warmup_fraction' has no effect here"):
        character_profile(refused, tmp_path)


def test_a_number_of_steps_stays_whatever_the_epochs_are(tmp_path: Path) -> None:
    steps = {**FILLED, "max_train_steps": 1000}  # of batches of 2
    for epochs, draws in ((None, 250), (4, 500)):
        more = f", epochs: {epochs}" if epochs else ""
        chosen = character(tmp_path, f"{{preset: kohya_import, kohya_json: kohya.json{more}}}", steps)
        training = character_profile(chosen, tmp_path).training
        assert (training.epochs, training.samples_per_epoch) == (epochs or 8, draws)


@pytest.mark.parametrize(
    ("training", "sentence"),
    [
        ("{preset: kohya_import}", "needs 'kohya_json'"),
        ("{preset: kohya_import, kohya_json: ../kohya.json}", "in the character's folder"),
        ("{preset: kohya_import, kohya_json: /etc/kohya.json}", "in the character's folder"),
        ("{preset: kohya_import, kohya_json: [kohya.json]}", "in the character's folder"),
        ("{preset: kohya_import, kohya_json: other.json}", "other.json cannot be read"),
        ("{kohya_json: kohya.json}", "'training.kohya_json' has no effect here: it needs `preset: kohya_import`"),
        ("{preset: kohya_import, kohya_json: kohya.json, epochs: 0}", "'epochs' = 0"),
        ("{preset: [kohya_import]}", "'preset' = "),
    ],
)
def test_what_is_wrong_with_the_preset(tmp_path: Path, training: str, sentence: str) -> None:
    with pytest.raises(ProfileError, match=sentence):
        character_profile(character(tmp_path, training), tmp_path)


def test_faults_of_the_file_are_faults_of_the_character(tmp_path: Path) -> None:
    chosen = character(tmp_path, "{preset: kohya_import, kohya_json: kohya.json}", {**FILLED, "network_dropout": 0.1})
    for read in (character_profile, character_kohya_import):
        with pytest.raises(ProfileError, match=r"luma/kohya\.json: 'network_dropout' = 0\.1: adapters have no dropout"):
            read(chosen, tmp_path)
