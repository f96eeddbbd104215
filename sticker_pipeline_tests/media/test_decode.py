"""Stills of every kind, WebP, and the awkward files kept beside the checkout."""

import hashlib
import io
import json
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import get_args

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media.decode import decode, decode_bytes
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.frames import pixel_sha256
from sticker_pipeline.media.header import Format, read_header, what_is_it
from sticker_pipeline.media.stills import exif_orientation
from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.media.makers import BLUE, GREEN, RED, GifImage, gif, insert_chunk, saved, solid
from sticker_pipeline_tests.media.readers import only

LIMITS = MediaSettings()
DEMO = REPOSITORY / "data" / "characters"


def test_16_bit_grey_is_scaled_not_clipped():
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    rgba = only(saved(Image.fromarray(values), "PNG"))
    assert rgba.tolist() == [[[0, 0, 0, 255], [1, 1, 1, 255], [128, 128, 128, 255], [255, 255, 255, 255]]]


def test_16_bit_grey_with_a_transparent_value():
    values = np.array([[300, 301]], dtype=np.uint16)
    data = saved(Image.fromarray(values), "PNG")
    with_trns = insert_chunk(data, b"tRNS", (301).to_bytes(2, "big"))
    assert only(with_trns).tolist() == [[[1, 1, 1, 255], [0, 0, 0, 0]]]


def test_colour_under_alpha_0_is_cleared():
    assert (
        only(saved(Image.fromarray(solid((200, 100, 50, 0), 2, 2)), "PNG")).tolist()
        == solid((0, 0, 0, 0), 2, 2).tolist()
    )


def test_palette_with_alpha():
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2])
    rgba = only(saved(image, "PNG", transparency=bytes([255, 128, 0])))
    assert rgba.tolist() == [[[255, 0, 0, 255], [0, 255, 0, 128], [0, 0, 0, 0]]]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P"])
def test_every_mode_comes_out_as_rgba(mode):
    rgba = only(saved(Image.new("RGBA", (2, 3), "white").convert(mode), "PNG"))
    assert rgba.tolist() == solid((255, 255, 255), 2, 3).tolist()


def test_cmyk():
    data = saved(Image.new("RGB", (16, 16), RED).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(only(data).astype(int) - (*RED, 255)).max() <= 8


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation, kind):
    # An L: the first row is red, the first column too, the rest blue; 3 cells of 8 pixels by 2.
    upright = np.repeat(np.repeat(np.array([[RED, RED, RED], [RED, BLUE, BLUE]], dtype=np.uint8), 8, 0), 8, 1)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if kind in ("JPEG", "AVIF") else {"lossless": True} if kind == "WEBP" else {}
    data = saved(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options)
    header = read_header(data, LIMITS)
    assert (header.width, header.height) == (24, 16)
    rgba = only(data)
    assert rgba.shape == (16, 24, 4)
    assert np.abs(rgba[4::8, 4::8, :3].astype(int) - upright[4::8, 4::8]).max() <= 8


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("entries", "orientation"),
    [
        ([(0x0112, 3, 1, 6)], 6),
        ([(0x0100, 3, 1, 9), (0x0112, 3, 1, 8)], 8),
        ([(0x0112, 4, 1, 6)], 1),  # a LONG
        ([(0x0112, 3, 2, 6)], 1),  # two of them
        ([(0x0112, 3, 1, 9)], 1),
        ([(0x0112, 3, 1, 0)], 1),
        ([], 1),
    ],
)
def test_an_orientation_is_one_short_as_browsers_have_it(entries, orientation, order):
    block = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, len(entries))
    block += b"".join(
        struct.pack(order + "HHI", *fields) + struct.pack(order + ("I" if fields[1] == 4 else "HH"), *values)
        for *fields, value in entries
        for values in [(value,) if fields[1] == 4 else (value, 0)]
    )
    assert exif_orientation(b"Exif\0\0" + block + bytes(4)) == orientation
    assert exif_orientation(block) == orientation
    jpeg = saved(Image.new("RGB", (24, 16)), "JPEG", exif=b"Exif\0\0" + block + bytes(4))
    header = read_header(jpeg, LIMITS)
    assert header.orientation == orientation
    assert ((header.width, header.height) == (16, 24)) == (orientation in (6, 8))


@pytest.mark.parametrize(
    "block",
    [b"", b"II", b"II*\0", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff\x12\x01", b"XX*\0\x08\0\0\0"],
)
def test_an_exif_block_that_cannot_be_read_turns_nothing(block):
    assert exif_orientation(block) == 1


def test_animated_webp():
    images = [Image.fromarray(solid(colour, 4, 3)) for colour in (RED, GREEN, (0, 0, 0, 0))]
    data = saved(images[0], "WEBP", save_all=True, append_images=images[1:], duration=[70, 0, 30], lossless=True)
    header = read_header(data, LIMITS)
    assert (header.format, header.n_frames, header.width, header.height) == ("WEBP", 3, 4, 3)
    frames = list(decode_bytes(data, LIMITS))
    assert [frame.duration_ms for frame in frames] == [70, 0, 30]
    assert [frame.start_ms for frame in frames] == [0, 70, 170]
    assert [frame.rgba[0, 0].tolist() for frame in frames] == [[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 0, 0]]
    with pytest.raises(MediaError, match="more than 2 frames"):
        read_header(data, MediaSettings(max_frames=2))
    with pytest.raises(MediaError, match="cut off"):
        read_header(data[:-9], LIMITS)


@pytest.mark.parametrize("kind", ["WEBP", "JPEG", "BMP", "AVIF", "TIFF"])
def test_stills_through_pillow(kind):
    data = saved(Image.new("RGB", (32, 16), BLUE), kind)
    header = read_header(data, LIMITS)
    assert (header.format, header.width, header.height, header.n_frames) == (kind, 32, 16, 1)
    assert np.abs(only(data).astype(int) - (*BLUE, 255)).max() <= 8
    with pytest.raises(MediaError, match="32×16 pixels: more than 511"):
        read_header(data, MediaSettings(max_pixels=511))


@pytest.mark.parametrize("kind", ["WEBP", "JPEG", "BMP", "AVIF", "PNG", "GIF", "TIFF"])
def test_a_still_that_is_cut_off_is_refused(kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), kind)
    with pytest.raises(MediaError):
        list(decode_bytes(data[: len(data) * 6 // 10], LIMITS))


@pytest.mark.filterwarnings("ignore")  # Pillow's own, about damaged EXIF
@pytest.mark.parametrize("kind", ["WEBP", "JPEG", "BMP", "AVIF", "PNG", "TIFF"])
def test_damage_is_reported_and_nothing_else(kind):
    rng = np.random.default_rng(1)
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.0
    options = {} if kind == "BMP" else {"exif": exif}
    whole = saved(Image.fromarray(rng.integers(0, 256, (24, 20, 3), dtype=np.uint8)), kind, **options)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] = rng.integers(256)
        damaged[rng.integers(min(64, len(whole)))] = rng.integers(256)
        try:
            frames = list(decode_bytes(bytes(damaged), MediaSettings(max_pixels=10_000)))
            assert all(frame.rgba.shape[2] == 4 for frame in frames)
        except MediaError:
            refused += 1
    assert refused > 20


def test_every_format_has_its_row_in_the_docs():
    page = (REPOSITORY / "docs" / "guide" / "formats.md").read_text(encoding="utf-8")
    lines = page.partition("\n## ")[0].splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert list(dict.fromkeys(rows[2:])) == list(get_args(Format))


def test_long_animations_are_decoded_in_little_memory(tmp_path):
    side, count = 256, 60
    images = [GifImage([[number % 4] * side] * side) for number in range(count)]
    path = tmp_path / "long.gif"
    path.write_bytes(gif(side, side, images))
    canvas = side * side * 4
    tracemalloc.start()
    seen = sum(1 for _ in decode(path, LIMITS))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen == count
    assert peak < path.stat().st_size + 12 * canvas < count * canvas


def hostile_files(folder: Path) -> dict[str, dict]:
    return json.loads((folder / "hostile" / "manifest.json").read_text(encoding="utf-8"))["files"]


def test_awkward_files(realdata):
    for name, entry in hostile_files(realdata).items():
        path = realdata / "hostile" / "files" / name
        if entry["expect"] == "decode":
            frames = list(decode(path, LIMITS))
            check_frames(name, entry, frames)
        elif entry["expect"] == "reject":
            with pytest.raises(MediaError):
                list(decode(path, LIMITS))
        elif entry["expect"] == "decode_or_reject":
            assert [hashlib.sha256(frame.rgba).hexdigest() for frame in decode(path, LIMITS)] == entry["frame_sha256"]


LIMITED = """
import resource, sys, time
from pathlib import Path
from typing import get_args
from sticker_pipeline.media.decode import decode
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.core.settings import MediaSettings

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
try:
    list(decode(Path(sys.argv[1]), MediaSettings()))
    said = "decode"
except MediaError:
    said = "reject"
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(said, time.perf_counter() - start, grown / 1024)
"""


def test_awkward_files_keep_their_limits_of_time_and_memory(realdata):
    limited = {name: entry for name, entry in hostile_files(realdata).items() if "limits" in entry}
    assert "bomb_header.png" in limited
    for name, entry in limited.items():
        command = [sys.executable, "-c", LIMITED, str(realdata / "hostile" / "files" / name)]
        run = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, cwd=REPOSITORY)
        said, seconds, grown_mb = run.stdout.split()
        assert said == entry["expect"], name
        assert float(seconds) < entry["limits"]["seconds"], name
        assert float(grown_mb) < entry["limits"]["mem_mb"], name


def check_frames(name: str, entry: dict, frames: list) -> None:
    assert len(frames) == entry["frames"], name
    assert all(frame.rgba.shape == (*entry["size"][::-1], 4) for frame in frames), name
    if "frame_sha256" in entry:
        assert [hashlib.sha256(frame.rgba).hexdigest() for frame in frames] == entry["frame_sha256"], name
    if "durations_ms" in entry:
        assert [frame.duration_ms for frame in frames] == entry["durations_ms"], name
    for x, y, colour in entry.get("samples", []):
        assert np.abs(frames[0].rgba[y, x, :3].astype(int) - colour).max() <= entry["tolerance"], name


@pytest.mark.parametrize("path", sorted(DEMO.glob("*/gifs/*.gif")), ids=lambda path: f"{path.parts[-3]}/{path.stem}")
def test_demo_gifs_are_what_imageio_reads(path: Path) -> None:
    """A second reader on files that all readers get right: partial frames, local palettes, two ways of disposal."""
    theirs = iio.imread(path, index=None, mode="RGBA", plugin="pillow")
    ours = [frame.rgba for frame in decode(path, LIMITS)]
    assert [pixel_sha256(frame) for frame in ours] == [pixel_sha256(frame) for frame in theirs]


def test_a_webp_whose_size_counts_its_first_eight_bytes_too_is_taken():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "WEBP", lossless=True)
    data = buffer.getvalue()
    written = data[:4] + len(data).to_bytes(4, "little") + data[8:]
    (frame,) = decode_bytes(written, MediaSettings())
    assert (frame.rgba == (255, 0, 0, 255)).all()
    with pytest.raises(MediaError, match="cut off"):
        next(decode_bytes(written[:-1], MediaSettings()))


def test_a_bmp_is_known_by_its_second_header():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "BMP")
    data = buffer.getvalue()
    assert read_header(data[:6] + b"Grab" + data[10:], MediaSettings()).format == "BMP"
    assert what_is_it(b"BM is a word") == "not an image: text"


def tga(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "TGA")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (tga(Image.new("RGB", (9, 9))), "TGA is not read: convert it to PNG"),
        (tga(Image.new("RGB", (9, 9)))[:-26], "TGA is not read: convert it to PNG"),
        (b"\0\0\2\0\1\0\x20\x20" + bytes(40), "a mouse pointer: convert it to PNG"),
        ((b"\x47" + bytes(187)) * 4, "an MPEG transport stream is not read: convert it to MP4"),
        ('<svg xmlns="http://www.w3.org/2000/svg"/>'.encode("utf-16"), "an SVG drawing: export it as PNG"),
        ("<!DOCTYPE html><p>gone".encode("utf-16"), "a web page: download the image itself"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a PostScript drawing: export it as PNG"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "sound: it holds no image"),
        (b"ID3\x04\0\0\0\0\0\0", "sound: it holds no image"),
        (b"DDS |\0\0\0", "DDS is not read: convert it to PNG"),
        (b"SQLite format 3\0\x10\0", "not an image: a database"),
    ],
)
def test_what_is_no_image_is_called_what_it_is(data, words):
    assert what_is_it(data) == words
    with pytest.raises(MediaError, match=words):
        read_header(data, MediaSettings())
