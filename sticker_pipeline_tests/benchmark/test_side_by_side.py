"""Our LoRA beside the others: every difference that is shown is the paired one."""

import numpy as np
import pandas as pd
import pytest

from sticker_pipeline.benchmark.measure import Pictures, References, Training, Yardstick
from sticker_pipeline.benchmark.side_by_side import COMPARISONS, comparisons
from sticker_pipeline.benchmark.tables import BenchmarkResult, benchmark_table, compare

X, Y, Z = np.eye(3)
TRAINING = Training(np.array([Y, Z]), ["gif", "still"], ["sticker", "sticker"])
REFERENCES = {
    "sticker": References(np.array([X, 0.6 * X + 0.8 * Y, Y]), ["a", "b", "c"]),
    "art": References(np.array([X, 0.8 * X + 0.6 * Z]), ["d", "e"]),
}


def measured(**models: dict[str, list[np.ndarray]]) -> BenchmarkResult:
    generated = {
        model: {style: Pictures(np.array(rows)) for style, rows in styles.items()} for model, styles in models.items()
    }
    return benchmark_table(generated, Yardstick(REFERENCES, TRAINING), samples=200)


def four_models() -> BenchmarkResult:
    """The rival was drawn in one style only."""
    return measured(
        zed={"sticker": [X, Y, X]},
        lora={"sticker": [X, X, X], "art": [X, X, Z]},
        base={"sticker": [Y, Z, X], "art": [Z, Y, Z]},
        released={"sticker": [X, X, Y], "art": [X, X, X]},
    )


def test_the_lora_is_compared_with_every_other_model() -> None:
    result = four_models()
    table = comparisons(result)
    assert list(table.columns) == COMPARISONS
    assert list(dict.fromkeys(table["other"])) == ["base", "released", "zed"]
    assert set(table["model"]) == {"lora"}
    for other, part in table.groupby("other"):
        own = part.drop(columns=["model", "other"]).reset_index(drop=True)
        pd.testing.assert_frame_equal(own, compare(result, "lora", str(other)))
    assert set(table.loc[table["other"] == "zed", "style"]) == {"all", "sticker"}
    row = table[(table["other"] == "base") & (table["metric"] == "clip_similarity") & (table["style"] == "sticker")]
    # to the clips a, b, c: X is (1 + .6 + 0) / 3 like them, Y (0 + .8 + 1) / 3, Z not at all
    assert row["difference"].item() == pytest.approx(1.6 / 3 - (1.8 / 3 + 0 + 1.6 / 3) / 3)
    assert row["n"].item() == 3


@pytest.mark.parametrize("models", [{}, {"base": {"art": [X, Y]}}, {"lora": {"art": [X, Y]}}])
def test_who_is_alone_is_compared_with_nobody(models: dict[str, dict[str, list[np.ndarray]]]) -> None:
    table = comparisons(measured(**models))
    assert table.empty
    pd.testing.assert_series_equal(table.dtypes, comparisons(four_models()).dtypes)
