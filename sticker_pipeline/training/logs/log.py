"""The log of a training, one row per step."""

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

STEPS_IN_PACE = 20  # averaged for the speed shown
WINDOW, EXPLODED = 50, 4.0  # explosion: a mean error over WINDOW steps of EXPLODED times the lowest


@dataclass(frozen=True)
class LogRow:
    """One optimizer step in log.parquet; `step` and `epoch` count from 1.

    `loss` is minimised; `error` is the mean squared error without loss weights (but with pixel weights where
    background_weight < 1), `bands` that in each of BANDS, NaN without such timesteps.
    """

    step: int
    epoch: int
    loss: float
    error: float
    bands: tuple[float, ...]
    lr_unet: float
    lr_text_encoder: float
    grad_norm: float
    samples: int  # images of all processes
    seconds: float
    memory_bytes: int
    weights_scaled: int = 0  # modules that max_weight_norm scaled down
    weight_norm: float = math.nan  # mean over the modules; NaN without a limit

    @property
    def samples_per_s(self) -> float:
        return self.samples / self.seconds


def band_errors(errors: torch.Tensor, timesteps: torch.Tensor) -> tuple[float, ...]:
    """Mean of `errors` float32[b] in each of BANDS by `timesteps` int64[b], or NaN."""
    found = []
    for low, high in BANDS:
        inside = errors[(timesteps >= low) & (timesteps < high)]
        found.append(float(inside.mean()) if len(inside) else math.nan)
    return tuple(found)


def state(log: Sequence[LogRow], total_steps: int, epochs: int) -> State:
    """State at the log's end; recent steps give speed and time left."""
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
    """True if the error exploded, checked once in WINDOW steps."""
    if len(log) < 2 * WINDOW or len(log) % WINDOW:
        return False
    means = np.array([row.error for row in log]).reshape(-1, WINDOW).mean(axis=1)
    return bool(means[-1] > EXPLODED * means[:-1].min())


def memory_bytes() -> int:
    """Peak GPU memory reserved by PyTorch, else the process's resident memory."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_reserved())
    return int(psutil.Process().memory_info().rss)


def raw_table(log: Sequence[LogRow]) -> pd.DataFrame:
    """`log` with a column per field of LogRow, for `log_rows`."""
    return pd.DataFrame([asdict(row) | {"bands": list(row.bands)} for row in log], columns=[*LogRow.__annotations__])


def log_rows(table: pd.DataFrame) -> list[LogRow]:
    """Log of a raw_table."""
    return [LogRow(**{**row, "bands": tuple(row["bands"])}) for row in table.to_dict(orient="records")]  # type: ignore[arg-type]


def log_table(log: Sequence[LogRow]) -> pd.DataFrame:
    rows = [
        {**asdict(row), **dict(zip(BAND_COLUMNS, row.bands, strict=True)), "samples_per_s": row.samples_per_s}
        for row in log
    ]
    return typed(pd.DataFrame(rows, columns=LOG.names), LOG)


def write_log(log: Sequence[LogRow], path: Path) -> None:
    """Write `log` as the table LOG, whole or not at all. Raises SchemaError."""
    table = log_table(log)
    check(table, LOG)
    with atomic_file(path) as staging:
        table.to_parquet(staging, index=False)
