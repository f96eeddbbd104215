import json
from pathlib import Path
from typing import Any

import pytest

from sticker_pipeline.diffusion.base_model import config_files
from sticker_pipeline.training.spec import SpecError, TrainingSpec, check_paths, load_spec, save_spec


def values(**changes: Any) -> dict[str, Any]:
    return {
        "name": "nova",
        "trigger": "nova_tag",
        "base": "/models/base",
        "base_sha": "ab12",
        "training_set": "/artifacts/nova/training_set",
        "frames": "/artifacts/nova/frames",
        "output": "/artifacts/nova/.work/lora",
        "cache": "/artifacts/_cache/latents",
        "resolution": 96,
        "settings": {"samples_per_epoch": 40},
        **changes,
    }


def test_json_round_trip(tmp_path: Path) -> None:
    spec = TrainingSpec.model_validate(values(sample_prompts=["nova_tag, smile"]))
    save_spec(spec, tmp_path / "spec.json")
    assert load_spec(tmp_path / "spec.json") == spec
    assert TrainingSpec.model_validate_json(spec.model_dump_json()) == spec


def test_every_effective_value_is_in_the_file(tmp_path: Path) -> None:
    save_spec(TrainingSpec.model_validate(values()), tmp_path / "spec.json")
    stored = json.loads((tmp_path / "spec.json").read_text())
    assert stored["settings"]["rank"] == 32 and stored["settings"]["seed"] == 0
    assert stored["generation"]["guidance_scale"] == 7.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ["line 1 is not JSON"]),
        (json.dumps(values(resolutoin=96)), ["unknown key 'resolutoin'", "Did you mean 'resolution'?"]),
        (json.dumps(values(resolution=99)), ["'resolution' = 99"]),
        (json.dumps(values(background="wihte")), ["'background' = 'wihte'", "unknown color"]),
        (json.dumps(values(settings={"samples_per_epoch": 4, "rnak": 8})), ["'settings.rnak'", "Did you mean 'rank'?"]),
        (json.dumps(values(settings={})), ["samples_per_epoch must be a number"]),
        (json.dumps({k: v for k, v in values().items() if k != "base"}), ["'base' is missing"]),
    ],
)
def test_faults_name_file_and_key(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "spec.json"
    path.write_text(text)
    with pytest.raises(SpecError) as error:
        load_spec(path)
    for word in [str(path), *words]:
        assert word in str(error.value)


def test_missing_spec_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        load_spec(tmp_path / "none.json")


def test_pickled_weights_are_not_enough(tmp_path: Path) -> None:
    for name in config_files("sd15"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    index = {"unet": ["diffusers", "U"], "vae": ["diffusers", "V"], "text_encoder": ["transformers", "CLIPTextModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "unet" / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    (tmp_path / "vae" / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    (tmp_path / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(SpecError, match=r"unet has no diffusion_pytorch_model\.safetensors, .*but diffusion_.*\.bin"):
        check_paths(TrainingSpec.model_validate(values(base=str(tmp_path))))


def test_missing_base_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"model_index\.json is missing"):
        check_paths(TrainingSpec.model_validate(values(base=str(tmp_path))))
