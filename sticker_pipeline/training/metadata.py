"""What a LoRA file says about itself: kohya's `ss_*` keys, which clients show and filter by, and `modelspec.*`.

Values only; the file format stands in lora_file.py. No times and no paths: equal trainings give equal files.
"""

import json
from collections import Counter
from typing import Any

import pandas as pd

from sticker_pipeline.training.lora_file import BASE_VERSIONS
from sticker_pipeline.training.spec import TrainingSpec

ARCHITECTURES = {"sd15": "stable-diffusion-v1/lora"}
PREDICTION_NAMES = {"epsilon": "epsilon", "v_prediction": "v"}
SCHEDULER_NAMES = {"restarts": "cosine_with_restarts", "constant": "constant_with_warmup"}  # as sd-scripts calls them


def lora_metadata(
    spec: TrainingSpec,
    table: pd.DataFrame,
    *,
    prediction_type: str,
    epoch: int,
    step: int,
    total_steps: int,
    mixed_precision: str,
) -> dict[str, str]:
    """Metadata of a checkpoint after `step` steps and `epoch` whole epochs; `table` is the train split."""
    settings = spec.settings
    folder = f"1_{spec.name}"
    values: dict[str, Any] = {
        "ss_output_name": spec.name,
        "ss_base_model_version": BASE_VERSIONS[spec.family],
        "ss_sd_model_name": spec.base.name,
        "ss_new_sd_model_hash": spec.base_sha,
        "ss_v2": False,
        "ss_network_module": "networks.lora",
        "ss_network_dim": settings.rank,
        "ss_network_alpha": settings.alpha,
        "ss_network_args": json.dumps({"targets": settings.targets}),
        "ss_resolution": f"({spec.resolution}, {spec.resolution})",
        "ss_clip_skip": None,
        "ss_learning_rate": settings.learning_rate_unet,
        "ss_unet_lr": settings.learning_rate_unet,
        "ss_text_encoder_lr": settings.learning_rate_text_encoder,
        "ss_lr_scheduler": SCHEDULER_NAMES[settings.schedule],
        "ss_lr_scheduler_args": json.dumps({"cycles": settings.cycles, "warmup_in_cycle": settings.warmup_fraction}),
        "ss_optimizer": f"torch.optim.AdamW(weight_decay={settings.weight_decay})",
        "ss_max_grad_norm": settings.max_grad_norm,
        "ss_caption_dropout_rate": settings.caption_dropout,
        "ss_mixed_precision": mixed_precision,
        "ss_cache_latents": True,
        "ss_seed": settings.seed,
        "ss_num_train_images": len(table),
        "ss_num_reg_images": 0,
        "ss_num_epochs": settings.epochs,
        "ss_batch_size_per_device": settings.batch_size,
        "ss_max_train_steps": total_steps,
        "ss_steps": step,
        "ss_epoch": epoch,
        "ss_dataset_dirs": json.dumps({folder: {"n_repeats": 1, "img_count": len(table)}}),
        "ss_tag_frequency": json.dumps({folder: tag_frequency(table)}, ensure_ascii=False),
        "ss_bucket_info": json.dumps(bucket_info(table)),
        "ss_training_comment": f"trigger: {spec.trigger}",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": ARCHITECTURES[spec.family],
        "modelspec.implementation": "diffusers",
        "modelspec.title": spec.name,
        "modelspec.resolution": f"{spec.resolution}x{spec.resolution}",
        "modelspec.prediction_type": PREDICTION_NAMES[prediction_type],
        "modelspec.trigger_phrase": spec.trigger,
        "modelspec.usage_hint": f"Begin the prompt with {spec.trigger}.",
    }
    return {key: str(value) for key, value in values.items()}


def tag_frequency(table: pd.DataFrame) -> dict[str, int]:
    """On how many pictures each comma-separated tag stands; most frequent first, then by name."""
    counts = Counter(tag.strip() for caption in table["caption"] for tag in set(caption.split(",")) if tag.strip())
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def bucket_info(table: pd.DataFrame) -> dict[str, Any]:
    """kohya's `ss_bucket_info`: how many pictures each size has, sizes in ascending order."""
    sizes = Counter(zip(table["bucket_width"].tolist(), table["bucket_height"].tolist(), strict=True))
    buckets = {
        str(number): {"resolution": list(size), "count": count}
        for number, (size, count) in enumerate(sorted(sizes.items()))
    }
    return {"buckets": buckets}
