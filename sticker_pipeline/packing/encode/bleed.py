"""Colour under transparent pixels, for encoders that mix neighbouring pixels."""

import numpy as np


def bled(frames: np.ndarray) -> np.ndarray:
    """Spread the colour of visible pixels under transparent ones.

    `frames` and result: uint8 [n, h, w, 4]. Alpha and visible pixels are unchanged.
    Hidden colour comes from the smallest 2 × 2, 4 × 4, … block that holds
    visible pixels, weighted by alpha. A frame without any stays as it is.
    """
    result = frames.copy()
    for frame in result:
        hidden = frame[..., 3] == 0
        if hidden.any() and not hidden.all():
            frame[hidden, :3] = _filled(frame)[hidden]
    return result


def _filled(rgba: np.ndarray) -> np.ndarray:
    """Return uint8 [h, w, 3]: the colours around each pixel."""
    alpha = rgba[..., 3:].astype(np.float32)
    levels = [np.concatenate([rgba[..., :3] * alpha, alpha], axis=2)]
    while max(levels[-1].shape[:2]) > 1:
        levels.append(_halved(levels[-1]))
    known = levels.pop()
    while levels:
        finer = levels.pop()
        larger = known.repeat(2, axis=0).repeat(2, axis=1)[: finer.shape[0], : finer.shape[1]]
        known = np.where(finer[..., 3:] > 0, finer, larger)
    return np.rint(known[..., :3] / np.maximum(known[..., 3:], 1)).astype(np.uint8)


def _halved(sums: np.ndarray) -> np.ndarray:
    """Add up blocks of 2 × 2; odd sides are padded."""
    height, width = sums.shape[:2]
    even = np.pad(sums, ((0, height % 2), (0, width % 2), (0, 0)))
    return even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
