"""Measures of a sticker as chats show it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sticker_pipeline.packing.animation import Animation
from sticker_pipeline.packing.place import once_each, premultiplied_at

CHAT_SIDE = 200  # pixels of a sticker's longer side in a chat on a phone
DARK = (0x17, 0x21, 0x2B)  # Telegram's night theme
LIGHT = (0xFF, 0xFF, 0xFF)
BACKGROUNDS = (DARK, LIGHT)
EMOJI_SIDE = 32

MIN_EDGES = 0.25  # of `readable_at`: as much edge as the outline of a square, a quarter of the canvas wide
MIN_CONTRAST = 2.0  # WCAG asks 3 of graphical objects, which a third of 73 drawn stickers miss on white
MIN_FIRST_FRAME = 0.8  # of `first_frame_share`
MAX_LOOP_GAP = 3.0  # of `loop_gap`

# Luminance of linear sRGB: IEC 61966-2-1, as WCAG 2.1 defines it.
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)


def chat_error_db(original: Animation, encoded: Animation, side: int = CHAT_SIDE) -> float:
    """Return the PSNR in dB of `encoded` at chat size; infinite when equal.

    Both are scaled until the original's longer side is `side` pixels, and composited on DARK and on LIGHT; the worse
    of the two counts. The squared error is the mean over the pixels that either shows (alpha > 0), so that an empty
    margin does not improve it, and over the original's length: frames shown at the same time are compared, and the
    last frame of `encoded` stays if it is shorter. ValueError: shapes that differ by more than rounding to whole or
    even pixels. To compare many encodings, scale the original to this size once.
    """
    _check_shapes(original.size, encoded.size)
    size = _fitted(original.size, side)
    left, right = _at_size(original, size), _at_size(encoded, size)
    errors, seen = np.zeros(len(BACKGROUNDS)), 0.0
    for first, second, ms in _shown_together(original, encoded):
        squared, count = _squared_errors(left[first], right[second])
        errors += squared * ms
        seen += count * ms
    worst = float(errors.max())
    return math.inf if worst == 0 else 10 * math.log10(seen * 3 / worst)


def _check_shapes(original: tuple[int, int], encoded: tuple[int, int]) -> None:
    scale = max(encoded) / max(original)
    expected = [side * scale for side in original]
    if max(abs(ours - theirs) for ours, theirs in zip(expected, encoded, strict=True)) > 2:
        raise ValueError(
            f"an encoding of {encoded[0]}x{encoded[1]} px has not the shape of {original[0]}x{original[1]} px."
        )


def _fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    width, height = (max(1, round(length * side / max(size))) for length in size)
    return width, height


def _at_size(animation: Animation, size: tuple[int, int]) -> list[np.ndarray]:
    """Scale each frame; premultiplied float32 [h, w, 4]."""
    return once_each(animation.frames, lambda frame: premultiplied_at(frame, size))


def _shown_together(left: Animation, right: Animation) -> Iterator[tuple[int, int, int]]:
    """Yield frames shown at the same time.

    Both indexes and milliseconds (1 for stills).
    """
    left_ends = np.cumsum(left.durations) if left.total_ms else np.array([1])
    right_ends = np.cumsum(right.durations)
    end = int(left_ends[-1])
    cuts = sorted({0, end, *left_ends.tolist(), *(ms for ms in right_ends.tolist() if ms < end)})
    for start, stop in pairwise(cuts):
        second = min(int(np.searchsorted(right_ends, start, side="right")), len(right.frames) - 1)
        yield int(np.searchsorted(left_ends, start, side="right")), second, stop - start


def _squared_errors(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, int]:
    """Return summed squared errors on each background, and pixels that show.

    Values are 0..1.
    """
    difference = left - right
    squared = [
        float(np.square(difference[..., :3] - difference[..., 3:] * _unit(colour)).sum()) for colour in BACKGROUNDS
    ]
    return np.array(squared), int(np.count_nonzero((left[..., 3] > 0) | (right[..., 3] > 0)))


def _unit(colour: tuple[int, int, int]) -> np.ndarray:
    return np.array(colour, dtype=np.float32) / 255


def _on(frame: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Composite a premultiplied frame on a background; float32 [h, w, 3], 0..1."""
    return frame[..., :3] + (1 - frame[..., 3:]) * _unit(colour)


@dataclass(frozen=True)
class Readability:
    """Strong edges of a sticker on each chat background, as `readable_at` measures them."""

    dark: float
    light: float

    @property
    def readable(self) -> bool:
        return min(self.dark, self.light) >= MIN_EDGES


def readable_at(animation: Animation, side: int = EMOJI_SIDE) -> Readability:
    """Return how much strong edge shows at `side` pixels.

    An edge is strong where luminances two pixels apart have a contrast ratio (as WCAG 2.1 defines it) of MIN_CONTRAST.
    On each of DARK and LIGHT, the mean over time. The unit is the outline of the square canvas of `side` pixels: 1 is
    as much as that outline.
    """
    frames = _at_size(animation, _fitted(animation.size, side))
    weights = np.maximum(animation.durations, 1)
    dark, light = (
        float(np.average([_strong_edges(_on(frame, colour), colour) for frame in frames], weights=weights)) / (4 * side)
        for colour in BACKGROUNDS
    )
    return Readability(dark, light)


def _strong_edges(image: np.ndarray, around: tuple[int, int, int]) -> float:
    """Return the length in pixels of strong edges.

    The background `around` the image counts too.
    """
    framed = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    framed[:2] = framed[-2:] = framed[:, :2] = framed[:, -2:] = _unit(around)
    luminance = _linear(np.clip(framed, 0, 1)) @ _LUMINANCE + 0.05
    strong = 0
    for first, second in ((luminance[2:], luminance[:-2]), (luminance[:, 2:], luminance[:, :-2])):
        strong += int(np.count_nonzero(np.maximum(first, second) >= MIN_CONTRAST * np.minimum(first, second)))
    return strong / 2  # each edge lies between two pairs


def _linear(srgb: np.ndarray) -> np.ndarray:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def first_frame_share(animation: Animation) -> float:
    """Return the first frame's opaque area, relative to the median over time.

    Platforms show the first frame where nothing plays. Less than MIN_FIRST_FRAME: it shows only a part. 0 to any
    number; 1 when all frames are empty.
    """
    areas = animation.frames[..., 3].mean(axis=(1, 2), dtype=np.float64)
    order = np.argsort(areas, kind="stable")
    until = np.cumsum(np.maximum(animation.durations, 1)[order])
    median = areas[order][int(np.searchsorted(until, until[-1] / 2))]
    return float(areas[0] / median) if median else 1.0


def loop_gap(animation: Animation, side: int = CHAT_SIDE) -> float:
    """Return the difference of last and first frame, relative to neighbours'.

    Relative to the mean over neighbours that differ. About 1: the loop closes; above MAX_LOOP_GAP it jumps. 0 for
    stills, and when all frames are equal. Differences are mean absolute ones of premultiplied frames at `side` pixels.
    """
    frames = _at_size(animation, _fitted(animation.size, side))
    steps = [float(np.abs(after - before).mean()) for before, after in pairwise(frames)]
    moving = [step for step in steps if step > 0]
    return float(np.abs(frames[-1] - frames[0]).mean()) / float(np.mean(moving)) if moving else 0.0
