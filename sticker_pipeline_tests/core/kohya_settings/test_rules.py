"""Effect of every key of the table. Expected values follow from kohya_ss's form and from sd-scripts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sticker_pipeline.core.kohya_settings.form import EXTRA, KohyaSettingsError, Target, rows
from sticker_pipeline.core.kohya_settings.rules import RULES
from sticker_pipeline_tests.core.kohya_settings.files import SD15, SDXL, line, read

TAKEN, DIFFERS, IGNORED = "taken over", "differs here", "ignored by sd-scripts"
SAME, ELSEWHERE = "same without it", "not about training"
REFUSED = "refused"

ADAFACTOR = "relative_step=False scale_parameter=False"
PRODIGY = "use_bias_correction=True safeguard_warmup=True"
ONLY_UNET = {"unet_lr": 1e-4, "text_encoder_lr": 0}
MULTIRES = {"multires_noise_iterations": 6, "multires_noise_discount": 0.2, "noise_offset_type": "Multires"}
D_ADAPTED = {
    "optimizer": "DAdaptAdam",
    "unet_lr": 1.0,
    "text_encoder_lr": 1.0,
    "optimizer_args": "decouple=True weight_decay=0.2 betas=0.9,0.99 growth_rate=1.02",
}
RELATIVE = {"optimizer": "Adafactor", "lr_scheduler": "adafactor", "lr_warmup": 0}
ANNEALING = {"lr_scheduler_type": "CosineAnnealingLR", "lr_scheduler_args": "T_max=30", "lr_warmup": 0}

# The key in question, the file, the verdict, and the settings that the key becomes, or words of the fault.
Case = tuple[str, dict[str, Any], str, dict[str, Any] | str]
CASES: list[Case] = [
    ("pretrained_model_name_or_path", {"pretrained_model_name_or_path": "a.safetensors"}, DIFFERS, {}),
    ("vae", {"vae": "vae.pt"}, DIFFERS, {}),
    ("vae", {"vae": ""}, SAME, {}),
    ("sdxl", {"sdxl": False}, TAKEN, {}),
    ("sdxl", {"sdxl": True}, REFUSED, "the file is for sdxl models, and the profile sd15 for sd15"),
    ("v_parameterization", {"v_parameterization": True}, TAKEN, {"prediction": "v_prediction"}),
    ("v_parameterization", {"v_parameterization": False}, TAKEN, {"prediction": "epsilon"}),
    # adapters
    ("LoRA_type", {"LoRA_type": "Standard", "conv_dim": 8}, TAKEN, {"targets": "all"}),
    ("LoRA_type", {"LoRA_type": "Kohya LoCon", "conv_dim": 8}, TAKEN, {"targets": "all+conv"}),
    ("LoRA_type", {"LoRA_type": "Kohya LoCon", "conv_dim": 0}, TAKEN, {"targets": "all"}),
    (
        "LoRA_type",
        {"LoRA_type": "LyCORIS/LoCon", "conv_dim": 8},
        DIFFERS,
        {"targets": "all+conv", "conv_rank": 8, "conv_alpha": 1.0},
    ),
    ("conv_dim", {"LoRA_type": "LyCORIS/LoCon", "conv_dim": 0, "network_dim": 16}, TAKEN, {"conv_rank": 16}),
    ("conv_alpha", {"LoRA_type": "LoCon", "conv_alpha": 0, "network_alpha": 4}, TAKEN, {"conv_alpha": 4.0}),
    ("LyCORIS_preset", {"LoRA_type": "LyCORIS/LoCon", "LyCORIS_preset": "full"}, SAME, {}),
    ("LyCORIS_preset", {"LoRA_type": "LyCORIS/LoCon", "LyCORIS_preset": "attn-mlp"}, REFUSED, "Set it to full"),
    ("LyCORIS_preset", {"LyCORIS_preset": "attn-mlp"}, IGNORED, {}),
    *(
        case
        for key in ("dora_wd", "use_cp", "use_tucker", "use_scalar", "train_norm")
        for case in (
            (key, {"LoRA_type": "LyCORIS/LoCon", key: True}, REFUSED, "Set it to False"),
            (key, {"LoRA_type": "LyCORIS/LoCon", key: False}, SAME, {}),
            (key, {key: True}, IGNORED, {}),
        )
    ),
    ("scale_weight_norms", {"scale_weight_norms": 2.5}, TAKEN, {"max_weight_norm": 2.5}),
    ("scale_weight_norms", {"scale_weight_norms": 0}, TAKEN, {"max_weight_norm": None}),
    ("--scale_weight_norms", {EXTRA: "--scale_weight_norms=1"}, TAKEN, {"max_weight_norm": 1.0}),
    ("network_alpha", {"network_alpha": 16}, TAKEN, {"alpha": 16.0}),
    ("network_alpha", {"network_alpha": 0, "network_dim": 64}, TAKEN, {"alpha": 1.0}),  # 0 passes no flag
    ("--network_alpha", {EXTRA: "--network_alpha 0", "network_dim": 64}, TAKEN, {"alpha": 64.0}),
    ("conv_dim", {"LoRA_type": "Kohya LoCon", "conv_dim": 8}, TAKEN, {"conv_rank": 8}),
    ("conv_dim", {"conv_dim": 8}, IGNORED, {}),
    ("conv_alpha", {"LoRA_type": "Kohya LoCon", "conv_dim": 8, "conv_alpha": 4}, TAKEN, {"conv_alpha": 4.0}),
    ("conv_alpha", {"LoRA_type": "Kohya LoCon", "conv_dim": 8, "conv_alpha": 0}, TAKEN, {"conv_alpha": 8.0}),
    ("conv_alpha", {"conv_alpha": 4}, IGNORED, {}),
    # images
    ("max_resolution", {"max_resolution": "512,512"}, TAKEN, {}),
    ("max_resolution", {"max_resolution": "512"}, TAKEN, {}),
    ("max_resolution", {"max_resolution": "1024,256"}, TAKEN, {}),  # buckets go by the area
    ("max_resolution", {"max_resolution": "768,768"}, DIFFERS, {}),
    ("max_resolution", {"max_resolution": "large"}, REFUSED, "'width,height'"),
    ("enable_bucket", {"enable_bucket": True}, TAKEN, {"shape": "aspect"}),
    ("enable_bucket", {"enable_bucket": False}, DIFFERS, {"shape": "square"}),
    ("bucket_reso_steps", {"bucket_reso_steps": 64}, TAKEN, {"step": 64}),
    ("bucket_reso_steps", {"bucket_reso_steps": 32}, DIFFERS, {"step": 64, "min_side": 64, "max_side": 4096}),
    ("bucket_reso_steps", {"bucket_reso_steps": 1}, DIFFERS, {"step": 64, "min_side": 64, "max_side": 4096}),
    ("bucket_reso_steps", {"bucket_reso_steps": 200, "bucket_no_upscale": False}, DIFFERS, {"step": 192}),
    ("bucket_reso_steps", {"bucket_reso_steps": 1, "enable_bucket": False}, IGNORED, {}),
    ("bucket_no_upscale", {"bucket_no_upscale": True}, TAKEN, {"upscale": False}),
    ("min_bucket_reso", {"min_bucket_reso": 320, "bucket_no_upscale": False}, TAKEN, {"min_side": 320}),
    ("min_bucket_reso", {"min_bucket_reso": 320, "bucket_no_upscale": True}, IGNORED, {"min_side": 64}),
    ("max_bucket_reso", {"max_bucket_reso": 0, "bucket_no_upscale": False}, TAKEN, {"max_side": 1024}),
    ("max_bucket_reso", {"max_bucket_reso": 1024, "bucket_no_upscale": True}, IGNORED, {"max_side": 4096}),
    ("max_bucket_reso", {"max_bucket_reso": 1024, "enable_bucket": False}, IGNORED, {}),
    ("max_train_epochs", {"max_train_epochs": 12, "epoch": 3, "max_train_steps": 9}, TAKEN, {"epochs": 12}),
    ("max_train_epochs", {"max_train_epochs": ""}, SAME, {}),
    (
        "max_train_steps",
        {"max_train_steps": 1600, "train_batch_size": 3, "gradient_accumulation_steps": 2},
        TAKEN,
        {"epochs": 8, "samples_per_epoch": 1200},
    ),
    ("max_train_steps", {"max_train_steps": 9}, TAKEN, {"epochs": 8, "samples_per_epoch": 2}),
    ("max_train_steps", {"max_train_steps": 9, "max_train_epochs": 1}, IGNORED, {}),
    ("max_train_steps", {"max_train_steps": 0}, SAME, {}),
    ("epoch", {"epoch": 20}, TAKEN, {"epochs": 20}),
    ("epoch", {"epoch": 20, "max_train_steps": 1600}, IGNORED, {}),
    ("epoch", {"epoch": 20, "max_train_epochs": 4}, IGNORED, {}),
    ("random_crop", {"random_crop": False}, TAKEN, {"crops": 1}),
    ("random_crop", {"random_crop": True, "cache_latents": False}, DIFFERS, {"crops": 16}),
    ("random_crop", {"random_crop": True, "cache_latents": True}, REFUSED, "sd-scripts stops: with cache_latents"),
    ("masked_loss", {"masked_loss": True}, IGNORED, {}),
    ("masked_loss", {"masked_loss": False}, SAME, {}),
    ("--alpha_mask", {EXTRA: "--alpha_mask"}, TAKEN, {"background_weight": 0.0}),
    ("--alpha_mask", {}, TAKEN, {"background_weight": 1.0}),
    ("reg_data_dir", {"reg_data_dir": ""}, SAME, {}),
    ("reg_data_dir", {"reg_data_dir": "/r"}, TAKEN, {"regularisation": "/r", "regularisation_share": 0.5}),
    ("prior_loss_weight", {"prior_loss_weight": 0.5, "reg_data_dir": "/r"}, TAKEN, {"regularisation_weight": 0.5}),
    ("prior_loss_weight", {"prior_loss_weight": 0, "reg_data_dir": "/r"}, TAKEN, {"regularisation_weight": 1.0}),
    ("prior_loss_weight", {"prior_loss_weight": 0.5}, IGNORED, {}),
    # captions
    ("keep_tokens", {"keep_tokens": 2, "shuffle_caption": True}, TAKEN, {"keep_tags": 2}),
    ("keep_tokens", {"keep_tokens": 2, EXTRA: "--caption_tag_dropout_rate 0.1"}, TAKEN, {"keep_tags": 2}),
    ("keep_tokens", {"keep_tokens": 2}, IGNORED, {}),
    ("clip_skip", {"clip_skip": "2"}, TAKEN, {"clip_skip": 2}),
    ("clip_skip", {"clip_skip": 0}, TAKEN, {"clip_skip": 1}),
    ("weighted_captions", {"weighted_captions": True}, TAKEN, {}),
    ("weighted_captions", {"weighted_captions": False}, SAME, {}),
    # optimization
    ("optimizer", {"optimizer": "AdamW"}, TAKEN, {"optimizer": "adamw"}),
    ("optimizer", {"optimizer": "PagedAdamW8bit"}, TAKEN, {"optimizer": "adamw8bit"}),
    ("optimizer", {"optimizer": "Prodigy"}, TAKEN, {"optimizer": "prodigy"}),
    ("optimizer", {"optimizer": "Adafactor", "optimizer_args": ADAFACTOR}, TAKEN, {"optimizer": "adafactor"}),
    ("optimizer", {"optimizer": "Lion"}, REFUSED, "Choose AdamW, AdamW8bit, Prodigy, DAdaptAdam"),
    ("optimizer", D_ADAPTED, TAKEN, {"optimizer": "dadaptadam"}),
    ("optimizer_args", D_ADAPTED, TAKEN, {"weight_decay": 0.2, "betas": (0.9, 0.99), "dadapt_growth_rate": 1.02}),
    ("optimizer_args", {**D_ADAPTED, "optimizer_args": "decouple=True"}, TAKEN, {"dadapt_growth_rate": None}),
    ("optimizer_args", {**D_ADAPTED, "optimizer_args": ""}, REFUSED, "Write decouple=True"),
    ("optimizer_args", {**D_ADAPTED, "optimizer_args": "decouple=True growth_rate=0.5"}, REFUSED, "greater than 1"),
    ("text_encoder_lr", {**D_ADAPTED, "text_encoder_lr": 0.5}, REFUSED, "DAdaptAdam has one rate, and unet_lr is 1.0"),
    ("optimizer", {"use_8bit_adam": True}, TAKEN, {"optimizer": "adamw8bit"}),
    ("optimizer", {}, TAKEN, {"optimizer": "adamw"}),
    ("use_8bit_adam", {"use_8bit_adam": True}, TAKEN, {}),
    ("use_8bit_adam", {"use_8bit_adam": True, "optimizer": "AdamW"}, IGNORED, {}),
    ("use_8bit_adam", {"use_8bit_adam": False}, SAME, {}),
    ("optimizer_args", {"optimizer_args": ""}, TAKEN, {"weight_decay": 0.01, "betas": (0.9, 0.999)}),
    (
        "optimizer_args",
        {"optimizer_args": '"weight_decay=0.1" "betas=0.9,0.99"'},
        TAKEN,
        {"weight_decay": 0.1, "betas": (0.9, 0.99)},
    ),
    (
        "optimizer_args",
        {"optimizer": "Prodigy", "optimizer_args": f"{PRODIGY} d_coef=2"},
        TAKEN,
        {"weight_decay": 0.0, "betas": (0.9, 0.999), "prodigy_d_coef": 2},
    ),
    (
        "optimizer_args",
        {"optimizer": "Prodigy", "optimizer_args": "use_bias_correction=True"},
        TAKEN,
        {"weight_decay": 0.0, "betas": (0.9, 0.999), "prodigy_d_coef": 1.0, "prodigy_bias_correction": True}
        | {"prodigy_safeguard_warmup": False, "prodigy_d0": 1e-6},
    ),
    (
        "optimizer_args",
        {"optimizer": "Prodigy", "optimizer_args": "d0=1e-4 safeguard_warmup=True"},
        TAKEN,
        {"prodigy_d0": 1e-4, "prodigy_bias_correction": False, "prodigy_safeguard_warmup": True},
    ),
    (
        "optimizer_args",
        {"optimizer": "Prodigy", "optimizer_args": "slice_p=11"},
        REFUSED,
        "Write slice_p=1",
    ),
    (
        "optimizer_args",
        {"optimizer": "Adafactor", "optimizer_args": ADAFACTOR},
        TAKEN,
        {"weight_decay": 0.0, "adafactor_scale_parameter": False},
    ),
    # Adafactor's own step is what sd-scripts turns on unless it is told not to
    ("optimizer_args", RELATIVE, TAKEN, {"weight_decay": 0.0, "adafactor_scale_parameter": True}),
    ("optimizer_args", {**RELATIVE, "optimizer_args": "warmup_init=True"}, REFUSED, "Write warmup_init=False"),
    ("optimizer_args", {"optimizer_args": "relative_step=True"}, REFUSED, "relative_step is not known here"),
    ("lr_scheduler", RELATIVE, IGNORED, {"schedule": "relative"}),
    ("lr_scheduler", {**RELATIVE, "lr_scheduler": "cosine"}, IGNORED, {"schedule": "relative"}),
    ("unet_lr", {**RELATIVE, "unet_lr": 3e-4}, IGNORED, {"learning_rate_unet": 1.0}),
    ("text_encoder_lr", {**RELATIVE, "text_encoder_lr": 3e-4}, IGNORED, {"learning_rate_text_encoder": 1.0}),
    ("text_encoder_lr", {**RELATIVE, **ONLY_UNET}, TAKEN, {"learning_rate_text_encoder": 0.0}),
    ("lr_warmup", {**RELATIVE, "lr_warmup": 10}, REFUSED, "sd-scripts stops: Adafactor's relative step has no warm-up"),
    ("lr_scheduler_num_cycles", {**RELATIVE, "lr_scheduler_num_cycles": 3}, IGNORED, {}),
    ("lr_scheduler_power", {**RELATIVE, "lr_scheduler_power": 3}, IGNORED, {}),
    ("lr_scheduler_type", {**RELATIVE, "lr_scheduler_type": "CosineAnnealingLR"}, IGNORED, {"schedule": "relative"}),
    ("lr_scheduler_args", {**RELATIVE, "lr_scheduler_args": "T_max=3"}, IGNORED, {}),
    # schedules of PyTorch
    ("lr_scheduler_type", ANNEALING, TAKEN, {"schedule": "cosine_annealing", "annealing_steps": 30}),
    (
        "lr_scheduler_type",
        {**ANNEALING, "lr_scheduler_type": "torch.optim.lr_scheduler.CosineAnnealingLR"},
        TAKEN,
        {"schedule": "cosine_annealing"},
    ),
    ("lr_scheduler_type", {**ANNEALING, "lr_scheduler_type": "StepLR"}, REFUSED, "only CosineAnnealingLR"),
    ("lr_scheduler_type", {"lr_scheduler_type": ""}, SAME, {}),
    ("lr_scheduler_args", ANNEALING, TAKEN, {"annealing_steps": 30}),
    ("lr_scheduler_args", {**ANNEALING, "lr_scheduler_args": "T_max=9 eta_min=0e-0"}, TAKEN, {"annealing_steps": 9}),
    ("lr_scheduler_args", {**ANNEALING, "lr_scheduler_args": "T_max=9 eta_min=1e-5"}, REFUSED, "Write eta_min=0"),
    ("lr_scheduler_args", {**ANNEALING, "lr_scheduler_args": "eta_min=0"}, REFUSED, "CosineAnnealingLR needs T_max"),
    ("lr_scheduler_args", {**ANNEALING, "lr_scheduler_args": "T_max=a"}, REFUSED, "'T_max=a' is not name=value"),
    ("lr_scheduler_args", {**ANNEALING, "lr_scheduler_args": "T_max=0"}, REFUSED, "here it is annealing_steps = 0"),
    ("lr_scheduler_args", {"lr_scheduler_args": "T_max=9"}, REFUSED, "no further arguments here"),
    ("lr_scheduler_args", {"lr_scheduler_args": ""}, SAME, {}),
    ("lr_scheduler", {**ANNEALING, "lr_scheduler": "cosine"}, IGNORED, {"schedule": "cosine_annealing"}),
    ("lr_warmup", {**ANNEALING, "lr_warmup": 10}, REFUSED, "sd-scripts stops: lr_scheduler_type has no warm-up"),
    ("lr_warmup", {**ANNEALING, "lr_warmup": 10, "lr_scheduler": "constant"}, IGNORED, {}),
    ("max_timestep", {"min_timestep": 100, "max_timestep": 900}, TAKEN, {"min_timestep": 100, "max_timestep": 900}),
    ("max_timestep", {"max_timestep": 0}, TAKEN, {"max_timestep": 1000}),
    ("max_timestep", {"min_timestep": 900, "max_timestep": 900}, REFUSED, "it must be above min_timestep"),
    ("optimizer_args", {"optimizer_args": "weight_deca=0.1"}, REFUSED, "Did you mean 'weight_decay'?"),
    ("optimizer_args", {"optimizer_args": "eps=1e-6"}, REFUSED, "eps is 1e-06 in sd-scripts, and 1e-08 here"),
    ("optimizer_args", {"optimizer_args": "weight_decay"}, REFUSED, "'weight_decay' is not name=value"),
    ("optimizer_args", {"optimizer_args": "betas=(0.9,"}, REFUSED, "'betas=(0.9,' is not name=value"),
    ("optimizer_args", {"optimizer_args": "betas=0.9"}, REFUSED, "here it is betas = 0.9"),
    ("learning_rate", {"learning_rate": 3e-4}, IGNORED, {}),
    ("learning_rate", {"learning_rate": 3e-4, "unet_lr": 0, "text_encoder_lr": 0}, TAKEN, {}),
    ("learning_rate", {"learning_rate": 0, "unet_lr": 0, "text_encoder_lr": 0}, REFUSED, "no learning rate is set"),
    ("unet_lr", {"unet_lr": "2e-4"}, TAKEN, {"learning_rate_unet": 2e-4}),
    (
        "unet_lr",
        {"unet_lr": 0, "text_encoder_lr": 0, "learning_rate": 3e-4},
        TAKEN,
        {"learning_rate_unet": 3e-4},
    ),
    ("unet_lr", {"unet_lr": 0, "text_encoder_lr": 1e-4}, REFUSED, "the text encoder is then trained alone"),
    ("--unet_lr", {EXTRA: "--unet_lr 0"}, REFUSED, "the text encoder is then trained alone"),
    (
        "--text_encoder_lr",
        {EXTRA: "--text_encoder_lr 0"},
        TAKEN,
        {"learning_rate_text_encoder": 0.0, "learning_rate_unet": 1e-4},
    ),
    ("text_encoder_lr", {"text_encoder_lr": 5e-5}, TAKEN, {"learning_rate_text_encoder": 5e-5}),
    ("text_encoder_lr", ONLY_UNET, TAKEN, {"learning_rate_text_encoder": 0.0}),
    (
        "text_encoder_lr",
        {"unet_lr": 0, "text_encoder_lr": 0, "learning_rate": 3e-4},
        TAKEN,
        {"learning_rate_text_encoder": 3e-4},
    ),
    (
        "text_encoder_lr",
        {"unet_lr": 1, "text_encoder_lr": 0.5, "optimizer": "Prodigy"},
        REFUSED,
        "Prodigy has one rate, and unet_lr is 1.0",
    ),
    (
        "--network_train_unet_only",
        {EXTRA: "--network_train_unet_only"},
        TAKEN,
        {"learning_rate_text_encoder": 0.0},
    ),
    ("lr_scheduler", {"lr_scheduler": "cosine"}, TAKEN, {"schedule": "cosine"}),
    ("lr_scheduler", {"lr_scheduler": "cosine_with_restarts"}, TAKEN, {"schedule": "cosine_restarts"}),
    ("lr_scheduler", {"lr_scheduler": "linear"}, TAKEN, {"schedule": "linear"}),
    ("lr_scheduler", {"lr_scheduler": "polynomial"}, TAKEN, {"schedule": "linear"}),
    ("lr_scheduler", {"lr_scheduler": "polynomial", "lr_scheduler_power": 2}, REFUSED, "only lr_scheduler_power 1"),
    ("lr_scheduler", {"lr_scheduler": "constant"}, TAKEN, {"schedule": "constant"}),
    ("lr_scheduler", {"lr_scheduler": "constant_with_warmup"}, TAKEN, {"schedule": "constant"}),
    ("lr_scheduler", {"lr_scheduler": "adafactor"}, REFUSED, "Choose cosine, "),
    ("lr_scheduler_num_cycles", {"lr_scheduler_num_cycles": 3}, IGNORED, {}),
    (
        "lr_scheduler_num_cycles",
        {"lr_scheduler_num_cycles": "", "lr_scheduler": "cosine_with_restarts"},
        TAKEN,
        {"cycles": 1},
    ),
    ("lr_scheduler_power", {"lr_scheduler_power": 2}, IGNORED, {}),
    ("lr_scheduler_power", {"lr_scheduler_power": "", "lr_scheduler": "polynomial"}, TAKEN, {}),
    ("lr_warmup", {"lr_warmup": 5}, TAKEN, {"warmup_fraction": 0.05}),
    ("lr_warmup", {"lr_warmup": 5, "lr_scheduler": "constant_with_warmup"}, TAKEN, {"warmup_fraction": 0.05}),
    ("lr_warmup", {"lr_warmup": 5, "lr_scheduler": "constant"}, IGNORED, {"warmup_fraction": 0.0}),
    ("lr_warmup", {"lr_warmup": 5, EXTRA: "--lr_scheduler constant"}, REFUSED, "sd-scripts stops"),
    ("lr_warmup", {"lr_warmup": 5, "lr_warmup_steps": 9, "max_train_steps": 90}, IGNORED, {}),
    ("lr_warmup", {"lr_warmup": 5, EXTRA: "--lr_warmup_steps 0"}, IGNORED, {}),
    ("lr_warmup", {"lr_warmup": 100}, REFUSED, "here it is warmup_fraction = 1.0, and input should be less than 1"),
    ("lr_warmup_steps", {"lr_warmup_steps": 9, "max_train_steps": 90}, TAKEN, {"warmup_fraction": 0.1}),
    ("lr_warmup_steps", {"lr_warmup_steps": 9}, REFUSED, "Give the warm-up in percent: lr_warmup"),
    ("lr_warmup_steps", {"lr_warmup_steps": 9, "lr_scheduler": "constant"}, IGNORED, {}),
    ("lr_warmup_steps", {"lr_warmup_steps": 0}, SAME, {}),
    ("--lr_warmup_steps", {EXTRA: "--lr_warmup_steps 0.2"}, TAKEN, {"warmup_fraction": 0.2}),
    ("--lr_warmup_steps", {EXTRA: "--lr_warmup_steps 0"}, TAKEN, {"warmup_fraction": 0.0}),
    ("max_grad_norm", {"max_grad_norm": 0.5}, TAKEN, {"max_grad_norm": 0.5}),
    ("max_grad_norm", {"max_grad_norm": 0}, TAKEN, {"max_grad_norm": 1.0}),  # 0 passes no flag
    ("--max_grad_norm", {EXTRA: "--max_grad_norm=0"}, TAKEN, {"max_grad_norm": None}),
    ("min_snr_gamma", {"min_snr_gamma": 7}, TAKEN, {"loss_weighting": "min_snr", "min_snr_gamma": 7.0}),
    ("min_snr_gamma", {"min_snr_gamma": 0}, SAME, {}),
    ("min_snr_gamma", {"min_snr_gamma": 5, "debiased_estimation_loss": True}, REFUSED, "sd-scripts multiplies"),
    ("debiased_estimation_loss", {"debiased_estimation_loss": True}, TAKEN, {"loss_weighting": "debiased"}),
    ("debiased_estimation_loss", {"debiased_estimation_loss": False}, TAKEN, {"loss_weighting": "uniform"}),
    ("debiased_estimation_loss", {"debiased_estimation_loss": False, "min_snr_gamma": 5}, SAME, {}),
    ("loss_type", {"loss_type": "l2"}, SAME, {}),
    ("loss_type", {"loss_type": "huber"}, REFUSED, "the loss here is l2"),
    ("noise_offset_type", {"noise_offset_type": "Multires"}, TAKEN, {}),
    ("noise_offset_type", {"noise_offset_type": "Original"}, TAKEN, {}),
    ("noise_offset_type", {"noise_offset_type": "Pyramid"}, REFUSED, "Original or Multires"),
    ("noise_offset", {"noise_offset": "0.05"}, TAKEN, {"noise_offset": 0.05}),
    ("noise_offset", {"noise_offset": 0.05, "noise_offset_type": "Multires"}, IGNORED, {"noise_offset": 0.0}),
    ("noise_offset_random_strength", {"noise_offset_random_strength": True}, IGNORED, {}),
    ("noise_offset_random_strength", {"noise_offset_random_strength": False}, SAME, {}),
    (
        "noise_offset_random_strength",
        {"noise_offset_random_strength": True, "noise_offset": 0.1},
        REFUSED,
        "the offset has one strength here",
    ),
    ("adaptive_noise_scale", {"adaptive_noise_scale": 0}, SAME, {}),
    ("adaptive_noise_scale", {"adaptive_noise_scale": 0.1}, REFUSED, "sd-scripts stops: it needs a noise_offset"),
    (
        "adaptive_noise_scale",
        {"adaptive_noise_scale": 0.01, "noise_offset": 0.1},
        TAKEN,
        {"adaptive_noise_scale": 0.01, "noise_offset": 0.1},
    ),
    ("adaptive_noise_scale", {"adaptive_noise_scale": 0.1, "noise_offset_type": "Multires"}, IGNORED, {}),
    ("multires_noise_iterations", {"multires_noise_iterations": 0}, TAKEN, {"multires_noise_iterations": 0}),
    ("multires_noise_iterations", {"multires_noise_iterations": 6}, IGNORED, {"multires_noise_iterations": 0}),
    ("multires_noise_iterations", MULTIRES, TAKEN, {"multires_noise_iterations": 6, "multires_noise_discount": 0.2}),
    ("multires_noise_iterations", {**MULTIRES, "multires_noise_iterations": 99}, REFUSED, "less than or equal to 16"),
    (
        "--multires_noise_iterations",
        {EXTRA: "--multires_noise_iterations 6", "multires_noise_discount": 0.1},
        TAKEN,
        {"multires_noise_iterations": 6, "multires_noise_discount": 0.3},  # the field's is not passed on
    ),
    ("multires_noise_discount", MULTIRES, TAKEN, {"multires_noise_discount": 0.2}),
    ("multires_noise_discount", {"multires_noise_discount": 0.3}, IGNORED, {}),
    ("seed", {"seed": "1234"}, TAKEN, {"seed": 1234}),
    ("seed", {"seed": ""}, DIFFERS, {}),
    ("--seed", {EXTRA: "--seed 0"}, TAKEN, {"seed": 0}),
    # the machine
    ("mixed_precision", {"mixed_precision": "no"}, TAKEN, {"precision": "float32"}),
    ("mixed_precision", {"mixed_precision": "fp16"}, TAKEN, {"precision": "float16"}),
    ("mixed_precision", {"mixed_precision": "bf16"}, TAKEN, {"precision": "bfloat16"}),
    ("mixed_precision", {"mixed_precision": "fp8"}, REFUSED, "Choose no, fp16, bf16"),
    ("full_fp16", {"full_fp16": True, "mixed_precision": "fp16"}, DIFFERS, {}),
    ("full_fp16", {"full_fp16": True, "mixed_precision": "bf16"}, REFUSED, "it needs mixed_precision fp16"),
    ("full_bf16", {"full_bf16": True, "mixed_precision": "bf16"}, DIFFERS, {}),
    ("full_bf16", {"full_bf16": False}, SAME, {}),
    ("sdxl_cache_text_encoder_outputs", {"sdxl_cache_text_encoder_outputs": True}, IGNORED, {}),
    ("sdxl_cache_text_encoder_outputs", {"sdxl_cache_text_encoder_outputs": False}, ELSEWHERE, {}),
    (EXTRA, {EXTRA: ""}, SAME, {}),
    (EXTRA, {EXTRA: "--alpha_mask"}, TAKEN, {}),
]
SDXL_CASES: list[Case] = [
    ("sdxl", {}, TAKEN, {}),
    ("sdxl", {"sdxl": False}, REFUSED, "the file is for sd15 models, and the profile sdxl for sdxl"),
    ("bucket_reso_steps", {"bucket_reso_steps": 32}, TAKEN, {"step": 32}),
    ("clip_skip", {"clip_skip": 2}, IGNORED, {}),
    ("max_resolution", {"max_resolution": "1024,1024"}, TAKEN, {}),
    ("sdxl_cache_text_encoder_outputs", {"sdxl_cache_text_encoder_outputs": True, **ONLY_UNET}, ELSEWHERE, {}),
    (
        "sdxl_cache_text_encoder_outputs",
        {"sdxl_cache_text_encoder_outputs": True},
        REFUSED,
        "it does not train the text encoders then",
    ),
    (
        "sdxl_cache_text_encoder_outputs",
        {"sdxl_cache_text_encoder_outputs": True, "caption_dropout_rate": 0.1, **ONLY_UNET},
        REFUSED,
        "with it there is no caption_dropout_rate",
    ),
    (
        "sdxl_cache_text_encoder_outputs",
        {"sdxl_cache_text_encoder_outputs": True, EXTRA: "--caption_tag_dropout_rate=0.1", **ONLY_UNET},
        REFUSED,
        "with it there is no caption_tag_dropout_rate",
    ),
]


def test_every_rule_has_a_case() -> None:
    flags = {f"--{row.flag}": key for key, row in rows().items() if row.flag}
    assert {flags.get(key, key) for key, *_ in CASES} == set(RULES)


@pytest.mark.parametrize(("key", "data", "verdict", "expected"), CASES)
def test_a_key_for_sd15(tmp_path: Path, key: str, data: dict[str, Any], verdict: str, expected: Any) -> None:
    check(tmp_path, key, data, verdict, expected, SD15)


@pytest.mark.parametrize(("key", "data", "verdict", "expected"), SDXL_CASES)
def test_a_key_for_sdxl(tmp_path: Path, key: str, data: dict[str, Any], verdict: str, expected: Any) -> None:
    check(tmp_path, key, {"sdxl": True, **data}, verdict, expected, SDXL)


def check(folder: Path, key: str, data: Mapping[str, Any], verdict: str, expected: Any, target: Target) -> None:
    if verdict == REFUSED:
        with pytest.raises(KohyaSettingsError) as error:
            read(folder, data, target)
        (fault,) = [fault for fault in str(error.value).splitlines() if expected in fault]
        found = f"'{EXTRA}': {key} " if key.startswith("--") else f"'{key}' = "
        assert f"kohya.json: {found}" in fault
        return
    imported = read(folder, data, target)
    assert line(imported, key).verdict == verdict
    settings = {**imported.training, **imported.buckets}
    assert {name: settings[name] for name in expected} == expected
    for name, value in expected.items():
        assert any(f"{name} = {value}" in each.effect for each in imported.report)


@pytest.mark.parametrize("key", [key for key, row in rows().items() if row.role == "off"])
def test_what_is_not_to_be_had_here_must_be_off(tmp_path: Path, key: str) -> None:
    row = rows()[key]
    on: Any = {"switch": True, "text": "something", "whole": 7, "number": 0.5}[row.kind]
    data = {EXTRA: f"{key} {'' if on is True else on}"} if key.startswith("--") else {key: on}
    with pytest.raises(KohyaSettingsError, match=r"(Turn it off|Remove it), or remove it\.") as error:
        read(tmp_path, data)
    (fault,) = str(error.value).splitlines()
    assert key in fault and row.note in fault
    if not key.startswith("--"):
        assert line(read(tmp_path, {key: row.default}), key).verdict == SAME
        assert line(read(tmp_path, {key: "" if row.kind == "text" else 0}), key).verdict == SAME


@pytest.mark.parametrize("key", [key for key, row in rows().items() if row.role in ("other", "elsewhere", "old")])
@pytest.mark.parametrize("value", ["something", 7])
def test_what_does_not_train_changes_nothing(tmp_path: Path, key: str, value: Any) -> None:
    row = rows()[key]
    value = True if row.kind == "switch" else value
    data = {EXTRA: f"{key}={value}"} if key.startswith("--") else {key: value}
    imported, without = read(tmp_path, data), read(tmp_path, {})
    assert (imported.training, imported.buckets) == (without.training, without.buckets)
    assert line(imported, key).verdict == (ELSEWHERE if row.role == "elsewhere" else IGNORED)


@pytest.mark.parametrize("key", [key for key, row in rows().items() if row.role == "setting"])
def test_a_key_that_is_a_setting_here(tmp_path: Path, key: str) -> None:
    row = rows()[key]
    on: Any = {"switch": True, "whole": 150, "number": 0.25}[row.kind]
    by_flag = read(tmp_path, {EXTRA: f"--{row.flag}" + ("" if on is True else f" {on}")})
    assert by_flag.training[row.note] == on
    assert line(by_flag, f"--{row.flag}").effect == f"{row.note} = {on}"
    if not key.startswith("--"):
        by_field = read(tmp_path, {key: on})
        assert by_field.training == by_flag.training
        left_out = read(tmp_path, {key: 0})
        assert left_out.training[row.note] == row.left_out
        assert ("sd-scripts takes" in line(left_out, key).effect) == bool(row.left_out)
