"""GIF compositing against exact pixels and an independent model."""

import numpy as np
import pytest
import skia
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media.decode import decode_bytes
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.gif import read_gif
from sticker_pipeline.media.header import read_header
from sticker_pipeline_tests.media.makers import PALETTE, GifImage, composited, gif, gif_image, solid

LIMITS = MediaSettings()
R, G, B, W, NONE = (*PALETTE[0], 255), (*PALETTE[1], 255), (*PALETTE[2], 255), (*PALETTE[3], 255), (0, 0, 0, 0)


def rows_of(data: bytes) -> list[list[tuple[int, ...]]]:
    """The first row of each frame, as tuples."""
    return [[tuple(int(v) for v in pixel) for pixel in frame.rgba[0]] for frame in decode_bytes(data, LIMITS)]


@pytest.mark.parametrize(
    ("disposal", "last"),
    [(0, [R, G, B]), (1, [R, G, B]), (2, [R, NONE, B]), (3, [R, R, B]), (4, [R, R, B]), (5, [R, G, B])],
)
def test_disposal(disposal, last):
    images = [GifImage([[0, 0, 0]]), GifImage([[1]], left=1, disposal=disposal), GifImage([[2]], left=2)]
    assert rows_of(gif(3, 1, images)) == [[R, R, R], [R, G, R], last]


def test_disposal_to_background_is_transparent_whatever_the_background_colour():
    data = gif(
        2, 1, [GifImage([[0, 0]], disposal=2), GifImage([[1]], disposal=2), GifImage([[2]], left=1)], background=3
    )
    assert rows_of(data) == [[R, R], [G, NONE], [NONE, B]]


def test_previous_is_the_canvas_before_the_image_also_on_the_first_frame():
    images = [GifImage([[0, 0]], disposal=3), GifImage([[1]], disposal=3), GifImage([[2]], left=1)]
    assert rows_of(gif(2, 1, images)) == [[R, R], [G, NONE], [NONE, B]]


def test_local_palette_transparency_and_indices_beyond_the_table():
    images = [
        GifImage([[0, 1, 2]]),
        GifImage([[0, 1, 200]], palette=[PALETTE[3], PALETTE[2]], transparent=1),
    ]
    assert rows_of(gif(3, 1, images)) == [[R, G, B], [W, G, (0, 0, 0, 255)]]


def test_a_control_counts_for_one_image_only():
    plain = gif(1, 1, [GifImage([[1]], transparent=1)])
    at = plain.index(b"\x2c")
    image = plain[at:-1]
    assert rows_of(plain[:-1] + image + b"\x3b") == [[NONE], [G]]


def test_interlaced_rows_come_back_in_order():
    indices = [[y % 4, (y // 4) % 4] for y in range(19)]
    straight, woven = (gif(2, 19, [GifImage(indices, interlaced=flag)]) for flag in (False, True))
    assert straight != woven
    (expected,), (frame,) = composited(2, 19, [GifImage(indices)]), list(decode_bytes(woven, LIMITS))
    assert (frame.rgba == expected).all()


def test_what_lies_outside_the_canvas_is_not_shown():
    images = [GifImage([[0, 0]]), GifImage([[1, 2]], left=1, disposal=2), GifImage([[3]], left=7, top=5)]
    assert rows_of(gif(2, 1, images)) == [[R, R], [R, G], [R, NONE]]


SQUARE = [[(x + y) % 4 for x in range(6)] for y in range(5)]


@pytest.mark.parametrize("screen", [(6, 5), (0, 0), (3, 3), (20, 3), (3, 20)])
@pytest.mark.parametrize("place", [(0, 0), (2, 3), (30, 30)])
@pytest.mark.parametrize("transparent", [None, 1, 200])
def test_the_first_frame_is_what_skia_shows_whatever_the_logical_screen_says(screen, place, transparent):
    indices = [[*row[:5], 200 if transparent != 200 else 7] for row in SQUARE]
    image = GifImage(indices, left=place[0], top=place[1], transparent=transparent)
    data = gif(*screen, [image, GifImage([[0]], left=50)])
    (shown, _) = list(decode_bytes(data, LIMITS))
    assert shown.rgba.tolist() == skia_rgba(data).tolist()
    assert (read_header(data, LIMITS).height, read_header(data, LIMITS).width) == shown.rgba.shape[:2]


def skia_rgba(data: bytes) -> np.ndarray:
    """The first frame as Skia, and so Chromium, shows it; no colour where alpha is 0."""
    image = skia.Image.MakeFromEncoded(data)
    info = skia.ImageInfo.Make(image.width(), image.height(), skia.kRGBA_8888_ColorType, skia.kUnpremul_AlphaType)
    rgba = np.zeros((image.height(), image.width(), 4), dtype=np.uint8)
    assert image.readPixels(info, rgba, image.width() * 4)
    return np.where(rgba[..., 3:] == 0, 0, rgba)


def test_delays_are_those_of_the_file_and_starts_those_of_a_viewer():
    images = [GifImage([[0]], delay=delay) for delay in (0, 1, 2, 100)]
    frames = list(decode_bytes(gif(1, 1, images), LIMITS))
    assert [frame.duration_ms for frame in frames] == [0, 10, 20, 1000]
    assert [frame.start_ms for frame in frames] == [0, 100, 200, 220]
    assert [frame.index for frame in frames] == [0, 1, 2, 3]


def test_frames_do_not_share_memory():
    frames = list(decode_bytes(gif(1, 1, [GifImage([[0]]), GifImage([[1]])]), LIMITS))
    assert not np.shares_memory(frames[0].rgba, frames[1].rgba)


def test_a_zero_between_two_frames_is_damage_that_is_noted():
    first, second = GifImage([[0, 0], [0, 0]]), GifImage([[1, 1], [1, 1]])
    data = gif(2, 2, [first])[:-1] + b"\0" + gif_image(second) + b"\x3b"
    assert read_header(data, LIMITS).n_frames == 1
    assert "the GIF is damaged at byte" in read_header(data, LIMITS).note


@pytest.mark.parametrize("end", [b"", b"\0", b"\0" * 500, b"\x3bjunk"])
def test_a_trailer_that_is_missing_takes_nothing_along(end):
    data = gif(2, 2, [GifImage([[0, 0], [0, 0]]), GifImage([[1, 1], [1, 1]])])[:-1] + end
    assert (read_header(data, LIMITS).n_frames, read_header(data, LIMITS).note) == (2, "")


@pytest.mark.parametrize("cut", [1, 4, 9])
def test_a_cut_off_file_keeps_its_whole_frames_and_says_so(cut):
    data = gif(2, 2, [GifImage([[0, 0], [0, 0]]), GifImage([[1, 1], [1, 1]]), GifImage([[2, 2], [2, 2]])])
    header = read_header(data[: -1 - cut], LIMITS)
    assert header.n_frames == 2
    assert header.note == "the GIF is cut off: only what comes before, 2 whole frames, is kept"
    frames = list(decode_bytes(data[: -1 - cut], LIMITS))
    assert [(frame.rgba == solid(colour, 2, 2)).all() for frame, colour in zip(frames, PALETTE, strict=False)] == [
        True
    ] * 2


def test_frames_whose_pixels_break_off_are_not_given():
    short = GifImage([[1, 1], [1, 1]])
    data = gif(2, 2, [GifImage([[0, 0], [0, 0]]), short])
    whole = data.rindex(b"\x2c")
    # The second image claims to be 9 rows high, but has pixels for 2.
    broken = data[: whole + 7] + b"\x09\x00" + data[whole + 9 :]
    frames = decode_bytes(broken, LIMITS)
    assert next(frames).index == 0
    with pytest.raises(MediaError, match="frame 1 are damaged"):
        next(frames)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"GIF89a\1\0", "cut off inside its header"),
        (gif(1, 1, []), "header but no image"),
        (gif(1, 1, [GifImage([[0]])]).replace(b"\1\0\1\0\0\x08", b"\0\0\1\0\0\x08"), "empty image of 0×1"),
        (gif(1, 1, [GifImage([[0]], left=9000, top=9000)]), "9001×9001 pixels: more than 40000000"),
        (gif(9000, 9000, [GifImage([[0]])]), "9000×9000 pixels: more than 40000000"),
        (gif(1, 1, [GifImage([[0]])])[:20], "before its first image is whole"),
        (b"GIF89a\1\0\1\0\0\0\0\x2c" + bytes(4) + b"\1\0\1\0\0\2\2\x44\1\0\x3b", "without a colour table"),
    ],
)
def test_refused_with_the_cause(data, message):
    with pytest.raises(MediaError, match=message):
        read_header(data, LIMITS)


def test_a_sub_image_beyond_the_limit_is_refused_before_it_is_unpacked():
    data = gif(1, 1, [GifImage([[0]])])
    at = data.index(b"\x2c")
    bomb = data[: at + 5] + b"\xff\xff\xff\xff" + data[at + 9 :]
    with pytest.raises(MediaError, match="65535×65535 pixels"):
        read_header(bomb, LIMITS)


def test_the_number_of_frames_is_limited():
    data = gif(1, 1, [GifImage([[0]])] * 4)
    assert read_header(data, MediaSettings(max_frames=4)).n_frames == 4
    with pytest.raises(MediaError, match="more than 3 frames"):
        read_header(data, MediaSettings(max_frames=3))


@st.composite
def gif_images(draw):
    wide, high = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    row = st.lists(st.integers(0, 5), min_size=wide, max_size=wide)
    palette = st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=4, max_size=4)
    return GifImage(
        draw(st.lists(row, min_size=high, max_size=high)),
        left=draw(st.integers(0, 5)),
        top=draw(st.integers(0, 4)),
        disposal=draw(st.integers(0, 7)),
        transparent=draw(st.none() | st.integers(0, 3)),
        palette=draw(st.none() | palette),
        interlaced=draw(st.booleans()),
    )


@settings(max_examples=60, deadline=None)
@given(images=st.lists(gif_images(), min_size=1, max_size=6))
def test_compositing_equals_an_independent_model(images):
    expected = composited(5, 4, images)
    frames = list(decode_bytes(gif(5, 4, images), LIMITS))
    assert len(frames) == len(expected)
    for frame, canvas in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(frame.rgba, canvas)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_is_reported_and_nothing_else(data):
    whole = gif(3, 3, [GifImage([[0, 1, 2]] * 3), GifImage([[1, 2, 3]] * 3, disposal=2), GifImage([[3]])])
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = (
        whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 : data.draw(st.integers(at, len(whole)))]
    )
    try:
        for frame in decode_bytes(damaged, MediaSettings(max_pixels=1000)):
            assert frame.rgba.dtype == np.uint8
    except MediaError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("extensions", "loops"),
    [
        (b"", 1),
        (b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00", 0),
        (b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x02\x00\x00", 3),  # so many repetitions of the first time
        (b"\x21\xfe\x03abc\x00\x21\xff\x0bANIMEXTS1.0\x03\x01\x00\x00\x00", 0),
        (b"\x21\xff\x0bXMP DataXMP\x01a\x00", 1),
    ],
)
def test_loops_are_read(extensions, loops):
    data = gif(2, 1, [GifImage([[0, 0]]), GifImage([[1, 1]])])
    at = data.index(b"\x21\xf9")
    assert read_gif(data[:at] + extensions + data[at:], LIMITS).loops == loops
