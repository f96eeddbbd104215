"""Trains and writes the embedded tagger in WD v3 format: `model.onnx` and `selected_tags.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sticker_pipeline.embedded import loop, roster
from sticker_pipeline.embedded.dataset import SIZE, Drawings, flatten
from sticker_pipeline.embedded.scene import VOCABULARY

if TYPE_CHECKING:
    import torch

RATINGS = ("general", "sensitive", "questionable", "explicit")
KAOMOJI = frozenset({"^_^", ">_<"})  # written unchanged
GENERAL, CHARACTER, RATING = 0, 4, 9  # danbooru's categories
THRESHOLD = 0.5
PLAN: loop.Plan = loop.Plan(
    steps=4200, batch=32, matrix_rate=5e-3, warmup=100, decay_from=0.3, ema=0.998, weight_decay=0.05, seed=4
)
WIDTHS = (24, 48, 96, 160, 224)
BACKDROPS = frozenset({"transparent background", "white background", "simple background"})


@dataclass(frozen=True)
class Label:
    """An output: name with spaces, danbooru category, count in training drawings."""

    name: str
    category: int
    count: int


def labels_for(drawings: Drawings) -> list[Label]:
    """Ratings, the vocabulary's general tags and known characters, counted in `drawings`."""
    counts: dict[str, int] = {}
    for tags, character in zip(drawings.tags, drawings.character, strict=True):
        for tag in [*tags, character]:
            counts[tag] = counts.get(tag, 0) + 1
    ratings = [Label(name, RATING, len(drawings) if name == "general" else 0) for name in RATINGS]
    general = [Label(tag, GENERAL, counts.get(tag, 0)) for tag in VOCABULARY]
    return [*ratings, *general, *(Label(name, CHARACTER, counts.get(name, 0)) for name in roster.known_characters())]


def targets(drawings: Drawings, labels: Sequence[Label]) -> np.ndarray:
    """Targets `uint8[N, labels]`: 1 for a drawing's labels; all are rated `general`."""
    column = {label.name: number for number, label in enumerate(labels)}
    result = np.zeros((len(drawings), len(labels)), dtype=np.uint8)
    result[:, column["general"]] = 1
    for row, (tags, character) in enumerate(zip(drawings.tags, drawings.character, strict=True)):
        result[row, [column[tag] for tag in tags]] = 1
        if character:
            result[row, column[character]] = 1
    return result


def new_tagger(n_labels: int, seed: int) -> torch.nn.Module:
    """Small residual network: BGR 0–255 `float32[N, 96, 96, 3]` -> logits `[N, labels]`."""
    import torch
    from torch import nn

    torch.manual_seed(seed)

    def unit(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.SiLU())

    class Residual(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.units = nn.Sequential(unit(width, width // 2), unit(width // 2, width))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = x + self.units(x)
            return result

    class TaggerNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers: list[nn.Module] = [unit(3, WIDTHS[0], 2)]
            for n_in, n_out in pairwise(WIDTHS):
                layers += [Residual(n_in), unit(n_in, n_out, 2), Residual(n_out)]
            self.body = nn.Sequential(*layers)
            self.drop = nn.Dropout(0.1)
            self.head = nn.Linear(2 * WIDTHS[-1], n_labels)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            maps = self.body((images / 127.5 - 1.0).permute(0, 3, 1, 2))
            pooled = torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)
            result: torch.Tensor = self.head(self.drop(pooled))
            return result

    return TaggerNet().to(memory_format=torch.channels_last)


# --- augmentation ---------------------------------------------------------------------------------------------------


def harsh_batch(drawings: Drawings, rows: np.ndarray, rng: np.random.Generator) -> tuple[torch.Tensor, np.ndarray]:
    """Augment drawings to resemble real media and generated images.

    Warped, relit, noisy, JPEG-compressed; a quarter of stickers on another background than white. Returns RGB float32
    [n, 96, 96, 3] in 0–255, and bool [n], True for those stickers: their background tags are not trained.
    """
    rgba = drawings.pixels[rows]
    recoloured = drawings.sticker[rows] & (rng.random(len(rows)) < 0.25)
    grounds = np.full((len(rows), SIZE, SIZE, 3), 255.0, dtype=np.float32)
    for row in np.flatnonzero(recoloured):
        grounds[row] = _ground(rng)
    images = warp(flatten(rgba, grounds), rng)
    images = images * rng.uniform(0.9, 1.08, (len(rows), 1, 1, 1)) + rng.uniform(-8, 8, (len(rows), 1, 1, 3)) * (
        rng.random((len(rows), 1, 1, 1)) < 0.3
    )
    noisy = rng.random(len(rows)) < 0.2
    images[noisy] += rng.normal(0, rng.uniform(1, 8), images[noisy].shape)
    images = images.clip(0, 255).astype(np.float32)
    for row in np.flatnonzero(rng.random(len(rows)) < 0.2):
        images[row] = _jpeg(images[row], int(rng.integers(50, 92)))
    import torch

    return torch.from_numpy(images), recoloured


def _ground(rng: np.random.Generator) -> np.ndarray:
    """Plain colour or vertical slope between two: float32 [96, 96, 3]."""
    first, second = rng.uniform(0, 255, (2, 3))
    slope = np.linspace(0, 1, SIZE)[:, None, None] if rng.random() < 0.5 else np.zeros((SIZE, 1, 1))
    return np.broadcast_to(first + (second - first) * slope, (SIZE, SIZE, 3)).astype(np.float32)


def warp(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move, scale, rotate float32 [n, 96, 96, 3] slightly, with repeated borders.

    Two in five are resized to a smaller size and back.
    """
    import torch
    import torch.nn.functional as F

    count = len(images)
    angle = np.deg2rad(rng.uniform(-6, 6, count)) * (rng.random(count) < 0.5)
    zoom = rng.uniform(0.88, 1.12, count)
    move = rng.uniform(-0.06, 0.06, (count, 2))
    matrix = np.stack(
        [
            np.stack([np.cos(angle) * zoom, -np.sin(angle) * zoom, move[:, 0]], axis=1),
            np.stack([np.sin(angle) * zoom, np.cos(angle) * zoom, move[:, 1]], axis=1),
        ],
        axis=1,
    )
    source = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    grid = F.affine_grid(torch.from_numpy(matrix.astype(np.float32)), list(source.shape), align_corners=False)
    moved = F.grid_sample(source, grid, padding_mode="border", align_corners=False)
    other = torch.from_numpy(rng.random(count) < 0.4)
    if other.any():
        size = int(rng.integers(56, 92))
        small = F.interpolate(moved[other], size=(size, size), mode="bilinear", antialias=True)
        moved[other] = F.interpolate(small, size=(SIZE, SIZE), mode="bicubic", antialias=True)
    return moved.permute(0, 2, 3, 1).numpy()


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image.astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer), dtype=np.float32)


# --- training, export, metrics ----------------------------------------------------------------------------------------


def train(
    drawings: Drawings,
    labels: Sequence[Label],
    plan: loop.Plan,
    checkpoint: Path,
    save: Callable[[torch.nn.Module], None],
    say: Callable[[str], None],
) -> float:
    """Train or resume; `save` the averaged network; return seconds of training."""
    import torch
    import torch.nn.functional as F

    net = new_tagger(len(labels), plan.seed)
    wanted = torch.from_numpy(targets(drawings, labels).astype(np.float32))
    backdrop = torch.tensor([label.name in BACKDROPS for label in labels])
    training = loop.Training({"tagger": net}, {"tagger": 1.0}, plan)

    def loss_at(step: int) -> torch.Tensor:
        rng = np.random.default_rng([plan.seed, step])
        rows = rng.integers(len(drawings), size=plan.batch)
        images, recoloured = harsh_batch(drawings, rows, rng)
        counts = torch.ones(plan.batch, len(labels))
        counts[torch.from_numpy(recoloured)[:, None] & backdrop[None]] = 0.0
        with loop.autocast():
            logits = net(images.flip(-1).to(loop.device()))
        losses = F.binary_cross_entropy_with_logits(
            logits.float(), wanted[rows].to(logits.device), counts.to(logits.device), reduction="sum"
        )
        return losses / plan.batch

    loop.run(training, loss_at, checkpoint, label="tagger", say=say, snapshot=lambda: save(net))
    return training.seconds


def save_tagger(folder: Path, net: torch.nn.Module, labels: Sequence[Label]) -> None:
    """Write `model.onnx` and `selected_tags.csv`.

    Sigmoid inside, dynamic batch, weights stored as float16.
    """
    import copy

    import torch
    from torch import nn

    folder.mkdir(parents=True, exist_ok=True)
    model = nn.Sequential(copy.deepcopy(net).to("cpu").float().eval(), nn.Sigmoid())
    beside = folder / "partial.onnx"
    torch.onnx.export(
        model,
        (torch.zeros(2, SIZE, SIZE, 3),),
        beside,
        input_names=["input"],
        output_names=["output"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        verbose=False,
    )
    halve_weights(beside)
    with (folder / "selected_tags.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["tag_id", "name", "category", "count"])
        for number, label in enumerate(labels):
            writer.writerow([number, written_name(label.name), label.category, label.count])
    beside.replace(folder / "model.onnx")


def written_name(tag: str) -> str:
    """Return the table's spelling: underscores for spaces, kaomoji unchanged."""
    return tag if tag in KAOMOJI else tag.replace(" ", "_")


def halve_weights(path: Path) -> None:
    """Halve the ONNX file: float32 weights become float16, each with a cast.

    ONNX Runtime folds the casts at loading and computes in float32 as before. Tensors below 256 values stay.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    casts = []
    for tensor in list(model.graph.initializer):
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < 256:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, path)


@dataclass(frozen=True)
class TagMetrics:
    """Precision, recall and F1 of a tag at THRESHOLD; its image count."""

    name: str
    support: int
    precision: float
    recall: float
    f1: float


def score_images(model: Path, rgb: np.ndarray) -> np.ndarray:
    """Probabilities float32 [N, labels] for images RGB 0–255 [N, 96, 96, 3]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    bgr = np.ascontiguousarray(rgb[..., ::-1], dtype=np.float32)
    return np.concatenate([session.run(None, {name: bgr[i : i + 64]})[0] for i in range(0, len(bgr), 64)])


def label_metrics(
    scores: np.ndarray, wanted: np.ndarray, labels: Sequence[Label], threshold: float = THRESHOLD
) -> list[TagMetrics]:
    """Compute one row per label that occurs in `wanted` [N, labels]."""
    found = scores >= threshold
    rows = []
    for column, label in enumerate(labels):
        truth = wanted[:, column].astype(bool)
        if not truth.any():
            continue
        hits = int((found[:, column] & truth).sum())
        precision = hits / max(1, int(found[:, column].sum()))
        recall = hits / int(truth.sum())
        f1 = 2 * hits / (int(found[:, column].sum()) + int(truth.sum()))
        rows.append(TagMetrics(label.name, int(truth.sum()), precision, recall, f1))
    return rows


def macro_f1(rows: Sequence[TagMetrics]) -> float:
    """Mean F1 over tags, unweighted."""
    return float(np.mean([row.f1 for row in rows]))


def read_labels(table: Path) -> list[Label]:
    """Labels of a `selected_tags.csv`, names with spaces, in output order."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    spelled = [row["name"] if row["name"] in KAOMOJI else row["name"].replace("_", " ") for row in rows]
    return [Label(name, int(row["category"]), int(row["count"])) for name, row in zip(spelled, rows, strict=True)]
