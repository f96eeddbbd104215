"""Results of a training, read from its files: checkpoints, losses, samples."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from sticker_pipeline.core.images import labelled_grid
from sticker_pipeline.core.storage import Artifact, link_or_copy
from sticker_pipeline.core.texts import counted

KEPT = ("checkpoints/epoch_*", "samples/*", "tensorboard/*", "*.parquet", "*.json")
MEMORY = "memory.json"


def checkpoints_of(training: Artifact) -> dict[int, Path]:
    """Checkpoint of each epoch. Raises StorageError for a damaged one."""
    return {epoch: training.file(name) for name, epoch in checkpoint_epochs(training).items()}


def checkpoint_epochs(training: Artifact) -> dict[str, int]:
    """Epoch of each checkpoint, by its name in the artifact."""
    names = sorted(name for name in training.files if name.startswith("checkpoints/epoch_"))
    return {name: int(Path(name).stem.removeprefix("epoch_")) for name in names}


def is_checkpoint(name: str) -> bool:
    """True for files that decide the data version; the log has timings."""
    return name.startswith("checkpoints/")


def collect(output: Path, staging: Path) -> None:
    """Collect the trainer's output, without states and interrupted checkpoints."""
    for pattern in KEPT:
        for path in sorted(output.glob(pattern)):
            link_or_copy(path, staging / path.relative_to(output))


def headline(folder: Path, log: pd.DataFrame) -> str:
    """Summary line of the training in `folder` with this `log`."""
    return (
        f"{counted(_epochs(folder), 'epoch')}, {counted(len(log), 'step')}, {log['seconds'].sum():.0f} s of steps, "
        f"last loss {log['loss'].tail(20).mean():.4f}"
    )


def memory(folder: Path) -> Any:
    """The trainer's memory plan, as JSON types."""
    return json.loads((folder / MEMORY).read_text(encoding="utf-8"))


def peak_memory_mb(log: pd.DataFrame) -> int:
    """Peak memory of all steps, in MiB."""
    return int(log["memory_bytes"].max() // 2**20)


def sample_grid(folder: Path) -> Image.Image:
    """Sample images: a row per prompt, a column per epoch."""
    epochs = range(1, _epochs(folder) + 1)
    rows = [
        [Image.open(folder / "samples" / f"epoch_{epoch:02d}_{number}.png") for epoch in epochs]
        for number in range(len(list((folder / "samples").glob("epoch_01_*.png"))))
    ]
    names = [f"epoch {epoch}" for epoch in epochs]
    return labelled_grid([f"prompt {number + 1}" for number in range(len(rows))], names, rows, cell=84)


def _epochs(folder: Path) -> int:
    return len(list((folder / "checkpoints").iterdir()))
