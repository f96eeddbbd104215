from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sticker_pipeline.training.data import batches, dropped_captions, plan, read_training_set, share_of_rank, step_rng
from sticker_pipeline.training.spec import SpecError
from sticker_pipeline_tests.training.conftest import SpecMaker


def test_only_the_train_split_is_read(make_spec: SpecMaker) -> None:
    table = read_training_set(make_spec())
    assert table["frame_id"].tolist() == [f"frame-{number}" for number in (0, 1, 2, 3, 5, 6, 7, 8)]
    assert table.index.tolist() == list(range(8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="caption"), "no column 'caption'"),
        (lambda table: table[table["split"] == "holdout"], "no picture to train on"),
        (lambda table: table.assign(probability=0.3), "sum to"),
        (lambda table: table.assign(bucket_width=30), "multiples of 8"),
        (lambda table: table.assign(file="none.png"), r"none\.png is missing"),
    ],
)
def test_faulty_training_sets_are_named(make_spec: SpecMaker, change, message: str) -> None:  # type: ignore[no-untyped-def]
    spec = make_spec()
    path = spec.training_set / "index.parquet"
    change(pd.read_parquet(path)).to_parquet(path)
    with pytest.raises(SpecError, match=message):
        read_training_set(spec)


def test_plan_is_reproducible_and_draws_as_often_as_probabilities_say(make_spec: SpecMaker) -> None:
    spec = make_spec(settings={"draws_per_epoch": 16, "batch_size": 3, "epochs": 3})
    table = read_training_set(spec)
    epochs = plan(table, spec)
    assert [len(epoch) for epoch in epochs] == [6, 6, 6]  # 16 draws: five batches of 3, one of 1
    for epoch in epochs:
        assert Counter(np.concatenate(epoch).tolist()) == dict.fromkeys(range(8), 2)
    again = plan(table, spec)
    assert all((a == b).all() for x, y in zip(epochs, again, strict=True) for a, b in zip(x, y, strict=True))
    assert np.concatenate(epochs[0]).tolist() != np.concatenate(epochs[1]).tolist()


def test_batches_hold_one_size_each() -> None:
    sizes = [(32, 32), (32, 40), (32, 32), (32, 40)]
    found = batches(np.array([0, 1, 2, 3, 0, 1, 3]), sizes, 2)
    assert [batch.tolist() for batch in found] == [[0, 2], [1, 3], [1, 3], [0]]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 7))
def test_each_draw_is_in_exactly_one_batch(order: list[int], batch_size: int) -> None:
    sizes = [(8 * (row % 3 + 1), 8) for row in range(6)]
    found = batches(np.array(order), sizes, batch_size)
    assert sorted(np.concatenate(found).tolist()) == sorted(order)
    assert all(len({sizes[row] for row in batch}) == 1 and len(batch) <= batch_size for batch in found)


def test_processes_share_an_epoch() -> None:
    epoch = [np.array([number]) for number in range(5)]
    shares = [[int(batch[0]) for batch in share_of_rank(epoch, rank, 2)] for rank in (0, 1)]
    assert shares == [[0, 2, 4], [1, 3, 0]]
    assert share_of_rank(epoch, 0, 1) == epoch


def test_a_step_has_its_own_random_numbers() -> None:
    assert step_rng(3, 5).random() == step_rng(3, 5).random()
    assert (
        len({step_rng(3, 5).random(), step_rng(3, 6).random(), step_rng(4, 5).random(), step_rng(3, 5, 1).random()})
        == 4
    )


def test_share_of_dropped_captions() -> None:
    assert dropped_captions(step_rng(0, 0), 10_000, 0.1).mean() == pytest.approx(0.1, abs=0.01)
    assert not dropped_captions(step_rng(0, 0), 100, 0.0).any()
    assert dropped_captions(step_rng(0, 0), 100, 1.0).all()
