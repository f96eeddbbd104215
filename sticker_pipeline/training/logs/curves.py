"""Charts of a training's log."""

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.core.images import line_chart

BAND = "loss_"


def losses(log: pd.DataFrame) -> Image.Image:
    """Chart of each step's loss, with running mean over 1/20 of steps."""
    window = _window(log)
    curves = {"each step": _curve(log, log["loss"]), f"mean of {window}": _smooth(log, log["loss"])}
    return line_chart(curves, title="loss", x="step", y="loss")


def losses_by_timestep(log: pd.DataFrame) -> Image.Image:
    """Chart of the smoothed squared error in each band of timesteps.

    Low ones are details, high ones shapes and colours.
    """
    bands = [name for name in log.columns if name.startswith(BAND)]
    curves = {f"timesteps {name.removeprefix(BAND).replace('_', '–')}": _smooth(log, log[name]) for name in bands}
    return line_chart(curves, title="squared error by timestep", x="step", y="mean squared error")


def fixed_losses(rows: pd.DataFrame) -> Image.Image:
    """Chart of the error on fixed images, noise and timesteps, by epoch.

    A rising holdout curve above a falling train curve shows overfitting.
    """
    names = {"train": "trained on", "holdout": "held out", "validation": "validation"}
    curves = {
        names[str(split)]: (part["epoch"].to_numpy(), part["loss"].to_numpy())
        for split, part in rows.groupby("split", sort=False)
    }
    return line_chart(curves, title="error on fixed images and noise", x="epoch", y="mean squared error")


def gradient_norms(log: pd.DataFrame, clipped_at: float | None) -> Image.Image:
    """Chart of each step's gradient norm before clipping, and the limit."""
    curves = {"each step": _curve(log, log["grad_norm"]), "mean": _smooth(log, log["grad_norm"])}
    if clipped_at is not None and log["grad_norm"].max() > clipped_at / 2:
        curves["clipped at"] = _curve(log, pd.Series(clipped_at, index=log.index))
    return line_chart(curves, title="gradient norm", x="step", y="norm")


def learning_rates(log: pd.DataFrame) -> Image.Image:
    curves = {"U-Net": _curve(log, log["lr_unet"]), "text encoder": _curve(log, log["lr_text_encoder"])}
    return line_chart(curves, title="learning rate", x="step", y="learning rate")


def _window(log: pd.DataFrame) -> int:
    return max(1, len(log) // 20)


def _curve(log: pd.DataFrame, values: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    return log["step"].to_numpy(), values.to_numpy(dtype=np.float64)


def _smooth(log: pd.DataFrame, values: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Running mean of existing values; some steps lack timesteps in a band."""
    return _curve(log, values.rolling(_window(log), min_periods=1).mean())
