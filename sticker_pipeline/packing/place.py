"""Animations scaled and placed on a canvas, one box for all frames."""

import hashlib
import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from PIL import Image

from sticker_pipeline.core.texts import UserError
from sticker_pipeline.media.frame import clear_hidden_colour
from sticker_pipeline.packing.animation import Animation

OPAQUE = 255
Result = TypeVar("Result")
Box = tuple[int, int, int, int]
Upscale = Callable[[np.ndarray], np.ndarray]
"""Enlarge uint8 RGB [h, w, 3] by a whole factor, as a network for super-resolution does."""

VISIBLE = 8  # of alpha: fainter pixels are no part of the subject
MIN_ENLARGEMENT = 1.25  # from which an upscaler is asked

PIXEL_ART_SIDE = 96  # blocks of a drawing's longer side; a larger one is no pixel art
PIXEL_ART_COLOURS = 64  # where blocks are single pixels
TINY_SIDE = 32  # pixels; so small a drawing, or one of larger blocks, may have a whole palette
PALETTE = 256


class PlaceError(UserError):
    """An animation that does not fit; the message omits the file's name."""


def placed(
    animation: Animation,
    canvas: tuple[int, int],
    margin: int = 0,
    outline_px: int = 0,
    upscale: Upscale | None = None,
) -> Animation:
    """Return the subject centred on a canvas, as large as fits.

    `canvas`: its exact width and height. `margin` and `outline_px`: pixels that stay free around the visible box of all
    frames, for the platform and for `outlined`. Pixel art is scaled by whole factors only. `upscale` enlarges what is
    small; without one, Lanczos does. Raises PlaceError where nothing is visible, or no room is left.
    """
    box = _box_of(animation)
    free = _free(canvas, margin + outline_px)
    subject = _enlarged(_cropped(animation, box), free, upscale)
    return _centred(subject, canvas)


def fitted_into(
    animation: Animation,
    most: tuple[int, int],
    margin: int = 0,
    outline_px: int = 0,
    *,
    even: bool = False,
    upscale: Upscale | None = None,
) -> Animation:
    """Return the subject on a canvas of its shape, one side exact.

    That side is equal to `most`, width and height. The other one is as small as subject, margin and outline allow, and
    even where `even` (`most` must be even then). Else as `placed`.
    """
    box = _box_of(animation)
    around = margin + outline_px
    free = _free(most, around)
    subject = _enlarged(_cropped(animation, box), free, upscale)
    width, height = (side + 2 * around for side in subject.size)
    if even:
        width, height = width + width % 2, height + height % 2
    across = free[0] * (box[3] - box[1]) <= free[1] * (box[2] - box[0])
    return _centred(subject, (most[0], min(height, most[1])) if across else (min(width, most[0]), most[1]))


def visible_box(animation: Animation) -> Box | None:
    """Return the box of all frames' visible pixels: left, top, right, bottom.

    Right and bottom are exclusive. Pixels of alpha under VISIBLE do not count. None: nothing is visible.
    """
    shown = animation.frames[..., 3].max(axis=0) >= VISIBLE
    columns, rows = np.flatnonzero(shown.any(axis=0)), np.flatnonzero(shown.any(axis=1))
    return (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1) if len(rows) else None


def _box_of(animation: Animation) -> Box:
    box = visible_box(animation)
    if box is None:
        raise PlaceError("nothing is visible in it: every pixel is transparent. Use an image that shows something.")
    return box


def _free(canvas: tuple[int, int], around: int) -> tuple[int, int]:
    free = canvas[0] - 2 * around, canvas[1] - 2 * around
    if min(free) < 1:
        raise PlaceError(
            f"a canvas of {canvas[0]}x{canvas[1]} px has no room with {around} px for margin and outline around. "
            "Lower them, or choose a larger canvas."
        )
    return free


def _cropped(animation: Animation, box: Box) -> Animation:
    left, top, right, bottom = box
    frames = np.ascontiguousarray(animation.frames[:, top:bottom, left:right])
    return Animation(frames, animation.durations, animation.loops)


def _enlarged(subject: Animation, free: tuple[int, int], upscale: Upscale | None) -> Animation:
    """Scale a subject, cropped to its box, until it fills `free`."""
    block = pixel_art_block(subject)
    if block is not None:
        whole = _by_whole_factor(subject, block, free)
        if whole is not None:
            return whole
    factor = _factor(subject.size, free)
    if factor <= 1:
        return scaled(subject, _times(subject.size, factor, free))
    # A transparent pixel around, so that the outermost pixels keep a soft edge.
    framed = _framed(subject, 1)
    factor = max(1.0, _factor(framed.size, free))
    if factor == 1:
        return subject
    if upscale is not None and factor >= MIN_ENLARGEMENT:
        framed = each_frame(framed, lambda frame: upscaled(frame, upscale))
        factor = _factor(framed.size, free)
    return scaled(framed, _times(framed.size, factor, free))


def _factor(size: tuple[int, int], free: tuple[int, int]) -> float:
    return min(free[0] / size[0], free[1] / size[1])


def _times(size: tuple[int, int], factor: float, most: tuple[int, int]) -> tuple[int, int]:
    width, height = (max(1, min(limit, round(side * factor))) for side, limit in zip(size, most, strict=True))
    return width, height


def _framed(animation: Animation, by: int) -> Animation:
    frames = np.pad(animation.frames, ((0, 0), (by, by), (by, by), (0, 0)))
    return Animation(frames, animation.durations, animation.loops)


def _centred(subject: Animation, canvas: tuple[int, int]) -> Animation:
    width, height = subject.size
    left, top = (canvas[0] - width) // 2, (canvas[1] - height) // 2
    frames = np.zeros((len(subject.frames), canvas[1], canvas[0], 4), dtype=np.uint8)
    frames[:, top : top + height, left : left + width] = subject.frames
    return Animation(frames, subject.durations, subject.loops)


def is_pixel_art(animation: Animation) -> bool:
    """Tell whether an animation is drawn in whole pixels, as `pixel_art_block` says."""
    return pixel_art_block(animation) is not None


def pixel_art_block(animation: Animation) -> int | None:
    """Return the side of pixel art's blocks in pixels.

    None: it is no pixel art. Pixel art has hard edges (alpha 0 or 255), few colours in all frames (PALETTE, and
    PIXEL_ART_COLOURS where blocks are single pixels and its side is above TINY_SIDE), and blocks of one colour at whole
    positions, counted from its visible box, at most PIXEL_ART_SIDE of them on the longer side.
    """
    alpha = animation.frames[..., 3]
    box = visible_box(animation)
    if box is None or not np.all((alpha == 0) | (alpha == OPAQUE)):
        return None
    frames = _cropped(animation, box).frames
    colours = frames.view(np.uint32)[..., 0]
    height, width = colours.shape[1:]
    across = np.flatnonzero((colours[:, :, 1:] != colours[:, :, :-1]).any(axis=(0, 1))) + 1
    down = np.flatnonzero((colours[:, 1:] != colours[:, :-1]).any(axis=(0, 2))) + 1
    block = math.gcd(*across.tolist(), *down.tolist(), width, height)
    side = max(width, height)
    most = PIXEL_ART_COLOURS if block == 1 and side > TINY_SIDE else PALETTE
    return block if side <= block * PIXEL_ART_SIDE and 2 <= len(np.unique(colours)) <= most else None


def _by_whole_factor(subject: Animation, block: int, free: tuple[int, int]) -> Animation | None:
    own = subject.frames[:, ::block, ::block]
    factor = min(free[0] // own.shape[2], free[1] // own.shape[1])
    if factor < 1:
        return None
    frames = np.repeat(np.repeat(own, factor, axis=1), factor, axis=2)
    return Animation(frames, subject.durations, subject.loops)


def upscaled(frame: np.ndarray, upscale: Upscale) -> np.ndarray:
    """Enlarge colours by `upscale`, and alpha by Lanczos.

    `frame`: uint8 [h, w, 4]; returns it as many times as large as `upscale` says. `_back_projected` mends its colours.
    """
    small = np.ascontiguousarray(bled(frame)[..., :3])
    colours = _back_projected(upscale(small), small)
    alpha = premultiplied_at(frame, (colours.shape[1], colours.shape[0]))[..., 3:]
    return np.concatenate([colours, (alpha * OPAQUE + 0.5).astype(np.uint8)], axis=2)


def _back_projected(large: np.ndarray, small: np.ndarray) -> np.ndarray:
    """Correct the colours of an enlargement by one step of back-projection.

    Scaled down, it must be the source: the difference, enlarged, is added (Irani and Peleg, 1991). Networks shift
    flat colours.
    """
    (height, width), (tall, wide) = small.shape[:2], large.shape[:2]
    result = large.astype(np.float32)
    for channel in range(3):
        plane = result[..., channel]
        missing = small[..., channel] - _resized(plane, (width, height), Image.Resampling.BOX)
        plane += _resized(missing, (wide, tall), Image.Resampling.BICUBIC)
    return (np.clip(result, 0, OPAQUE) + 0.5).astype(np.uint8)


def bled(frame: np.ndarray) -> np.ndarray:
    """Fill the colours under transparent pixels from visible ones near them.

    uint8 [h, w, 4]; alpha stays. For codecs and filters that do not know alpha: no dark fringe appears. Colours come
    from means over squares of 2, 4, 8… pixels, the smallest that has a visible one.
    """
    levels = [_premultiplied(frame)]
    while max(levels[-1].shape[:2]) > 1:
        levels.append(_halved(levels[-1]))
    filled = levels[-1]
    for level in reversed(levels[:-1]):
        wider = np.repeat(np.repeat(filled, 2, axis=0), 2, axis=1)[: level.shape[0], : level.shape[1]]
        filled = np.where(level[..., 3:] > 0, level, wider)
    colours = filled[..., :3] / np.maximum(filled[..., 3:], 1e-9)
    result = frame.copy()
    hidden = frame[..., 3] == 0
    result[hidden, :3] = (np.clip(colours[hidden], 0, 1) * OPAQUE + 0.5).astype(np.uint8)
    return result


def _halved(level: np.ndarray) -> np.ndarray:
    """Return means of squares of 2x2; nothing is beyond an odd edge."""
    height, width = level.shape[:2]
    even = np.pad(level, ((0, height % 2), (0, width % 2), (0, 0)))
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4


def scaled(animation: Animation, size: tuple[int, int]) -> Animation:
    """Scale all frames to `size` (width, height in pixels), with premultiplied alpha.

    Smaller: Hamming's window, without negative weights, so that no ghost edge appears. Larger: Lanczos; alpha stays 0
    or 255 wherever the four nearest pixels of the source are all 0 or all 255.
    """
    if size == animation.size:
        return animation
    return each_frame(animation, lambda frame: straight(premultiplied_at(frame, size)))


def each_frame(animation: Animation, change: Callable[[np.ndarray], np.ndarray]) -> Animation:
    """Apply `change` to each frame (`once_each`); durations and loops stay."""
    frames = np.ascontiguousarray(np.stack(once_each(animation.frames, change)))
    return Animation(clear_hidden_colour(frames), animation.durations, animation.loops)


def once_each(frames: np.ndarray, change: Callable[[np.ndarray], Result]) -> list[Result]:
    """Apply `change` to each frame, once where bytes are equal.

    `frames`: uint8 [n, h, w, 4].
    """
    done: dict[bytes, Result] = {}
    results = []
    for frame in frames:
        key = hashlib.sha256(frame.tobytes()).digest()
        if key not in done:
            done[key] = change(frame)
        results.append(done[key])
    return results


def premultiplied_at(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return `frame` (uint8 [h, w, 4], straight alpha) premultiplied and scaled.

    `size`: width and height. float32 [height, width, 4]; alpha in 0..1, colours in 0..alpha.
    """
    premultiplied = _premultiplied(frame)
    height, width = frame.shape[:2]
    if size == (width, height):
        return premultiplied
    larger = size[0] >= width and size[1] >= height
    filter_ = Image.Resampling.LANCZOS if larger else Image.Resampling.HAMMING
    result = np.stack([_resized(premultiplied[..., channel], size, filter_) for channel in range(4)], axis=2)
    if larger:
        _without_ringing(result, _resized(premultiplied[..., 3], size, Image.Resampling.BILINEAR))
        result /= np.maximum(result[..., 3:], 1)
    np.maximum(result, 0, out=result)
    np.minimum(result[..., :3], result[..., 3:], out=result[..., :3])
    return result


def _resized(plane: np.ndarray, size: tuple[int, int], filter_: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize(size, filter_))


def _without_ringing(result: np.ndarray, nearest: np.ndarray) -> None:
    """Set alpha where the nearest pixels agree; straight colours stay."""
    solid = nearest >= 1 - 1e-5
    result[solid] /= np.maximum(result[solid][:, 3:], 1e-3)
    result[nearest <= 1e-5] = 0


def _premultiplied(frame: np.ndarray) -> np.ndarray:
    result = frame.astype(np.float32)
    result *= np.float32(1 / OPAQUE)
    result[..., :3] *= result[..., 3:]
    return result


def straight(premultiplied: np.ndarray) -> np.ndarray:
    """Return uint8 RGBA with straight alpha.

    `premultiplied`: float32 [h, w, 4]; what a filter put outside of 0..1 is clipped. R=G=B=0 wherever A=0.
    """
    alpha = premultiplied[..., 3:]
    result = premultiplied * np.float32(OPAQUE)
    result[..., :3] /= np.maximum(alpha, 1e-6)
    result += 0.5
    np.clip(result, 0, OPAQUE, out=result)
    return clear_hidden_colour(result.astype(np.uint8))
