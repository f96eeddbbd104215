"""Speed of decoding animations, beside Pillow's own decoder on the same files in the same run.

Run: python -m sticker_pipeline_tests.benchmarks.bench_media [FOLDER …]   (default: data/characters)
"""

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media.decode import decode
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.header import read_header
from sticker_pipeline.media.video import Video

LIMITS = MediaSettings()
REPEATS = 3


@dataclass
class Row:
    """Sums over the files of one format; the times are the best of REPEATS, file by file."""

    files: int = 0
    frames: int = 0
    megapixels: float = 0.0
    ours_s: float = 0.0
    pillow_s: float = 0.0


def main() -> None:
    folders = [Path(name) for name in sys.argv[1:]] or [Path("data/characters")]
    rows: defaultdict[str, Row] = defaultdict(Row)
    for path, kind, frames, pixels in images(folders):
        row = rows[kind]
        row.files += 1
        row.frames += frames
        row.megapixels += frames * pixels / 1e6
        ours, pillow = best_of_both(lambda path=path: decode_ours(path), lambda path=path: decode_pillow(path))
        row.ours_s += ours
        row.pillow_s += pillow
    print("format    files  frames     Mpx  ours frames/s  Pillow frames/s  ours : Pillow")
    for kind, row in sorted(rows.items()):
        speed, reference = row.frames / row.ours_s, row.frames / row.pillow_s
        print(
            f"{kind:8}{row.files:7}{row.frames:8}{row.megapixels:8.1f}{speed:15.0f}{reference:17.0f}"
            f"{speed / reference:14.2f}×"
        )


def images(folders: list[Path]) -> Iterator[tuple[Path, str, int, int]]:
    """(path, format, frames, pixels of a frame) of each file that Pillow can read too: whole, and no video."""
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        try:
            header = read_header(path.read_bytes(), LIMITS)
        except MediaError:
            continue
        if header.note or isinstance(header.container, Video):
            continue
        yield path, header.format, header.n_frames, header.width * header.height


def best_of_both(ours: Callable[[], None], pillow: Callable[[], None]) -> tuple[float, float]:
    """Seconds of each, the best of REPEATS, taken in turns so that a busy machine slows both alike."""
    times = [(timed(ours), timed(pillow)) for _ in range(REPEATS)]
    return min(time for time, _ in times), min(time for _, time in times)


def timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def decode_ours(path: Path) -> None:
    for _ in decode(path, LIMITS):
        pass


def decode_pillow(path: Path) -> None:
    with Image.open(path) as image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            image.convert("RGBA")


if __name__ == "__main__":
    main()
