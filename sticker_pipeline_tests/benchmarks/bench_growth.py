"""Cost of pure functions as their input grows: curation, duplicates, texts, and a benchmark among many characters.

Run: python -m sticker_pipeline_tests.benchmarks.bench_growth [COUNT…]   (default: 2,000 8,000 and 32,000)

COUNT is the number of frames, of letters, and of images of 50 characters together. CPU seconds.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from sticker_pipeline.benchmark.evaluation import Embeddings, EvaluationContext, GeneratedImages, Requests
from sticker_pipeline.benchmark.tables import benchmark_table
from sticker_pipeline.core.character import Curation, Group
from sticker_pipeline.core.texts import tidy
from sticker_pipeline.media.duplicates import representatives
from sticker_pipeline.tagging.categories import read_rows
from sticker_pipeline.tagging.curation import curate
from sticker_pipeline_tests.benchmarks.by_count import print_costs, timer

COUNTS = (2_000, 8_000, 32_000)
CHARACTERS = 50


def main() -> None:
    print_costs(costs, COUNTS)


def costs(_: Path, count: int) -> dict[str, float]:
    """Return the CPU seconds of each function on `count` items."""
    found: dict[str, float] = {}
    timed = timer(found, count)
    tags, frames = tagged_frames(count)
    timed("curation of frames with 30 tags", lambda: curate(tags, frames, {"art": Group()}, "t", Curation()))
    hashes = np.random.default_rng(0).integers(0, 2**64, count, dtype=np.uint64)
    timed("near duplicates of frames", lambda: distinct(hashes))
    timed("a run of joiners in a text", lambda: tidy("a" + "\u200d" * count + "b"))
    context, images = one_of_many(count // CHARACTERS)
    timed("benchmark of one of 50 characters", lambda: benchmark_table({"lora": {"art": images}}, context))
    return found


def tagged_frames(count: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tags and the frames of a character: 30 random tags on each frame, 20 frames of each source."""
    rng = np.random.default_rng(0)
    names = np.array([row["tag"] for row in read_rows("categories.csv") if "*" not in row["tag"]])
    chosen = np.argsort(rng.random((count, 300)), axis=1)[:, :30]
    ids = np.array([f"frame{number}" for number in range(count)], dtype=object)
    tags = pd.DataFrame({"frame_id": np.repeat(ids, 30), "tag": names[chosen.ravel() * 3]})
    tags = tags.assign(category="general", score=rng.random(count * 30).astype(np.float32))
    sources = [f"gif{number // 20}" for number in range(count)]
    return tags, pd.DataFrame({"frame_id": ids, "group": "art", "source_id": sources})


def distinct(hashes: np.ndarray) -> np.ndarray:
    """Look for near duplicates among frames that have none."""
    count = len(hashes)
    thumbnails = np.zeros((count, 16, 16, 4), dtype=np.uint8)
    ids, order = [str(number) for number in range(count)], np.arange(count)

    def never(one: int, other: int) -> float:
        raise AssertionError("no two hashes are near")

    found, _ = representatives(ids, hashes, thumbnails, order, 2, [""] * count, [False] * count, never)
    return found


def one_of_many(images: int) -> tuple[EvaluationContext, GeneratedImages]:
    """Return a context of 50 characters with 20 references each, and `images` generated images of one of them."""
    rng = np.random.default_rng(0)

    def rows(n: int) -> np.ndarray:
        vectors = rng.normal(size=(n, 768)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    references = [Embeddings(rows(20), [str(source) for source in range(20)]) for _ in range(CHARACTERS)]
    context = EvaluationContext(
        references={"art": references[0]},
        training=Embeddings(rows(300), [str(row // 6) for row in range(300)], ["art"] * 300),
        others={f"c{number:02}": {"art": each} for number, each in enumerate(references[1:])},
        requests={"art": Requests(["smile"] * images, [str(row // 4) for row in range(images)])},
        tag_names=["smile"],
    )
    return context, GeneratedImages(rows(images), rows(images), rng.random((images, 1)) > 0.5)


if __name__ == "__main__":
    main()
