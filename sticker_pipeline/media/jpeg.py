"""JPEG: segment walk, for unreadable kinds and missing end markers.

Pixels are libjpeg's (`media/stills.py`). Source: ITU-T T.81.
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
MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")  # restarts and stuffed bytes are pixel data
COEFFICIENTS = 64
UNKNOWN = 16  # missing bits of a coefficient before any scan
RESTART = re.compile(rb"\xff([\xd0-\xd7])")
FILLERS = (b"\x2a" * 64, b"\xd5" * 64)  # bytes that form no marker
FILLED_UP = 64  # final zeros that are no pixels
END_MARKER = bytes([0xFF, END])


@dataclass(frozen=True)
class Jpeg:
    """The image in the first `end` bytes.

    The rest (a second image, a video) is ignored.
    """

    end: int
    has_end: bool

    def closed(self, data: bytes) -> bytes:
        """Return `data` up to its end marker, added if missing."""
        return data[: self.end] if self.has_end else _with_tail(data[: self.end], b"")


def read_jpeg(data: bytes) -> Jpeg:
    """Walk the segments; no pixel is unpacked.

    Raises MediaError for a kind that Pillow cannot read, or a cut before all coefficients have begun.
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
    """Raise MediaError for a JPEG without end marker and with incomplete pixels.

    The last scan is unpacked with different bytes appended: pixels that depend on them were cut off. Final zeros, as
    from interrupted copies or downloads, are no pixels.
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
    """Return `image` without final zeros, except after 0xFF (T.81, B.1.1.5)."""
    end = len(image.rstrip(b"\0"))
    return image[: end + 1] if image[end - 1 : end] == b"\xff" else image[:end]


def _tails(image: bytes) -> list[bytes]:
    """Return possible continuations of the last scan: none, pixels, restart plus pixels."""
    scan = image[image.rindex(bytes([0xFF, SCAN])) :]
    restarts = RESTART.findall(scan)
    following = 0xD0 + (restarts[-1][0] + 1) % 8 if restarts else 0xD0
    return [b"", *FILLERS, *(bytes([0xFF, following]) + filler for filler in FILLERS)]


def _with_tail(image: bytes, tail: bytes) -> bytes:
    # A final 0xFF is half an end marker.
    return image.rstrip(b"\xff") + tail + END_MARKER


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end of the content) of each whole segment.

    The end marker or a second start marker is last.
    """
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
    def __init__(self) -> None:
        self.begun = self.progressive = False
        self.missing: dict[int, list[int]] = {}  # by component: missing bits of each coefficient

    def take(self, marker: int, content: bytes) -> None:
        """Record a segment; raise MediaError for an unreadable frame."""
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
        """Tell whether all coefficients are complete, given a whole last scan."""
        return self.begun and not any(any(bits) for bits in self.missing.values())

    def _take_scan(self, components: bytes, first: int, last: int, approximation: int) -> None:
        if not self.progressive:
            first, last, approximation = 0, COEFFICIENTS - 1, 0
        low = approximation & 15
        for identity in components:
            bits = self.missing.get(identity, [UNKNOWN] * COEFFICIENTS)
            for number in range(first, min(last + 1, COEFFICIENTS)):
                bits[number] = low
