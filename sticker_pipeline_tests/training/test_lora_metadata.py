import json
from collections import Counter
from typing import Any

import pytest

from sticker_pipeline.training.data import read_training_set
from sticker_pipeline.training.lora_metadata import lora_metadata, tag_frequency
from sticker_pipeline_tests.training.conftest import SpecMaker


def test_metadata_say_what_clients_ask_for(make_spec: SpecMaker) -> None:
    spec = make_spec()
    table = read_training_set(spec)
    metadata = lora_metadata(
        spec, table, prediction_type="epsilon", epoch=1, step=3, total_steps=6, mixed_precision="no"
    )
    assert (
        metadata.items()
        >= {
            "ss_base_model_version": "sd_v1",
            "ss_network_module": "networks.lora",
            "ss_network_dim": "4",
            "ss_network_alpha": "2.0",
            "ss_resolution": "(32, 32)",
            "ss_clip_skip": "1",
            "ss_unet_lr": "0.001",
            "ss_seed": "0",
            "ss_steps": "3",
            "ss_max_train_steps": "6",
            "ss_epoch": "1",
            "ss_output_name": "nova",
            "modelspec.architecture": "stable-diffusion-v1/lora",
            "modelspec.prediction_type": "epsilon",
            "modelspec.trigger_phrase": "nova_tag",
        }.items()
    )
    assert all(isinstance(value, str) for value in metadata.values())
    assert json.loads(metadata["ss_dataset_dirs"]) == {"1_nova": {"n_repeats": 1, "img_count": 8}}
    assert json.loads(metadata["ss_bucket_info"]) == {"buckets": {"0": {"resolution": [32, 32], "count": 8}}}
    assert str(spec.output) not in str(metadata) and str(spec.base.parent) not in str(metadata)


def test_a_lora_that_is_bound_to_no_word_says_so(make_spec: SpecMaker) -> None:
    spec = make_spec(trigger=None)
    metadata = lora_metadata(
        spec, read_training_set(spec), prediction_type="epsilon", epoch=1, step=3, total_steps=6, mixed_precision="no"
    )
    assert "modelspec.trigger_phrase" not in metadata
    assert metadata["modelspec.usage_hint"] == "It has no trigger word."
    assert metadata["ss_training_comment"] == "no trigger"


def metadata_of(make_spec: SpecMaker, *, family: str = "sd15", **settings: Any) -> dict[str, str]:
    spec = make_spec()
    changed = spec.model_copy(update={"family": family, "settings": spec.settings.model_copy(update=settings)})
    return lora_metadata(
        changed,
        read_training_set(spec),
        prediction_type="v_prediction",
        epoch=1,
        step=3,
        total_steps=80,
        mixed_precision="bf16",
        regularisation_images=7,
    )


# Expected values are what sd-scripts writes for the same choice (train_network.py, library/sai_model_spec.py).
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"schedule": "cosine_restarts_warmup_each", "cycles": 4},
            {"ss_lr_scheduler": "cosine_with_restarts", "ss_lr_warmup_steps": "2"},
        ),
        ({"schedule": "cosine_restarts"}, {"ss_lr_scheduler": "cosine_with_restarts", "ss_lr_warmup_steps": "8"}),
        ({"schedule": "cosine"}, {"ss_lr_scheduler": "cosine"}),
        ({"schedule": "linear", "warmup_fraction": 0.0}, {"ss_lr_scheduler": "linear", "ss_lr_warmup_steps": "0"}),
        ({"schedule": "constant"}, {"ss_lr_scheduler": "constant_with_warmup"}),
        ({"schedule": "constant", "warmup_fraction": 0.0}, {"ss_lr_scheduler": "constant"}),
        ({}, {"ss_optimizer": "torch.optim.adamw.AdamW(weight_decay=0.01,betas=(0.9, 0.999))"}),
        (
            {"optimizer": "adamw8bit", "weight_decay": 0.0},
            {"ss_optimizer": "bitsandbytes.optim.adamw.AdamW8bit(weight_decay=0.0,betas=(0.9, 0.999))"},
        ),
        (
            {"optimizer": "prodigy", "prodigy_d_coef": 2.0},
            {"ss_optimizer": "prodigyopt.prodigy.Prodigy(weight_decay=0.01,betas=(0.9, 0.999),d_coef=2.0)"},
        ),
        (
            {"optimizer": "prodigy", "prodigy_d0": 1e-4, "prodigy_bias_correction": False},
            {
                "ss_optimizer": "prodigyopt.prodigy.Prodigy(weight_decay=0.01,betas=(0.9, 0.999),d_coef=1.0,d0=0.0001,"
                "use_bias_correction=False)"
            },
        ),
        (
            {"optimizer": "dadaptadam", "dadapt_growth_rate": 1.02},
            {
                "ss_optimizer": "dadaptation.dadapt_adam.DAdaptAdam(weight_decay=0.01,betas=(0.9, 0.999),"
                "decouple=True,growth_rate=1.02)"
            },
        ),
        ({"optimizer": "adafactor"}, {"ss_optimizer": "transformers.optimization.Adafactor(weight_decay=0.01)"}),
        (
            {"optimizer": "adafactor", "adafactor_scale_parameter": True, "schedule": "relative"},
            {
                "ss_optimizer": "transformers.optimization.Adafactor(weight_decay=0.01,scale_parameter=True)",
                "ss_lr_scheduler": "adafactor",
                "ss_lr_warmup_steps": "0",
            },
        ),
        (
            {"schedule": "cosine_annealing", "annealing_steps": 30},
            {"ss_lr_scheduler_args": '{"T_max": 30}', "ss_lr_warmup_steps": "0"},
        ),
        ({}, {"ss_scale_weight_norms": "None", "ss_adaptive_noise_scale": "None"}),
        ({}, {"ss_multires_noise_iterations": "None", "ss_multires_noise_discount": "0.3"}),
        (
            {"multires_noise_iterations": 6, "multires_noise_discount": 0.2},
            {"ss_multires_noise_iterations": "6", "ss_multires_noise_discount": "0.2"},
        ),
        ({"max_weight_norm": 2.5}, {"ss_scale_weight_norms": "2.5"}),
        ({"noise_offset": 0.1, "adaptive_noise_scale": 0.01}, {"ss_adaptive_noise_scale": "0.01"}),
        ({}, {"ss_min_snr_gamma": "None", "ss_debiased_estimation": "False", "ss_noise_offset": "None"}),
        ({"loss_weighting": "min_snr", "min_snr_gamma": 3.0}, {"ss_min_snr_gamma": "3.0"}),
        ({"loss_weighting": "debiased"}, {"ss_debiased_estimation": "True", "ss_min_snr_gamma": "None"}),
        ({"noise_offset": 0.1, "zero_terminal_snr": True}, {"ss_noise_offset": "0.1", "ss_zero_terminal_snr": "True"}),
        ({"regularisation": "reg", "regularisation_weight": 0.5}, {"ss_prior_loss_weight": "0.5"}),
        ({}, {"ss_num_reg_images": "7", "ss_prior_loss_weight": "1.0", "ss_mixed_precision": "bf16"}),
        (
            {"shuffle_tags": True, "keep_tags": 2, "tag_dropout": 0.1, "caption_dropout": 0.2},
            {
                "ss_shuffle_caption": "True",
                "ss_keep_tokens": "2",
                "ss_caption_tag_dropout_rate": "0.1",
                "ss_caption_dropout_rate": "0.2",
            },
        ),
        ({"flip": True, "crops": 3}, {"ss_flip_aug": "True", "ss_random_crop": "True"}),
        ({"flip": False, "crops": 1}, {"ss_flip_aug": "False", "ss_random_crop": "False"}),
        ({"gradient_accumulation": 4, "batch_size": 2}, {"ss_gradient_accumulation_steps": "4"}),
        ({"max_tokens": 75}, {"ss_max_token_length": "None"}),
        ({"max_tokens": 150}, {"ss_max_token_length": "150"}),
        ({"max_grad_norm": None}, {"ss_max_grad_norm": "0.0"}),
        ({"clip_skip": 2}, {"ss_clip_skip": "2", "modelspec.encoder_layer": "2"}),
        ({}, {"modelspec.prediction_type": "v", "modelspec.implementation": "diffusers"}),
        (
            {"family": "sdxl", "clip_skip": 2},
            {
                "ss_base_model_version": "sdxl_base_v1-0",
                "ss_clip_skip": "None",
                "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
                "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
            },
        ),
    ],
)
def test_metadata_say_it_as_sd_scripts_does(
    make_spec: SpecMaker, settings: dict[str, Any], expected: dict[str, str]
) -> None:
    found = metadata_of(make_spec, **settings)
    assert {key: found.get(key) for key in expected} == expected
    assert all(isinstance(value, str) for value in found.values())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"targets": "attention"}, {"targets": "attention", "dora": "False"}),
        (
            {"targets": "all", "feed_forward_rank": 2},
            {"targets": "all", "feed_forward_dim": "2", "feed_forward_alpha": "2.0", "dora": "False"},
        ),
        (
            {"targets": "all+conv", "conv_rank": 8, "conv_alpha": 1.0, "dora": True},
            {
                "targets": "all+conv",
                "feed_forward_dim": "4",
                "feed_forward_alpha": "2.0",
                "conv_dim": "8",
                "conv_alpha": "1.0",
                "dora": "True",
            },
        ),
    ],
)
def test_metadata_hold_the_network_s_arguments(
    make_spec: SpecMaker, settings: dict[str, Any], expected: dict[str, str]
) -> None:
    found = metadata_of(make_spec, **settings)
    assert json.loads(found["ss_network_args"]) == expected
    assert (found["ss_network_dim"], found["ss_network_alpha"]) == ("4", "2.0")


def test_the_layer_of_the_text_encoder_is_stated_but_for_sdxl(make_spec: SpecMaker) -> None:
    for clip_skip in (1, 2):
        found = metadata_of(make_spec, clip_skip=clip_skip)
        assert found["modelspec.encoder_layer"] == found["ss_clip_skip"] == str(clip_skip)
    of_sdxl = metadata_of(make_spec, family="sdxl")
    assert of_sdxl["ss_clip_skip"] == "None" and "modelspec.encoder_layer" not in of_sdxl


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([(32, 32)] * 8, ("False", "32", "32")), ([(32, 32)] * 6 + [(24, 40), (40, 24)], ("True", "24", "40"))],
)
def test_buckets_are_those_of_the_table(
    make_spec: SpecMaker, sizes: list[tuple[int, int]], expected: tuple[str, ...]
) -> None:
    spec = make_spec()
    table = read_training_set(spec)
    table[["bucket_width", "bucket_height"]] = sizes
    found = lora_metadata(spec, table, prediction_type="epsilon", epoch=1, step=3, total_steps=6, mixed_precision="no")
    assert tuple(found[f"ss_{key}"] for key in ("enable_bucket", "min_bucket_reso", "max_bucket_reso")) == expected
    buckets = json.loads(found["ss_bucket_info"])["buckets"].values()
    assert {tuple(bucket["resolution"]): bucket["count"] for bucket in buckets} == Counter(sizes)


def test_modelspec_has_what_it_must(make_spec: SpecMaker) -> None:
    """The fields that ModelSpec 1.0.1 requires, but for the hash of the file, which write_lora adds."""
    found = metadata_of(make_spec)
    assert found["modelspec.sai_model_spec"] == "1.0.1"
    assert all(found[f"modelspec.{key}"] for key in ("architecture", "implementation", "title", "resolution"))


def test_tag_frequency_counts_images(make_spec: SpecMaker) -> None:
    table = read_training_set(make_spec())  # images 0, 2, 6, 8 are art and 1, 3, 5, 7 stickers
    assert tag_frequency(table) == {"nova_tag": 8, "angry": 4, "art": 4, "smile": 4, "sticker": 4}
    assert list(tag_frequency(table)) == ["nova_tag", "angry", "art", "smile", "sticker"]
