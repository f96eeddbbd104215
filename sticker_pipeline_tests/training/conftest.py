"""A short training: a random base model, ten small images, and specs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sticker_pipeline.training.spec import TrainingSpec

SpecMaker = Callable[..., TrainingSpec]


def write_training_set(folder: Path, images: int = 10, side: int = 32) -> None:
    """Write `images` blocks of colour and their index.parquet into `folder`.

    Blocks lie in `folder`/frames; eight in ten are to train on.
    """
    rng = np.random.default_rng(7)
    (folder / "frames").mkdir(parents=True)
    rows = []
    for number in range(images):
        blocks = rng.integers(0, 256, (4, 4, 4), dtype=np.uint8).repeat(10, axis=0).repeat(10, axis=1)
        Image.fromarray(blocks, "RGBA").save(folder / "frames" / f"{number}.png")
        split = "holdout" if number % 5 == 4 else "train"
        caption = "nova_tag, sticker, smile" if number % 2 else "nova_tag, art, angry"
        rows.append((f"frame-{number}", f"{number}.png", caption, 0.0, side, side, split))
    columns = ["frame_id", "file", "caption", "probability", "bucket_width", "bucket_height", "split"]
    table = pd.DataFrame(rows, columns=columns)
    table.loc[table["split"] == "train", "probability"] = 1 / (table["split"] == "train").sum()
    table.to_parquet(folder / "index.parquet")


@pytest.fixture
def make_spec(tmp_path: Path, tiny_base: Path) -> SpecMaker:
    """A function that makes specs over one training set in tmp_path.

    Keywords replace values, also of `settings`.
    """
    write_training_set(tmp_path / "set")

    def make(*, settings: dict[str, Any] | None = None, **changes: Any) -> TrainingSpec:
        values: dict[str, Any] = {
            "name": "nova",
            "trigger": "nova_tag",
            "base": tiny_base,
            "base_sha": "ab12",
            "training_set": tmp_path / "set",
            "frames": tmp_path / "set" / "frames",
            "output": tmp_path / "out",
            "cache": tmp_path / "cache",
            "resolution": 32,
            "settings": {
                "rank": 4,
                "alpha": 2.0,
                "epochs": 2,
                "samples_per_epoch": 6,
                "batch_size": 2,
                "learning_rate_unet": 1e-3,
                "learning_rate_text_encoder": 1e-3,
                **(settings or {}),
            },
            "generation": {"steps": 2},
            **changes,
        }
        return TrainingSpec.model_validate(values)

    return make
