from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.core.storage import file_sha256
from sticker_pipeline.training.data import (
    Step,
    batches,
    plan,
    read_holdout,
    read_training_set,
    read_validation,
    share_of_rank,
    step_rng,
    steps,
)
from sticker_pipeline.training.spec import SpecError, TrainingSpec
from sticker_pipeline.training.state import fingerprint
from sticker_pipeline_tests.training.conftest import SpecMaker


def test_only_the_train_split_is_read(make_spec: SpecMaker) -> None:
    table = read_training_set(make_spec())
    assert table["frame_id"].tolist() == [f"frame-{number}" for number in (0, 1, 2, 3, 5, 6, 7, 8)]
    assert table.index.tolist() == list(range(8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="caption"), "no column 'caption'"),
        (lambda table: table[table["split"] == "holdout"], "no image to train on"),
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


def test_a_training_set_made_again_meanwhile_is_refused(make_spec: SpecMaker) -> None:
    path = make_spec().training_set / "index.parquet"
    spec = make_spec(training_set_sha256=file_sha256(path))
    assert len(read_training_set(spec)) == 8 and len(read_holdout(spec)) == 2
    pd.read_parquet(path).assign(caption="another").to_parquet(path)
    for read in (read_training_set, read_holdout, read_validation):
        with pytest.raises(SpecError, match=r"index.parquet was made again since this training was requested"):
            read(spec)


def test_a_training_goes_on_whether_its_spec_names_the_table_or_not(make_spec: SpecMaker) -> None:
    """One that an earlier version began names none."""
    specs = make_spec(), make_spec(training_set_sha256=file_sha256(make_spec().training_set / "index.parquet"))
    one, other = (fingerprint(spec, [read_training_set(spec)], [], 1) for spec in specs)
    assert one == other


def test_rows_say_where_images_are_and_how_large(make_spec: SpecMaker) -> None:
    spec = make_spec()
    for table in (read_training_set(spec), read_holdout(spec)):
        assert [Path(path) for path in table["path"]] == [spec.frames / file for file in table["file"]]
        assert (table[["width", "height"]] == 40).all(axis=None) and not table["regularisation"].any()
    assert read_holdout(spec)["frame_id"].tolist() == ["frame-4", "frame-9"]
    assert read_validation(spec).empty
    index = pd.read_parquet(spec.training_set / "index.parquet")
    index.loc[index["frame_id"] == "frame-9", "split"] = "validation"
    index.to_parquet(spec.training_set / "index.parquet")
    assert read_holdout(spec)["frame_id"].tolist() == ["frame-4"]
    assert read_validation(spec)["frame_id"].tolist() == ["frame-9"]


def test_there_may_be_no_holdout(make_spec: SpecMaker) -> None:
    spec = make_spec()
    path = spec.training_set / "index.parquet"
    table = pd.read_parquet(path)
    table[table["split"] == "train"].to_parquet(path)
    empty = read_holdout(spec)
    assert empty.empty and list(empty.columns) == list(read_training_set(spec).columns)


def test_a_frame_that_is_no_image_is_named(make_spec: SpecMaker) -> None:
    spec = make_spec()
    (spec.frames / "3.png").write_bytes(b"text")
    with pytest.raises(SpecError, match=r"3\.png cannot be read as an image"):
        read_training_set(spec)


def test_regularisation_images_have_their_share(make_spec: SpecMaker, tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    for number in range(3):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 60, 3), dtype=np.uint8)).save(
            tmp_path / "others" / f"{number}.png"
        )
    spec = make_spec(
        settings={"regularisation_share": 0.25, "samples_per_epoch": 48}, regularisation=tmp_path / "others"
    )
    table = read_training_set(spec)
    assert table["regularisation"].tolist() == [False] * 8 + [True] * 3 and table.index.tolist() == list(range(11))
    assert table["probability"].tolist() == pytest.approx([0.75 / 8] * 8 + [0.25 / 3] * 3)
    drawn = Counter(row for step in plan(table, spec).epoch(0) for batch in step for row in batch.tolist())
    assert sum(drawn[row] for row in (8, 9, 10)) == 12 and {drawn[row] for row in (8, 9, 10)} == {4}
    assert read_holdout(spec)["regularisation"].tolist() == [False, False]


def flat(epoch: list[Step]) -> list[int]:
    return [row for step in epoch for batch in step for row in batch.tolist()]


def test_plan_is_reproducible_and_draws_as_often_as_probabilities_say(make_spec: SpecMaker) -> None:
    spec = make_spec(settings={"samples_per_epoch": 16, "batch_size": 3, "epochs": 3})
    table = read_training_set(spec)
    planned = plan(table, spec)
    assert planned.lengths == (6, 6, 6) and planned.total_steps == 18
    for number in range(3):
        epoch = planned.epoch(number)
        assert sorted(len(batch) for (batch,) in epoch) == [2, 2, 3, 3, 3, 3]
        assert Counter(flat(epoch)) == dict.fromkeys(range(8), 2)
    assert flat(plan(table, spec).epoch(1)) == flat(planned.epoch(1))
    assert flat(planned.epoch(0)) != flat(planned.epoch(1))
    other = plan(table, make_spec(settings={"samples_per_epoch": 16, "batch_size": 3, "epochs": 3, "seed": 1}))
    assert flat(other.epoch(0)) != flat(planned.epoch(0))


@settings(max_examples=60, deadline=None)
@given(
    weights=st.lists(st.integers(1, 20), min_size=1, max_size=12),
    draws=st.integers(1, 60),
    batch_size=st.integers(1, 5),
    accumulation=st.integers(1, 4),
    ranks=st.integers(1, 3),
)
def test_draws_are_exact_across_buckets_and_steps_are_known(
    weights: list[int], draws: int, batch_size: int, accumulation: int, ranks: int
) -> None:
    chosen = {"samples_per_epoch": draws, "batch_size": batch_size, "gradient_accumulation": accumulation, "epochs": 2}
    paths = dict.fromkeys(("base", "training_set", "frames", "output", "cache"), Path("none"))
    spec = TrainingSpec(name="a", trigger="a", base_sha="", resolution=32, settings=TrainingSettings(**chosen), **paths)
    table = pd.DataFrame({"probability": np.array(weights) / sum(weights)})
    table["bucket_width"] = [8 + 8 * (row % 3) for row in range(len(table))]
    table["bucket_height"] = 32 - table["bucket_width"]
    plans = [plan(table, spec, rank, ranks) for rank in range(ranks)]
    assert len({planned.lengths for planned in plans}) == 1
    for number, length in enumerate(plans[0].lengths):
        epochs = [planned.epoch(number) for planned in plans]
        assert [len(epoch) for epoch in epochs] == [length] * ranks
        assert len({tuple(len(step) for step in epoch) for epoch in epochs}) == 1
        whole = plan(table, spec).epoch(number)
        assert all(len(step) == accumulation for step in whole[:-1])
        drawn = Counter(flat(whole))
        assert drawn.total() == draws
        for row, weight in enumerate(weights):
            assert draws * weight // sum(weights) <= drawn[row] <= -(-draws * weight // sum(weights))
        in_all = Counter(row for epoch in epochs for row in flat(epoch))
        assert drawn <= in_all
        for step in whole:
            for batch in step:
                assert 1 <= len(batch) <= batch_size and table.loc[batch, "bucket_width"].nunique() == 1


def test_batches_hold_one_size_each() -> None:
    rng = np.random.default_rng(0)
    found = batches(np.array([0, 1, 2, 3, 0, 1, 3]), np.array([0, 1, 0, 1]), 2, rng)
    assert sorted(batch.tolist() for batch in found) == [[0], [0, 2], [1, 3], [1, 3]]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 7))
def test_each_draw_is_in_exactly_one_batch(order: list[int], batch_size: int) -> None:
    buckets = np.array([row % 3 for row in range(6)])
    found = batches(np.array(order), buckets, batch_size, np.random.default_rng(0))
    assert sorted(np.concatenate(found).tolist()) == sorted(order)
    for bucket in range(3):
        own = [batch for batch in found if buckets[batch[0]] == bucket]
        draws = [row for row in order if buckets[row] == bucket]
        assert len(own) == -(-len(draws) // batch_size)
        sizes = [len(batch) for batch in own]
        assert not sizes or max(sizes) - min(sizes) <= 1
        assert all((buckets[batch] == bucket).all() for batch in own)


def test_small_batches_do_not_always_come_last() -> None:
    order = np.array([0] * 8 + [1])
    places = [
        [len(batch) for batch in batches(order, np.array([0, 1]), 2, np.random.default_rng(seed))].index(1)
        for seed in range(40)
    ]
    assert set(places) == set(range(5))


def test_steps_are_groups_of_batches() -> None:
    made = [np.array([number]) for number in range(5)]
    assert [[int(batch[0]) for batch in step] for step in steps(made, 2)] == [[0, 1], [2, 3], [4]]


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
