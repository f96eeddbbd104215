"""Cost per file as folders grow: `new-character`, `import-kohya`, `raw_media`, `frames`, merging and checks.

Run: python -m sticker_pipeline_tests.benchmarks.bench_folders [COUNT…]   (default: 1,000 4,000 and 16,000 files)

Half of the files are images of 24 px, all different; the others are their captions. Milliseconds per file. Cost is flat
if the last column is near 1.
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

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.dataset.kohya_import import import_kohya
from sticker_pipeline.dataset.new_character import create
from sticker_pipeline.media.frames import decode_all, frame_table, merging_warnings
from sticker_pipeline.media.inventory import rejected_files, scan
from sticker_pipeline.media.sidecars import read_captions

COUNTS = (1_000, 4_000, 16_000)
SETTINGS = MediaSettings()
T = TypeVar("T")


def main() -> None:
    counts = [int(argument) for argument in sys.argv[1:]] or list(COUNTS)
    columns = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as temporary:
            columns[count] = costs(Path(temporary), count)
    table = pd.DataFrame(columns)
    table["last/first"] = table[counts[-1]] / table[counts[0]]
    print(table.round(3).to_string())


def costs(root: Path, count: int) -> dict[str, float]:
    """Step -> milliseconds for each of `count` files."""
    folder = root / "img" / "1_one"
    folder.mkdir(parents=True)
    for number in range(count // 2):
        blocks = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(np.kron(blocks, np.ones((4, 4, 1), np.uint8))).save(folder / f"{number:05}.png")
        (folder / f"{number:05}.txt").write_text(f"luma_x, tag {number % 7}")
    found: dict[str, float] = {}

    def timed(name: str, work: Callable[[], T]) -> T:
        start = time.perf_counter()
        result = work()
        found[name] = 1000 * (time.perf_counter() - start) / count
        return result

    timed("new-character, loose", lambda: create("loose", folder, root / "characters", "luma_x", link=True))
    timed("new-character, groups", lambda: create("groups", root / "img", root / "characters", "luma_x", link=True))
    timed("import-kohya", lambda: import_kohya("kohya", root / "img", root / "characters", link=True))
    inventory = timed("raw_media", lambda: scan(root / "img", ["1_one"], SETTINGS))
    said = timed("captions", lambda: read_captions(root / "img", inventory))
    decoded = timed("frames", lambda: dict(decode_all(root / "img", inventory, root / "cache", SETTINGS)))
    again = timed("frames, from the cache", lambda: dict(decode_all(root / "img", inventory, root / "cache", SETTINGS)))
    captions = dict(zip(said["path"], said["caption"], strict=True))
    frames = timed("merging", lambda: frame_table(inventory, decoded, root / "cache", SETTINGS, captions))
    timed("checks", lambda: (rejected_files(inventory), merging_warnings(frames)))
    assert len(again) == int(frames["kept"].sum()) == count // 2
    return found


if __name__ == "__main__":
    main()
