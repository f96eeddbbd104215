"""What is cut off a frame before anything looks at it: the empty margin around what it shows.

Whether a character's frames are cropped is a setting; nothing here reads files.
"""

from typing import Literal

import numpy as np

INVISIBLE_ALPHA = 8  # of 255; what is not above it cannot be seen
# An even border: nearly all of the outermost pixels have nearly one colour, within so many of 255 levels (with room for
# the noise of JPEG); the rest of the border may be where the subject leaves the image.
BORDER_TOLERANCE = 24
BORDER_SHARE = 0.9

Box = tuple[int, int, int, int]


def cropped(rgba: np.ndarray, how: Literal["none", "alpha", "subject"], margin: float) -> np.ndarray:
    """The part of the frame (uint8 [H,W,4]) that shows something, with `margin` (0 to 1, a share of the longer side of
    that part) left around it where the frame has as much; the frame itself where there is nothing to cut.

    `alpha`: the box of the visible pixels. `subject`: the same, and in a frame without a transparent border the box of
    the pixels that differ from an even border's colour.
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
    """(left, top, right, bottom) of the visible pixels, right and bottom exclusive; None where there is none."""
    return _box(rgba[..., 3] > INVISIBLE_ALPHA)


def subject_box(rgba: np.ndarray) -> Box | None:
    """The box of the pixels that differ from the border; None where the border is not even, or nothing differs."""
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
