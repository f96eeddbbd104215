"""How fast frames become tags and captions: `python -m sticker_pipeline_tests.benchmarks.bench_tagging`.

The bound is bare onnxruntime on tensors that are already in memory; the difference is decoding, preprocessing and the
cache.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.character import Curation, Group
from sticker_pipeline.media.frames import pixel_sha256
from sticker_pipeline.tagging import wd14
from sticker_pipeline.tagging.categories import read_rows
from sticker_pipeline.tagging.curation import curate
from sticker_pipeline.tagging.scoring import score_frames, tag_table
from sticker_pipeline_tests.tagging.tiny_tagger import write_tagger

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "models" / "embedded" / "tagger"
FRAMES, SIDE, BATCH = 512, 240, 32


def main() -> None:
    """Print a table: stage, seconds, frames/s, ratio to bare onnxruntime."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shipped = (SHIPPED / wd14.MODEL_FILE).is_file()
        model = SHIPPED if shipped else write_tagger(folder / "tagger", size=96)
        tagger = wd14.open_tagger(model)
        print(f"{FRAMES} frames of {SIDE} px, batch {BATCH}, input {tagger.size} px, {tagger.provider}", end="")
        print(", the shipped tagger" if shipped else ", a model of two layers: no tagger is shipped yet")
        files = _write_frames(folder / "frames")
        tensors = [_tensor(path, tagger.size) for path, _ in files.values()]
        batches = [np.stack(tensors[start : start + BATCH]) for start in range(0, FRAMES, BATCH)]
        wd14.scores(tagger, batches[0])  # the first run allocates
        bare = _seconds(lambda: [tagger.session.run(None, {tagger.input_name: batch}) for batch in batches])
        _print("bare onnxruntime, pre-loaded tensors", bare, FRAMES, bare)
        _print("score_frames, from PNG files", _seconds(lambda: _score(files, tagger, folder)), FRAMES, bare)
        _print("score_frames, all cached", _seconds(lambda: _score(files, tagger, folder)), FRAMES, bare)
        result = score_frames(files, tagger, folder / "cache", BATCH)
        table = _seconds(lambda: tag_table(list(files), result.scores, tagger.labels, 0.35, 0.85))
        _print("tag_table", table, FRAMES, bare)
    tags, frames = _random_tags(30_000, 30)
    seconds = _seconds(lambda: curate(tags, frames, {"art": Group()}, "trigger", Curation()))
    print(f"{'curate, 30,000 frames x 30 tags':40} {seconds:8.2f} s {30_000 / seconds:10.0f} frames/s")


def _score(files: dict[str, tuple[Path, str]], tagger: wd14.Tagger, folder: Path) -> None:
    score_frames(files, tagger, folder / "cache", BATCH)


def _print(name: str, seconds: float, frames: int, bare: float) -> None:
    print(f"{name:40} {seconds:8.2f} s {frames / seconds:10.0f} frames/s   {bare / seconds:8.2f} x bare")


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _write_frames(folder: Path) -> dict[str, tuple[Path, str]]:
    """Sticker-like pictures: a few flat shapes on transparency, which compress as drawn stickers do."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    files = {}
    for number in range(FRAMES):
        picture = np.zeros((SIDE, SIDE, 4), dtype=np.uint8)
        for _ in range(12):
            top, left, height, width = rng.integers(10, SIDE // 2, 4)
            picture[top : top + height, left : left + width] = (*rng.integers(0, 256, 3), 255)
        path = folder / f"{number}.png"
        Image.fromarray(picture).save(path)
        files[f"frame{number}"] = (path, pixel_sha256(picture))
    return files


def _tensor(path: Path, size: int) -> np.ndarray:
    with Image.open(path) as image:
        return wd14.preprocess(np.asarray(image.convert("RGBA")), size)


def _random_tags(frames: int, tags: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    names = np.array([row["tag"] for row in read_rows("categories.csv") if "*" not in row["tag"]])
    chosen = np.argsort(rng.random((frames, 300)), axis=1)[:, :tags].ravel()
    ids = np.array([f"frame{number}" for number in range(frames)], dtype=object)
    table = pd.DataFrame({"frame_id": np.repeat(ids, tags), "tag": names[chosen * 3], "category": "general"})
    clips = [f"clip{number // 20}" for number in range(frames)]
    return table.assign(score=rng.random(len(table)).astype(np.float32)), pd.DataFrame(
        {"frame_id": ids, "group": "art", "clip_id": clips}
    )


if __name__ == "__main__":
    main()
