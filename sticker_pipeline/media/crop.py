"""Cropping of the empty margin of a frame."""

from typing import Literal

import numpy as np

INVISIBLE_ALPHA = 8  # of 255; pixels up to it are invisible
# An even border: BORDER_SHARE of the outermost pixels lie within BORDER_TOLERANCE of 255 levels of one colour (JPEG
# noise); the rest may belong to a subject that crosses the border.
BORDER_TOLERANCE = 24
BORDER_SHARE = 0.9

Box = tuple[int, int, int, int]


def cropped(rgba: np.ndarray, how: Literal["none", "alpha", "subject"], margin: float) -> np.ndarray:
    """Return the part of the frame (uint8 [H,W,4]) that shows something.

    `margin` (0 to 1, a share of that part's longer side) is kept around it within the frame. `alpha`: the box of
    visible pixels. `subject`: the same, but without a transparent border the box of pixels that differ from an even
    border's colour. Returns the whole frame where nothing can be cropped.
    """
    box = None if how == "none" else visible_box(rgba)
    if how == "subject" and box == (0, 0, rgba.shape[1], rgba.shape[0]):
        box = subject_box(rgba)
    if box is None:
        return rgba
    left, top, right, bottom = box
    extra = round(margin * max(right - left, bottom - top))
    return rgba[max(0, top - extra) : bottom + extra, max(0, left - extra) : right + extra]


def visible_box(rgba: np.ndarray) -> Box | None:
    """Return (left, top, right, bottom) of visible pixels, exclusive; None for none."""
    return _box(rgba[..., 3] > INVISIBLE_ALPHA)


def subject_box(rgba: np.ndarray) -> Box | None:
    """Return the box of pixels unlike an even border, else None."""
    rgb = rgba[..., :3].astype(np.int16)
    border = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
    colour = np.median(border, axis=0)
    if (np.abs(border - colour).max(axis=1) <= BORDER_TOLERANCE).mean() < BORDER_SHARE:
        return None
    return _box(np.abs(rgb - colour).max(axis=2) > BORDER_TOLERANCE)


def _box(mask: np.ndarray) -> Box | None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
