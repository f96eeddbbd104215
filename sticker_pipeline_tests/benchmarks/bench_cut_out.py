"""Halo of cut-outs from white, grey and blue, against known alpha.

Run: python -m sticker_pipeline_tests.benchmarks.bench_cut_out [FOLDER] [--each 8] [--spoiled jpeg] [--seconds]

FOLDER holds characters, each with `stickers/` and `art/`. Images with a transparent background are composited, cut out
and compared with their own alpha: mean excess and mean error at the outline, in levels of 255, on the worse of black
and the contrary colour. Beside it a flood fill with a tolerance of 16 levels. `--seconds`: CPU seconds of 74 frames of
512x512 too.
"""

import argparse
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from sticker_pipeline.packing.animation import animation, still
from sticker_pipeline.packing.cut_out import CutOutError, cut_out, halo, has_alpha
from sticker_pipeline.packing.outline import outlined
from sticker_pipeline.packing.place import placed
from sticker_pipeline_tests.conftest import REPOSITORY

BACKGROUNDS = {"white": (255, 255, 255), "grey": (128, 128, 128), "blue": (0, 0, 255)}
MOST_PIXELS = 1100**2
TOLERANCE = 16  # of the flood fill


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=REPOSITORY.parent / "shared" / "realdata")
    parser.add_argument("--each", type=int, default=8, help="images of each character")
    parser.add_argument("--spoiled", choices=SPOILED, default="clean", help="what is done to the image before")
    parser.add_argument("--seconds", action="store_true", help="time an animation too")
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        sys.exit(f"{arguments.folder} is not here: real characters are needed.")
    print(f"{'character':12} {'on':6} {'images':>6} {'flood':>6} {'excess':>7} {'error':>6} {'worst':>6}  worst file")
    for character in sorted(path for path in arguments.folder.iterdir() if (path / "stickers").is_dir()):
        images = chosen(character, arguments.each)
        for name, background in BACKGROUNDS.items():
            print_row(character.name, name, background, images, SPOILED[arguments.spoiled])
    if arguments.seconds:
        print_seconds()


def chosen(character: Path, most: int) -> dict[str, np.ndarray]:
    """Return evenly spread images of a character that have transparent backgrounds."""
    files = sorted([*(character / "stickers").glob("*.png"), *(character / "art").glob("*.png")])
    files = [file for file in files if is_small(file)]
    images = {file.name: np.asarray(Image.open(file).convert("RGBA")) for file in files[:: max(1, len(files) // most)]}
    return {name: image for name, image in images.items() if has_alpha(still(image))}


def is_small(file: Path) -> bool:
    with Image.open(file) as image:
        return image.width * image.height <= MOST_PIXELS


def jpeg(image: np.ndarray) -> np.ndarray:
    """Return the image after JPEG of quality 90 with halved chroma."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., :3]).save(buffer, "JPEG", quality=90)
    return np.asarray(Image.open(buffer).convert("RGBA"))


def noisy(image: np.ndarray) -> np.ndarray:
    """Return the image with Gaussian noise of three levels, as generated images have."""
    noise = np.random.default_rng(0).normal(0, 3, image.shape) * (1, 1, 1, 0)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


SPOILED: dict[str, Callable[[np.ndarray], np.ndarray]] = {"clean": lambda image: image, "jpeg": jpeg, "noise": noisy}


def print_row(
    character: str,
    name: str,
    background: tuple[int, int, int],
    images: dict[str, np.ndarray],
    spoil: Callable[[np.ndarray], np.ndarray],
) -> None:
    filled, ours = [], {}
    for file, known in images.items():
        image = spoil(composited(known, background))
        try:
            cut = cut_out(still(image)).animation.frames[0]
        except CutOutError as error:
            print(f"{character:12} {name:6} {file}: {error}")
            continue
        ours[file] = halo(cut, known, background)
        filled.append(halo(flood_filled(image, background), known, background).excess)
    worst = max(ours, key=lambda file: ours[file].excess)
    excess, error = (np.mean([getattr(found, key) for found in ours.values()]) for key in ("excess", "error"))
    print(
        f"{character:12} {name:6} {len(ours):6} {np.mean(filled):6.2f} {excess:7.2f} {error:6.2f} "
        f"{ours[worst].excess:6.2f}  {worst}",
        flush=True,
    )


def composited(rgba: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    """Return an opaque image on `background`, uint8 [h, w, 4]."""
    image = Image.new("RGBA", (rgba.shape[1], rgba.shape[0]), background)
    image.alpha_composite(Image.fromarray(rgba))
    return np.asarray(image)


def flood_filled(image: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    """Return the image with its background filled from the corners by Pillow."""
    framed = np.pad(image[..., :3], ((1, 1), (1, 1), (0, 0)))
    framed[0] = framed[-1] = framed[:, 0] = framed[:, -1] = background
    canvas = Image.fromarray(framed)
    marker = (255, 0, 255)
    ImageDraw.floodfill(canvas, (0, 0), marker, thresh=TOLERANCE * 3)
    result = image.copy()
    result[np.all(np.asarray(canvas)[1:-1, 1:-1] == marker, axis=2)] = 0
    return result


def print_seconds() -> None:
    frames = []
    for number in range(74):
        image = Image.new("RGB", (1024, 1024), "white")
        pen = ImageDraw.Draw(image)
        pen.ellipse((200 + number, 200, 800 + number, 860), fill=(90, 170, 220), outline=(20, 20, 40), width=12)
        pen.ellipse((380 + number, 350, 460 + number, 470), fill="black")
        frames.append(np.asarray(image.resize((512, 512), Image.Resampling.BOX).convert("RGBA")))
    moving = animation(frames, [50] * len(frames))
    started = time.process_time()
    cut = cut_out(moving).animation
    cut_s = time.process_time()
    held = placed(cut, (512, 512), margin=8, outline_px=8)
    placed_s = time.process_time()
    outlined(held, 8)
    ended = time.process_time()
    print(
        f"74 frames of 512x512: cut {cut_s - started:.1f} s, placed {placed_s - cut_s:.1f} s, "
        f"outlined {ended - placed_s:.1f} s"
    )


if __name__ == "__main__":
    main()
