"""Small files with the key names of kohya_ss's LoRA form."""

import json
from pathlib import Path
from typing import Any

from sticker_pipeline.core.kohya_settings.form import Target
from sticker_pipeline.core.kohya_settings.read import KohyaImport, Line, read_kohya_settings

SD15 = Target("sd15", "sd15", 512, 8)
SDXL = Target("sdxl", "sdxl", 1024, 8)

# As a person saves it who has filled in the form for SD1.5.
FILLED: dict[str, Any] = {
    "LoRA_type": "Standard",
    "pretrained_model_name_or_path": "D:/models/anything.safetensors",
    "train_data_dir": "D:/luma/img",
    "output_name": "luma",
    "sdxl": False,
    "max_resolution": "512,512",
    "network_dim": 64,
    "network_alpha": 32,
    "unet_lr": 0.0002,
    "text_encoder_lr": "5e-05",
    "learning_rate": 0.0001,
    "lr_scheduler": "cosine_with_restarts",
    "lr_scheduler_num_cycles": "3",
    "lr_warmup": 5,
    "optimizer": "AdamW8bit",
    "optimizer_args": "weight_decay=0.1 betas=0.9,0.99",
    "epoch": "10",
    "max_train_epochs": "",
    "max_train_steps": "",
    "train_batch_size": 2,
    "shuffle_caption": True,
    "keep_tokens": "2",
    "min_snr_gamma": 5,
    "seed": "1234",
    "mixed_precision": "bf16",
    "additional_parameters": "",
}


def read(folder: Path, data: Any, target: Target = SD15) -> KohyaImport:
    path = folder / "kohya.json"
    path.write_text(json.dumps(data))
    return read_kohya_settings(path, target)


def line(imported: KohyaImport, key: str) -> Line:
    """The only line of the report on `key`."""
    (found,) = (line for line in imported.report if line.key == key)
    return found
