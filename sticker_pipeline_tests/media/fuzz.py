"""Damaged files for the fuzz: valid seeds of every format, damages, and checks.

In test_fuzz.py hypothesis chooses the damage, in benchmarks/bench_fuzz.py numbers do.
"""

import io
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from PIL import Image

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media.decode import decode_bytes
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.header import read_header
from sticker_pipeline_tests.media.makers import (
    BLUE,
    GREEN,
    P3_PRIMARIES,
    RED,
    ApngImage,
    GifImage,
    apng,
    chunk,
    gif,
    icc_gamma,
    icc_rgb,
    noise,
    png,
    png_header,
    solid,
    tiff,
    video,
)

# Small enough that the largest image allowed takes little time.
LIMITS = MediaSettings(max_pixels=500_000, max_frames=100, max_seconds=60)
KINDS = ("flip", "overwrite", "zero", "delete", "duplicate", "insert", "length", "small", "splice", "truncate")
PNG = b"\x89PNG\r\n\x1a\n"
PLAIN = {b"IDAT": 0, b"fdAT": 4}  # bytes before what is compressed
# Values that lengths, counts and sizes in headers are made of.
LENGTHS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF)


@dataclass(frozen=True)
class Damage:
    """A damage at `where`, a place in the file from 0 to 1, of `size` bytes.

    The meaning of `value` depends on the kind.
    """

    kind: str
    where: float
    size: int
    value: int


def damaged(data: bytes, damages: list[Damage], other: bytes, *, repair: bool) -> bytes:
    """Return `data` with each damage done in turn; a splice continues with `other`.

    With `repair`, a PNG is damaged inside its chunks and its compression, so that the damage reaches the decoder.
    """
    for damage in damages:
        inside = repair and data.startswith(PNG)
        data = _damage_inside(data, damage, other) if inside else _one_damage(data, damage, other)
    return data


def _damage_inside(png: bytes, damage: Damage, other: bytes) -> bytes:
    """Return `png` with one chunk's content damaged, pixels before their compression.

    Lengths, compression and checksums are right again. Places run over pixels, then other chunks, then the header:
    what is wrong there is reported before anything is unpacked.
    """
    chunks = png_chunks(png)
    order = sorted(range(len(chunks)), key=lambda number: (number == 0, chunks[number][0] not in PLAIN))
    at = damage.where * sum(len(chunks[number][1]) for number in order)
    for number in order:
        kind, content = chunks[number]
        if at <= len(content):
            break
        at -= len(content)
    chunks[number] = (kind, _one_damage(content, replace(damage, where=at / max(1, len(content))), other))
    return PNG + b"".join(_packed(kind, content) for kind, content in chunks)


def png_chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """(type, content) of each chunk, pixels unpacked where their compression is whole.

    Of IDAT all is unpacked, of each fdAT what follows its number.
    """
    chunks, at = list[tuple[bytes, bytes]](), len(PNG)
    while at + 12 <= len(png):
        end = at + 8 + int.from_bytes(png[at : at + 4], "big")
        kind, content = png[at + 4 : at + 8], png[at + 8 : end]
        if kind == b"IDAT" and chunks and chunks[-1][0] == b"IDAT":
            content = chunks.pop()[1] + content
        chunks.append((kind, content))
        at = end + 4
    return [(kind, _unpacked(kind, content)) for kind, content in chunks]


def _unpacked(kind: bytes, content: bytes) -> bytes:
    try:
        return content[: PLAIN.get(kind, 0)] + zlib.decompress(content[PLAIN[kind] :]) if kind in PLAIN else content
    except zlib.error:
        return content


def _packed(kind: bytes, content: bytes) -> bytes:
    plain = PLAIN.get(kind, len(content))
    return chunk(kind, content[:plain] + (zlib.compress(content[plain:]) if kind in PLAIN else b""))


def _one_damage(data: bytes, damage: Damage, other: bytes) -> bytes:
    at = int(damage.where * len(data))
    before, touched, after = data[:at], data[at : at + damage.size], data[at + damage.size :]
    match damage.kind:
        case "flip":
            return before + bytes([data[at] ^ 1 << damage.value % 8]) + data[at + 1 :] if at < len(data) else data
        case "overwrite":
            return before + random.Random(damage.value).randbytes(len(touched)) + after
        case "zero":
            return before + bytes(len(touched)) + after
        case "delete":
            return before + after
        case "duplicate":
            return before + touched * (2 + damage.value % 3) + after
        case "insert":
            return before + random.Random(damage.value).randbytes(damage.size) + data[at:]
        case "length":
            order = ">I" if damage.value % 2 else "<I"
            value = LENGTHS[damage.value // 2 % len(LENGTHS)] if damage.size % 2 else damage.value % (1 << 32)
            return (before + struct.pack(order, value) + data[at + 4 :])[: max(len(data), at + 4)]
        case "small":
            return before + bytes([damage.value % 256]) + data[at + 1 :]
        case "splice":
            return before + other[int(damage.value / (1 << 32) * len(other)) :]
        case _:
            return before


def check(data: bytes, limits: MediaSettings) -> int:
    """Decode `data` and return the number of frames.

    Raises MediaError for a file that is refused, also in the middle, AssertionError where a frame breaks the contract.
    """
    header = read_header(data, limits)
    assert 0 < header.width * header.height <= limits.max_pixels
    assert 0 < header.n_frames <= limits.max_frames
    count = latest = 0
    for frame in decode_bytes(data, limits):
        assert frame.index == count < limits.max_frames
        assert frame.rgba.dtype == np.uint8
        assert frame.rgba.shape == (header.height, header.width, 4)
        assert not frame.rgba[frame.rgba[..., 3] == 0].any()
        assert frame.start_ms >= latest and frame.duration_ms >= 0
        count, latest = count + 1, frame.start_ms
    if header.format not in ("MP4", "WEBM"):
        assert count == header.n_frames
    return count


def outcome(data: bytes, limits: MediaSettings) -> str:
    """Return the number of frames that `check` gives, or the reason of a refusal."""
    try:
        return f"{check(data, limits)} frames"
    except MediaError as error:
        assert str(error)
        return str(error)


@cache
def seeds() -> dict[str, bytes]:
    """Valid files by name; the name begins with the format."""
    return {name: make() for name, make in MAKERS.items()}


def _saved(kind: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    _drawing(0).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def _animation(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    images = [_drawing(number) for number in range(4)]
    images[0].save(buffer, kind, save_all=True, append_images=images[1:], duration=50, **options)
    return buffer.getvalue()


def _drawing(number: int) -> Image.Image:
    """A disc with a soft edge over transparency, beside noise.

    It has something for every part of an encoder.
    """
    y, x = np.mgrid[0:40, 0:48]
    distance = np.hypot(x - 12 - 6 * number, y - 20)
    rgba = np.dstack([x * 5, y * 6, 255 - x * 3, np.clip(255 * (14 - distance) / 3, 0, 255)]).astype(np.uint8)
    rgba[:, 40:] = noise(1, 8, 40, seed=number)[0]
    return Image.fromarray(rgba)


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x011A], exif[0x010E] = 6, 72.0, "a drawing"
    return exif


def _made_gif() -> bytes:
    rows = [[(x + y) % 4 for x in range(12)] for y in range(10)]
    return gif(
        20,
        16,
        [
            GifImage([[3] * 20] * 16, disposal=1),
            GifImage(rows, left=3, top=2, disposal=2, transparent=0),
            GifImage(rows, left=12, top=9, disposal=3, interlaced=True, palette=[BLUE, GREEN, RED]),
            GifImage(rows, left=1, top=1, disposal=0),
        ],
    )


def _made_apng() -> bytes:
    images = [
        ApngImage(solid(RED, 20, 16)),
        ApngImage(solid((0, 0, 255, 90), 8, 6), left=3, top=4, dispose=1, blend=1),
        ApngImage(noise(1, 9, 9)[0], left=11, top=7, dispose=2),
        ApngImage(solid(GREEN, 5, 16), left=15),
    ]
    return apng(20, 16, images, default=solid(BLUE, 20, 16))


def _png_16_bit(colour: int, channels: int) -> bytes:
    rows = np.random.default_rng(colour).integers(0, 256, (12, 10 * channels * 2), dtype=np.uint8)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return png_header(10, 12, 16, colour) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _iccp() -> bytes:
    return b"made\0\0" + zlib.compress(icc_rgb(P3_PRIMARIES, icc_gamma(2.2)))


MOVING = noise(5, 32, 24)
MAKERS: dict[str, Callable[[], bytes]] = {
    "GIF made": _made_gif,
    "GIF saved": lambda: _animation("GIF"),
    "APNG made": _made_apng,
    "APNG saved": lambda: _animation("PNG"),
    "PNG rgba": lambda: _saved("PNG", "RGBA", exif=_exif()),
    "PNG stored": lambda: _saved("PNG", "RGBA", compress_level=0),  # damage to pixels need not break the compression
    "PNG palette": lambda: _saved("PNG", "P", transparency=bytes(range(0, 256, 2))),
    "PNG grey": lambda: _saved("PNG", "L", transparency=7),
    "PNG colour key": lambda: png(
        noise(1, 12, 10)[0, ..., :3].astype(int), 16, 2, chunk(b"tRNS", bytes(6)), chunk(b"iCCP", _iccp())
    ),
    "PNG 1 bit": lambda: _saved("PNG", "1"),
    "PNG 16 bit grey": lambda: _png_16_bit(0, 1),
    "PNG 16 bit rgba": lambda: _png_16_bit(6, 4),
    "WEBP lossy": lambda: _saved("WEBP", "RGBA", exif=_exif(), quality=60),
    "WEBP lossless": lambda: _saved("WEBP", "RGBA", lossless=True),
    "WEBP animated": lambda: _animation("WEBP", quality=60),
    "JPEG exif": lambda: _saved("JPEG", exif=_exif()),
    "JPEG progressive": lambda: _saved("JPEG", progressive=True),
    "JPEG open": lambda: _saved("JPEG", icc_profile=icc_rgb(P3_PRIMARIES, icc_gamma(2.2)))[:-2],
    "JPEG grey": lambda: _saved("JPEG", "L"),
    "JPEG cmyk": lambda: _saved("JPEG", "CMYK"),
    "BMP": lambda: _saved("BMP"),
    "BMP palette": lambda: _saved("BMP", "P"),
    "TIFF raw": lambda: _saved("TIFF", "RGBA"),
    "TIFF lzw": lambda: _saved("TIFF", "RGB", compression="tiff_lzw", exif=_exif()),
    "TIFF jpeg": lambda: _saved("TIFF", "RGB", compression="jpeg"),
    "TIFF 16 bit pages": lambda: tiff(
        ({262: 0}, noise(1, 12, 10)[0, ..., :1].astype(np.uint16)), ({}, noise(1, 9, 8)[0])
    ),
    "AVIF still": lambda: _saved("AVIF", "RGBA", exif=_exif()),
    "AVIF sequence": lambda: _animation("AVIF"),
    "MP4 h264": lambda: video("mp4", MOVING, "-c:v", "libx264", "-pix_fmt", "yuv420p"),
    "MP4 mov": lambda: video("mov", MOVING, "-c:v", "qtrle"),
    "MP4 fragments": lambda: video(
        "mp4", MOVING, "-c:v", "libx264rgb", "-g", "2", "-movflags", "frag_keyframe+empty_moov"
    ),
    "WEBM vp9": lambda: video("webm", MOVING, "-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p"),
    "WEBM vp8": lambda: video("webm", MOVING, "-c:v", "libvpx", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0"),
    "WEBM h264": lambda: video("matroska", MOVING, "-c:v", "libx264", "-pix_fmt", "yuv420p"),
}
