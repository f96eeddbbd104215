"""JPEG: the walk over its segments, for what cannot be read, and for files that lack their end marker.

The pixels are libjpeg's, through Pillow (stills.py). Source of the rules: ITU-T T.81.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.stills import open_pixels

SIGNATURE = b"\xff\xd8\xff"
START, END, SCAN = 0xD8, 0xD9, 0xDA  # markers
SEQUENTIAL, PROGRESSIVE = (0xC0, 0xC1, 0xC9), (0xC2, 0xCA)  # Huffman and arithmetic coding
UNREAD_FRAMES = {0xC3: "lossless", 0xCB: "lossless"} | dict.fromkeys(
    (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical"
)
MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")  # restarts and stuffed bytes belong to the pixels
COEFFICIENTS = 64
UNKNOWN = 16  # bits of a coefficient that no scan gave yet
RESTART = re.compile(rb"\xff([\xd0-\xd7])")
FILLERS = (b"\x2a" * 64, b"\xd5" * 64)  # bytes that no marker is made of
FILLED_UP = 64  # zeros at the end of a file that are no pixels
END_MARKER = bytes([0xFF, END])


@dataclass(frozen=True)
class Jpeg:
    """The image lies in the first `end` bytes of the file; what follows, such as a second image or a video, does
    not count. `has_end` is False for a file without an end marker."""

    end: int
    has_end: bool

    def closed(self, data: bytes) -> bytes:
        """`data` up to its end marker, which is added where there is none."""
        return data[: self.end] if self.has_end else _with_tail(data[: self.end], b"")


def read_jpeg(data: bytes) -> Jpeg:
    """Walk the segments without unpacking a pixel.

    Raises MediaError, naming the kind, for a JPEG that Pillow does not read, and for one that is cut off before all of
    its coefficients have begun.
    """
    scans = _Scans()
    end = len(data)
    for marker, start, stop in _segments(data):
        if marker == END and scans.begun:
            return Jpeg(stop, True)
        if marker in (START, END):
            end = start
        else:
            scans.take(marker, data[start:stop])
    if not scans.all_begun():
        raise MediaError("the JPEG is cut off")
    return Jpeg(end, False)


def check_all_pixels(data: bytes, jpeg: Jpeg) -> None:
    """Raise MediaError unless the pixels of a JPEG without an end marker are all there.

    The last scan is unpacked with several bytes behind it: pixels that depend on them were cut off. Zeros that fill up
    the file, as where a copy or a download broke off, are no pixels.
    """
    if jpeg.has_end:
        return
    image = data[: jpeg.end]
    if image.endswith(bytes(FILLED_UP)):
        image = _without_zeros(image)
    shown = (open_pixels(_with_tail(image, tail), "JPEG", orientation=1) for tail in _tails(image))
    first = next(shown)
    if not all((first == other).all() for other in shown):
        raise MediaError("the JPEG is cut off")


def _without_zeros(image: bytes) -> bytes:
    """`image` without the zeros at its end; one belongs to a byte 0xFF before it (T.81, B.1.1.5)."""
    end = len(image.rstrip(b"\0"))
    return image[: end + 1] if image[end - 1 : end] == b"\xff" else image[:end]


def _tails(image: bytes) -> list[bytes]:
    """What might have followed the last byte of the last scan: nothing, more pixels, a restart and more pixels."""
    scan = image[image.rindex(bytes([0xFF, SCAN])) :]
    restarts = RESTART.findall(scan)
    following = 0xD0 + (restarts[-1][0] + 1) % 8 if restarts else 0xD0
    return [b"", *FILLERS, *(bytes([0xFF, following]) + filler for filler in FILLERS)]


def _with_tail(image: bytes, tail: bytes) -> bytes:
    # A last byte 0xFF is the first half of the end marker.
    return image.rstrip(b"\xff") + tail + END_MARKER


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end of the content) of each whole segment; the end marker, or a second start marker, is last."""
    at = len(SIGNATURE) - 1
    while found := MARKER.search(data, at):
        marker, start = found[1][0], found.end()
        if marker in (START, END):
            yield marker, found.start(), start
            return
        at = start + int.from_bytes(data[start : start + 2], "big")
        if at < start + 2 or at > len(data):
            return
        yield marker, start + 2, at


class _Scans:
    """Which bits of which coefficients the scans give."""

    def __init__(self) -> None:
        self.begun = self.progressive = False
        self.missing: dict[int, list[int]] = {}  # of each component: the bits that each coefficient still lacks

    def take(self, marker: int, content: bytes) -> None:
        """Note a segment; raises MediaError for a frame that is not read."""
        if marker in UNREAD_FRAMES:
            raise MediaError(f"a {UNREAD_FRAMES[marker]} JPEG is not read: convert it to PNG")
        if marker in SEQUENTIAL + PROGRESSIVE:
            if content[:1] != b"\x08":
                raise MediaError(f"a JPEG of {content[0] if content else 0} bits is not read: convert it to PNG")
            self.progressive = marker in PROGRESSIVE
            self.missing = {identity: [UNKNOWN] * COEFFICIENTS for identity in content[6::3]}
        elif marker == SCAN and len(content) >= 4:
            self.begun = True
            self._take_scan(content[1 : 1 + 2 * content[0] : 2], *content[-3:])

    def all_begun(self) -> bool:
        """Tell whether no coefficient lacks a bit, if the last scan is whole."""
        return self.begun and not any(any(bits) for bits in self.missing.values())

    def _take_scan(self, components: bytes, first: int, last: int, approximation: int) -> None:
        if not self.progressive:
            first, last, approximation = 0, COEFFICIENTS - 1, 0
        low = approximation & 15
        for identity in components:
            bits = self.missing.get(identity, [UNKNOWN] * COEFFICIENTS)
            for number in range(first, min(last + 1, COEFFICIENTS)):
                bits[number] = low
