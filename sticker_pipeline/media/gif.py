"""GIF: block walk, and compositing of frames on the canvas.

Pillow unpacks LZW. Source: GIF89a specification; browsers where it is silent or not followed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media.frame import OPAQUE, MediaError, partly_whole
from sticker_pipeline.media.limits import check_frames, check_pixels

SIGNATURES = (b"GIF87a", b"GIF89a")
EXTENSION, IMAGE, TRAILER, GRAPHIC_CONTROL = 0x21, 0x2C, 0x3B, 0xF9
LOOPING = (b"\xff\x0bNETSCAPE2.0\x03\x01", b"\xff\x0bANIMEXTS1.0\x03\x01")
RESTORE_BACKGROUND, RESTORE_PREVIOUS = 2, 3


@dataclass(frozen=True)
class Control:
    """A graphic control extension: disposal, delay and transparency of the next image.

    Disposal 4 is some encoders' 3, as in browsers; 0, 1, 5 to 7 leave the image.
    """

    disposal: int = 0
    delay_ms: int = 0
    transparent: int | None = None


@dataclass(frozen=True)
class SubImage:
    """One image block: a canvas rectangle, RGB colour table and LZW span."""

    left: int
    top: int
    width: int
    height: int
    interlaced: bool
    palette: bytes
    data_start: int
    data_end: int
    control: Control


@dataclass(frozen=True)
class Gif:
    """A GIF file without its pixels; `note` says what is missing, if anything.

    `loops`: how often it plays, 0 for ever; 1 without a looping extension.
    """

    width: int
    height: int
    images: tuple[SubImage, ...]
    note: str
    loops: int = 1


class _CutOff(Exception):
    """The file ends inside a block, or is damaged there."""


def read_gif(data: bytes, limits: MediaSettings) -> Gif:
    """Read the blocks of a GIF file without unpacking pixels.

    A cut-off file keeps its whole images. Raises MediaError for no whole image, no colour table, and anything beyond
    `limits`.
    """
    if len(data) < 13:
        raise MediaError("the GIF is cut off inside its header")
    width, height = _u16(data, 6), _u16(data, 8)
    check_pixels(width, height, limits)
    at, palette = _colour_table(data, 13, data[10])
    images: list[SubImage] = []
    note = ""
    try:
        for image in _images(data, at, palette):
            images.append(image)
            _check_size(image.width, image.height, limits)
            check_frames(len(images), limits)
    except _CutOff as fault:
        if not images:
            raise MediaError(f"{fault}, before its first image is whole") from fault
        note = partly_whole(str(fault), len(images))
    if not images:
        raise MediaError("the GIF has a header but no image")
    # As in Chromium: the first image enlarges a smaller or empty logical screen.
    width, height = max(width, images[0].left + images[0].width), max(height, images[0].top + images[0].height)
    check_pixels(width, height, limits)
    return Gif(width, height, tuple(images), note, _loops(data, at))


def gif_frames(data: bytes, gif: Gif) -> Iterator[tuple[np.ndarray, int]]:
    """Yield each frame: full canvas uint8 [H,W,4], stored delay in ms.

    As in browsers, the canvas starts transparent, disposal to background makes it so, and the header's background
    colour is ignored. Raises MediaError at the first image with damaged pixels.
    """
    canvas = np.zeros((gif.height, gif.width), dtype=np.uint32)
    for number, image in enumerate(gif.images):
        rows, columns = _clipped(image, gif)
        restores = image.control.disposal in (RESTORE_PREVIOUS, RESTORE_PREVIOUS + 1)
        before = canvas[rows, columns].copy() if restores else None
        _paint(canvas[rows, columns], _indices(data, image, number), image)
        yield canvas.copy().view(np.uint8).reshape(gif.height, gif.width, 4), image.control.delay_ms
        if before is not None:
            canvas[rows, columns] = before
        elif image.control.disposal == RESTORE_BACKGROUND:
            canvas[rows, columns] = 0


def _images(data: bytes, at: int, global_palette: bytes) -> Iterator[SubImage]:
    control = Control()
    while True:
        if at == len(data):
            return  # only the trailer is missing
        kind = _byte(data, at)
        if kind == TRAILER or (not kind and not data[at:].strip(b"\0")):
            return
        if kind == EXTENSION:
            end = _skip_blocks(data, at + 2)
            if data[at + 1] == GRAPHIC_CONTROL:
                control = _control(data, at + 2)
            at = end
        elif kind == IMAGE:
            image = _sub_image(data, at + 1, global_palette, control)
            yield image
            at, control = image.data_end, Control()
        else:
            raise _CutOff(f"the GIF is damaged at byte {at}")


def _loops(data: bytes, at: int) -> int:
    """Return how often the GIF plays, from the extension before its images."""
    while at < len(data) and data[at] == EXTENSION:
        if data.startswith(LOOPING, at + 1):
            repeats = _u16(data, at + 16)
            return repeats + 1 if repeats else 0
        at = _skip_blocks(data, at + 2)
    return 1


def _sub_image(data: bytes, at: int, global_palette: bytes, control: Control) -> SubImage:
    flags = _byte(data, at + 8)
    start, palette = _colour_table(data, at + 9, flags)
    palette = palette or global_palette
    if not palette:
        raise MediaError("the GIF has an image without a colour table")
    end = _skip_blocks(data, start + 1)
    left, top, width, height = (_u16(data, at + offset) for offset in (0, 2, 4, 6))
    return SubImage(left, top, width, height, bool(flags & 0x40), palette, start, end, control)


def _control(data: bytes, at: int) -> Control:
    if data[at] < 4:
        raise _CutOff(f"the GIF is damaged at byte {at}")
    flags = data[at + 1]
    return Control(flags >> 2 & 7, 10 * _u16(data, at + 2), data[at + 4] if flags & 1 else None)


def _colour_table(data: bytes, at: int, flags: int) -> tuple[int, bytes]:
    if not flags & 0x80:
        return at, b""
    end = at + 3 * 2 ** ((flags & 7) + 1)
    return end, data[at:end]


def _skip_blocks(data: bytes, at: int) -> int:
    while True:
        size = _byte(data, at)
        at += 1 + size
        if not size:
            return at


def _byte(data: bytes, at: int) -> int:
    if at >= len(data):
        raise _CutOff("the GIF is cut off")
    return data[at]


def _u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def _check_size(width: int, height: int, limits: MediaSettings) -> None:
    if not width or not height:
        raise MediaError(f"the GIF declares an empty image of {width}×{height} pixels")
    check_pixels(width, height, limits)


def _clipped(image: SubImage, gif: Gif) -> tuple[slice, slice]:
    return (
        slice(min(image.top, gif.height), min(image.top + image.height, gif.height)),
        slice(min(image.left, gif.width), min(image.left + image.width, gif.width)),
    )


def _indices(data: bytes, image: SubImage, number: int) -> np.ndarray:
    """Return colour indices, uint8 [height, width]. Raises MediaError, naming the frame."""
    bits = data[image.data_start]
    try:
        if not 1 <= bits <= 11:
            raise ValueError(f"a code size of {bits} bits")
        blocks = data[image.data_start + 1 : image.data_end]
        arguments = (bits, image.interlaced, -1)
        unpacked = Image.frombytes("P", (image.width, image.height), blocks, "gif", *arguments)
    except (ValueError, OSError) as error:
        raise MediaError(f"the pixels of frame {number} are damaged ({error})") from error
    return np.asarray(unpacked)


def _paint(target: np.ndarray, indices: np.ndarray, image: SubImage) -> None:
    """Paint the image on `target` (uint32 view of RGBA).

    The transparent index keeps the canvas; indices beyond the colour table are black.
    """
    colours = np.frombuffer(image.palette, dtype=np.uint8).reshape(-1, 3)
    table = np.zeros((256, 4), dtype=np.uint8)
    table[: len(colours), :3] = colours
    table[:, 3] = OPAQUE
    if image.control.transparent is not None:
        table[image.control.transparent] = 0
    pixels = table.view(np.uint32)[:, 0][indices[: target.shape[0], : target.shape[1]]]
    np.copyto(target, pixels, where=pixels != 0)
