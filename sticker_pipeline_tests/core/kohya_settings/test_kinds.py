"""Unsupported kinds of training are refused in one sentence, with any other keys."""

import json
from pathlib import Path
from typing import Any

import pytest

from sticker_pipeline.core.kohya_settings.form import EXTRA, KohyaSettingsError
from sticker_pipeline.core.kohya_settings.kinds import ALGORITHMS, MODULES, OTHERS, TRAINED
from sticker_pipeline.core.kohya_settings.read import examine_kohya_settings
from sticker_pipeline_tests.core.kohya_settings.files import FILLED, SD15, line, read

# Much else that is refused by itself.
CROWDED: dict[str, Any] = {
    **FILLED,
    "network_dim": 100000,
    "network_dropout": 0.3,
    "module_dropout": 0.1,
    "rank_dropout": 0.1,
    "color_aug": True,
    "netwrk_dim": 8,
    EXTRA: "--base_weights a.safetensors",
}


def test_every_type_is_known_once() -> None:
    assert not set(TRAINED) & set(OTHERS)
    assert {*MODULES.values(), *ALGORITHMS.values()} <= {*TRAINED, *OTHERS}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("LyCORIS/LoHa", "it is LoHa: "),
        ("LyCORIS/LoKr", "it is LoKr: a Kronecker product"),
        ("LyCORIS/iA3", "it is (IA)³: "),
        ("Kohya DyLoRA", "it is DyLoRA: "),
        ("LoRA-FA", "it is LoRA-FA: "),
        ("Flux1", "it is a LoRA of Flux models"),
        ("LyCORIS/Native Fine-Tuning", "it is whole weights, no LoRA"),
        ("LyCORIS/LoXX", "no such type is known here"),
    ],
)
def test_a_type_is_refused_in_one_sentence(tmp_path: Path, kind: str, words: str) -> None:
    with pytest.raises(KohyaSettingsError) as error:
        read(tmp_path, {**CROWDED, "LoRA_type": kind, "flux1_checkbox": kind == "Flux1", "conv_dim": 8, "factor": -1})
    (fault,) = str(error.value).splitlines()
    assert f"'LoRA_type' = '{kind}': {words}" in fault
    assert fault.endswith("Choose Standard, Kohya LoCon or LyCORIS/LoCon.")
    found = examine_kohya_settings(tmp_path / "kohya.json", SD15)
    refused = {line.key for line in found.report if line.verdict == "refused"}
    assert refused >= {"LoRA_type", "network_dropout", "netwrk_dim", "--base_weights", "network_dim"}
    assert found.training["learning_rate_unet"] == 2e-4
    for key in ("conv_dim", "factor"):  # of such a type they may mean something
        assert line(found, key).verdict == "differs here"


@pytest.mark.parametrize("kind", OTHERS)
def test_no_other_type_is_taken_over(tmp_path: Path, kind: str) -> None:
    with pytest.raises(KohyaSettingsError, match="is not trained here"):
        read(tmp_path, {"LoRA_type": kind})


@pytest.mark.parametrize("key", ["v2", "sd3_checkbox", "flux1_checkbox", "train_inpainting"])
def test_other_models_are_refused_in_one_sentence(tmp_path: Path, key: str) -> None:
    with pytest.raises(KohyaSettingsError) as error:
        read(tmp_path, {**CROWDED, key: True})
    (fault,) = str(error.value).splitlines()
    assert f"'{key}' = True: " in fault and "models are not trained here" in fault


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"learning_rate_te": 1e-5, "epoch": 1, "optimizer": "Lion"}, "DreamBooth"),
        ({"learning_rate_te1": 1e-5, "sdxl": True, "blockwise_fused_optimizers": True}, "DreamBooth"),
        ({"full_path": True, "create_buckets": False, "dataset_repeats": "10"}, "finetuning"),
        ({"image_folder": "a", "caption_metadata_filename": "b", "learning_rate_te": 1e-5}, "finetuning"),
        ({"token_string": "a", "init_word": "b", "num_vectors_per_token": 4, "weights": ""}, "textual inversion"),
    ],
)
def test_what_trains_no_lora_is_named(tmp_path: Path, data: dict[str, Any], kind: str) -> None:
    for suffix, text in ((".json", json.dumps(data)), (".toml", toml(data))):
        path = tmp_path / f"file{suffix}"
        path.write_text(text)
        with pytest.raises(KohyaSettingsError) as error:
            examine_kohya_settings(path, SD15)
        assert str(error.value) == (
            f"{path} is a configuration for {kind}, which trains no LoRA: nothing of it is taken over. Give the file "
            "that kohya_ss's LoRA tab has saved."
        )


def test_a_lora_with_a_key_of_another_form_is_still_one(tmp_path: Path) -> None:
    with pytest.raises(KohyaSettingsError, match="unknown key 'learning_rate_te'"):
        read(tmp_path, {**FILLED, "learning_rate_te": 1e-5})


def toml(data: dict[str, Any]) -> str:
    """JSON's numbers, strings, booleans and flat lists are TOML's."""
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in data.items())
