"""Cost of one new GIF for a character of 30,000 frames: counts, and time of each dataset step.

Run: python -m sticker_pipeline_tests.benchmarks.bench_incremental [CLIPS]   (default: 1,000 GIFs of 30 frames)
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.core.character import Curation, Group
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media import sheets
from sticker_pipeline.media.frames import decode_all, frame_table, write_frame_files
from sticker_pipeline.media.inventory import scan
from sticker_pipeline.sampling.weights import frame_weights
from sticker_pipeline.tagging.curation import curate
from sticker_pipeline.tagging.scoring import score_frames, tag_table
from sticker_pipeline.tagging.thresholds import Thresholds, per_frame
from sticker_pipeline.tagging.wd14 import category_columns, open_tagger
from sticker_pipeline_tests.benchmarks.bench_tagging import SHIPPED

FRAMES_PER_CLIP, SIDE = 30, 64
SETTINGS = MediaSettings()
T = TypeVar("T")


def main() -> None:
    sources = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    with tempfile.TemporaryDirectory() as temporary:
        folder, work = Path(temporary) / "character", Path(temporary) / "work"
        (folder / "gifs").mkdir(parents=True)
        for number in range(sources):
            write_gif(folder / "gifs" / f"{number:04}.gif", number)
        print(f"{sources} GIFs of {FRAMES_PER_CLIP} frames, {SIDE} px")
        first = dataset(folder, work / "first", work / "cache")
        write_gif(folder / "gifs" / "new.gif", sources)
        print("\none new GIF")
        second = dataset(folder, work / "second", work / "cache")
    print(f"\nall:          {first[0]} files decoded, {first[1]} frames tagged")
    print(f"one new GIF:  {second[0]} files decoded, {second[1]} frames tagged")
    if second != (1, FRAMES_PER_CLIP):
        raise SystemExit("one new GIF should cost the decoding of one file and the tagging of its frames")


def dataset(folder: Path, out: Path, cache: Path) -> tuple[int, int]:
    """From files to captions, as the assets do it; (files decoded, frames tagged) of this run."""
    before = set((cache / "media").glob("??/*"))
    inventory = timed("inventory", lambda: scan(folder, ["gifs"], SETTINGS))
    decoded = timed("decode", lambda: dict(decode_all(folder, inventory, cache / "media", SETTINGS)))
    frames = timed("merge", lambda: frame_table(inventory, decoded, cache / "media", SETTINGS, {}))
    timed("frame files", lambda: write_frame_files(frames, inventory, cache / "media", SETTINGS, out))
    timed("sheets", lambda: sum(1 for _ in sheets.pages(sheets.kept_cells(frames, sheets.previews_of(decoded)))))
    kept = frames[frames["kept"]]
    timed("weights", lambda: frame_weights(frames, {"gifs": 1.0}, "inverse_length", None))
    tagger = open_tagger(SHIPPED)
    columns = (kept[name].tolist() for name in ("frame_id", "file", "pixel_sha256"))
    files = {frame: (out / file, pixels) for frame, file, pixels in zip(*columns, strict=True)}
    scored = timed("tag", lambda: score_frames(files, tagger, cache / "wd14", 32))
    tags = timed("thresholds", lambda: table_of_tags(files, scored.scores, tagger.labels))
    timed("curate", lambda: curate(tags, kept, {"gifs": Group()}, "skv_x", Curation()))
    print(f"  {len(kept)} of {len(frames)} frames kept")
    return len(set((cache / "media").glob("??/*")) - before), scored.computed


def table_of_tags(files: dict, scores: np.ndarray, labels: tuple) -> pd.DataFrame:
    return tag_table(list(files), scores, labels, per_frame(Thresholds(0.35, 0.85), scores, category_columns(labels)))


def timed(name: str, work: Callable[[], T]) -> T:
    start = time.perf_counter()
    result = work()
    print(f"  {name:12}{time.perf_counter() - start:8.2f} s")
    return result


def write_gif(path: Path, seed: int) -> None:
    """Frames of large random squares: no two of them are nearly the same image."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (FRAMES_PER_CLIP, 8, 8), dtype=np.uint8)
    frames = [Image.fromarray(np.kron(one, np.ones((SIDE // 8, SIDE // 8), np.uint8))) for one in blocks]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=50, loop=0)


if __name__ == "__main__":
    main()
