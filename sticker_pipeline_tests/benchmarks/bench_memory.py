"""Memory of decoding a GIF and an MP4 of 1,000 frames of 480×480.

Each is decoded into a cache by its own process, with its peak before and after. Fails when a process takes more than
LIMIT_MB. Linux only (/proc).

Run: python -m sticker_pipeline_tests.benchmarks.bench_memory
"""

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.storage import file_sha256
from sticker_pipeline.media.frames import decode_to_cache, perceptual_hash
from sticker_pipeline_tests.media.makers import ffmpeg

FRAMES, SIDE = 1_000, 480
LIMIT_MB = 300
POLL_S = 0.01


def main() -> int:
    if sys.argv[1:]:
        decode_and_report(Path(sys.argv[1]))
        return 0
    worst = 0.0
    print("file         MB on disk   imports MB   decoding MB   process MB   ffmpeg MB   seconds")
    with tempfile.TemporaryDirectory() as folder:
        for path in (write_gif(Path(folder) / "long.gif"), write_mp4(Path(folder) / "long.mp4")):
            command = [sys.executable, "-m", "sticker_pipeline_tests.benchmarks.bench_memory", str(path)]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            imports, process, child, seconds = (float(number) for number in said.split())
            worst = max(worst, process, child)
            print(
                f"{path.name:10}{path.stat().st_size / 1e6:13.1f}{imports:13.0f}{process - imports:14.0f}"
                f"{process:13.0f}{child:12.0f}{seconds:10.1f}"
            )
    print(f"limit: {LIMIT_MB} MB for each process")
    return int(worst > LIMIT_MB)


def decode_and_report(path: Path) -> None:
    """Print the peak in MB after the imports, after decoding, of a child process, and the seconds of decoding."""
    perceptual_hash(Image.new("RGB", (8, 8)))  # imports what is imported late
    imports, child = peak_mb(psutil.Process().pid), [0.0]
    threading.Thread(target=watch_children, args=(child,), daemon=True).start()
    start = time.perf_counter()
    table = decode_to_cache(path, file_sha256(path), path.parent / "cache", MediaSettings())
    assert len(table) == FRAMES and not table["problem"].any()
    print(imports, peak_mb(psutil.Process().pid), child[0], time.perf_counter() - start)


def watch_children(peak: list[float]) -> None:
    """Keep the highest peak of a child in `peak[0]`.

    The system's value for an ended child begins with its parent's size.
    """
    while True:
        for process in psutil.Process().children():
            if "ffmpeg" in process.name():
                peak[0] = max(peak[0], peak_mb(process.pid))
        time.sleep(POLL_S)


def peak_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6


def images() -> Iterator[Image.Image]:
    """A disc that wanders over stripes, so that each frame differs over most of the canvas."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    for number in range(FRAMES):
        disc = (x - 240 - 150 * np.cos(number / 40)) ** 2 + (y - 240 - 150 * np.sin(number / 25)) ** 2 < 60**2
        yield Image.fromarray(np.where(disc, 255, (x + y * 2 + number * 3) // 8 % 200).astype(np.uint8))


def write_gif(path: Path) -> Path:
    frames = images()
    next(frames).save(path, save_all=True, append_images=frames, duration=40)
    return path


def write_mp4(path: Path) -> Path:
    source = ("-f", "lavfi", "-i", f"testsrc=s={SIDE}x{SIDE}:r=25:d={FRAMES / 25}")
    path.write_bytes(ffmpeg("mp4", *source, "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"))
    return path


if __name__ == "__main__":
    sys.exit(main())
