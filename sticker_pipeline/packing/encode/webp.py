"""WEBP through Pillow: stills and animations, lossy and lossless."""

import io
from typing import Any

import numpy as np
from PIL import Image

from sticker_pipeline.packing.animation import Animation
from sticker_pipeline.packing.encode.bleed import bled
from sticker_pipeline.packing.encode.merge import merged
from sticker_pipeline.packing.encode.palette import indexed
from sticker_pipeline.packing.encode.settings import Settings

METHOD = 4  # 6 takes minutes for an animation and saves little
LOSSLESS_EFFORT = 75
LONGEST = 2**24 - 1  # milliseconds: 24 bits in a frame's header


def encode(animation: Animation, settings: Settings) -> bytes:
    """Encode a WEBP with exact durations and loops.

    Equal consecutive frames are merged. With `settings.quality` it is lossy, and colour is bled under transparent
    pixels before; alpha stays lossless. Without it, all is lossless but for a reduction to `settings.colours`, which
    suits flat art. A decoder returns whole frames.
    """
    shown = merged(animation)
    lossless = settings.quality is None
    pixels = _reduced(shown.frames, settings) if lossless else bled(shown.frames)
    frames = [Image.fromarray(frame) for frame in pixels]
    quality = LOSSLESS_EFFORT if lossless else settings.quality
    options: dict[str, Any] = {"lossless": lossless, "quality": quality, "method": METHOD}
    if not shown.is_still:
        durations = [min(duration, LONGEST) for duration in shown.durations]
        options |= {"save_all": True, "append_images": frames[1:], "duration": durations, "loop": shown.loops}
        options |= {"kmin": len(frames), "kmax": len(frames) + 1, "background": (0, 0, 0, 0)}
    target = io.BytesIO()
    frames[0].save(target, "WEBP", **options)
    return target.getvalue()


def _reduced(frames: np.ndarray, settings: Settings) -> np.ndarray:
    if settings.colours is None:
        return frames
    found = indexed(frames, settings.colours)
    return found.palette[found.indices]
