from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sticker_pipeline.benchmark.tables import (
    COLUMNS,
    BenchmarkResult,
    References,
    benchmark_table,
    leaderboard,
    leaderboard_markdown,
    leaderboard_text,
)

X, Y, Z = np.eye(3)


def result() -> BenchmarkResult:
    generated = {
        "lora": {"sticker": np.array([X, X, X]), "art": np.array([Y, Y, Y])},
        "rival": {"sticker": np.array([X, Y, Z]), "art": np.array([X, Y, Z])},
        "base": {"sticker": np.array([Y, Y, X]), "art": np.array([X, Y, Z])},
    }
    references = {"sticker": References(np.array([X, X, 0.6 * X + 0.8 * Y, Y]), ["a", "a", "b", "c"])}
    return benchmark_table(generated, references, np.array([Y, Z]), samples=200)


def value(table: pd.DataFrame, model: str, metric: str) -> pd.Series:
    rows = table[(table.model == model) & (table.metric == metric)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_rows_are_sorted_and_columns_are_the_contract() -> None:
    table = result().table
    assert list(table.columns) == COLUMNS
    assert [(row.model, row.metric) for row in table.itertuples()] == [
        ("base", "clip_similarity"), ("base", "diversity"), ("base", "nearest_training"),
        ("lora", "clip_similarity"), ("lora", "clip_similarity_gain"), ("lora", "diversity"),
        ("lora", "nearest_training"),
        ("rival", "clip_similarity"), ("rival", "clip_similarity_gain"), ("rival", "diversity"),
        ("rival", "nearest_training"),
        ("reference", "clip_similarity"), ("reference", "diversity"), ("reference", "nearest_training"),
    ]  # fmt: skip
    assert [table[name].dtype.kind for name in ("mean", "ci_low", "ci_high", "n")] == ["f", "f", "f", "i"]


def test_values_by_hand() -> None:
    table = result().table
    clips_to_x, clips_to_y = (1 + 0.6 + 0) / 3, (0 + 0.8 + 1) / 3
    lora, base = value(table, "lora", "clip_similarity"), value(table, "base", "clip_similarity")
    assert lora["mean"] == pytest.approx(clips_to_x)
    assert base["mean"] == pytest.approx((2 * clips_to_y + clips_to_x) / 3)
    assert value(table, "lora", "clip_similarity_gain")["mean"] == pytest.approx(lora["mean"] - base["mean"])
    assert value(table, "lora", "diversity")["mean"] == pytest.approx(0)
    assert value(table, "base", "nearest_training")["mean"] == pytest.approx(2 / 3)
    assert lora["n"] == base["n"] == 3
    ceiling = value(table, "reference", "clip_similarity")
    assert (ceiling["mean"], ceiling["n"]) == (pytest.approx((0.6 + 0 + 0.8) / 3), 3)  # three clips of four pictures
    assert value(table, "reference", "nearest_training")["n"] == 4


def test_a_style_without_held_out_pictures_is_left_out_and_said() -> None:
    outcome = result()
    assert set(outcome.table["style"]) == {"sticker"}
    assert len(outcome.left_out) == 2
    assert "'art' has no row" in outcome.left_out[0]
    assert "'sticker': only 3 clips" in outcome.left_out[1]


def test_one_held_out_clip_gives_model_rows_but_no_ceiling() -> None:
    outcome = benchmark_table(
        {"base": {"art": np.array([X, Y])}},
        {"art": References(np.array([X, X]), ["a", "a"])},
        np.array([X]),
        samples=100,
    )
    assert list(outcome.table[outcome.table.model == "reference"].metric) == ["nearest_training"]
    assert "only one clip is held out" in outcome.left_out[0]


def test_enough_held_out_clips_need_no_remark() -> None:
    references = {"art": References(np.array([X, Y, Z, X, Y]), list("abcde"))}
    assert benchmark_table({"base": {"art": np.array([X, Y])}}, references, np.array([X]), samples=100).left_out == []


def test_no_references_at_all_give_an_empty_table_of_the_same_shape() -> None:
    outcome = benchmark_table({"base": {"art": np.array([X])}}, {}, np.array([X]))
    assert list(outcome.table.columns) == COLUMNS and outcome.table.empty
    assert leaderboard({"a": outcome.table}).empty


def test_the_table_is_the_same_whatever_the_order_of_models(tmp_path: Path) -> None:
    generated = {name: {"art": np.array([X, Y, Z])} for name in ("lora", "base")}
    references = {"art": References(np.array([X, Y]), ["a", "b"])}
    tables = [
        benchmark_table(dict(order), references, np.array([X]), samples=100).table
        for order in (generated.items(), reversed(generated.items()))
    ]
    pd.testing.assert_frame_equal(*tables)
    tables[0].to_parquet(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), tables[0])


def test_leaderboard_puts_characters_in_order() -> None:
    table = leaderboard({"b": result().table, "a": result().table})
    assert list(table.columns) == ["character", *COLUMNS]
    assert list(dict.fromkeys(table["character"])) == ["a", "b"]
    assert len(table) == 2 * len(result().table)
    assert list(leaderboard({}).columns) == ["character", *COLUMNS]


def test_leaderboard_as_text_and_markdown() -> None:
    rows = [
        ("base", "clip_similarity", 0.3, 0.25, 0.35, 24),
        ("lora", "clip_similarity", 0.5, 0.45, 0.55, 24),
        ("lora", "clip_similarity_gain", 0.2, 0.15, 0.25, 24),
        ("reference", "clip_similarity", 0.9, float("nan"), float("nan"), 2),
    ]
    table = pd.DataFrame(
        [("kai", model, "art", metric, *numbers) for model, metric, *numbers in rows], columns=["character", *COLUMNS]
    )
    assert leaderboard_text(table).splitlines() == [
        "character  style  model  similarity            base model            gain                     references  n",
        "---------  -----  -----  --------------------  --------------------  -----------------------  ----------  --",
        "kai        art    lora   0.500 [0.450, 0.550]  0.300 [0.250, 0.350]  +0.200 [+0.150, +0.250]  0.900       24",
    ]
    assert leaderboard_markdown(table).splitlines()[2] == (
        "| kai | art | lora | 0.500 [0.450, 0.550] | 0.300 [0.250, 0.350] | +0.200 [+0.150, +0.250] | 0.900 | 24 |"
    )
