"""Speed and memory of the desk with many frames, in chromium.

python -m sticker_pipeline_tests.benchmarks.bench_desk [FRAMES …], default 3,000 and 30,000.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from PIL import Image

from sticker_pipeline.core.schemas import typed
from sticker_pipeline.core.storage import ArtifactStore, write_table
from sticker_pipeline.dataset.manifest import TRAINING_SET
from sticker_pipeline.media.frames import FRAMES, frame_id, pixel_sha256
from sticker_pipeline.media.inventory import INVENTORY
from sticker_pipeline.media.sidecars import WRITTEN_CAPTIONS
from sticker_pipeline_tests.desk.example import publish
from sticker_pipeline_tests.desk.served import served
from sticker_pipeline_tests.ui.person import CHROMIUM

NAME, SIDE, DISTINCT, OF_ONE_FILE = "fox", 256, 1_000, 3
TAGS = [f"tag {number}" for number in range(2_000)]
FILTERS = ("tag 1", "tag 17, -tag 3", "tag 12,tag 20", "-tag 5")


def add_character(root: Path, count: int) -> None:
    """Write a character of `count` frames: files of three, of DISTINCT images, with 12 tags each by Zipf's law."""
    random = np.random.default_rng(3)
    folder = root / "characters" / NAME
    (folder / "gifs").mkdir(parents=True)
    (folder / "character.yaml").write_text("trigger: skv_fox\n")
    files = [f"gifs/{number:05}.gif" for number in range(-(-count // OF_ONE_FILE))]
    paths = np.repeat(files, OF_ONE_FILE)[:count]
    index = np.tile(np.arange(OF_ONE_FILE), len(files))[:count]
    store = ArtifactStore(root / "artifacts")
    with store.writing(NAME, "frames") as staging:
        pixels = write_images(staging / "files", min(count, DISTINCT), random)
        hashes = [pixels[number % len(pixels)] for number in range(count)]
        frames = pd.DataFrame({
            "frame_id": [frame_id(path, place) for path, place in zip(paths, index, strict=True)], "path": paths,
            "group": "gifs", "source_id": paths, "frame_index": index, "start_ms": 0, "duration_ms": 40, "width": SIDE,
            "height": SIDE, "pixel_sha256": hashes, "phash": "0" * 16, "kept": True, "reason": "", "duplicate_of": "",
            "file": [f"files/{sha}.png" for sha in hashes],
        })  # fmt: skip
        write_table(typed(frames, FRAMES), staging, FRAMES)
        store.publish(staging, NAME, "frames", code_version="1", inputs={}, settings={})
    inventory = pd.DataFrame({
        "path": files, "group": "gifs", "sha256": "0" * 64, "bytes": 1, "format": "GIF", "width": SIDE, "height": SIDE,
        "n_frames": OF_ONE_FILE, "status": "accepted", "reason": "", "remark": "",
    })  # fmt: skip
    none = typed(pd.DataFrame(columns=WRITTEN_CAPTIONS.names), WRITTEN_CAPTIONS)
    publish(store, NAME, "raw_media", (typed(inventory, INVENTORY), INVENTORY), (none, WRITTEN_CAPTIONS))
    chosen = np.minimum(random.zipf(1.3, (count, 12)) - 1, len(TAGS) - 1)
    captions = [", ".join(["skv_fox", *dict.fromkeys(TAGS[tag] for tag in row)]) for row in chosen]
    training = pd.DataFrame({
        "frame_id": frames["frame_id"], "file": frames["file"], "caption": captions, "probability": 1 / count,
        "bucket_width": 512, "bucket_height": 512, "split": "train",
    })  # fmt: skip
    publish(store, NAME, "training_set", (typed(training, TRAINING_SET), TRAINING_SET))


def write_images(folder: Path, count: int, random: np.random.Generator) -> list[str]:
    folder.mkdir()
    found = []
    for _ in range(count):
        small = random.integers(0, 255, (16, 16, 3), np.uint8)
        rgba = np.array(Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGBA"))
        found.append(pixel_sha256(rgba))
        Image.fromarray(rgba).save(folder / f"{found[-1]}.png", compress_level=1)
    return found


def measured(page: Any, address: str) -> dict[str, float]:
    """Return seconds, megabytes and elements of a visit."""
    page.goto(f"{address}/desk/c/{NAME}")
    page.wait_for_selector("[data-ready]")
    page.wait_for_selector(".cell img")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000
    cells = page.evaluate("performance.now()") / 1000
    at_once = page.evaluate(FILTER, FILTERS[-1]) / 1000
    page.wait_for_load_state("networkidle")
    filters = [page.evaluate(FILTER, text) / 1000 for text in FILTERS]
    page.evaluate(FILTER, "")
    for part in range(41):
        page.evaluate(SCROLL, part / 40)
        page.wait_for_timeout(100)
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    return {
        "first paint, s": paint,
        "first cells, s": cells,
        "filter while images load, s": at_once,
        "slowest of later filters, s": max(filters),
        "heap after scrolling to the end, MB": page.evaluate("performance.memory.usedJSHeapSize") / 1e6,
        "elements": page.evaluate("document.querySelectorAll('*').length"),
    }


SCROLL = "(share) => { const grid = document.getElementById('grid'); grid.scrollTop = grid.scrollHeight * share; }"
# From a key to the answer on the page, without the wait after the last key.
FILTER = """async (text) => {
  const input = document.querySelector('[name=tags]'), count = document.getElementById('count');
  const before = count.textContent;
  input.value = text;
  const begun = performance.now();
  const done = new Promise((resolve) => {
    new MutationObserver(() => resolve(performance.now())).observe(count, {childList: true});
  });
  input.dispatchEvent(new Event('input', {bubbles: true}));
  return (await done) - begun - 120;
}"""


def main(sizes: list[int]) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for size in sizes:
            with tempfile.TemporaryDirectory() as folder:
                add_character(Path(folder), size)
                before = psutil.Process().memory_info().rss
                with served(Path(folder)) as address:
                    for visit in ("first", "second"):
                        page = browser.new_page(viewport={"width": 1440, "height": 900})
                        found = measured(page, address)
                        page.close()
                        print(f"{size:,} frames, {visit} visit: " + ", ".join(f"{k} {v:.3g}" for k, v in found.items()))
                    more = (psutil.Process().memory_info().rss - before) / 1e6
                    print(f"{size:,} frames: memory of the server +{more:.0f} MB")
        browser.close()


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]] or [3_000, 30_000])
