"""PNG and APNG: chunk walk with checksums, and compositing of animations.

Pixels are unpacked in `media/png_pixels.py`. Source: PNG specification, third edition (includes APNG).
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from PIL import Image

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.texts import counted
from sticker_pipeline.media.frame import MediaError, partly_whole
from sticker_pipeline.media.limits import check_frames, check_pixels
from sticker_pipeline.media.png_pixels import (
    PALETTE,
    SIGNATURE,
    PixelRules,
    Spans,
    check_whole,
    unpack,
    unpacked_profile,
)
from sticker_pipeline.media.stills import exif_orientation, upright

DISPOSE_BACKGROUND, DISPOSE_PREVIOUS = 1, 2
BLEND_SOURCE = 0
METRE = 1  # unit of pHYs
APPLES = "a PNG of an iPhone's app, in Apple's own form: convert it to PNG"
CHECKED = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"acTL", b"fcTL", b"fdAT")


@dataclass
class SubImage:
    """A frame control chunk and the file spans of its compressed pixels.

    `delay_ms`: as stored; `duration_ms`: the same in whole ms.
    """

    width: int
    height: int
    left: int
    top: int
    duration_ms: int
    dispose: int
    blend: int
    delay_ms: Fraction = Fraction(0)
    spans: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Png:
    """Everything in the file but the pixels.

    `images` is empty for a still; its compressed pixels lie at `spans`. `note` is empty for a whole file. `loops`: how
    often an animation plays, 0 for ever. `dots_per_metre`: the smaller of both directions; None: not stated.
    """

    width: int
    height: int
    orientation: int
    rules: PixelRules
    spans: tuple[tuple[int, int], ...]
    images: tuple[SubImage, ...]
    note: str
    loops: int = 0
    dots_per_metre: int | None = None


def read_png(data: bytes, limits: MediaSettings) -> Png:
    """Read the chunks of a PNG or APNG file without unpacking pixels.

    A default image outside the animation is no frame. A damaged or cut-off animation keeps its whole frames. Raises
    MediaError for a damaged or cut-off still, no whole frame, and anything beyond `limits`.
    """
    reader = _Reader(data, limits)
    problem = ""
    try:
        for kind, start, end in _chunks(data):
            reader.take(kind, start, end)
    except _Damage as damage:
        problem = str(damage)
    return reader.result(problem)


def still_pixels(data: bytes, png: Png) -> np.ndarray:
    """Return a still's upright image, RGBA uint8 [H,W,4]. Raises MediaError if damaged."""
    return upright(unpack(data, png.spans, png.width, png.height, png.rules), png.orientation)


def apng_frames(data: bytes, png: Png) -> Iterator[tuple[np.ndarray, int]]:
    """Yield each frame: full canvas uint8 [H,W,4], stored delay in whole ms.

    The canvas starts transparent: 'previous' on the first frame equals 'background', as specified. Raises MediaError at
    the first sub-image with damaged pixels.
    """
    canvas = np.zeros((png.height, png.width, 4), dtype=np.uint8)
    for number, image in enumerate(png.images):
        area = canvas[image.top : image.top + image.height, image.left : image.left + image.width]
        before = area.copy() if image.dispose == DISPOSE_PREVIOUS else None
        pixels = _sub_pixels(data, png, image, number)
        area[...] = pixels if image.blend == BLEND_SOURCE else blend_over(area, pixels)
        yield canvas.copy(), image.duration_ms
        if before is not None:
            area[...] = before
        elif image.dispose == DISPOSE_BACKGROUND:
            area[...] = 0


def blend_over(below: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Composite `above` over `below`, uint8 [H,W,4], rounded as Pillow's alpha_composite.

    Both, and the result, have straight alpha and no colour under alpha 0.
    """
    return np.asarray(Image.alpha_composite(Image.fromarray(np.ascontiguousarray(below)), Image.fromarray(above)))


class _Damage(Exception):
    """The chunks end or are damaged here."""


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start, end of content) of each chunk up to IEND."""
    at = len(SIGNATURE)
    while True:
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        start, end = at + 8, at + 8 + length
        if end + 4 > len(data):
            raise _Damage("the PNG is cut off")
        if kind in CHECKED and zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise _Damage(f"the PNG is damaged (wrong checksum in its chunk {kind.decode()} at byte {at})")
        yield kind, start, end
        if kind == b"IEND":
            return
        at = end + 4


class _Reader:
    def __init__(self, data: bytes, limits: MediaSettings) -> None:
        self.data, self.limits = data, limits
        self.orientation = 1
        self.pixel_chunks: dict[bytes, bytes] = {}  # that define how pixels are unpacked
        self.size = (0, 0)
        self.images: list[SubImage] = []
        self.declared_frames: int | None = None
        self.whole = self.sequence = self.loops = 0
        self.dots_per_metre: int | None = None
        self.spans: list[tuple[int, int]] = []

    def take(self, kind: bytes, start: int, end: int) -> None:
        content = self.data[start:end] if kind not in (b"IDAT", b"fdAT") else b""
        if not self.pixel_chunks and kind != b"IHDR":
            raise MediaError(APPLES if kind == b"CgBI" else "the PNG does not begin with its header")
        if kind == b"IHDR":
            self._take_header(content)
        elif kind in (b"PLTE", b"tRNS", b"iCCP"):
            if self._is_in_place(kind):
                self.pixel_chunks.setdefault(kind, content)
        elif kind == b"eXIf":
            self.orientation = exif_orientation(b"Exif\0\0" + content)
        elif kind == b"acTL" and not self.spans and len(content) == 8:
            self.declared_frames = int.from_bytes(content[:4], "big")
            self.loops = int.from_bytes(content[4:], "big")
        elif kind == b"pHYs" and not self.spans and len(content) == 9 and content[8] == METRE:
            self.dots_per_metre = min(int.from_bytes(content[:4], "big"), int.from_bytes(content[4:8], "big"))
        elif kind == b"fcTL" and self.declared_frames is not None:
            self.whole = len(self.images)
            self._take_control(content)
        elif kind == b"IDAT":
            self.spans.append((start, end))
            if self.images:
                self.images[-1].spans.append((start, end))
        elif kind == b"fdAT" and self.images:
            self._check_sequence(self.data[start : start + 4])
            self.images[-1].spans.append((start + 4, end))
        elif kind == b"IEND":
            self.whole = len(self.images)

    def result(self, problem: str) -> Png:
        if not self.pixel_chunks:
            raise MediaError(problem or "the PNG has no header")
        declared = self.declared_frames or 0
        if not declared:
            if not self.spans or (problem and not self._has_all(self.spans, *self.size)):
                raise MediaError(problem or "the PNG has no pixels")
            return self._png((), "")
        last = self.images[-1] if self.images else None
        if problem and last and last.spans and self._has_all(last.spans, last.width, last.height):
            self.whole = len(self.images)
            problem = "" if self.whole == declared else problem
        whole = [image for image in self.images[: self.whole] if image.spans]
        if not whole:
            raise MediaError(f"{problem or 'the APNG has no frame'}, before its first frame is whole")
        if len(whole) < declared and not problem:
            problem = f"the APNG declares {counted(declared, 'frame')} and has {len(whole)}"
        return self._png(tuple(whole), partly_whole(problem, len(whole)) if problem else "")

    def _png(self, images: tuple[SubImage, ...], note: str) -> Png:
        found = self.pixel_chunks
        profile = unpacked_profile(found[b"iCCP"]) if b"iCCP" in found else b""
        rules = PixelRules(found[b"IHDR"], found.get(b"PLTE", b""), found.get(b"tRNS", b""), profile)
        place = (*self.size, self.orientation, rules, tuple(self.spans), images, note)
        return Png(*place, self.loops, self.dots_per_metre)

    def _has_all(self, spans: Spans, width: int, height: int) -> bool:
        try:
            check_whole(self.data, spans, width, height, self.pixel_chunks[b"IHDR"])
        except MediaError:
            return False
        return True

    def _is_in_place(self, kind: bytes) -> bool:
        """Tell whether a chunk counts at its position, as in browsers.

        All precede the pixels; a profile precedes the palette, transparency follows it (specification, 5.6).
        """
        if self.spans:
            return False
        has_palette = b"PLTE" in self.pixel_chunks
        if kind == b"iCCP":
            return not has_palette
        return kind == b"PLTE" or has_palette or self.pixel_chunks[b"IHDR"][9] != PALETTE

    def _take_header(self, content: bytes) -> None:
        width, height = int.from_bytes(content[:4], "big"), int.from_bytes(content[4:8], "big")
        if len(content) != 13 or not width or not height:
            raise MediaError(f"the PNG declares an empty image of {width}×{height} pixels")
        check_pixels(width, height, self.limits)
        self.pixel_chunks[b"IHDR"], self.size = content, (width, height)

    def _take_control(self, content: bytes) -> None:
        if len(content) != 26:
            raise _Damage("the APNG is damaged (a frame control of the wrong length)")
        self._check_sequence(content[:4])
        width, height, left, top = (int.from_bytes(content[at : at + 4], "big") for at in (4, 8, 12, 16))
        if not width or not height or left + width > self.size[0] or top + height > self.size[1]:
            raise _Damage("the APNG is damaged (a frame reaches outside the canvas)")
        check_frames(len(self.images) + 1, self.limits)
        delay = _delay_ms(int.from_bytes(content[20:22], "big"), int.from_bytes(content[22:24], "big"))
        self.images.append(SubImage(width, height, left, top, round(delay), content[24], content[25], delay))

    def _check_sequence(self, number: bytes) -> None:
        if int.from_bytes(number, "big") != self.sequence:
            raise _Damage("the APNG is damaged (its frames are out of order)")
        self.sequence += 1


def _delay_ms(numerator: int, denominator: int) -> Fraction:
    return Fraction(1000 * numerator, denominator or 100)


def _sub_pixels(data: bytes, png: Png, image: SubImage, number: int) -> np.ndarray:
    try:
        return unpack(data, image.spans, image.width, image.height, png.rules)
    except MediaError as error:
        raise MediaError(f"the pixels of frame {number} are damaged ({error})") from error
