"""APNG of whole frames, which replace the canvas and stay.

Source: PNG specification, third edition.
"""

import struct
from math import gcd

from sticker_pipeline.packing.animation import Animation
from sticker_pipeline.packing.encode.merge import merged
from sticker_pipeline.packing.encode.palette import few_colours, indexed
from sticker_pipeline.packing.encode.png import SIGNATURE, chunk, compressed, header, tables
from sticker_pipeline.packing.encode.settings import Settings

DISPOSE_NONE, BLEND_SOURCE = 0, 0
LONGEST = 65_535  # of a delay's numerator and denominator
MOST_COLOURS = 256


def encode(animation: Animation, settings: Settings) -> bytes:
    """Encode an APNG with exact durations and loops.

    Equal consecutive frames are merged. Lossless unless `settings.colours`: a palette with alpha for at most 256
    colours, else RGBA. A delay beyond 65,535 ms is rounded to whole seconds.
    """
    shown = merged(animation)
    few = settings.colours or (MOST_COLOURS if few_colours(shown.frames, MOST_COLOURS) is not None else None)
    reduced = None if few is None else indexed(shown.frames, few)
    pixels = shown.frames if reduced is None else reduced.indices
    parts = [SIGNATURE, header(shown.size, reduced), chunk(b"acTL", struct.pack(">II", len(pixels), shown.loops))]
    parts += tables(reduced)
    number = 0
    for index, (frame, duration) in enumerate(zip(pixels, shown.durations, strict=True)):
        control = struct.pack(">IIIII", number, *shown.size, 0, 0)
        parts.append(chunk(b"fcTL", control + _delay(duration) + bytes([DISPOSE_NONE, BLEND_SOURCE])))
        data = compressed(frame, reduced, settings.level)
        parts.append(chunk(b"fdAT", struct.pack(">I", number + 1) + data) if index else chunk(b"IDAT", data))
        number += 2 if index else 1
    return b"".join([*parts, chunk(b"IEND")])


def _delay(duration: int) -> bytes:
    """Return milliseconds as a fraction of seconds, two 16-bit numbers."""
    if duration > LONGEST:
        return struct.pack(">HH", min(LONGEST, round(duration / 1000)), 1)
    part = gcd(duration, 1000)
    return struct.pack(">HH", duration // part, 1000 // part)
