"""Error of VP9 with alpha: `python -m sticker_pipeline_tests.benchmarks.bench_webm`.

The first 24 frames of real animations, at 512 pixels, are encoded at several qualities and decoded by libvpx-vp9. The
table has bytes, the mean error of alpha over all pixels, and that of colour where both are opaque, in levels of 255.
"""

import sys

import numpy as np

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media.decode import decode_bytes
from sticker_pipeline.packing.animation import Animation, read_animation
from sticker_pipeline.packing.encode.settings import Settings
from sticker_pipeline.packing.encode.webm import encode
from sticker_pipeline.packing.place import scaled
from sticker_pipeline_tests.benchmarks.bench_stickers import ANIMATIONS
from sticker_pipeline_tests.conftest import REPOSITORY

MOST_FRAMES, SIDE, STEP_MS = 24, 512, 40
QUALITIES = (57, 45, 33)  # 63 less libvpx's crf: 6, 18 and 30
OPAQUE = 255


def main() -> None:
    folder = REPOSITORY.parent / "shared" / "realdata"
    if not folder.is_dir():
        sys.exit(f"{folder} is not here: the real animations are needed.")
    print(f"{'animation':28}{'quality':>8}{'bytes':>10}{'alpha':>8}{'colour':>8}")
    for name in ANIMATIONS[:5]:
        source = of_one_rate(read_animation(folder / name, MediaSettings()))
        for quality in QUALITIES:
            data = encode(source, Settings(quality=quality))
            alpha, colour = errors(source.frames, np.stack([one.rgba for one in decode_bytes(data, MediaSettings())]))
            stem = name.rpartition("/")[2].rpartition(".")[0]
            print(f"{stem:28}{quality:8}{len(data):10,}{alpha:8.3f}{colour:8.2f}", flush=True)


def of_one_rate(source: Animation) -> Animation:
    """Return the first frames at SIDE pixels, each shown for STEP_MS."""
    scale = SIDE / max(source.size)
    large = scaled(source, (round(source.size[0] * scale), round(source.size[1] * scale)))
    frames = large.frames[:MOST_FRAMES]
    return Animation(frames, (STEP_MS,) * len(frames))


def errors(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Return mean absolute errors of alpha and of colour, in levels.

    Both uint8 [n, h, w, 4].
    """
    apart = np.abs(before.astype(np.int16) - after)
    solid = (before[..., 3] == OPAQUE) & (after[..., 3] == OPAQUE)
    return float(apart[..., 3].mean()), float(apart[solid, :3].mean())


if __name__ == "__main__":
    main()
