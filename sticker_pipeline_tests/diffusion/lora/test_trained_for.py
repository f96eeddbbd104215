from pathlib import Path
from typing import Any

import pytest
from diffusers import DDIMScheduler

from sticker_pipeline.diffusion.lora.file import LoraError
from sticker_pipeline.diffusion.lora.trained_for import TrainedFor, check_clip_skip, trained_for
from sticker_pipeline.diffusion.samplers import SCHEDULERS, make_scheduler, scheduler_for

ONE, OTHER = Path("one.safetensors"), Path("other.safetensors")
V = {"modelspec.prediction_type": "v"}


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, TrainedFor()),
        ({"ss_clip_skip": "2"}, TrainedFor(clip_skip=2)),
        ({"modelspec.encoder_layer": "2"}, TrainedFor(clip_skip=2)),
        ({"ss_clip_skip": "None", "ss_zero_terminal_snr": "False"}, TrainedFor()),
        ({"ss_clip_skip": "1", "modelspec.prediction_type": "epsilon"}, TrainedFor()),
        (V, TrainedFor(prediction="v_prediction")),
        (V | {"ss_zero_terminal_snr": "True"}, TrainedFor(prediction="v_prediction", zero_terminal_snr=True)),
        *(({"ss_clip_skip": text}, TrainedFor()) for text in ("0", "-1", "two", "²", "")),
        ({"modelspec.prediction_type": "flow"}, TrainedFor()),
    ],
)
def test_what_a_file_states(metadata: dict[str, str], expected: TrainedFor) -> None:
    assert trained_for([(ONE, metadata)], "sd15", "epsilon") == expected


def test_without_files_nothing_differs_and_sdxl_has_one_layer() -> None:
    assert trained_for([], "sd15", "epsilon") == TrainedFor()
    assert trained_for([(ONE, {"ss_clip_skip": "2"})], "sdxl", "epsilon") == TrainedFor()


def test_files_that_agree_or_say_nothing_go_together_and_others_are_named() -> None:
    both = [(ONE, {"ss_clip_skip": "2"}), (OTHER, V)]
    assert trained_for(both, "sd15", "epsilon") == TrainedFor(clip_skip=2, prediction="v_prediction")
    with pytest.raises(LoraError, match=r"one\.safetensors was trained for clip skip 2, other\.safetensors for 1: "):
        trained_for([(ONE, {"ss_clip_skip": "2"}), (OTHER, {"ss_clip_skip": "1"})], "sd15", "epsilon")
    with pytest.raises(LoraError, match=r"prediction epsilon, .* for v_prediction"):
        trained_for([(ONE, {"modelspec.prediction_type": "epsilon"}), (OTHER, V)], "sd15", "v_prediction")


def test_only_what_differs_is_named() -> None:
    assert TrainedFor().differing() == {}
    assert TrainedFor(clip_skip=2).differing() == {"clip_skip": 2}
    assert TrainedFor(prediction="epsilon", zero_terminal_snr=True).differing() == {
        "prediction": "epsilon",
        "zero_terminal_snr": True,
    }


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_a_sampler_takes_over_what_was_trained_and_keeps_all_else(name: str) -> None:
    own = DDIMScheduler(beta_start=0.001, beta_schedule="scaled_linear", prediction_type="epsilon").config
    scheduler = make_scheduler(name, own)
    assert scheduler_for(scheduler, TrainedFor(clip_skip=2)) is scheduler
    changed: Any = scheduler_for(scheduler, TrainedFor(prediction="v_prediction", zero_terminal_snr=True))
    assert type(changed) is type(scheduler)
    assert changed.config.prediction_type == "v_prediction" and changed.config.rescale_betas_zero_snr
    assert changed.config.beta_start == 0.001
    # As if the base model had stated it.
    of_base = DDIMScheduler.from_config(own, prediction_type="v_prediction", rescale_betas_zero_snr=True)
    stated = make_scheduler(name, of_base.config)
    changed.set_timesteps(4)
    stated.set_timesteps(4)
    assert changed.timesteps.tolist() == stated.timesteps.tolist()
    assert changed.alphas_cumprod.tolist() == stated.alphas_cumprod.tolist()


def test_a_layer_that_is_not_there_is_refused() -> None:
    class Encoder:
        class config:
            num_hidden_layers = 12

    check_clip_skip(12, Encoder)
    with pytest.raises(LoraError, match="clip skip 13, and the text encoder has 12 layers"):
        check_clip_skip(13, Encoder)
