import numpy as np
import pandas as pd
import pytest

from sticker_pipeline.training.logs import curves
from sticker_pipeline.training.logs.tables import BAND_COLUMNS, LOG


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The curves of the chart that was drawn last."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    original = curves.line_chart

    def record(series: dict[str, tuple[np.ndarray, np.ndarray]], **words: str) -> object:
        found.clear()
        found.update(series)
        return original(series, **words)

    monkeypatch.setattr(curves, "line_chart", record)
    return found


def log(steps: int) -> pd.DataFrame:
    table = pd.DataFrame(1.0, index=range(steps), columns=LOG.names)
    table["step"] = np.arange(1, steps + 1)
    table["loss"] = np.arange(steps, dtype=float)
    table[BAND_COLUMNS[0]] = [2.0 if step % 2 else np.nan for step in range(steps)]
    table[BAND_COLUMNS[1]] = np.nan
    return table


def test_the_loss_is_smoothed_over_a_twentieth(seen: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    curves.losses(log(40))
    assert list(seen) == ["each step", "mean of 2"]
    assert seen["mean of 2"][1].tolist() == [0.0, *(step - 0.5 for step in range(1, 40))]


def test_bands_skip_the_steps_that_drew_none(seen: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    curves.losses_by_timestep(log(40))
    assert len(seen) == 4
    first, second, *_ = (values for _, values in seen.values())
    assert np.isnan(first[0]) and (first[1:] == 2.0).all() and np.isnan(second).all()


def test_where_the_gradient_is_clipped_is_shown(seen: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    curves.gradient_norms(log(10), 0.5)
    assert set(seen["clipped at"][1]) == {0.5}
    curves.gradient_norms(log(10), None)
    assert "clipped at" not in seen


FACTORS = {"train": 1, "holdout": 2, "validation": 3}


def test_fixed_images_have_a_curve_for_each_split(seen: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    rows = [(epoch, split, epoch * factor) for epoch in range(3) for split, factor in FACTORS.items()]
    curves.fixed_losses(pd.DataFrame(rows, columns=["epoch", "split", "loss"]))
    assert {name: values.tolist() for name, (_, values) in seen.items()} == {
        "trained on": [0, 1, 2],
        "held out": [0, 2, 4],
        "validation": [0, 3, 6],
    }
