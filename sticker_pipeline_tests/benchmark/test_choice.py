from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sticker_pipeline.benchmark.choice import checkpoint_metrics, choose_epoch, validation_frames

X, Y, Z = np.eye(3)


def metrics(values: dict[int, float]) -> pd.DataFrame:
    return pd.DataFrame({"epoch": list(values), "metrics": [{"clip_similarity": value} for value in values.values()]})


def chosen(values: dict[int, float]) -> int:
    table = choose_epoch(metrics(values))
    assert table["chosen"].sum() == 1
    return int(table.loc[table["chosen"], "epoch"].iloc[0])


def test_the_most_similar_epoch_wins_and_of_equal_ones_the_earliest() -> None:
    assert chosen({1: 0.2, 2: 0.6, 3: 0.5}) == 2
    assert chosen({4: 0.6, 2: 0.6, 3: 0.1}) == 2
    assert chosen({1: float("nan"), 2: 0.1}) == 2
    assert chosen({10: 0.3}) == 10


def test_nothing_to_choose_from_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to choose from"):
        choose_epoch(metrics({}))
    with pytest.raises(ValueError, match="nothing to choose from"):
        choose_epoch(metrics({1: float("nan")}))


def test_metrics_are_means_over_styles_and_survive_parquet(tmp_path: Path) -> None:
    generated = {
        2: {"art": np.array([X, X]), "sticker": np.array([Y, Y])},
        1: {"art": np.array([X, Y]), "sticker": np.array([Y, Z])},
    }
    table = checkpoint_metrics(generated, {"art": np.array([X]), "sticker": np.array([Y, Z])}, samples=100)
    assert list(table.columns) == ["epoch", "metrics"]
    assert list(table["epoch"]) == [1, 2]
    first, second = table["metrics"]
    assert first["clip_similarity"] == pytest.approx((0.5 + 0.5) / 2)
    assert second["clip_similarity"] == pytest.approx((1 + 0.5) / 2)
    assert (first["diversity"], second["diversity"]) == pytest.approx((1, 0))
    assert first["nearest_training"] == pytest.approx((0.5 + 1) / 2)
    assert first["n"] == 4
    path = tmp_path / "index.parquet"
    choose_epoch(table).to_parquet(path, index=False)
    read = pd.read_parquet(path)
    assert list(read.columns) == ["epoch", "metrics", "chosen"]
    assert read["metrics"][1] == pytest.approx(second)
    assert list(read["chosen"]) == [False, True]


def test_a_style_without_validation_pictures_does_not_count() -> None:
    table = checkpoint_metrics(
        {1: {"art": np.array([X]), "sticker": np.array([Y])}}, {"art": np.array([X])}, samples=100
    )
    assert table["metrics"][0]["clip_similarity"] == pytest.approx(1)
    with pytest.raises(ValueError, match="Epoch 1 has no generated pictures"):
        checkpoint_metrics({1: {"art": np.array([X])}}, {}, samples=100)


def frames(clips: dict[str, tuple[str, int]]) -> pd.DataFrame:
    rows = [
        (f"{clip}-{index}", group, clip, index) for clip, (group, length) in clips.items() for index in range(length)
    ]
    return pd.DataFrame(rows, columns=["frame_id", "group", "clip_id", "frame_index"]).sample(frac=1, random_state=0)


def test_validation_takes_the_middle_frame_of_each_clip() -> None:
    clips = {"gifs/a": ("gifs", 5), "gifs/b": ("gifs", 4), "art/c": ("art", 1)}
    table = validation_frames(frames(clips), {"gifs": "sticker", "art": "art"})
    assert [tuple(row) for row in table.to_numpy()] == [
        ("art/c-0", "art", "art/c"),
        ("gifs/a-2", "sticker", "gifs/a"),
        ("gifs/b-1", "sticker", "gifs/b"),
    ]


def test_a_new_clip_exchanges_at_most_one_validation_picture() -> None:
    clips = {f"s/{number}": ("s", 2) for number in range(40)}
    before = set(validation_frames(frames(clips), {"s": "sticker"}, most=10)["frame_id"])
    after = set(validation_frames(frames(clips | {"s/new": ("s", 3)}), {"s": "sticker"}, most=10)["frame_id"])
    assert len(before) == len(after) == 10
    assert len(before - after) <= 1
