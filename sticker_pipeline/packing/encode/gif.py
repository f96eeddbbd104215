"""GIF with one palette; pixels are opaque or transparent.

Source: GIF89a specification.
"""

import struct

import numpy as np
from PIL import GifImagePlugin, Image

from sticker_pipeline.packing.animation import Animation
from sticker_pipeline.packing.encode.merge import carried, merged
from sticker_pipeline.packing.encode.palette import transparent_first
from sticker_pipeline.packing.encode.settings import Settings

OPAQUE_FROM = 128
MOST_COLOURS = 255  # and one index for transparency
KEEP, BACKGROUND = 1, 2  # disposal methods, section 23.c.iv
SHORTEST = 2  # hundredths: browsers show 0 and 1 as 10
LONGEST = 65_535

Box = tuple[int, int, int, int]


def encode(animation: Animation, settings: Settings) -> bytes:
    """Encode a GIF with one palette of at most 255 colours.

    Alpha of 128 and more is opaque. Equal consecutive frames are merged.
    Durations are hundredths, 0.02 s at least; the rounding error is carried over.
    Each frame paints the changes since the previous one.
    """
    shown = merged(_hard_edged(animation))
    reduced = transparent_first(shown.frames, 1 + min(settings.colours or MOST_COLOURS, MOST_COLOURS))
    bits = max(1, int(len(reduced.palette) - 1).bit_length())
    table = np.zeros((1 << bits, 3), np.uint8)
    table[: len(reduced.palette)] = reduced.palette[:, :3]
    parts = [b"GIF89a", struct.pack("<HHBBB", *shown.size, 0xF0 | (bits - 1), 0, 0), table.tobytes()]
    if not shown.is_still and shown.loops != 1:
        parts.append(b"\x21\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<H", _repeats(shown.loops)) + b"\x00")
    delays = [min(LONGEST, max(SHORTEST, delay)) for delay in carried(shown.durations, 10)]
    for indices, box, disposal, delay in zip(*_patches(reduced.indices), delays, strict=True):
        parts += _image(indices, table, box, disposal, 0 if shown.is_still else delay)
    return b"".join([*parts, b"\x3b"])


def _repeats(loops: int) -> int:
    """Return the repeats after the first time; 0 is for ever."""
    return loops - 1 if loops else 0


def _hard_edged(animation: Animation) -> Animation:
    """Make each pixel opaque or, with all channels 0, transparent."""
    frames = animation.frames.copy()
    opaque = frames[..., 3] >= OPAQUE_FROM
    frames[..., 3] = 255
    frames[~opaque] = 0
    return Animation(frames, animation.durations, animation.loops)


def _patches(frames: np.ndarray) -> tuple[list[np.ndarray], list[Box], list[int]]:
    """Return the indices to paint, the box and the disposal of frames.

    Index 0 paints nothing. Where pixels vanish, the box of the frame before covers them, and is cleared.
    """
    painted, boxes, disposals = [], [], []
    canvas = np.zeros_like(frames[0])
    for number, frame in enumerate(frames):
        changed = frame != canvas
        box = _around(changed)
        following = frames[number + 1] if number + 1 < len(frames) else frame
        vanishing = (frame > 0) & (following == 0)
        disposal = BACKGROUND if vanishing.any() else KEEP
        canvas = frame
        if disposal == BACKGROUND:
            box = _around(changed | vanishing)
            canvas = frame.copy()
            canvas[_slices(box)] = 0
        painted.append(np.where(changed, frame, 0)[_slices(box)])
        boxes.append(box)
        disposals.append(disposal)
    return painted, boxes, disposals


def _around(mask: np.ndarray) -> Box:
    """Return left, top, right, bottom around True values; a corner without any."""
    if not mask.any():
        return 0, 0, 1, 1
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _slices(box: Box) -> tuple[slice, slice]:
    left, top, right, bottom = box
    return slice(top, bottom), slice(left, right)


def _image(indices: np.ndarray, table: np.ndarray, box: Box, disposal: int, delay: int) -> list[bytes]:
    """Return control block, descriptor and compressed indices of one frame."""
    image = Image.fromarray(np.ascontiguousarray(indices), "P")
    image.putpalette(table.tobytes())
    control = struct.pack("<BBBBHBB", 0x21, 0xF9, 4, disposal << 2 | 1, delay, 0, 0)
    return [control, *GifImagePlugin.getdata(image, box[:2], include_color_table=False)]
