"""Each file of each cache, damaged in each way: results stay the same."""

import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sticker_pipeline.benchmark import embed as embedding
from sticker_pipeline.benchmark.embed import Embedder, embed
from sticker_pipeline.core.caching import file_hashes
from sticker_pipeline.core.settings import GenerationSettings, MediaSettings
from sticker_pipeline.dataset.buckets import BucketSettings
from sticker_pipeline.generation.image_cache import cached_images
from sticker_pipeline.generation.prompts import Request
from sticker_pipeline.generation.timing import kept_seconds
from sticker_pipeline.media.frames import decode_all, frame_table, write_frame_files
from sticker_pipeline.media.inventory import scan
from sticker_pipeline.tagging.scoring import score_frames
from sticker_pipeline.tagging.wd14 import open_tagger
from sticker_pipeline.training.distill import images
from sticker_pipeline.training.memory.plan import counting
from sticker_pipeline.training.regularisation import read_regularisation
from sticker_pipeline_tests.damage import damaged_files, flip
from sticker_pipeline_tests.tagging.tiny_tagger import write_tagger

FLIPS = 25
Compute = Callable[[], Any]


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def always_the_same(compute: Compute, cache: Path, caplog: pytest.LogCaptureFixture, flips: int = FLIPS) -> None:
    """Compute with each damage of each file of the cache; afterwards nothing is damaged any more."""
    clean = compute()
    for damage in damaged_files(cache, flips):
        caplog.clear()
        assert compute() == clean, damage
        assert len(caplog.messages) <= 1, damage
        caplog.clear()
        assert compute() == clean, damage
        assert not caplog.messages, damage


def test_hashes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = [tmp_path / f"file{number}" for number in range(3)]
    for file in files:
        file.write_text(file.name)
    compute = lambda: file_hashes(files, tmp_path / "cache" / "memo.json")  # noqa: E731
    always_the_same(compute, tmp_path / "cache", caplog, flips=200)


def test_decoded_frames(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = _character(tmp_path)
    inventory, limits = scan(folder, ["stickers"], MediaSettings()), MediaSettings()

    def compute() -> Any:
        decoded = dict(decode_all(folder, inventory, tmp_path / "cache", limits))
        pngs = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.rglob("cache/**/*.png")}
        return [table.to_dict("records") for table in decoded.values()], pngs

    always_the_same(compute, tmp_path / "cache", caplog, flips=10)


def test_a_damaged_frame_is_exchanged_and_never_written_through(tmp_path: Path) -> None:
    """The PNG of the cache is the artifact's own file: what is decoded again is another file."""
    folder, cache, limits = _character(tmp_path), tmp_path / "cache", MediaSettings()
    inventory = scan(folder, ["stickers"], limits)

    def link(target: Path) -> list[Path]:
        decoded = dict(decode_all(folder, inventory, cache, limits))
        rows = frame_table(inventory, decoded, cache, limits, {})
        write_frame_files(rows, inventory, cache, limits, target)
        return sorted(target.rglob("*.png"))

    first = link(tmp_path / "one")
    whole = [path.read_bytes() for path in first]
    flip(first[0], 8 * 60)
    damaged = first[0].read_bytes()
    second = link(tmp_path / "two")
    assert [path.read_bytes() for path in second] == whole
    assert first[0].read_bytes() == damaged and first[0].stat().st_ino != second[0].stat().st_ino


def _character(tmp_path: Path) -> Path:
    folder = tmp_path / "luma"
    (folder / "stickers").mkdir(parents=True)
    for seed in range(2):
        Image.fromarray(noise(seed, 24, 20, 4)).save(folder / "stickers" / f"{seed}.png")
    return folder


def test_scores_of_the_tagger(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tagger = open_tagger(write_tagger(tmp_path / "tagger"), "cpu")
    files = {}
    for seed in range(3):
        path = tmp_path / f"{seed}.png"
        Image.fromarray(noise(seed, 9, 10, 3)).save(path)
        files[f"f{seed}"] = (path, f"{seed:064x}")
    compute = lambda: score_frames(files, tagger, tmp_path / "cache", 4).scores.tolist()  # noqa: E731
    always_the_same(compute, tmp_path / "cache", caplog, flips=400)


def test_a_damaged_frame_is_not_tagged(tmp_path: Path) -> None:
    tagger = open_tagger(write_tagger(tmp_path / "tagger"), "cpu")
    path = tmp_path / "frame.png"
    Image.fromarray(noise(0, 30, 30, 4)).save(path)
    data = path.read_bytes()
    for bit in random.Random(0).sample(range(8 * len(data)), 100):
        path.write_bytes(data)
        flip(path, bit)
        with pytest.raises(ValueError, match=r"frame\.png cannot be read .*: materialize 'frames' again"):
            score_frames({"f": (path, "0" * 64)}, tagger, tmp_path / "cache", 4)


def test_embeddings(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    run = lambda _, squares: np.stack([square.mean(axis=(0, 1)) for square in squares]).astype(np.float32)  # noqa: E731
    monkeypatch.setattr(embedding, "_run", run)
    embedder = Embedder(None, None, "cpu", "key", 8, "white", tmp_path / "cache")
    images = [Image.fromarray(noise(seed, 8, 8, 3)) for seed in range(2)]
    always_the_same(lambda: embed(embedder, images).tolist(), tmp_path / "cache", caplog, flips=100)


def test_generated_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    requests = [Request("sticker", "smile", seed) for seed in (0, 1, 0)]

    def draw(missing: list[Request]) -> Iterator[Image.Image]:
        for request in missing:
            yield Image.fromarray(noise(request.seed, 16, 16, 3))

    def compute() -> list[bytes]:
        return [image.tobytes() for image in cached_images(requests, {}, tmp_path / "cache", draw, 1)]

    assert compute() == [noise(seed, 16, 16, 3).tobytes() for seed in (0, 1, 0)]
    always_the_same(compute, tmp_path / "cache", caplog, flips=200)


def test_seconds_of_an_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    compute = lambda: kept_seconds("base", GenerationSettings(), 64, tmp_path / "cache", lambda: 0.125)  # noqa: E731
    always_the_same(compute, tmp_path / "cache", caplog, flips=200)


def test_sizes_of_regularisation_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for seed in range(2):
        (tmp_path / "others").mkdir(exist_ok=True)
        Image.fromarray(noise(seed, 40, 30 + seed, 3)).save(tmp_path / "others" / f"{seed}.png")
    buckets = BucketSettings(step=8, min_side=8)

    def compute() -> Any:
        table = read_regularisation(tmp_path / "others", tmp_path / "cache", 64, buckets, share=0.5)
        return table.to_dict("records")

    always_the_same(compute, tmp_path / "cache", caplog, flips=60)


def test_latents_of_a_distillation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base model's generated training images are kept in the work folder, batch by batch."""
    spec = SimpleNamespace(
        output=tmp_path / "cache",
        prompts=["a", "b", "c"],
        settings=SimpleNamespace(seed=1),
        generation=SimpleNamespace(batch_size=2, scheduler="ddim"),
        model_dump=lambda **_: {"prompts": ["a", "b", "c"]},
    )
    monkeypatch.setattr(images, "pipeline_of", lambda models, scheduler: None)
    monkeypatch.setattr(images, "_generated", lambda *rest: torch.tensor([float(row) for row in rest[-1]]))

    def compute() -> list[float]:
        return images.generated_latents(None, spec, None, lambda done, total: None).tolist()  # type: ignore[arg-type]

    assert compute() == [0.0, 1.0, 2.0]
    always_the_same(compute, tmp_path / "cache", caplog, flips=100)


def test_counts_of_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counted:
        def encode(self, tiles: int) -> int:
            return 1000 * tiles

    monkeypatch.setattr("sticker_pipeline.training.memory.plan.dry_run", lambda work: Counted())

    def compute() -> list[int]:
        count = counting(None, tmp_path / "cache" / "counts.json")  # type: ignore[arg-type]
        return [count("encode", 1), count("encode", 2)]

    always_the_same(compute, tmp_path / "cache", caplog, flips=200)
