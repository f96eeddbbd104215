"""Trainers of bench_training as commands: ours, diffusers' example scripts, kohya-ss/sd-scripts.

Each has the same images and settings, in its own format; the peers' scripts run unchanged. bench_training.py says how
their speed is measured.
"""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.training.spec import TrainingSpec, save_spec

RANK = 16  # and alpha
LEARNING_RATE = 1e-4
CAPTION = "bench, 1girl, blue hair, smile, white background"
IMAGES = 16


@dataclass(frozen=True)
class Work:
    """Trained modules, precision and image side; text encoders are not trained."""

    family: Literal["sd15", "sdxl"]
    base: Path
    side: int
    batch: int
    targets: Literal["attention", "all"]
    precision: Literal["float32", "bfloat16"]

    @property
    def mixed_precision(self) -> str:
        return {"float32": "no", "bfloat16": "bf16"}[self.precision]


def write_images(folder: Path, side: int) -> None:
    """Write IMAGES squares of `side` pixels to `folder`.

    For ours with a table, for diffusers with metadata.jsonl, for sd-scripts with captions as text.
    """
    rng = np.random.default_rng(0)
    for name in ("ours/frames", "diffusers", f"sd_scripts/{_repeats(10_000)}_bench"):
        (folder / name).mkdir(parents=True)
    for number in range(IMAGES):
        path = folder / "ours" / "frames" / f"{number:02}.png"
        blocks = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((side, side), Image.Resampling.NEAREST).save(path)
        for copies in (folder / "diffusers", *(folder / "sd_scripts").iterdir()):
            shutil.copy(path, copies)
        (next((folder / "sd_scripts").iterdir()) / f"{number:02}.txt").write_text(CAPTION, encoding="utf-8")
    names = [f"{number:02}.png" for number in range(IMAGES)]
    lines = [json.dumps({"file_name": name, "text": CAPTION}) for name in names]
    (folder / "diffusers" / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = pd.DataFrame({"frame_id": names, "file": names, "caption": CAPTION, "probability": 1 / IMAGES})
    table.assign(bucket_width=side, bucket_height=side, split="train").to_parquet(folder / "ours" / "index.parquet")


def _repeats(samples: int) -> int:
    """So many that `samples` are one epoch: between two, sd-scripts starts its loader anew, which costs time."""
    return -(-samples // IMAGES)


def our_spec(work: Work, images: Path, output: Path, steps: int, **changes: Any) -> TrainingSpec:
    """One epoch of so many draws that it has `steps` steps; `changes` are to its settings."""
    return TrainingSpec.model_validate(
        {
            "name": "bench",
            "trigger": "bench",
            "family": work.family,
            "base": work.base.absolute(),
            "base_sha": "",
            "training_set": images / "ours",
            "frames": images / "ours" / "frames",
            "output": output,
            "cache": output / "cache",
            "resolution": work.side,
            "settings": {
                "rank": RANK,
                "alpha": RANK,
                "targets": work.targets,
                "epochs": 1,
                "samples_per_epoch": steps * work.batch,
                "batch_size": work.batch,
                "caption_dropout": 0.0,
                "learning_rate_unet": LEARNING_RATE,
                "learning_rate_text_encoder": 0.0,
                "schedule": "constant",
                "warmup_fraction": 0.0,
                "precision": work.precision,
                **changes,
            },
        }
    )


def ours(work: Work, images: Path, output: Path, steps: int) -> list[str | Path]:
    """Return the command of our trainer, with a line of progress for each step."""
    save_spec(our_spec(work, images, output, steps), output / "bench.json")
    return [sys.executable, "-m", "sticker_pipeline_tests.benchmarks.train_ours", output / "bench.json"]


def diffusers_script(checkout: Path, python: Path, work: Work, images: Path, output: Path, steps: int) -> list[str]:
    """It encodes images and captions anew in every step: it has no cache."""
    name = {"sd15": "train_text_to_image_lora.py", "sdxl": "train_text_to_image_lora_sdxl.py"}[work.family]
    return [
        str(python),
        str(checkout / "examples" / "text_to_image" / name),
        f"--pretrained_model_name_or_path={work.base.absolute()}",
        f"--train_data_dir={images / 'diffusers'}",
        f"--output_dir={output}",
        f"--cache_dir={output / 'cache'}",
        f"--resolution={work.side}",
        "--center_crop",
        f"--train_batch_size={work.batch}",
        f"--rank={RANK}",
        f"--learning_rate={LEARNING_RATE}",
        "--lr_scheduler=constant",
        "--lr_warmup_steps=0",
        f"--max_train_steps={steps}",
        "--checkpointing_steps=1000000",
        f"--mixed_precision={work.mixed_precision}",
        "--seed=0",
    ]


def sd_scripts(checkout: Path, python: Path, work: Work, images: Path, output: Path, steps: int) -> list[str]:
    """Cached latents, and for SDXL cached text encodings: for SD1.5 it cannot.

    Attention by PyTorch, no loader processes: their input is in memory.
    """
    name = {"sd15": "train_network.py", "sdxl": "sdxl_train_network.py"}[work.family]
    _keep_tokenizers(work, output / "tokenizers")
    return [
        str(python),
        str(checkout / name),
        f"--pretrained_model_name_or_path={work.base.absolute()}",
        f"--tokenizer_cache_dir={output / 'tokenizers'}",
        f"--train_data_dir={images / 'sd_scripts'}",
        "--caption_extension=.txt",
        f"--output_dir={output}",
        "--save_model_as=safetensors",
        f"--resolution={work.side},{work.side}",
        f"--train_batch_size={work.batch}",
        "--network_module=networks.lora",
        f"--network_dim={RANK}",
        f"--network_alpha={RANK}",
        "--network_train_unet_only",
        "--optimizer_type=AdamW",
        f"--learning_rate={LEARNING_RATE}",
        "--lr_scheduler=constant",
        f"--max_train_steps={steps}",
        f"--mixed_precision={work.mixed_precision}",
        "--sdpa",
        "--cache_latents",
        *(["--cache_text_encoder_outputs", "--no_half_vae"] if work.family == "sdxl" else []),
        "--max_data_loader_n_workers=0",
        "--seed=0",
    ]


SD_SCRIPTS_TOKENIZERS = {
    "openai_clip-vit-large-patch14": "tokenizer",
    "laion_CLIP-ViT-bigG-14-laion2B-39B-b160k": "tokenizer_2",
}
"""Where sd-scripts looks for tokenizers without a network, and the folders of the base model that they come from."""


def _keep_tokenizers(work: Work, folder: Path) -> None:
    for name, part in SD_SCRIPTS_TOKENIZERS.items():
        if (work.base / part).is_dir():
            shutil.copytree(work.base / part, folder / name)
