"""What a training leaves behind, as files and images: checkpoints, losses, samples of each epoch.

It is read here by others than the trainer, which writes it in train.py.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from sticker_pipeline.core.images import labelled_grid
from sticker_pipeline.core.storage import Artifact, link_or_copy

KEPT = ("checkpoints/epoch_*", "samples/*", "tensorboard/*", "*.parquet", "*.json")
MEMORY = "memory.json"


def checkpoints_of(training: Artifact) -> dict[int, Path]:
    """The checkpoint of each epoch of a training. Raises StorageError for one that is damaged."""
    names = sorted(name for name in training.files if name.startswith("checkpoints/epoch_"))
    return {int(Path(name).stem.removeprefix("epoch_")): training.file(name) for name in names}


def is_checkpoint(name: str) -> bool:
    """Whether a file of the artifact is what makes its data version: the log has timings."""
    return name.startswith("checkpoints/")


def collect(output: Path, staging: Path) -> None:
    """Place what the trainer made; states, and checkpoints of interrupted runs, stay behind."""
    for pattern in KEPT:
        for path in sorted(output.glob(pattern)):
            link_or_copy(path, staging / path.relative_to(output))


def headline(folder: Path, log: pd.DataFrame) -> str:
    """Say in one line what was trained in `folder`, which has the `log`."""
    return (
        f"{_epochs(folder)} epochs, {len(log)} steps, {log['seconds'].sum():.0f} s of steps, "
        f"last loss {log['loss'].tail(20).mean():.4f}"
    )


def memory(folder: Path) -> Any:
    """Read what the trainer said of the memory that it needs, as JSON types."""
    return json.loads((folder / MEMORY).read_text(encoding="utf-8"))


def peak_memory_mb(log: pd.DataFrame) -> int:
    """The most memory of all steps, in MiB."""
    return int(log["memory_bytes"].max() // 2**20)


def sample_grid(folder: Path) -> Image.Image:
    """Sample images of every epoch: a row per prompt, a column per epoch."""
    epochs = range(1, _epochs(folder) + 1)
    rows = [
        [Image.open(folder / "samples" / f"epoch_{epoch:02d}_{number}.png") for epoch in epochs]
        for number in range(len(list((folder / "samples").glob("epoch_01_*.png"))))
    ]
    names = [f"epoch {epoch}" for epoch in epochs]
    return labelled_grid([f"prompt {number + 1}" for number in range(len(rows))], names, rows, cell=84)


def _epochs(folder: Path) -> int:
    return len(list((folder / "checkpoints").iterdir()))
