"""The tagger: labels, metrics by hand, augmentation, and the shipped file by the WD v3 contract."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sticker_pipeline.embedded import dataset, tagger
from sticker_pipeline.embedded.scene import VOCABULARY

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "models" / "embedded" / "tagger"


def test_targets_of_two_drawings() -> None:
    drawings = dataset.fresh_drawings(2, seed=1, known=True)
    labels = tagger.labels_for(drawings)
    wanted = tagger.targets(drawings, labels)
    assert wanted.shape == (2, 4 + len(VOCABULARY) + 6)
    for row in range(2):
        names = {label.name for label, hit in zip(labels, wanted[row], strict=True) if hit}
        assert names == {"general", *drawings.tags[row], drawings.character[row]}


def test_figures_by_hand() -> None:
    labels = [tagger.Label("a", 0, 1), tagger.Label("b", 0, 1), tagger.Label("never", 0, 0)]
    scores = np.array([[0.9, 0.2, 0.9], [0.8, 0.6, 0.1], [0.5, 0.1, 0.1], [0.1, 0.1, 0.1]], dtype=np.float32)
    wanted = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 0, 0]])
    rows = tagger.label_metrics(scores, wanted, labels)
    assert [row.name for row in rows] == ["a", "b"]  # what never occurs is not measured
    assert (rows[0].precision, rows[0].recall, rows[0].f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert (rows[1].precision, rows[1].recall, rows[1].f1) == pytest.approx((1.0, 0.5, 2 / 3))
    assert tagger.macro_f1(rows) == pytest.approx(2 / 3)


def test_harsh_images_stay_images() -> None:
    drawings = dataset.fresh_drawings(24, seed=2)
    images, recoloured = tagger.harsh_batch(drawings, np.arange(24), np.random.default_rng(0))
    assert tuple(images.shape) == (24, 96, 96, 3)
    assert float(images.min()) >= 0
    assert float(images.max()) <= 255
    assert not recoloured[~drawings.sticker].any()
    # an image still resembles its drawing more than it resembles another one
    flat = dataset.flatten(drawings.pixels)
    own = np.abs(images.numpy() - flat).mean(axis=(1, 2, 3))
    other = np.abs(images.numpy() - np.roll(flat, 7, axis=0)).mean(axis=(1, 2, 3))
    assert (own < other).mean() > 0.9


def test_training_exports_the_contract_after_two_steps(tmp_path: Path) -> None:
    drawings = dataset.fresh_drawings(6, seed=4)
    labels = tagger.labels_for(drawings)
    plan = replace(tagger.PLAN, steps=2, batch=4)
    nets = []
    tagger.train(drawings, labels, plan, tmp_path / "state.safetensors", nets.append, lambda line: None)
    tagger.save_tagger(tmp_path, nets[-1], labels)
    assert tagger.read_labels(tmp_path / "selected_tags.csv") == labels
    import torch

    rgb = dataset.flatten(drawings.pixels)
    with torch.no_grad():
        bgr = torch.from_numpy(np.ascontiguousarray(rgb[..., ::-1], dtype=np.float32))
        wanted = torch.sigmoid(nets[-1].cpu().float().eval()(bgr)).numpy()
    got = tagger.score_images(tmp_path / "model.onnx", rgb)
    # trained and exported weights differ (the snapshot carries the average), so compare against the file's own class
    assert got.shape == wanted.shape == (6, len(labels))
    assert 0 <= got.min() <= got.max() <= 1


def test_the_shipped_table_is_a_wd_table() -> None:
    with (SHIPPED / "selected_tags.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["tag_id", "name", "category", "count"]
    assert [row["name"] for row in rows if row["category"] == "9"] == list(tagger.RATINGS)
    assert sum(row["category"] == "0" for row in rows) >= 60
    assert sum(row["category"] == "4" for row in rows) == 6
    assert len({row["name"] for row in rows}) == len(rows)
    assert not [row["name"] for row in rows if " " in row["name"]]
    assert {"^_^", ">_<", "looking_at_viewer"} <= {row["name"] for row in rows}


def test_the_shipped_graph_keeps_the_contract() -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(SHIPPED / "model.onnx"), providers=["CPUExecutionProvider"])
    (inputs,), (outputs,) = session.get_inputs(), session.get_outputs()
    assert inputs.type == "tensor(float)"
    assert inputs.shape[1:] == [96, 96, 3]
    assert isinstance(inputs.shape[0], str)  # dynamic batch
    assert outputs.shape[1] == len(tagger.read_labels(SHIPPED / "selected_tags.csv"))
    images = np.random.default_rng(0).uniform(0, 255, (3, 96, 96, 3)).astype(np.float32)
    together = session.run(None, {inputs.name: images})[0]
    assert 0 <= together.min() <= together.max() <= 1
    apart = np.concatenate([session.run(None, {inputs.name: images[i : i + 1]})[0] for i in range(3)])
    np.testing.assert_allclose(together, apart, atol=1e-4)


@pytest.fixture(scope="module")
def judged() -> tuple[dataset.Drawings, list[tagger.Label], np.ndarray]:
    """240 fresh drawings of unseen identities, the shipped labels, and the shipped tagger's scores."""
    fresh = dataset.fresh_drawings(240, seed=77)
    scores = tagger.score_images(SHIPPED / "model.onnx", dataset.flatten(fresh.pixels))
    return fresh, tagger.read_labels(SHIPPED / "selected_tags.csv"), scores


def test_the_shipped_tagger_on_fresh_drawings(
    judged: tuple[dataset.Drawings, list[tagger.Label], np.ndarray],
) -> None:
    fresh, labels, scores = judged
    rows = tagger.label_metrics(scores, tagger.targets(fresh, labels), labels)
    general = [row for row in rows if row.name in VOCABULARY and row.support >= 3]
    assert len(general) >= 60
    assert tagger.macro_f1(general) >= 0.90


def test_the_shipped_tagger_reads_blue_from_the_right_channel(
    judged: tuple[dataset.Drawings, list[tagger.Label], np.ndarray],
) -> None:
    """The order of channels is BGR: given RGB instead, red and blue hair would change places."""
    fresh, labels, scores = judged
    columns = {label.name: number for number, label in enumerate(labels)}
    for tag, other in (("red hair", "blue hair"), ("blue hair", "red hair")):
        rows = [row for row, tags in enumerate(fresh.tags) if tag in tags]
        assert scores[rows, columns[tag]].mean() > 0.8 > 0.2 > scores[rows, columns[other]].mean()
