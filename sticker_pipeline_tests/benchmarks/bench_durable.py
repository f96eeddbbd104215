"""Cost of waiting for the disk: `python -m sticker_pipeline_tests.benchmarks.bench_durable [FOLDER]`.

An artifact of 500 small PNGs is published in FOLDER (default: a temporary one): once with hard links to a cache, as in
`frames`, and once with new files. Each with no wait; with one fsync after another; with those of 16 threads, as in
`publish`; and with syncfs of the whole file system, which also waits for writes of others. Medians of five turns,
alternating.
"""

import argparse
import ctypes
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from sticker_pipeline.core import storage
from sticker_pipeline.core.files.durable import sync_file, sync_folder, sync_tree
from sticker_pipeline.core.storage import ArtifactStore, link_or_copy

FILES, SIDE, TURNS = 500, 96, 5


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    with tempfile.TemporaryDirectory(dir=parser.parse_args().folder) as temporary:
        print(f"publishing {FILES} PNGs of {SIDE}×{SIDE} pixels, seconds (median of {TURNS}; slowest)")
        for linked in (True, False):
            print("hard links to a cache" if linked else "files of its own")
            seconds: dict[str, list[float]] = {name: [] for name in WAYS}
            for turn in range(TURNS):
                for name, sync in WAYS.items():
                    seconds[name].append(publish_once(Path(temporary), sync, linked, turn))
            for name, values in seconds.items():
                print(f"  {name:24}{statistics.median(values):8.3f}{max(values):8.3f}")


def publish_once(root: Path, sync: Callable[[Path], None], linked: bool, turn: int) -> float:
    """Seconds of `publish` alone, of files that nobody has waited for."""
    os.sync()
    cache, store = root / "cache", ArtifactStore(root / "artifacts")
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir()
    for number in range(FILES):
        pixels = np.random.default_rng([turn, number]).integers(0, 64, (SIDE, SIDE, 4), dtype=np.uint8)
        Image.fromarray(pixels).save(cache / f"{number:04d}.png", compress_level=1)
    with store.writing("luma", "frames") as staging:
        for path in sorted(cache.iterdir()):
            link_or_copy(path, staging / path.name) if linked else shutil.copyfile(path, staging / path.name)
        storage.sync_tree = sync
        try:
            start = time.perf_counter()
            store.publish(staging, "luma", "frames", code_version="1", inputs={}, settings={})
            return time.perf_counter() - start
        finally:
            storage.sync_tree = sync_tree


def one_by_one(folder: Path) -> None:
    """fsync one after another."""
    for path in sorted(folder.rglob("*")):
        sync_file(path)
    sync_folder(folder)


def whole_file_system(folder: Path) -> None:
    """Linux's syncfs."""
    number = os.open(folder, os.O_RDONLY)
    try:
        ctypes.CDLL(None).syncfs(number)
    finally:
        os.close(number)


WAYS: dict[str, Callable[[Path], None]] = {
    "nothing waited for": lambda folder: None,
    "fsync, one by one": one_by_one,
    "fsync, 16 threads": sync_tree,
    "syncfs": whole_file_system,
}


if __name__ == "__main__":
    main()
