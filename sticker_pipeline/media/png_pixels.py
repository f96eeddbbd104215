"""Pixels of PNG images and APNG sub-images, by Pillow, with colour keys.

Source: PNG specification, third edition.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sticker_pipeline.media.colour import Model, to_srgb
from sticker_pipeline.media.frame import MediaError, clear_hidden_colour
from sticker_pipeline.media.stills import PILLOW_ERRORS, open_image, open_pixels

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6  # colour types
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}  # by colour type
# Left, top, step across and step down of each interlace pass.
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
BLOCK = 1 << 16
MOST_PROFILE = 1 << 22  # bytes of an unpacked profile; RGB and grey ones have some thousand
Spans = Iterable[tuple[int, int]]


@dataclass(frozen=True)
class PixelRules:
    """Contents of IHDR (13 bytes), PLTE and tRNS, and the unpacked profile.

    Missing ones are empty. `header` has the canvas's size, not a sub-image's.
    """

    header: bytes
    palette: bytes = b""
    transparency: bytes = b""
    profile: bytes = b""

    @property
    def model(self) -> Model:
        """Return the required colour model of a profile."""
        return "grey" if self.header[9] in (GREY, GREY_ALPHA) else "RGB"


def unpack(data: bytes, spans: Spans, width: int, height: int, rules: PixelRules) -> np.ndarray:
    """Return the pixels at `spans` as sRGB RGBA uint8 [height, width, 4].

    R=G=B=0 wherever A=0. 16-bit colour keeps its high byte; 16-bit grey is rounded. Indices beyond the palette are
    opaque black. Raises MediaError for damaged or incomplete pixels.
    """
    check_whole(data, spans, width, height, rules.header)
    image = _single(data, spans, width, height, rules)
    rgba = open_pixels(image, "PNG", orientation=1)
    key = _colour_key(rules)
    if key:
        rgba[_has_colour(rgba, image, rules.header[8], key)] = 0
    return clear_hidden_colour(to_srgb(rgba, rules.profile, rules.model))


def unpacked_profile(content: bytes) -> bytes:
    """Return the profile in an iCCP chunk.

    Content: name, zero byte, method, compressed profile. If damaged, it is returned itself, which is no valid profile.
    """
    compressed = content[content.find(b"\0") + 2 :]
    try:
        return zlib.decompressobj().decompress(compressed, MOST_PROFILE) or content
    except zlib.error:
        return content


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Return a PNG chunk: length, type, content, checksum."""
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def _single(data: bytes, spans: Spans, width: int, height: int, rules: PixelRules) -> bytes:
    """Return a PNG of these pixels, without colour key.

    Pillow compares the key with scaled samples.
    """
    chunks = [png_chunk(b"IHDR", width.to_bytes(4, "big") + height.to_bytes(4, "big") + rules.header[8:])]
    if rules.palette:
        chunks.append(png_chunk(b"PLTE", rules.palette))
    fits = 3 * len(rules.transparency) <= len(rules.palette)  # as in browsers, a longer one is ignored
    if rules.transparency and rules.header[9] == PALETTE and fits:
        chunks.append(png_chunk(b"tRNS", rules.transparency))
    chunks.append(png_chunk(b"IDAT", b"".join(data[start:end] for start, end in spans)))
    return SIGNATURE + b"".join(chunks) + png_chunk(b"IEND", b"")


def _colour_key(rules: PixelRules) -> tuple[int, ...]:
    """Return the transparent colour's samples, low bits only; empty for none.

    As in browsers, a key of the wrong length is ignored.
    """
    depth, colour = rules.header[8], rules.header[9]
    if colour not in (GREY, RGB) or len(rules.transparency) != 2 * CHANNELS[colour]:
        return ()
    pairs = range(0, len(rules.transparency), 2)
    return tuple(int.from_bytes(rules.transparency[at : at + 2], "big") & (1 << depth) - 1 for at in pairs)


def _has_colour(rgba: np.ndarray, image: bytes, depth: int, key: tuple[int, ...]) -> np.ndarray:
    """Return bool [H,W]: pixels of `image`, unpacked as `rgba`, equal to `key`."""
    if depth < 16:
        scaled = [255 * sample // ((1 << depth) - 1) for sample in key]
        return np.asarray((rgba[..., :3] == scaled).all(axis=-1))
    if len(key) == 1:
        return np.asarray(_samples(image, None) == key[0])
    low = _samples(image, "RGB;16L")
    high, rest = [sample >> 8 for sample in key], [sample & 255 for sample in key]
    return np.asarray((rgba[..., :3] == high).all(axis=-1) & (low == rest).all(axis=-1))


def _samples(data: bytes, raw_mode: str | None) -> np.ndarray:
    """Return the samples of a 16-bit PNG, read by Pillow in `raw_mode`.

    "RGB;16L" gives the low bytes: PNG has the other byte order.
    """
    try:
        with open_image(data, "PNG") as image:
            if raw_mode:
                image.tile = [tile._replace(args=raw_mode) for tile in image.tile]
            return np.array(image)
    except PILLOW_ERRORS as error:
        raise MediaError(f"its pixels cannot be unpacked ({error})") from error


def check_whole(data: bytes, spans: Spans, width: int, height: int, header: bytes) -> None:
    """Raise MediaError unless the compressed pixels are complete.

    Pillow silently shows missing rows as transparent or black. Memory: one block.
    """
    missing = _unpacked_bytes(width, height, header)
    stream = zlib.decompressobj()
    try:
        for start, end in spans:
            waiting = data[start:end]
            while waiting and missing > 0:
                missing -= len(stream.decompress(waiting, BLOCK))
                waiting = stream.unconsumed_tail
    except zlib.error as error:
        raise MediaError(f"its pixels cannot be unpacked ({error})") from error
    if missing > 0:
        raise MediaError("its pixels are not complete")


def _unpacked_bytes(width: int, height: int, header: bytes) -> int:
    """Return the unpacked size: each row and interlace pass has filter bytes."""
    bits = header[8] * CHANNELS.get(header[9], 1)
    passes = ADAM7 if header[12] else ((0, 0, 1, 1),)
    sizes = [(-(-(width - left) // across), -(-(height - top) // down)) for left, top, across, down in passes]
    return sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in sizes if columns > 0 and rows > 0)
