"""The log of a training, one row per step, and what a person reads from its end.

progress.py and tensorboard.py show it; the loss on fixed images and noise is in training/validation_loss.py.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch

from sticker_pipeline.core.schemas import check, typed
from sticker_pipeline.core.storage import atomic_file
from sticker_pipeline.training.logs.progress import State
from sticker_pipeline.training.logs.tables import BAND_COLUMNS, BANDS, LOG

STEPS_IN_PACE = 20  # the speed shown is the mean over this many last steps
WINDOW, EXPLODED = 50, 4.0  # the error has exploded when its mean over WINDOW steps is EXPLODED times its lowest


@dataclass(frozen=True)
class LogRow:
    """One optimizer step as log.parquet keeps it; `step` and `epoch` count from 1.

    `loss` is what is minimised; `error` the plain mean squared error, and `bands` that of each of BANDS (no number
    where the step drew no such timestep).
    """

    step: int
    epoch: int
    loss: float
    error: float
    bands: tuple[float, ...]
    lr_unet: float
    lr_text_encoder: float
    grad_norm: float
    samples: int  # images in this step, of all processes
    seconds: float
    memory_bytes: int
    weights_scaled: int = 0  # modules that max_weight_norm scaled down
    weight_norm: float = math.nan  # mean over the modules; not computed where there is no limit

    @property
    def samples_per_s(self) -> float:
        return self.samples / self.seconds


def band_errors(errors: torch.Tensor, timesteps: torch.Tensor) -> tuple[float, ...]:
    """The mean of `errors` (float32[b]) in each of BANDS by `timesteps` (int64[b]); no number where there is none."""
    found = []
    for low, high in BANDS:
        inside = errors[(timesteps >= low) & (timesteps < high)]
        found.append(float(inside.mean()) if len(inside) else math.nan)
    return tuple(found)


def state(log: Sequence[LogRow], total_steps: int, epochs: int) -> State:
    """Where a training is, by the end of its log. The speed, and the time left, are those of the last few steps."""
    row, recent = log[-1], log[-STEPS_IN_PACE:]
    return State(
        step=row.step,
        total_steps=total_steps,
        epoch=row.epoch,
        epochs=epochs,
        loss=row.loss,
        grad_norm=row.grad_norm,
        learning_rate=row.lr_unet,
        samples_per_s=sum(row.samples for row in recent) / sum(row.seconds for row in recent),
        eta_s=(total_steps - row.step) * float(np.mean([row.seconds for row in recent])),
    )


def has_exploded(log: Sequence[LogRow]) -> bool:
    """Whether the error of the last WINDOW steps is far above what it was: looked at once in WINDOW steps."""
    if len(log) < 2 * WINDOW or len(log) % WINDOW:
        return False
    means = np.array([row.error for row in log]).reshape(-1, WINDOW).mean(axis=1)
    return bool(means[-1] > EXPLODED * means[:-1].min())


def memory_bytes() -> int:
    """The most that PyTorch has taken of the GPU so far where there is one, else this process's resident memory now."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_reserved())
    return int(psutil.Process().memory_info().rss)


def raw_table(log: Sequence[LogRow]) -> pd.DataFrame:
    """`log` with a column for each field of LogRow: read back without loss by `log_rows`."""
    return pd.DataFrame([asdict(row) | {"bands": list(row.bands)} for row in log], columns=[*LogRow.__annotations__])


def log_rows(table: pd.DataFrame) -> list[LogRow]:
    """The log of which `table` is the raw_table."""
    return [LogRow(**{**row, "bands": tuple(row["bands"])}) for row in table.to_dict(orient="records")]  # type: ignore[arg-type]


def log_table(log: Sequence[LogRow]) -> pd.DataFrame:
    """`log` as the table LOG."""
    rows = [
        {**asdict(row), **dict(zip(BAND_COLUMNS, row.bands, strict=True)), "samples_per_s": row.samples_per_s}
        for row in log
    ]
    return typed(pd.DataFrame(rows, columns=LOG.names), LOG)


def write_log(log: Sequence[LogRow], path: Path) -> None:
    """Write `log` as the table LOG in Parquet, whole or not at all. Raises SchemaError."""
    table = log_table(log)
    check(table, LOG)
    with atomic_file(path) as staging:
        table.to_parquet(staging, index=False)
