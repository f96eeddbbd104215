"""Time to merge, weigh and sample 30,000 frames.

Run: python -m sticker_pipeline_tests.benchmarks.bench_sampling
"""

import time
from collections.abc import Callable
from functools import partial
from operator import ne

import numpy as np
import pandas as pd

from sticker_pipeline.media.duplicates import representatives
from sticker_pipeline.sampling.epochs import epoch_order
from sticker_pipeline.sampling.weights import MODES, frame_weights

FRAMES, CLIPS = 30_000, 1_000


def main() -> None:
    rng = np.random.default_rng(0)
    sources = np.sort(rng.integers(0, CLIPS, FRAMES))
    hashes = rng.integers(0, 2**64, FRAMES, dtype=np.uint64)
    frames = pd.DataFrame(
        {
            "frame_id": [f"frame {number}" for number in range(FRAMES)],
            "group": np.where(sources % 2, "gifs", "art"),
            "source_id": [f"clip {source}" for source in sources],
            "phash": [f"{value:016x}" for value in hashes],
            "kept": True,
        }
    )
    thumbnails = rng.integers(0, 256, (FRAMES, 16, 16, 4), dtype=np.uint8)
    ids, order, shares = frames["frame_id"].tolist(), np.arange(FRAMES), {"gifs": 1.0, "art": 1.0}
    print(f"{FRAMES} frames of {CLIPS} sources")
    merge = partial(representatives, ids, hashes, thumbnails, order, 2, [""] * FRAMES, [False] * FRAMES, ne)
    report("merge near duplicates", merge)
    for mode in MODES:
        report(f"weights, {mode}", lambda mode=mode: frame_weights(frames, shares, mode, None))
    probability = frame_weights(frames, shares, "inverse_length", None)["probability"].to_numpy()
    report("one epoch of 10,000 draws", lambda: epoch_order(probability, 10_000, 0, 0))


def report(name: str, work: Callable[[], object]) -> None:
    start = time.perf_counter()
    work()
    print(f"{name:32}{1000 * (time.perf_counter() - start):9.1f} ms")


if __name__ == "__main__":
    main()
