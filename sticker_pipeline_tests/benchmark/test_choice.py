import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.benchmark.choice import (
    checkpoint_metrics,
    choose_epoch,
    copied,
    copies_allowed,
    copy_threshold,
    evidence,
    evidence_curves,
    validation_frames,
    validation_losses,
)
from sticker_pipeline.benchmark.evaluation import Embeddings

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


def told(rows: dict[int, tuple[float, float, float]], losses: dict[int, float], **limits: float) -> dict[int, str]:
    """epoch -> reason, of epochs with (similarity, its lower end, copies)."""
    names = ("clip_similarity", "clip_similarity_low", "copies")
    table = pd.DataFrame(
        {"epoch": list(rows), "metrics": [dict(zip(names, row, strict=True)) for row in rows.values()]}
    )
    choice = choose_epoch(table, losses, **limits)  # type: ignore[arg-type]
    return dict(zip(choice["epoch"], choice["reason"], strict=True))


def test_every_epoch_has_its_reason() -> None:
    rows = {
        1: (0.5, 0.4, 0.0),
        2: (0.80, 0.75, 0.0),
        3: (0.82, 0.78, 0.1),
        4: (0.84, 0.79, 0.1),
        5: (0.99, 0.98, 0.3),
        6: (0.84, 0.79, 0.1),
        7: (0.99, 0.98, 0.0),
    }
    losses = {0: 0.5, 1: 0.2, 2: 0.12, 3: 0.10, 4: 0.11, 5: 0.11, 6: 0.11, 7: 0.09}
    assert told(rows, losses, patience=3, most_copies=0.2) == {
        1: "not: its similarity 0.500 is below 0.790, the lower end of the interval of epoch 4.",
        2: "not: its loss on validation images is 0.1200, that of epoch 3 0.1000.",
        3: "chosen: the lowest loss on validation images (0.1000) of the epochs that do not copy and are as like the "
        "character as the best (its similarity is 0.820).",
        4: "not: its loss on validation images is 0.1100, that of epoch 3 0.1000.",
        5: "not: 30% of its images are copies of training images; the limit is 20%.",
        6: "not: its loss on validation images is 0.1100, that of epoch 3 0.1000.",
        7: "not: trained on after the loss on validation images had not fallen for 3 epochs (lowest at epoch 3).",
    }


def test_without_validation_images_similarity_decides() -> None:
    rows = {1: (0.80, 0.75, 0.0), 2: (0.82, 0.78, 0.2), 3: (0.9, 0.85, 0.5)}
    assert told(rows, {}, most_copies=0.2) == {
        1: "not: its similarity is 0.8000, that of epoch 2 0.8200.",
        2: "chosen: the most similar of the epochs that do not copy (0.820); there are no validation images.",
        3: "not: 50% of its images are copies of training images; the limit is 20%.",
    }
    assert told({4: (0.8, 0.7, 0.0)}, {}) == {4: "chosen: it is the only epoch."}


def test_where_all_copy_the_one_that_copies_least_is_chosen() -> None:
    rows = {1: (0.80, 0.75, 0.9), 2: (0.82, 0.78, 0.4), 3: (0.9, 0.85, 0.4)}
    reasons = told(rows, {1: 0.1, 2: 0.2, 3: 0.05}, most_copies=0.2)
    assert reasons[2] == "chosen: 40% of its images are copies of training images, and it copies least."
    assert reasons[3] == "not: 40% of its images are copies of training images; the limit is 20%."


share = st.sampled_from([0.0, 0.1, 0.2, 0.3])
EPOCHS = st.lists(st.tuples(share, share, share, share), min_size=1, max_size=9)


@settings(deadline=None)
@given(EPOCHS, st.integers(1, 4), st.booleans())
def test_the_rule_taken_at_its_word(drawn: list[tuple[float, float, float, float]], patience: int, lost: bool) -> None:
    """Each step written down once more, as conditions on an epoch and not as steps."""
    rows = {
        epoch: (similarity, similarity - width, copies) for epoch, (similarity, width, copies, _) in enumerate(drawn)
    }
    losses = {} if lost else {epoch: loss for epoch, (_, _, _, loss) in enumerate(drawn)}

    def too_late(epoch: int) -> bool:
        return any(end - int(np.argmin([losses[e] for e in range(end + 1)])) >= patience for end in range(epoch))

    left = [epoch for epoch in rows if lost or not too_late(epoch)]
    left = [epoch for epoch in left if rows[epoch][2] <= 0.15] or [min(left, key=lambda epoch: rows[epoch][2])]
    best = min(left, key=lambda epoch: (-rows[epoch][0], epoch))
    left = [epoch for epoch in left if rows[epoch][0] >= rows[best][1]]
    expected = best if lost else min(left, key=lambda epoch: (losses[epoch], epoch))
    reasons = told(rows, losses, patience=patience, most_copies=0.15)
    assert [epoch for epoch, reason in reasons.items() if reason.startswith("chosen: ")] == [expected]
    assert all(reason.startswith("not: ") for epoch, reason in reasons.items() if epoch != expected)


def test_the_loss_on_the_references_has_no_say() -> None:
    rows = [(epoch, split, loss) for epoch in (0, 1) for split, loss in (("train", 1.0), ("holdout", 2.0))]
    fixed = pd.DataFrame(rows, columns=["epoch", "split", "loss"])
    assert validation_losses(fixed) == {}
    fixed.loc[len(fixed)] = [1, "validation", 3.0]
    assert validation_losses(fixed) == {1: 3.0}


def test_a_copy_is_nearer_than_training_sources_are_to_each_other() -> None:
    """Cosines by hand: X–Y .6, X–Z .8, Y–Z 0; each source's nearest other: X .8, Y .6, Z .8."""
    x, y, z = np.array([1.0, 0, 0]), np.array([0.6, 0.8, 0]), np.array([0.8, -0.6, 0])
    trained = Embeddings(np.array([x, y, z]), ["x", "y", "z"])
    assert copy_threshold(trained) == pytest.approx(0.8)
    frames = Embeddings(np.array([x, x, y, z, z]), ["x", "x", "y", "z", "z"])  # frames of a source copy nobody
    assert copy_threshold(frames) == pytest.approx(0.8)
    near, far = np.array([0.9, math.sqrt(1 - 0.81), 0]), np.array([0, 0, 1.0])
    assert copied(np.array([x, near, far, far]), trained, 0.8) == 0.5
    assert math.isnan(copied(np.array([x]), trained, copy_threshold(Embeddings(np.array([x, x]), ["x", "x"]))))
    assert copies_allowed(0.2, trained) == pytest.approx(1 - 0.05 ** (1 / 3))
    assert copies_allowed(0.2, Embeddings(np.zeros((40, 3)), [str(number) for number in range(40)])) == 0.2
    table = checkpoint_metrics({1: {"art": np.array([x, far])}}, {"art": np.array([x])}, trained, samples=100)
    assert table["metrics"][0]["copies"] == 0.5


def test_the_evidence_is_one_table_and_one_plot() -> None:
    table = metrics({2: 0.6, 1: 0.5})
    shown = evidence(choose_epoch(table, {0: 4.0, 1: 2.0, 2: 1.0}))
    assert shown.drop(columns="reason").to_dict("list") == {
        "epoch": [1, 2], "chosen": [False, True], "clip_similarity": [0.5, 0.6], "validation_loss": [2.0, 1.0],
    }  # fmt: skip
    curves = evidence_curves(shown)
    assert {name: (list(x), list(y)) for name, (x, y) in curves.items()} == {
        "clip_similarity": ([1, 2], [0.5, 0.6]),
        "validation loss / first": ([1, 2], [1.0, 0.5]),
    }
    assert list(evidence_curves(evidence(choose_epoch(table)))) == ["clip_similarity"]


def test_metrics_are_means_over_mediums_and_survive_parquet(tmp_path: Path) -> None:
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
    assert list(read.columns) == ["epoch", "metrics", "chosen", "reason"]
    assert read["metrics"][1] == pytest.approx(second)
    assert list(read["chosen"]) == [False, True]


def test_a_medium_without_validation_images_does_not_count() -> None:
    table = checkpoint_metrics(
        {1: {"art": np.array([X]), "sticker": np.array([Y])}}, {"art": np.array([X])}, samples=100
    )
    assert table["metrics"][0]["clip_similarity"] == pytest.approx(1)
    with pytest.raises(ValueError, match="Epoch 1 has no generated images"):
        checkpoint_metrics({1: {"art": np.array([X])}}, {}, samples=100)


def frames(sources: dict[str, tuple[str, int]]) -> pd.DataFrame:
    rows = [
        (f"{source}-{index}", group, source, index)
        for source, (group, length) in sources.items()
        for index in range(length)
    ]
    return pd.DataFrame(rows, columns=["frame_id", "group", "source_id", "frame_index"]).sample(frac=1, random_state=0)


def test_validation_takes_the_middle_frame_of_each_source() -> None:
    sources = {"gifs/a": ("gifs", 5), "gifs/b": ("gifs", 4), "art/c": ("art", 1)}
    table = validation_frames(frames(sources), {"gifs": "sticker", "art": "art"})
    assert [tuple(row) for row in table.to_numpy()] == [
        ("art/c-0", "art", "art/c"),
        ("gifs/a-2", "sticker", "gifs/a"),
        ("gifs/b-1", "sticker", "gifs/b"),
    ]


def test_a_new_source_exchanges_at_most_one_validation_image() -> None:
    sources = {f"s/{number}": ("s", 2) for number in range(40)}
    before = set(validation_frames(frames(sources), {"s": "sticker"}, most=10)["frame_id"])
    after = set(validation_frames(frames(sources | {"s/new": ("s", 3)}), {"s": "sticker"}, most=10)["frame_id"])
    assert len(before) == len(after) == 10
    assert len(before - after) <= 1
