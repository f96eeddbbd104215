"""Files made byte by byte: GIF and APNG writers, and a compositor for GIFs.

Tests decide every offset, disposal and delay; the compositor is independent of the decoder. Videos are written by
ffmpeg.
"""

import io
import struct
import subprocess
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
PALETTE = [RED, GREEN, BLUE, WHITE]


@dataclass(frozen=True)
class GifImage:
    """`indices` is a list of rows of colour numbers."""

    indices: list[list[int]]
    left: int = 0
    top: int = 0
    disposal: int = 0
    delay: int = 10  # hundredths of a second
    transparent: int | None = None
    palette: list[tuple[int, int, int]] | None = None
    interlaced: bool = False


def gif(width: int, height: int, images: list[GifImage], palette=PALETTE, background: int = 0) -> bytes:
    data = b"GIF89a" + struct.pack("<HHBBB", width, height, table_flags(palette), background, 0) + table(palette)
    return data + b"".join(gif_image(image) for image in images) + b"\x3b"


def gif_image(image: GifImage) -> bytes:
    rows = image.indices
    has_transparency = image.transparent is not None
    control = struct.pack("<BBHBB", 4, image.disposal << 2 | has_transparency, image.delay, image.transparent or 0, 0)
    flags = (table_flags(image.palette) if image.palette else 0) | (0x40 if image.interlaced else 0)
    place = struct.pack("<HHHHB", image.left, image.top, len(rows[0]), len(rows), flags)
    order = range(len(rows))
    if image.interlaced:
        order = [y for start, step in ((0, 8), (4, 8), (2, 4), (1, 2)) for y in range(start, len(rows), step)]
    pixels = lzw([index for y in order for index in rows[y]])
    return b"\x21\xf9" + control + b"\x2c" + place + (table(image.palette) if image.palette else b"") + pixels


def table_flags(palette) -> int:
    return 0x80 | (max(2, len(palette)) - 1).bit_length() - 1


def table(palette) -> bytes:
    size = 2 << (table_flags(palette) & 7)
    return b"".join(bytes(colour) for colour in palette) + bytes(3 * (size - len(palette)))


def lzw(indices: list[int], bits: int = 8) -> bytes:
    """Pixels in GIF's format, without compression.

    A clear code comes before the code table can grow to wider codes.
    """
    clear, end = 1 << bits, (1 << bits) + 1
    codes: list[int] = []
    for number, index in enumerate(indices):
        if number % (clear - 2) == 0:
            codes.append(clear)
        codes.append(index)
    packed, filled, out = 0, 0, bytearray()
    for code in [*codes, end]:
        packed |= code << filled
        filled += bits + 1
        while filled >= 8:
            out.append(packed & 255)
            packed >>= 8
            filled -= 8
    if filled:
        out.append(packed & 255)
    blocks = [bytes(out[at : at + 255]) for at in range(0, len(out), 255)]
    return bytes([bits]) + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def composited(width: int, height: int, images: list[GifImage], palette=PALETTE) -> list[np.ndarray]:
    """Compose the frames as GIF89a and browsers show them, independently of the decoder."""
    first = images[0]
    width, height = max(width, first.left + len(first.indices[0])), max(height, first.top + len(first.indices))
    canvas = [[(0, 0, 0, 0)] * width for _ in range(height)]
    frames = []
    for image in images:
        before = [row[:] for row in canvas]
        covered = set()
        colours = image.palette or palette
        for y, row in enumerate(image.indices, start=image.top):
            for x, index in enumerate(row, start=image.left):
                if x < width and y < height:
                    covered.add((x, y))
                    if index != image.transparent:
                        canvas[y][x] = (*(colours[index] if index < len(colours) else (0, 0, 0)), 255)
        frames.append(np.array(canvas, dtype=np.uint8))
        for x, y in covered:
            if image.disposal == 2:
                canvas[y][x] = (0, 0, 0, 0)
            elif image.disposal in (3, 4):
                canvas[y][x] = before[y][x]
    return frames


def solid(colour, width: int, height: int) -> np.ndarray:
    rgba = np.empty((height, width, 4), dtype=np.uint8)
    rgba[:] = (*colour, 255) if len(colour) == 3 else colour
    return rgba


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def compressed(rgba: np.ndarray) -> bytes:
    """Pixels as PNG stores them: each row behind the filter byte 0."""
    return zlib.compress(b"".join(b"\0" + row.tobytes() for row in rgba))


def png_header(width: int, height: int, depth: int = 8, colour: int = 6, interlaced: bool = False) -> bytes:
    fields = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", fields)


PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def png_rows(samples: np.ndarray, depth: int) -> bytes:
    """Integer `samples` [H,W,C] as rows of `depth` bits, each behind the filter byte 0."""
    high, wide, channels = samples.shape
    bits = (samples.reshape(high, wide * channels, 1) >> np.arange(depth)[::-1] & 1).astype(np.uint8)
    return b"".join(b"\0" + row.tobytes() for row in np.packbits(bits.reshape(high, -1), axis=1))


def png(samples: np.ndarray, depth: int, colour: int, *chunks: bytes, interlaced: bool = False) -> bytes:
    """A PNG of the colour type `colour` from integer `samples` [H,W,C]; `chunks` lie before the pixels."""
    parts = [samples[y::dy, x::dx] for x, y, dx, dy in PASSES] if interlaced else [samples]
    pixels = zlib.compress(b"".join(png_rows(part, depth) for part in parts if part.size))
    header = png_header(samples.shape[1], samples.shape[0], depth, colour, interlaced)
    return b"".join([header, *chunks, chunk(b"IDAT", pixels), chunk(b"IEND", b"")])


@dataclass(frozen=True)
class ApngImage:
    rgba: np.ndarray
    left: int = 0
    top: int = 0
    dispose: int = 0
    blend: int = 0
    delay: tuple[int, int] = (1, 10)


def apng_chunks(width: int, height: int, images: list[ApngImage], default: np.ndarray | None = None) -> list[bytes]:
    """The chunks of an APNG; `default` is an image outside the animation."""
    chunks = [png_header(width, height), chunk(b"acTL", struct.pack(">II", len(images), 0))]
    if default is not None:
        chunks.append(chunk(b"IDAT", compressed(default)))
    sequence = 0
    for number, image in enumerate(images):
        high, wide = image.rgba.shape[:2]
        place = struct.pack(">IIIII", sequence, wide, high, image.left, image.top)
        chunks.append(chunk(b"fcTL", place + struct.pack(">HHBB", *image.delay, image.dispose, image.blend)))
        sequence += 1
        if number == 0 and default is None:
            chunks.append(chunk(b"IDAT", compressed(image.rgba)))
        else:
            chunks.append(chunk(b"fdAT", struct.pack(">I", sequence) + compressed(image.rgba)))
            sequence += 1
    return [*chunks, chunk(b"IEND", b"")]


def apng(width: int, height: int, images: list[ApngImage], default: np.ndarray | None = None) -> bytes:
    return b"".join(apng_chunks(width, height, images, default))


def tiff(*pages: tuple[dict[int, int], np.ndarray], order: str = "<") -> bytes:
    """A TIFF of uncompressed pages, each (tags that are added, samples uint8 or uint16 [H,W,C])."""
    out = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8))
    for number, (tags, samples) in enumerate(pages):
        high, wide, channels = samples.shape
        bits = 8 * samples.itemsize
        content = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
        layout = {256: wide, 257: high, 258: bits, 259: 1, 262: 2, 277: channels, 278: high, 279: len(content)}
        fields = dict(sorted((layout | {273: 0} | tags).items()))
        start = len(out) + 2 + 12 * len(fields) + 4
        fields[273] = start
        entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in fields.items())
        following = start + len(content) if number + 1 < len(pages) else 0
        out += struct.pack(order + "H", len(fields)) + entries + struct.pack(order + "I", following) + content
    return bytes(out)


# Primaries of sRGB and of Display P3, adapted to D50 (Bradford), as profiles state them: XYZ of red, green and blue.
SRGB_PRIMARIES = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
P3_PRIMARIES = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
D50 = (0.96420, 1.0, 0.82491)


def icc(space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr", connection: bytes = b"XYZ ") -> bytes:
    """An ICC profile of version 2 for the colour space `space`.

    The white point is added.
    """
    tags = {b"wtpt": icc_xyz(D50), **tags}
    at, table, content = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", at + len(content), len(value))
        content += value + bytes(-len(value) % 4)
    size = at + len(content)
    head = struct.pack(">I4sI4s4s4s12s4s", size, b"", 0x02100000, kind, space, connection, bytes(12), b"acsp")
    return (head + bytes(28) + icc_xyz(D50)[8:]).ljust(128, b"\0") + table + content


def icc_xyz(value: tuple[float, float, float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * part) for part in value))


def icc_gamma(gamma: float) -> bytes:
    return b"curv" + struct.pack(">IIH", 0, 1, round(256 * gamma))


def icc_table(curve: np.ndarray) -> bytes:
    """A tone curve from its values 0..1 at equal steps."""
    return b"curv" + struct.pack(">II", 0, len(curve)) + np.round(65535 * curve).astype(">u2").tobytes()


def icc_rgb(primaries: tuple, curve: bytes) -> bytes:
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    colours = {name: icc_xyz(value) for name, value in zip(names, primaries, strict=True)}
    return icc(b"RGB ", colours | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def icc_grey(gamma: float) -> bytes:
    return icc(b"GRAY", {b"kTRC": icc_gamma(gamma)})


def icc_cmyk(lightness: np.ndarray) -> bytes:
    """A printer of greys as an ICC profile.

    `lightness`: uint8 [2,2,2,2], 255 is white, for no and full cyan, magenta, yellow, black.
    """
    matrix = struct.pack(">9i", *(65536 * (n % 4 == 0) for n in range(9)))
    corners = np.stack([lightness.ravel(), *[np.full(16, 128)] * 2], axis=1).astype(np.uint8).tobytes()
    straight = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + straight * 4 + corners + straight * 3
    return icc(b"CMYK", {b"A2B0": table}, b"prtr", b"Lab ")


def srgb_curve(linear: np.ndarray) -> np.ndarray:
    """Linear light 0..1 as sRGB stores it, 0..1."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055)


def linear_light(stored: np.ndarray) -> np.ndarray:
    """The inverse of srgb_curve."""
    return np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)


DISPLAY_P3 = icc_rgb(P3_PRIMARIES, icc_table(linear_light(np.linspace(0, 1, 1024))))


def insert_chunk(png: bytes, kind: bytes, content: bytes) -> bytes:
    """The PNG with a chunk before its pixels."""
    at = png.index(b"IDAT") - 4
    return png[:at] + chunk(kind, content) + png[at:]


def saved(image: Image.Image, kind: str, **options) -> bytes:
    """Encode `image` with Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def animation(width: int, height: int, depth: int, colour: int, chunks: list[bytes], pixels: list[bytes]) -> bytes:
    """An APNG whose frames replace the whole canvas.

    `pixels` are the rows of each, with their filter bytes.
    """
    parts = [png_header(width, height, depth, colour), chunk(b"acTL", struct.pack(">II", len(pixels), 0)), *chunks]
    for number, rows in enumerate(pixels):
        sequence, data = max(0, 2 * number - 1), zlib.compress(rows)
        parts.append(chunk(b"fcTL", struct.pack(">IIIIIHHBB", sequence, width, height, 0, 0, 1, 10, 0, 0)))
        parts.append(chunk(b"fdAT", struct.pack(">I", sequence + 1) + data) if number else chunk(b"IDAT", data))
    return b"".join([*parts, chunk(b"IEND", b"")])


def noise(count: int, width: int, height: int, seed: int = 0) -> np.ndarray:
    """Opaque frames, uint8 [count, height, width, 4], of which no two pixels agree."""
    rgba = np.random.default_rng(seed).integers(0, 256, (count, height, width, 4), dtype=np.uint8)
    rgba[..., 3] = 255
    return rgba


def video(container: str, frames: np.ndarray, *options: str, rate: int = 10) -> bytes:
    """`frames` (uint8 [count, height, width, 4], straight RGBA) encoded by ffmpeg with its output options `options`."""
    height, width = frames.shape[1:3]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgba", "-s", f"{width}x{height}", "-r", str(rate), "-i", "pipe:0"]
    return ffmpeg(container, *raw, *options, stdin=frames.tobytes())


def remuxed(container: str, data: bytes, *options: str, before: tuple[str, ...] = ()) -> bytes:
    """The video with its packets unchanged, written again; `before` are input options."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        source.write_bytes(data)
        return ffmpeg(container, *before, "-i", str(source), "-c", "copy", *options)


def ffmpeg(container: str, *arguments: str, stdin: bytes = b"") -> bytes:
    """Run ffmpeg and return its output, written to a file: some containers need seeking."""
    from imageio_ffmpeg import get_ffmpeg_exe

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "target"
        command = [get_ffmpeg_exe(), "-v", "error", "-threads", "1", *arguments, "-f", container, str(target)]
        subprocess.run(command, input=stdin, check=True, cwd=folder)
        return target.read_bytes()


def cropped_mp4(data: bytes, stored: tuple[int, int], left: int, right: int, top: int, bottom: int) -> bytes:
    """An MP4 of H.264 with its index at the end and a clean aperture.

    `clap`, ISO/IEC 14496-12, 12.1.4: it states the size of the visible part, and the distance of its centre from that
    of the frame, as fractions.
    """
    width, height = stored[0] - left - right, stored[1] - top - bottom
    box = struct.pack(">I4s4I2i2i", 40, b"clap", width, 1, height, 1, left - right, 2, top - bottom, 2)
    out, start, end = bytearray(data), 0, len(data)
    fields_before_boxes = {b"stsd": 8, b"avc1": 78}
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        at = data.index(kind, start, end) - 4
        end = at + int.from_bytes(data[at : at + 4], "big")
        out[at : at + 4] = struct.pack(">I", end - at + len(box))
        start = at + 8 + fields_before_boxes.get(kind, 0)
    return bytes(out[:end] + box + out[end:])


def cropped_matroska(data: bytes, left: int, right: int, top: int, bottom: int) -> bytes:
    """The Matroska file with PixelCropBottom, -Top, -Left and -Right (RFC 9559, 5.1.4.1.28)."""
    plain = ("-live", "1", "-write_crc32", "0", "-fflags", "+bitexact")  # no size or checksum around the element Tracks
    data = remuxed("matroska", data, *plain)
    sides = zip((0x54AA, 0x54BB, 0x54CC, 0x54DD), (bottom, top, left, right), strict=True)
    added = b"".join(struct.pack(">HBB", identity, 0x81, side) for identity, side in sides)
    start, places = data.rindex(b"\x16\x54\xae\x6b", 0, data.index(b"\x1f\x43\xb6\x75")), []
    for identity in (b"\x16\x54\xae\x6b", b"\xae", b"\xe0"):  # Tracks, TrackEntry, Video
        at = data.index(identity, start)
        length = 9 - data[at + len(identity)].bit_length()
        start = at + len(identity) + length
        size = int.from_bytes(data[start - length : start], "big") - (1 << 7 * length)
        places.append((identity, at, start, start + size))
    whole = len(data)
    for identity, at, start, end in reversed(places):
        end += len(data) - whole
        content, added = data[start:end] + added, b""
        data = data[:at] + identity + (1 << 56 | len(content)).to_bytes(8, "big") + content + data[end:]
    return data
