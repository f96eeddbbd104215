"""WebP: RIFF chunk walk for size, frames and delays.

libwebp, through Pillow, composites full canvases. Sources: WebP container specification, RFC 9649.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.limits import check_frames, check_pixels
from sticker_pipeline.media.stills import PILLOW_ERRORS, image_pixels, open_image

ANIMATION_FLAG, ALPHA_FLAG = 0x02, 0x10
LOSSLESS_ALPHA = 1 << 28  # in the header of VP8L


@dataclass(frozen=True)
class Webp:
    """Canvas size, frame delays (empty for a still) and colour profile.

    `has_alpha`: declared, or the first frame leaves a part of the canvas free. `loops`: how often an animation plays, 0
    for ever.
    """

    width: int
    height: int
    durations_ms: tuple[int, ...]
    profile: bytes
    has_alpha: bool = False
    loops: int = 0


def read_webp(data: bytes, limits: MediaSettings) -> Webp:
    """Read the chunks without unpacking pixels.

    Raises MediaError if damaged, cut off or beyond `limits`.
    """
    if _end(data) > len(data):
        raise MediaError("the WebP is cut off")
    size = (0, 0)
    animated = has_alpha = False
    loops = 0
    durations: list[int] = []
    profile = b""
    for kind, start, end in _chunks(data):
        content = data[start : min(end, start + 16)]
        if not any(size):
            size = _size(kind, content)
            check_pixels(*size, limits)
        if kind == b"VP8X" and content:
            animated, has_alpha = bool(content[0] & ANIMATION_FLAG), bool(content[0] & ALPHA_FLAG)
        elif kind == b"VP8L" and not durations:
            has_alpha = has_alpha or bool(int.from_bytes(content[1:5], "little") & LOSSLESS_ALPHA)
        elif kind == b"ANIM":
            loops = int.from_bytes(content[4:6], "little")
        elif kind == b"ICCP":
            profile = data[start:end]
        elif kind == b"ANMF" and animated:
            durations.append(int.from_bytes(content[12:15], "little"))
            has_alpha = has_alpha or (len(durations) == 1 and _frame_size(content) != size)
        check_frames(len(durations), limits)
    if not all(size) or (animated and not durations):
        raise MediaError("the WebP has no image")
    return Webp(*size, tuple(durations), profile, has_alpha, loops)


def mended(data: bytes) -> bytes:
    """Return `data` with the RIFF size that libwebp expects."""
    return data[:4] + (_end(data) - 8).to_bytes(4, "little") + data[8:]


def webp_frames(data: bytes, webp: Webp) -> Iterator[tuple[np.ndarray, int]]:
    """Yield each full canvas, uint8 [H,W,4], and its stored delay in ms.

    Raises MediaError.
    """
    with open_image(mended(data), "WEBP") as image:
        for number, duration in enumerate(webp.durations_ms):
            try:
                image.seek(number)
            except PILLOW_ERRORS as error:
                raise MediaError(f"frame {number} of the WebP is damaged ({error})") from error
            yield image_pixels(image, "WEBP", orientation=1), duration


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    at, stop = 12, _end(data)
    while at + 8 <= stop:
        start = at + 8
        end = start + int.from_bytes(data[at + 4 : at + 8], "little")
        if end > stop:
            raise MediaError("the WebP is damaged (a chunk reaches beyond its end)")
        yield data[at : at + 4], start, end
        at = end + end % 2


def _end(data: bytes) -> int:
    """Return the RIFF's end; some writers count its first eight bytes."""
    size = int.from_bytes(data[4:8], "little")
    return size if size == len(data) else 8 + size


def _frame_size(content: bytes) -> tuple[int, int]:
    """Return the size in the header of an ANMF chunk."""
    return 1 + int.from_bytes(content[6:9], "little"), 1 + int.from_bytes(content[9:12], "little")


def _size(kind: bytes, content: bytes) -> tuple[int, int]:
    if kind == b"VP8X" and len(content) >= 10:
        return 1 + int.from_bytes(content[4:7], "little"), 1 + int.from_bytes(content[7:10], "little")
    if kind == b"VP8 " and content[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(content[6:8], "little") & 0x3FFF, int.from_bytes(content[8:10], "little") & 0x3FFF
    if kind == b"VP8L" and content[:1] == b"\x2f":
        bits = int.from_bytes(content[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return 0, 0
