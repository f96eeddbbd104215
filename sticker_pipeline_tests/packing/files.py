"""Sticker files built for tests: PNG, APNG and WebM byte by byte, the others by Pillow."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of colour types


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def rows(width: int, height: int, colour: int, value: int) -> bytes:
    return zlib.compress((b"\0" + bytes([value]) * width * CHANNELS[colour]) * height, 1)


def header(width: int, height: int, colour: int = 6) -> bytes:
    return SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))


def png(width: int, height: int, colour: int = 6, extra: bytes = b"") -> bytes:
    pixels = chunk(b"IDAT", rows(width, height, colour, 9))
    return header(width, height, colour) + extra + pixels + chunk(b"IEND", b"")


def apng(width, height, delays, loops=0, colour=6, equal=False, extra=b"") -> bytes:
    """An APNG of whole frames; `delays`: (numerator, denominator) in seconds."""
    parts = [header(width, height, colour), chunk(b"acTL", struct.pack(">II", len(delays), loops)), extra]
    for number, (numerator, denominator) in enumerate(delays):
        pixels = rows(width, height, colour, 1 if equal else number % 255)
        place = struct.pack(">IIIIIHHBB", max(0, 2 * number - 1), width, height, 0, 0, numerator, denominator, 0, 0)
        parts.append(chunk(b"fcTL", place))
        parts.append(chunk(b"fdAT", struct.pack(">I", 2 * number) + pixels) if number else chunk(b"IDAT", pixels))
    return b"".join([*parts, chunk(b"IEND", b"")])


def pillow(kind: str, images: list[Image.Image], **options) -> bytes:
    buffer = io.BytesIO()
    more = {"save_all": True, "append_images": images[1:]} if len(images) > 1 else {}
    images[0].save(buffer, kind, **more, **options)
    return buffer.getvalue()


def image(width: int, height: int, number: int = 0, alpha: bool = True) -> Image.Image:
    """A square of colour in the upper left quarter, on nothing or on white."""
    pixels = np.full((height, width, 4), (0, 0, 0, 0) if alpha else (255, 255, 255, 255), dtype=np.uint8)
    pixels[: height // 2, : width // 2] = (40 * number % 256, 90, 200, 255)
    return Image.fromarray(pixels if alpha else pixels[..., :3])


def webp(width, height, durations=(), alpha=True, loops=0) -> bytes:
    """A WebP still, or an animation with these durations in ms."""
    frames = [image(width, height, number, alpha) for number in range(max(1, len(durations)))]
    options = {"duration": list(durations), "loop": loops} if len(durations) > 1 else {}
    return pillow("WEBP", frames, lossless=True, method=0, **options)


def gif(width, height, durations=()) -> bytes:
    frames = [image(width, height, number) for number in range(max(1, len(durations)))]
    options = {"duration": list(durations), "loop": 0, "disposal": 2} if len(durations) > 1 else {}
    return pillow("GIF", frames, **options)


def element(kind: int, *content: bytes) -> bytes:
    data = b"".join(content)
    return kind.to_bytes((kind.bit_length() + 7) // 8, "big") + (1 << 56 | len(data)).to_bytes(8, "big") + data


def number(kind: int, value: int) -> bytes:
    return element(kind, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def webm(
    width=512,
    height=512,
    starts=(0, 100, 200, 300),
    codec=b"V_VP9",
    alpha=True,
    audio=False,
    duration=None,
    doc_type=b"webm",
    frame=b"\x82",
    alpha_frames=True,
) -> bytes:
    """A WebM with one cluster; frames hold no real VP9."""
    video = element(0xE0, number(0xB0, width), number(0xBA, height), number(0x53C0, int(alpha)))
    tracks = [
        element(0xAE, number(0xD7, 1), number(0x83, 1), element(0x86, codec), number(0x23E383, 33_000_000), video)
    ]
    if audio:
        tracks.append(element(0xAE, number(0xD7, 2), number(0x83, 2), element(0x86, b"A_OPUS")))
    more = element(0x75A1, element(0xA6, number(0xEE, 1), element(0xA5, frame))) if alpha and alpha_frames else b""
    groups = [element(0xA0, element(0xA1, b"\x81" + struct.pack(">hB", at, 0) + frame), more) for at in starts]
    info = element(0x1549A966, number(0x2AD7B1, 1_000_000), element(0x4489, struct.pack(">d", duration or 0)))
    cluster = element(0x1F43B675, number(0xE7, 0), *groups)
    return element(0x1A45DFA3, element(0x4282, doc_type)) + element(
        0x18538067, info, element(0x1654AE6B, *tracks), cluster
    )


def padded_png(data: bytes, size: int) -> bytes:
    """The PNG with a private chunk that makes it `size` bytes long."""
    end = data.index(b"IEND") - 4
    return data[:end] + chunk(b"raNd", bytes(size - len(data) - 12)) + data[end:]


def padded_webp(data: bytes, size: int) -> bytes:
    """The WebP with an unknown chunk that makes it `size` bytes long, an even number."""
    whole = data + b"XTRA" + struct.pack("<I", size - len(data) - 8) + bytes(size - len(data) - 8)
    return whole[:4] + struct.pack("<I", len(whole) - 8) + whole[8:]
