"""The log of a training, one row per step, and what a person reads from its end.

How it is shown stands in progress.py.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch

from sticker_pipeline.storage import atomic_file
from sticker_pipeline.training.progress import State

COLUMNS = ["step", "epoch", "loss", "lr_unet", "lr_text_encoder", "grad_norm", "samples_per_s", "memory_bytes"]
STEPS_IN_PACE = 20  # the speed shown is the mean over this many last steps


@dataclass(frozen=True)
class LogRow:
    """One optimizer step as log.parquet keeps it; `step` and `epoch` count from 1."""

    step: int
    epoch: int
    loss: float
    lr_unet: float
    lr_text_encoder: float
    grad_norm: float
    samples: int  # pictures in this step, of all processes
    seconds: float
    memory_bytes: int

    @property
    def samples_per_s(self) -> float:
        return self.samples / self.seconds


def state(log: Sequence[LogRow], total_steps: int, epochs: int) -> State:
    """Where a training is, by the end of its log. The speed, and the time left, are those of the last few steps."""
    row, recent = log[-1], log[-STEPS_IN_PACE:]
    return State(
        step=row.step,
        total_steps=total_steps,
        epoch=row.epoch,
        epochs=epochs,
        loss=row.loss,
        learning_rate=row.lr_unet,
        samples_per_s=sum(row.samples for row in recent) / sum(row.seconds for row in recent),
        eta_s=(total_steps - row.step) * float(np.mean([row.seconds for row in recent])),
    )


def memory_bytes() -> int:
    """The peak of GPU memory where there is one, else this process's resident memory now."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return int(psutil.Process().memory_info().rss)


def write_log(log: Sequence[LogRow], path: Path) -> None:
    """Write `log` as Parquet with COLUMNS, whole or not at all."""
    with atomic_file(path) as staging:
        pd.DataFrame([asdict(row) | {"samples_per_s": row.samples_per_s} for row in log], columns=COLUMNS).to_parquet(
            staging, index=False
        )
