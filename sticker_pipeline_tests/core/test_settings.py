"""Settings without effect are reported; others are not."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sticker_pipeline.core.character import load_character
from sticker_pipeline.core.profile import PROFILES, ProfileError, character_profile
from sticker_pipeline.core.settings import (
    IDLE_IN_SQUARES,
    IDLE_TRAINING,
    BucketSettings,
    TrainingSettings,
    without_effect,
)

# A value of each setting that may be idle, and what gives it an effect.
EFFECTIVE: dict[str, tuple[Any, dict[str, Any]]] = {
    "kohya_json": ("k.json", {"preset": "kohya_import"}),
    "feed_forward_rank": (4, {"targets": "all"}),
    "feed_forward_alpha": (4.0, {"targets": "all+conv"}),
    "conv_rank": (4, {"targets": "all+conv"}),
    "conv_alpha": (4.0, {"targets": "all+conv"}),
    "regularisation_share": (0.3, {"regularisation": "others"}),
    "regularisation_weight": (0.3, {"regularisation": "others"}),
    "keep_tags": (2, {"shuffle_tags": True}),
    "caption_variants": (8, {"tag_dropout": 0.1, "learning_rate_text_encoder": 0.0}),
    "betas": ((0.8, 0.9), {"optimizer": "prodigy"}),
    "prodigy_d_coef": (2.0, {"optimizer": "prodigy"}),
    "prodigy_d0": (1e-5, {"optimizer": "prodigy"}),
    "prodigy_bias_correction": (False, {"optimizer": "prodigy"}),
    "prodigy_safeguard_warmup": (False, {"optimizer": "prodigy"}),
    "dadapt_growth_rate": (1.02, {"optimizer": "dadaptadam"}),
    "adafactor_scale_parameter": (True, {"optimizer": "adafactor"}),
    "warmup_fraction": (0.2, {"schedule": "cosine"}),
    "annealing_steps": (30, {"schedule": "cosine_annealing"}),
    "adaptive_noise_scale": (0.01, {"noise_offset": 0.1}),
    "multires_noise_discount": (0.2, {"multires_noise_iterations": 6}),
    "cycles": (2, {"schedule": "cosine_restarts"}),
    "min_snr_gamma": (3.0, {"loss_weighting": "min_snr"}),
}
WITHOUT = {  # what takes the effect away, where that is not the default
    "feed_forward_rank": {"targets": "attention"},
    "feed_forward_alpha": {"targets": "attention"},
    "betas": {"optimizer": "adafactor"},
    "cycles": {"schedule": "linear"},
    "warmup_fraction": {"schedule": "relative"},
}


def complaints(stated: dict[str, Any], shape: Any = "aspect", family: str = "sd15") -> list[str]:
    settings = TrainingSettings.model_validate(stated)
    return without_effect(settings, BucketSettings(shape=shape), family, {"training": stated})


def test_the_table_of_this_test_is_whole() -> None:
    assert EFFECTIVE.keys() == {name for name, _, _ in IDLE_TRAINING}


@pytest.mark.parametrize("name", EFFECTIVE)
def test_a_setting_without_effect_is_told(name: str) -> None:
    value, needed = EFFECTIVE[name]
    (sentence,) = complaints({name: value, **WITHOUT.get(name, {})})
    assert sentence.startswith(f"'training.{name}' has no effect here: it needs ")
    assert complaints({name: value, **needed}) == []


def test_what_squares_and_sdxl_ignore() -> None:
    assert complaints({"crops": 3}) == [] and len(complaints({"crops": 3}, shape="square")) == 1
    assert complaints({"clip_skip": 2}) == [] and "SDXL" in complaints({"clip_skip": 2}, family="sdxl")[0]
    for name in IDLE_IN_SQUARES["buckets"]:
        for shape, expected in (("square", 1), ("aspect", 0)):
            buckets = BucketSettings(shape=shape)  # type: ignore[arg-type]
            assert len(without_effect(TrainingSettings(), buckets, "sd15", {"buckets": [name]})) == expected


def profile_of(tmp_path: Path, text: str) -> Any:
    (tmp_path / "luma" / "gifs").mkdir(parents=True, exist_ok=True)
    (tmp_path / "luma" / "character.yaml").write_text(f"trigger: luma_tag\n{text}\n")
    return character_profile(load_character(tmp_path / "luma"), tmp_path)


def test_character_yaml_is_held_to_it(tmp_path: Path) -> None:
    with pytest.raises(ProfileError) as error:
        profile_of(tmp_path, "training: {crops: 3, conv_rank: 4}\nbuckets: {step: 32}")
    assert [line.split(": ", 1)[1].split(" ")[0] for line in str(error.value).splitlines()] == [
        "'training.conv_rank'",
        "'training.crops'",
        "'buckets.step'",
    ]
    assert profile_of(tmp_path, "training: {crops: 3}\nbuckets: {shape: aspect, step: 32}").training.crops == 3


@pytest.mark.parametrize(("name", "gib"), [("sd15", 4), ("sdxl", 8)])
def test_the_small_preset_has_a_budget_for_each_family(tmp_path: Path, name: str, gib: int) -> None:
    assert name in PROFILES
    training = profile_of(tmp_path, f"profile: {name}\ntraining: {{preset: low_memory, batch_size: 2}}").training
    assert (training.memory_budget, training.batch_size) == (gib * 2**30, 2)
    assert training.learning_rate_text_encoder == 0


def test_a_preset_that_does_not_exist_is_named(tmp_path: Path) -> None:
    for text in ("training: {preset: best}", "training: {preset: [best]}"):
        with pytest.raises(ProfileError, match="'preset'"):
            profile_of(tmp_path, text)


def test_a_seed_has_64_bits_at_most(tmp_path: Path) -> None:
    torch.Generator().manual_seed(profile_of(tmp_path, f"training: {{seed: {2**64 - 1}}}").training.seed)
    for seed in (2**64, 10**40):
        with pytest.raises(ProfileError, match=rf"training: 'seed' = {seed}: .* less than or equal to {2**64 - 1}"):
            profile_of(tmp_path, f"training: {{seed: {seed}}}")
