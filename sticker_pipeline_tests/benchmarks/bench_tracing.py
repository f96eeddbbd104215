"""Cost of `trace` as characters grow: three releases of 30 sources and 180 frames each, and a later training.

Run: python -m sticker_pipeline_tests.benchmarks.bench_tracing [COUNT…]   (default: 100 and 1,000 characters)

CPU seconds of one search through all characters. Cost is flat if the last column is near 1.
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save

from sticker_pipeline.benchmark.releases import publish, read, releases_folder
from sticker_pipeline.benchmark.tracing import Loras, Uses, lora_with, releases_with, traced
from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline_tests.benchmarks.by_count import print_costs, timer
from sticker_pipeline_tests.publishing.candidates import candidate, sources_file

COUNTS = (100, 1_000)
RELEASES, SOURCES, FRAMES, MODULES = 3, 30, 6, 192


def main() -> None:
    print_costs(costs, COUNTS)


def costs(root: Path, count: int) -> dict[str, float]:
    """Search -> CPU seconds."""
    store, found = ArtifactStore(root / "artifacts"), dict[str, float]()
    for number in range(count):
        add_character(store, f"c{number:04}", root / "made")
    last = f"c{count - 1:04}"
    lora = read(releases_folder(store, last), 1).record.sha256
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(root / "other.png")
    (root / "other.safetensors").write_bytes(save({"a": np.zeros(3)}))
    timed = timer(found, count)
    uses: Uses = timed("image in releases, by a hash", lambda: releases_with(store, digest(last, 0, "file 7")))
    unknown: Uses | Loras = timed("unknown image, by bytes, then pixels", lambda: traced(store, root / "other.png"))
    loras: Loras = timed("LoRA, by a hash", lambda: lora_with(store, lora))
    other: Uses | Loras = timed("unknown LoRA, thrice", lambda: traced(store, root / "other.safetensors"))
    assert (len(uses.found), len(loras.found), unknown.found, other.found) == (1, 1, (), ())
    assert uses.searched.releases == RELEASES * count and unknown.searched.trainings == count
    return found


def add_character(store: ArtifactStore, name: str, made: Path) -> None:
    for number in range(RELEASES):
        ready = candidate(made, lora(name, number), sources=table(name, number))
        publish(releases_folder(store, name), ready, datetime(2026, 3, 1, tzinfo=UTC))
    with store.writing(name, "lora") as staging:
        (staging / "checkpoints").mkdir()
        (staging / "checkpoints" / "epoch_01.safetensors").write_bytes(lora(name, RELEASES))
        (staging / "sources.parquet").write_bytes(table(name, RELEASES))
        store.publish(staging, name, "lora", code_version="1", inputs={}, settings={})


def lora(name: str, number: int) -> bytes:
    """A LoRA file whose header is as long as a real one's, and differs."""
    weights = {f"lora_unet_module_{place}.lora_down.weight": np.zeros((1, 1), np.float16) for place in range(MODULES)}
    return save(weights, {"sshs_model_hash": digest(name, number, "weights"), "ss_tag_frequency": "tag " * 1000})


def table(name: str, number: int) -> bytes:
    weight = 1 / (SOURCES * FRAMES)
    rows = [
        (
            *(f"gifs/{source}.gif", "gifs", digest(name, number, f"file {source}"), frame, f"{source}-{frame}"),
            *(digest(name, number, f"frame {source} {frame}"), "train", weight, f"skv_luma, smile, hat {source}"),
        )
        for source in range(SOURCES)
        for frame in range(FRAMES)
    ]
    return sources_file(rows)


def digest(name: str, number: int, what: str) -> str:
    return hashlib.sha256(f"{name} {number} {what}".encode()).hexdigest()


if __name__ == "__main__":
    main()
