"""The log in TensorBoard's format: `tensorboard --logdir <folder>` shows it live."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sticker_pipeline.core.files.space import writing
from sticker_pipeline.training.logs.log import LogRow
from sticker_pipeline.training.logs.tables import BAND_COLUMNS

FOLDER = "tensorboard"


class Board:
    """Writer of rows and images; without `writer`, nothing is written."""

    def __init__(self, writer: Any | None) -> None:
        self._writer = writer

    def step(self, row: LogRow) -> None:
        values = {"loss": row.loss, "grad_norm": row.grad_norm, "samples_per_s": row.samples_per_s}
        values |= {
            f"error/{name.removeprefix('loss_')}": value for name, value in zip(BAND_COLUMNS, row.bands, strict=True)
        }
        values |= {"learning_rate/unet": row.lr_unet, "learning_rate/text_encoder": row.lr_text_encoder}
        values |= {"memory_bytes": row.memory_bytes, "weight_norm": row.weight_norm}
        if row.weight_norm == row.weight_norm:
            values |= {"weights_scaled": row.weights_scaled}
        self.scalars({f"training/{name}": value for name, value in values.items()}, row.step)

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Write points of curves at `step`; NaN is left out."""
        if self._writer is None:
            return
        for name, value in values.items():
            if value == value:
                self._writer.add_scalar(name, value, step)

    def image(self, name: str, image: Image.Image, step: int) -> None:
        if self._writer is not None:
            self._writer.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")


@contextmanager
def open_board(folder: Path | None, step: int) -> Iterator[Board]:
    """Open a board that continues after `step`; None: nothing is written.

    Later points of an earlier run are hidden. Raises SpaceError, at some later call, where the board cannot be written.
    """
    if folder is None:
        yield Board(None)
        return
    from torch.utils.tensorboard import SummaryWriter

    # Its thread's write errors are raised by a later call, without a file name.
    with writing(folder), SummaryWriter(str(folder), purge_step=step + 1) as writer:
        yield Board(writer)
