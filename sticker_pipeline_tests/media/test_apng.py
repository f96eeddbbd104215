"""APNG compositing against exact pixels, and the chunk walk on damaged files."""

import struct
import zlib
from fractions import Fraction

import pytest

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media.apng import read_png
from sticker_pipeline.media.decode import decode_bytes
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.header import read_header
from sticker_pipeline_tests.media.makers import (
    BLUE,
    GREEN,
    RED,
    WHITE,
    ApngImage,
    animation,
    apng,
    apng_chunks,
    chunk,
    compressed,
    png_header,
    solid,
)

LIMITS = MediaSettings()
R, G, B, W, NONE = (*RED, 255), (*GREEN, 255), (*BLUE, 255), (*WHITE, 255), (0, 0, 0, 0)
SOURCE, OVER = 0, 1
KEEP, BACKGROUND, PREVIOUS = 0, 1, 2


def rows_of(data: bytes) -> list[list[tuple[int, ...]]]:
    return [[tuple(int(v) for v in pixel) for pixel in frame.rgba[0]] for frame in decode_bytes(data, LIMITS)]


@pytest.mark.parametrize(("dispose", "last"), [(KEEP, [R, G, B]), (BACKGROUND, [R, NONE, B]), (PREVIOUS, [R, R, B])])
def test_disposal(dispose, last):
    images = [
        ApngImage(solid(RED, 3, 1)),
        ApngImage(solid(GREEN, 1, 1), left=1, dispose=dispose),
        ApngImage(solid(BLUE, 1, 1), left=2),
    ]
    assert rows_of(apng(3, 1, images)) == [[R, R, R], [R, G, R], last]


def test_previous_on_the_first_frame_means_background():
    images = [ApngImage(solid(RED, 2, 1), dispose=PREVIOUS), ApngImage(solid(BLUE, 1, 1))]
    assert rows_of(apng(2, 1, images)) == [[R, R], [B, NONE]]


def test_blend_over_mixes_and_source_replaces():
    half_red = (255, 0, 0, 128)
    images = [
        ApngImage(solid(WHITE, 2, 1)),
        ApngImage(solid(half_red, 1, 1), blend=OVER),
        ApngImage(solid(half_red, 1, 1), left=1, blend=SOURCE),
        ApngImage(solid(NONE, 2, 1), blend=OVER),
        ApngImage(solid((9, 9, 9, 0), 2, 1), blend=SOURCE),
    ]
    # 255·128/255 + 255·127/255 = 255 and 0·128/255 + 255·127/255 = 127
    mixed = (255, 127, 127, 255)
    assert rows_of(apng(2, 1, images)) == [
        [W, W],
        [mixed, W],
        [mixed, half_red],
        [mixed, half_red],
        [NONE, NONE],
    ]


def test_a_hidden_default_image_is_no_frame():
    data = apng(1, 1, [ApngImage(solid(GREEN, 1, 1)), ApngImage(solid(BLUE, 1, 1))], default=solid(RED, 1, 1))
    header = read_header(data, LIMITS)
    assert (header.format, header.n_frames) == ("APNG", 2)
    assert rows_of(data) == [[G], [B]]


def test_delays():
    delays = [(1, 8), (3, 0), (0, 100), (7, 1000)]
    frames = list(decode_bytes(apng(1, 1, [ApngImage(solid(RED, 1, 1), delay=delay) for delay in delays]), LIMITS))
    assert [frame.duration_ms for frame in frames] == [125, 30, 0, 7]
    assert [frame.start_ms for frame in frames] == [0, 125, 155, 255]


def test_palette_and_its_transparency_hold_for_every_frame():
    chunks = [chunk(b"PLTE", bytes(RED + GREEN + BLUE)), chunk(b"tRNS", bytes([255, 0, 51]))]
    data = animation(1, 1, 8, 3, chunks, [bytes([0, index]) for index in (0, 1, 2)])
    assert rows_of(data) == [[R], [NONE], [(0, 0, 255, 51)]]


def three_frames() -> list[bytes]:
    return apng_chunks(2, 2, [ApngImage(solid(colour, 2, 2)) for colour in (RED, GREEN, BLUE)])


def test_a_cut_off_animation_keeps_its_whole_frames_and_says_so():
    data = b"".join(three_frames()[:-1])[:-5]
    header = read_header(data, LIMITS)
    assert header.n_frames == 2
    assert header.note == "the PNG is cut off: only what comes before, 2 whole frames, is kept"
    assert len(list(decode_bytes(data, LIMITS))) == 2


@pytest.mark.parametrize("cut", range(1, 13))
def test_an_end_that_is_missing_takes_no_pixel_along(cut):
    moving = b"".join(three_frames())[:-cut]
    assert (read_header(moving, LIMITS).n_frames, read_header(moving, LIMITS).note) == (3, "")
    single = still(PIXELS, END)[:-cut]
    assert rows_of(single) == [[R, R]] == rows_of(still(PIXELS, END))


def test_a_wrong_checksum_is_found():
    chunks = three_frames()
    damaged = bytearray(chunks[-2])
    damaged[-6] ^= 1
    data = b"".join([*chunks[:-2], bytes(damaged), chunks[-1]])
    assert read_header(data, LIMITS).n_frames == 2
    assert "wrong checksum in its chunk fdAT" in read_header(data, LIMITS).note


def test_missing_frames_and_frames_out_of_order_are_noted():
    chunks = three_frames()
    assert "declares 3 frames and has 2" in read_header(b"".join([*chunks[:-3], chunks[-1]]), LIMITS).note
    swapped = [*chunks[:4], chunks[6], chunks[7], chunks[4], chunks[5], chunks[8]]
    assert "out of order" in read_header(b"".join(swapped), LIMITS).note


def test_a_frame_outside_the_canvas_ends_the_animation():
    images = [ApngImage(solid(RED, 2, 1)), ApngImage(solid(GREEN, 2, 1)), ApngImage(solid(BLUE, 1, 1), left=2)]
    assert "outside the canvas" in read_header(apng(2, 1, images), LIMITS).note


def still(*chunks: bytes) -> bytes:
    return png_header(2, 2) + b"".join(chunks)


PIXELS, END = chunk(b"IDAT", compressed(solid(RED, 2, 2))), chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (still(PIXELS)[:-5], "cut off"),
        (still(chunk(b"IDAT", compressed(solid(RED, 2, 2))[:-6])), "cut off"),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"CgBI", bytes(4)), "of an iPhone's app"),
        (still(PIXELS[:-5]), "cut off"),
        (still(PIXELS[:-6] + b"x" + PIXELS[-5:], END), "wrong checksum"),
        (still(END), "no pixels"),
        (png_header(0, 2) + PIXELS + END, "empty image"),
        (png_header(60000, 60000) + PIXELS + END, "60000×60000 pixels: more than"),
        (apng(1, 1, [ApngImage(solid(RED, 1, 1))])[:-20], "before its first frame is whole"),
        (b"\x89PNG\r\n\x1a\n" + PIXELS, "does not begin with its header"),
    ],
)
def test_refused_with_the_cause(data, message):
    with pytest.raises(MediaError, match=message):
        read_header(data, LIMITS)


def test_a_still_whose_pixels_end_early_is_refused_when_it_is_decoded():
    half = compressed(solid(RED, 2, 1))
    with pytest.raises(MediaError, match="not complete"):
        list(decode_bytes(still(chunk(b"IDAT", half), END), LIMITS))


def test_the_number_of_frames_is_limited():
    data = b"".join(three_frames())
    with pytest.raises(MediaError, match="more than 2 frames"):
        read_header(data, MediaSettings(max_frames=2))


def test_an_animation_without_declared_frames_is_a_still():
    data = still(chunk(b"acTL", struct.pack(">II", 0, 0)), PIXELS, END)
    assert read_header(data, LIMITS).format == "PNG"
    assert rows_of(data) == [[R, R]]


@pytest.mark.parametrize(("size", "depth", "colour"), [((5, 3), 1, 0), ((9, 9), 8, 2), ((1, 1), 16, 6), ((3, 7), 4, 3)])
def test_interlaced_images_are_whole_when_each_of_their_passes_is(size, depth, colour):
    width, height = size
    bits = depth * {0: 1, 2: 3, 3: 1, 6: 4}[colour]
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    counts = [(len(range(x, width, dx)), len(range(y, height, dy))) for x, y, dx, dy in passes]
    raw = b"".join((b"\0" + bytes((wide * bits + 7) // 8)) * high for wide, high in counts if wide)
    ihdr = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 1)
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + (chunk(b"PLTE", bytes(3)) if colour == 3 else b"")
    whole = head + chunk(b"IDAT", zlib.compress(raw)) + END
    assert next(decode_bytes(whole, LIMITS)).rgba.shape == (height, width, 4)
    with pytest.raises(MediaError, match="not complete"):
        next(decode_bytes(head + chunk(b"IDAT", zlib.compress(raw[:-1])) + END, LIMITS))


def test_loops_delays_and_density_are_read():
    images = [ApngImage(solid(RED, 2, 1), delay=(1, 3)), ApngImage(solid(GREEN, 2, 1), delay=(2, 0))]
    parts = apng_chunks(2, 1, images)
    parts[1] = chunk(b"acTL", struct.pack(">II", 2, 7)) + chunk(b"pHYs", struct.pack(">IIB", 2835, 2834, 1))
    png = read_png(b"".join(parts), LIMITS)
    assert (png.loops, png.dots_per_metre) == (7, 2834)
    assert [image.delay_ms for image in png.images] == [Fraction(1000, 3), 20]
    assert [image.duration_ms for image in png.images] == [333, 20]


@pytest.mark.parametrize("content", [struct.pack(">IIB", 2835, 2835, 0), b"", bytes(8)])
def test_density_without_unit_is_none(content):
    parts = apng_chunks(2, 1, [ApngImage(solid(RED, 2, 1))])
    parts.insert(1, chunk(b"pHYs", content))
    assert read_png(b"".join(parts), LIMITS).dots_per_metre is None
