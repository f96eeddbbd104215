"""TOML files of sd-scripts: the same training as the form, by the names and defaults of the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from sticker_pipeline.core.kohya_settings.flags_file import ARGUMENTS, names
from sticker_pipeline.core.kohya_settings.form import KohyaSettingsError, Target, rows
from sticker_pipeline.core.kohya_settings.read import (
    NOT_STATED,
    KohyaImport,
    examine_kohya_settings,
    read_kohya_settings,
)
from sticker_pipeline_tests.core.kohya_settings.files import FILLED, SD15, SDXL, line
from sticker_pipeline_tests.core.kohya_settings.files import read as read_json
from sticker_pipeline_tests.core.kohya_settings.test_kinds import toml

LORA = 'network_module = "networks.lora"\n'


def read(folder: Path, text: str, target: Target = SD15) -> KohyaImport:
    path = folder / "config.toml"
    path.write_text(text)
    return read_kohya_settings(path, target)


def refusals(folder: Path, text: str) -> list[str]:
    path = folder / "config.toml"
    path.write_text(text)
    return list(examine_kohya_settings(path, SD15).refusals)


def test_the_table_is_whole() -> None:
    for each in names():
        assert each.place in ("file", ARGUMENTS) and each.key in rows(), each
    arguments = [each.name for each in names() if each.place == ARGUMENTS]
    assert len(arguments) == len(set(arguments))
    assert not set(arguments) & {row.flag for row in rows().values()}


# What kohya_ss 45088f0 writes into its TOML for FILLED (kohya_gui/lora_gui.py, train_model): empty values are left out.
FILLED_AS_TOML = {
    "bucket_no_upscale": True,
    "bucket_reso_steps": 64,
    "cache_latents": True,
    "enable_bucket": True,
    "epoch": 10,
    "gradient_accumulation_steps": 1,
    "keep_tokens": 2,
    "learning_rate": 0.0001,
    "loss_type": "l2",
    "lr_scheduler": "cosine_with_restarts",
    "lr_scheduler_args": [],
    "lr_scheduler_num_cycles": 3,
    "lr_scheduler_power": 1,
    "lr_warmup_steps": 50,
    "max_bucket_reso": 2048,
    "max_data_loader_n_workers": 0,
    "max_grad_norm": 1,
    "max_timestep": 1000,
    "max_token_length": 75,
    "max_train_steps": 1000,
    "min_bucket_reso": 256,
    "min_snr_gamma": 5,
    "mixed_precision": "bf16",
    "network_alpha": 32,
    "network_args": [],
    "network_dim": 64,
    "network_module": "networks.lora",
    "noise_offset_type": "Original",
    "optimizer_args": ["weight_decay=0.1", "betas=0.9,0.99"],
    "optimizer_type": "AdamW8bit",
    "output_name": "luma",
    "pretrained_model_name_or_path": "D:/models/anything.safetensors",
    "prior_loss_weight": 1,
    "resolution": "512,512",
    "seed": 1234,
    "shuffle_caption": True,
    "text_encoder_lr": [5e-05, 5e-05],
    "train_batch_size": 2,
    "train_data_dir": "D:/luma/img",
    "unet_lr": 0.0002,
}


def test_it_is_the_training_of_the_form_that_kohya_ss_has_written_it_from(tmp_path: Path) -> None:
    form = read_json(tmp_path, {**FILLED, "epoch": 1, "max_train_steps": 1000})
    found = read(tmp_path, toml(FILLED_AS_TOML))
    assert found.training == form.training and found.buckets == form.buckets
    assert {line.key for line in found.report if line.value != NOT_STATED} >= FILLED_AS_TOML.keys() - {"network_args"}
    for key, words in (
        ("resolution", "resolution 512, as the profile sd15 has it"),
        ("optimizer_type", "optimizer = adamw8bit"),
        ("text_encoder_lr", "the first rate, for every text encoder"),
        ("network_module", "targets = all"),
        ("epoch", "sd-scripts has no such flag: kohya_ss writes it for itself"),
    ):
        assert words in line(found, key).effect


def test_sections_are_only_for_the_eye(tmp_path: Path) -> None:
    flat = read(tmp_path, toml(FILLED_AS_TOML))
    items = list(FILLED_AS_TOML.items())
    text = toml(dict(items[:9])) + "\n[model]\n" + toml(dict(items[9:20])) + "\n[other]\n" + toml(dict(items[20:]))
    sections = read(tmp_path, text)
    assert (sections.training, sections.buckets) == (flat.training, flat.buckets)


def test_what_is_not_there_is_what_sd_scripts_takes_then(tmp_path: Path) -> None:
    """Defaults of train_network.py's parser, not of the form."""
    found = read(tmp_path, LORA)
    expected = {
        "targets": "all",
        "rank": 4,
        "alpha": 1.0,
        "optimizer": "adamw",
        "learning_rate_unet": 2e-6,
        "learning_rate_text_encoder": 2e-6,
        "schedule": "constant",
        "warmup_fraction": 0.0,
        "max_grad_norm": 1.0,
        "max_weight_norm": None,
        "epochs": 8,
        "samples_per_epoch": 200,  # 1600 steps
        "precision": "float32",
        "max_tokens": 75,
        "clip_skip": 1,
        "caption_dropout": 0.0,
        "noise_offset": 0.0,
        "max_timestep": 1000,
        "shuffle_tags": False,
    }
    assert {name: found.training[name] for name in expected} == expected
    assert found.buckets == {"shape": "square"}
    assert "seed" not in found.training
    assert line(found, "network_dim").value == NOT_STATED and line(found, "network_dim").effect == "rank = 4"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('network_args = ["conv_dim=8"]', {"targets": "all+conv", "conv_rank": 8, "conv_alpha": 1.0}),
        ('network_args = ["conv_dim=8", "conv_alpha=4"]', {"targets": "all+conv", "conv_rank": 8, "conv_alpha": 4.0}),
        ("max_train_epochs = 12\nmax_train_steps = 5", {"epochs": 12}),
        ("learning_rate = 1e-4", {"learning_rate_unet": 1e-4, "learning_rate_text_encoder": 1e-4}),
        ("learning_rate = 1e-4\nunet_lr = 2e-4", {"learning_rate_unet": 2e-4, "learning_rate_text_encoder": 1e-4}),
        ("text_encoder_lr = [3e-5, 1e-5]", {"learning_rate_text_encoder": 3e-5}),
        ("text_encoder_lr = 3e-5", {"learning_rate_text_encoder": 3e-5}),
        ("text_encoder_lr = 0", {"learning_rate_text_encoder": 0.0, "learning_rate_unet": 2e-6}),
        ("network_train_unet_only = true", {"learning_rate_text_encoder": 0.0}),
        ("max_grad_norm = 0", {"max_grad_norm": None}),  # here a flag, which the form would not pass on
        ("network_alpha = 0\nnetwork_dim = 16", {"alpha": 16.0}),
        ("seed = 0", {"seed": 0}),
        ('lr_scheduler = "cosine"\nlr_warmup_steps = 160', {"schedule": "cosine", "warmup_fraction": 0.1}),
        ('lr_scheduler = "cosine"\nlr_warmup_steps = 0.2', {"warmup_fraction": 0.2}),
        ("use_8bit_adam = true", {"optimizer": "adamw8bit"}),
        ("noise_offset = 0.05\nadaptive_noise_scale = 0.01", {"noise_offset": 0.05, "adaptive_noise_scale": 0.01}),
        ("scale_weight_norms = 1.0", {"max_weight_norm": 1.0}),
        ("zero_terminal_snr = true\nv_parameterization = true", {"zero_terminal_snr": True}),
        ("caption_tag_dropout_rate = 0.1\nkeep_tokens = 1", {"tag_dropout": 0.1, "keep_tags": 1}),
        ('optimizer_type = "Adafactor"', {"schedule": "relative", "adafactor_scale_parameter": True}),
        (
            'lr_scheduler_type = "CosineAnnealingLR"\nlr_scheduler_args = ["T_max=30"]',
            {"schedule": "cosine_annealing", "annealing_steps": 30},
        ),
    ],
)
def test_flags_mean_what_they_mean_on_the_command_line(tmp_path: Path, text: str, expected: dict[str, Any]) -> None:
    found = read(tmp_path, LORA + text)
    assert {name: found.training[name] for name in expected} == expected


def test_lycoris_goes_by_its_algorithm(tmp_path: Path) -> None:
    text = 'network_module = "lycoris.kohya"\nnetwork_dim = 16\nnetwork_args = {}\n'
    found = read(
        tmp_path, text.format('["algo=locon", "conv_dim=8", "conv_alpha=2", "preset=full", "use_tucker=False"]')
    )
    assert (found.training["targets"], found.training["conv_rank"], found.training["conv_alpha"]) == (
        "all+conv",
        8,
        2.0,
    )
    assert line(found, "network_args conv_dim").value == "8"
    assert line(found, "network_module").value == "lycoris.kohya algo=locon"
    (refused,) = refusals(tmp_path, text.format('["algo=loha", "dropout=0.5"]'))
    assert refused.startswith("'network_module' = 'lycoris.kohya algo=loha': it is LoHa: ")
    (refused,) = refusals(tmp_path, text.format('["algo=locon", "preset=attn-mlp"]'))
    assert refused.startswith("'network_args preset' = 'attn-mlp': ")
    (refused,) = refusals(tmp_path, text.format('["algo=locon", "dropout=0.5"]'))
    assert refused.startswith("'network_args dropout' = '0.5': adapters have no dropout here")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            'network_module = "networks.lora_flux"',
            "'network_module' = 'networks.lora_flux': it is a LoRA of Flux models",
        ),
        ('network_module = "networks.lora_fa"', "it is LoRA-FA"),
        ('network_module = "my.module"', "'network_module' = 'my.module': no such type is known here"),
        ("network_dim = 8\nnetwrk_alpha = 8", "unknown key 'netwrk_alpha'. Did you mean 'network_alpha'?"),
        ('network_dim = "many"', "'network_dim' = 'many': it must be a number."),
        ('network_args = ["conv_dm=8"]', "'network_args conv_dm' = '8': unknown argument. Did you mean 'conv_dim'?"),
        ('network_args = ["conv_dim"]', "'network_args' = 'conv_dim': it must be name=value."),
        ('network_args = ["conv_dim=x"]', "'network_args conv_dim' = 'x': it must be a number."),
        ("network_dim = 8\nunet_lr = 0", "'unet_lr' = 0: the text encoder is then trained alone"),
        ('network_dim = 8\ndataset_config = "d.toml"', "'dataset_config' = 'd.toml': that file's own settings"),
        ("network_dim = 8\nlr_warmup_steps = 100", "sd-scripts stops: lr_scheduler constant has no warm-up"),
        ("network_dim = 1000", "'network_dim' = 1000: here it is rank = 1000, and "),
    ],
)
def test_what_is_refused_is_named_as_the_file_names_it(tmp_path: Path, text: str, sentence: str) -> None:
    (found,) = refusals(tmp_path, text)
    assert sentence in found


def test_an_argument_beside_its_place_is_told(tmp_path: Path) -> None:
    found = read(tmp_path, LORA + "conv_dim = 8")
    assert found.training["targets"] == "all"
    assert line(found, "conv_dim").effect == "sd-scripts has no such flag: it belongs into network_args"


def test_a_file_says_no_family(tmp_path: Path) -> None:
    found = read(tmp_path, LORA + 'resolution = "1024,1024"', SDXL)
    assert line(found, "resolution").verdict == "taken over"


@pytest.mark.parametrize(
    "text", ["[general]\n[[datasets]]\nresolution = 512\n", "[[datasets]]\n[[datasets.subsets]]\n"]
)
def test_a_dataset_configuration_is_called_one(tmp_path: Path, text: str) -> None:
    with pytest.raises(
        KohyaSettingsError, match=r"config\.toml is a dataset configuration of sd-scripts .*import-kohya"
    ):
        read(tmp_path, text)


def test_what_is_no_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(KohyaSettingsError, match=r"config\.toml is not valid TOML"):
        read(tmp_path, json.dumps(FILLED))
