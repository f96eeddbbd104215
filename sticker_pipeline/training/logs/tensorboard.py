"""The log of a training in TensorBoard's format: `tensorboard --logdir <folder>` shows it while it grows.

Only this format belongs here: what is logged stands in log.py and training/validation_loss.py.
"""

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
    """Writes rows and images where there is a `writer`, and nothing where there is none."""

    def __init__(self, writer: Any | None) -> None:
        self._writer = writer

    def step(self, row: LogRow) -> None:
        """One step of the training."""
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
        """Points of curves at `step`; what is no number is left out."""
        if self._writer is None:
            return
        for name, value in values.items():
            if value == value:
                self._writer.add_scalar(name, value, step)

    def image(self, name: str, image: Image.Image, step: int) -> None:
        """An RGB image at `step`."""
        if self._writer is not None:
            self._writer.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")


@contextmanager
def open_board(folder: Path | None, step: int) -> Iterator[Board]:
    """A board that goes on after `step`: points of an earlier run behind it are hidden. None: nothing is written.
    Raises SpaceError, at some later call, where the board cannot be written."""
    if folder is None:
        yield Board(None)
        return
    from torch.utils.tensorboard import SummaryWriter

    # It writes in a thread of its own: what that could not write is raised by a later call, without a name.
    with writing(folder), SummaryWriter(str(folder), purge_step=step + 1) as writer:
        yield Board(writer)
