"""Metadata of a LoRA file: kohya's `ss_*` keys and `modelspec.*`.

Without times and paths: equal trainings give equal files.
"""

import json
import math
from collections import Counter
from typing import Any

import pandas as pd

from sticker_pipeline.core.optimizer_table import OPTIMIZERS, Optimizer
from sticker_pipeline.core.settings import UNWARMED, TrainingSettings
from sticker_pipeline.diffusion.families import FAMILIES
from sticker_pipeline.training.spec import TrainingSpec

PREDICTION_NAMES = {"epsilon": "epsilon", "v_prediction": "v"}
# Names in sd-scripts (train_network.py, library/train_util.py).
SCHEDULER_NAMES = {
    "cosine_restarts_warmup_each": "cosine_with_restarts",
    "cosine_restarts": "cosine_with_restarts",
    "cosine": "cosine",
    "cosine_annealing": "CosineAnnealingLR",
    "linear": "linear",
    "constant": "constant_with_warmup",
    "relative": "adafactor",
}
# Conventions of the U-Net's key names (sd-scripts, library/sai_model_spec.py).
IMPLEMENTATIONS = {"sd15": "diffusers", "sdxl": "https://github.com/Stability-AI/generative-models"}


def lora_metadata(
    spec: TrainingSpec,
    table: pd.DataFrame,
    *,
    prediction_type: str,
    epoch: int,
    step: int,
    total_steps: int,
    mixed_precision: str,
    regularisation_images: int = 0,
) -> dict[str, str]:
    """Metadata of a checkpoint after `step` steps and `epoch` whole epochs.

    `table`: the train split. `prediction_type`: "epsilon" or "v_prediction", as trained. `mixed_precision`:
    accelerate's name.
    """
    values = {
        **_model(spec),
        **_network(spec.settings),
        **_optimization(spec.settings, total_steps),
        **_loss(spec.settings),
        **_captions(spec),
        **_images(spec, table, regularisation_images),
        "ss_mixed_precision": mixed_precision,
        "ss_seed": spec.settings.seed,
        "ss_num_epochs": spec.settings.epochs,
        "ss_steps": step,
        "ss_epoch": epoch,
        **_modelspec(spec, prediction_type),
    }
    return {key: str(value) for key, value in values.items()}


def _model(spec: TrainingSpec) -> dict[str, Any]:
    return {
        "ss_output_name": spec.name,
        "ss_base_model_version": FAMILIES[spec.family].base_version,
        "ss_sd_model_name": spec.base.name,
        "ss_new_sd_model_hash": spec.base_sha,
        "ss_v2": False,
        "ss_training_comment": f"trigger: {spec.trigger}" if spec.trigger else "no trigger",
    }


def _network(settings: TrainingSettings) -> dict[str, Any]:
    """Network keys, with string arguments as on sd-scripts' command line.

    `conv_dim` and `conv_alpha` mean 3×3 convolutions there too.
    """
    arguments: dict[str, Any] = {"targets": settings.targets}
    if settings.targets != "attention":
        arguments["feed_forward_dim"] = settings.feed_forward_rank or settings.rank
        arguments["feed_forward_alpha"] = settings.feed_forward_alpha or settings.alpha
    if settings.targets == "all+conv":
        arguments["conv_dim"] = settings.conv_rank or settings.rank
        arguments["conv_alpha"] = settings.conv_alpha or settings.alpha
    arguments["dora"] = settings.dora
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": settings.rank,
        "ss_network_alpha": settings.alpha,
        "ss_network_args": json.dumps({key: str(value) for key, value in arguments.items()}),
    }


def _optimization(settings: TrainingSettings, total_steps: int) -> dict[str, Any]:
    scheduler = SCHEDULER_NAMES[settings.schedule]
    schedule: dict[str, Any] = {
        "warmup": settings.warmup_fraction,
        "warmup_in_cycle": settings.schedule == "cosine_restarts_warmup_each",
    }
    if scheduler == "cosine_with_restarts":
        schedule["cycles"] = settings.cycles
    if settings.schedule in UNWARMED:
        schedule = {"T_max": settings.annealing_steps} if settings.schedule == "cosine_annealing" else {}
    warmed_up = (
        math.ceil(total_steps / settings.cycles) if settings.schedule == "cosine_restarts_warmup_each" else total_steps
    )
    return {
        "ss_learning_rate": settings.learning_rate_unet,
        "ss_unet_lr": settings.learning_rate_unet,
        "ss_text_encoder_lr": settings.learning_rate_text_encoder,
        "ss_lr_scheduler": "constant"
        if not settings.warmup_fraction and settings.schedule == "constant"
        else scheduler,
        "ss_lr_scheduler_args": json.dumps(schedule),
        "ss_lr_warmup_steps": 0 if settings.schedule in UNWARMED else round(settings.warmup_fraction * warmed_up),
        "ss_optimizer": _written(OPTIMIZERS[settings.optimizer], settings),
        "ss_max_grad_norm": settings.max_grad_norm or 0.0,  # sd-scripts: 0 does not clip
        "ss_scale_weight_norms": settings.max_weight_norm,
        "ss_gradient_accumulation_steps": settings.gradient_accumulation,
        "ss_batch_size_per_device": settings.batch_size,
        "ss_max_train_steps": total_steps,
    }


def _written(optimizer: Optimizer, settings: TrainingSettings) -> str:
    """The optimizer as a call: mandatory, fixed and changed arguments."""
    usual = {setting: TrainingSettings.model_fields[setting].default for setting in optimizer.arguments}
    given = {setting: getattr(settings, setting) for setting in optimizer.arguments}
    rows = optimizer.arguments.items()
    written = {
        **{argument.name: given[setting] for setting, argument in rows if argument.always_written},
        **{name: ours for name, (default, ours) in optimizer.fixed.items() if ours != default},
        **{
            argument.name: given[setting]
            for setting, argument in rows
            if not argument.always_written and given[setting] != usual[setting]
        },
    }
    return f"{optimizer.constructor}({','.join(f'{name}={value}' for name, value in written.items())})"


def _loss(settings: TrainingSettings) -> dict[str, Any]:
    """Loss keys; None where sd-scripts has no default."""
    return {
        "ss_min_snr_gamma": settings.min_snr_gamma if settings.loss_weighting == "min_snr" else None,
        "ss_debiased_estimation": settings.loss_weighting == "debiased",
        "ss_noise_offset": settings.noise_offset or None,
        "ss_adaptive_noise_scale": settings.adaptive_noise_scale or None,
        "ss_multires_noise_iterations": settings.multires_noise_iterations or None,
        "ss_multires_noise_discount": settings.multires_noise_discount,
        "ss_zero_terminal_snr": settings.zero_terminal_snr,
        "ss_prior_loss_weight": settings.regularisation_weight if settings.regularisation else 1.0,
        "ss_loss_type": "l2",
    }


def _captions(spec: TrainingSpec) -> dict[str, Any]:
    settings = spec.settings
    return {
        "ss_clip_skip": _clip_skip(spec),
        "ss_max_token_length": settings.max_tokens if settings.max_tokens > 75 else None,
        "ss_shuffle_caption": settings.shuffle_tags,
        "ss_keep_tokens": settings.keep_tags,
        "ss_caption_tag_dropout_rate": settings.tag_dropout,
        "ss_caption_dropout_rate": settings.caption_dropout,
    }


def _clip_skip(spec: TrainingSpec) -> int | None:
    """None for SDXL, where the layer is fixed."""
    return None if FAMILIES[spec.family].penultimate else spec.settings.clip_skip


def _images(spec: TrainingSpec, table: pd.DataFrame, regularisation_images: int) -> dict[str, Any]:
    folder, sides = f"1_{spec.name}", table[["bucket_width", "bucket_height"]]
    return {
        "ss_resolution": f"({spec.resolution}, {spec.resolution})",
        "ss_num_train_images": len(table),
        "ss_num_reg_images": regularisation_images,
        "ss_cache_latents": True,
        "ss_flip_aug": spec.settings.flip,
        "ss_random_crop": spec.settings.crops > 1,
        "ss_enable_bucket": bool((sides != spec.resolution).to_numpy().any()),
        "ss_min_bucket_reso": int(sides.to_numpy().min()),
        "ss_max_bucket_reso": int(sides.to_numpy().max()),
        "ss_bucket_info": json.dumps(bucket_info(table)),
        "ss_dataset_dirs": json.dumps({folder: {"n_repeats": 1, "img_count": len(table)}}),
        "ss_tag_frequency": json.dumps({folder: tag_frequency(table)}, ensure_ascii=False),
    }


def _modelspec(spec: TrainingSpec, prediction_type: str) -> dict[str, Any]:
    """Keys of Stability's ModelSpec 1.0.1 (github.com/Stability-AI/ModelSpec).

    write_lora adds the hash; the recommended date is left out.
    """
    layer = _clip_skip(spec)
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": FAMILIES[spec.family].architecture,
        "modelspec.implementation": IMPLEMENTATIONS[spec.family],
        "modelspec.title": spec.name,
        "modelspec.resolution": f"{spec.resolution}x{spec.resolution}",
        **({"modelspec.trigger_phrase": spec.trigger} if spec.trigger else {}),
        "modelspec.prediction_type": PREDICTION_NAMES[prediction_type],
        "modelspec.usage_hint": f"Begin the prompt with {spec.trigger}." if spec.trigger else "It has no trigger word.",
        **({"modelspec.encoder_layer": layer} if layer is not None else {}),
    }


def tag_frequency(table: pd.DataFrame) -> dict[str, int]:
    """Number of images of each comma-separated tag, by frequency, then name."""
    counts = Counter(tag.strip() for caption in table["caption"] for tag in set(caption.split(",")) if tag.strip())
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def bucket_info(table: pd.DataFrame) -> dict[str, Any]:
    """kohya's `ss_bucket_info`: images of each size, ascending."""
    sizes = Counter(zip(table["bucket_width"].tolist(), table["bucket_height"].tolist(), strict=True))
    buckets = {
        str(number): {"resolution": list(size), "count": count}
        for number, (size, count) in enumerate(sorted(sizes.items()))
    }
    return {"buckets": buckets}
