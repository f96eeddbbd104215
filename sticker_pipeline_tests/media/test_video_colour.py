"""Colours of videos made from formulas of the standards, and their decoded values."""

import numpy as np
import pytest

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media.decode import decode_bytes
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.header import read_header
from sticker_pipeline.media.video import video_frames
from sticker_pipeline.media.video_colour import Canvas, VideoColours, filters, stated_colours
from sticker_pipeline_tests.media.makers import ffmpeg, remuxed

LIMITS = MediaSettings()
SHADES = np.array(
    [(255, 255, 255), (200, 60, 40), (40, 180, 90), (128, 128, 128), (20, 20, 20), (240, 220, 60), (60, 80, 220)]
)
# Weights of red and blue in luma: ITU-R BT.601, BT.709, BT.2020.
LUMA = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
# Linear light of BT.709's primaries in those of BT.2020 (ITU-R BT.2087, 2.4) and of Display P3.
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
TO_P3 = np.array([[0.8225, 0.1774, 0.0], [0.0332, 0.9669, 0.0], [0.0171, 0.0724, 0.9108]])


def linear(srgb: np.ndarray) -> np.ndarray:
    signal = srgb / 255
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def pq(nits: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084."""
    power = (nits / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def hlg(nits: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100 for a display of 1000 nits, its gamma of 1.2 undone."""
    light = nits / 1000
    luma = light @ [0.2627, 0.6780, 0.0593]
    scene = light / luma[:, None] ** (0.2 / 1.2)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


def planes(signal: np.ndarray, matrix: str, height: int, *, bits: int) -> bytes:
    """4:4:4 planes in limited range, a patch 32 pixels wide for each colour of `signal` (float [n,3], 0 to 1)."""
    red, blue = LUMA[matrix]
    luma = signal @ [red, 1 - red - blue, blue]
    chroma = [(signal[:, 2] - luma) / (2 - 2 * blue), (signal[:, 0] - luma) / (2 - 2 * red)]
    unit = 1 << (bits - 8)
    levels = [(16 + 219 * luma) * unit, *((128 + 224 * part) * unit for part in chroma)]
    rows = [np.tile(np.repeat(np.round(level), 32), (height, 1)) for level in levels]
    return np.stack(rows).astype("<u2" if bits > 8 else np.uint8).tobytes()


def encoded(
    container: str, signal: np.ndarray, matrix: str, stated: str, codec: tuple[str, ...], *, height=48, bits=8
) -> bytes:
    """A video of one frame whose planes are `signal` by `matrix`, and which states `stated`."""
    kind = "yuv444p10le" if bits > 8 else "yuv444p"
    size = f"{32 * len(signal)}x{height}"
    raw = ("-f", "rawvideo", "-pix_fmt", kind, "-s", size, "-r", "10", "-i", "pipe:0", "-vf", f"setparams={stated}")
    return ffmpeg(container, *raw, *codec, stdin=planes(signal, matrix, height, bits=bits))


H264 = ("-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv444p")
HEVC = ("-c:v", "libx265", "-x265-params", "log-level=error:lossless=1", "-pix_fmt", "yuv444p10le", "-tag:v", "hvc1")
VP8 = ("-c:v", "libvpx", "-b:v", "40M", "-qmin", "0", "-qmax", "1", "-pix_fmt", "yuv420p")
VP9 = ("-c:v", "libvpx-vp9", "-lossless", "1", "-pix_fmt", "yuv444p")
NOTHING = "color_trc=unknown:color_primaries=unknown:colorspace=unknown:range=tv"


def shades_of(data: bytes) -> np.ndarray:
    """The colour in the middle of each patch, int [n,3]."""
    (frame,) = decode_bytes(data, LIMITS)
    return frame.rgba[frame.rgba.shape[0] // 2, 16::32, :3].astype(int)


@pytest.mark.parametrize(
    ("container", "codec", "tolerance"), [("mp4", H264, 1), ("mov", H264, 1), ("webm", VP9, 1), ("webm", VP8, 3)]
)
@pytest.mark.parametrize(("matrix", "stated"), [("bt709", "bt709"), ("bt601", "smpte170m"), ("bt601", "bt470bg")])
def test_the_matrix_that_a_stream_or_its_container_states_is_taken(container, codec, tolerance, matrix, stated):
    data = encoded(container, SHADES / 255, matrix, f"colorspace={stated}:range=tv", codec)
    assert np.abs(shades_of(data) - SHADES).max() <= tolerance


@pytest.mark.parametrize(("height", "matrix"), [(718, "bt601"), (720, "bt709")])
def test_a_stream_that_states_nothing_is_taken_as_browsers_take_it(height, matrix):
    stated = encoded("mp4", SHADES / 255, matrix, f"colorspace=bt709:{NOTHING[-8:]}", H264, height=height)
    unstated = "h264_metadata=colour_primaries=2:transfer_characteristics=2:matrix_coefficients=2"
    data = remuxed("mp4", stated, "-bsf:v", unstated)
    assert read_header(data, LIMITS).container.colours == VideoColours(is_yuv=True)
    assert np.abs(shades_of(data) - SHADES).max() <= 1


@pytest.mark.parametrize(("transfer", "signal"), [("smpte2084", pq), ("arib-std-b67", hlg)])
@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_high_dynamic_range_is_shown_with_white_at_203_nits(container, transfer, signal):
    stated = f"colorspace=bt2020nc:color_primaries=bt2020:color_trc={transfer}:range=tv"
    nits = 203 * (linear(SHADES) @ TO_BT2020.T)
    data = encoded(container, signal(nits), "bt2020", stated, HEVC, bits=10)
    assert np.abs(shades_of(data) - SHADES).max() <= 3
    brighter = encoded(container, signal(np.full((4, 3), 900.0)), "bt2020", stated, HEVC, bits=10)
    assert (shades_of(brighter) == 255).all()


@pytest.mark.parametrize(("primaries", "into"), [("bt2020", TO_BT2020), ("smpte432", TO_P3)])
def test_wide_primaries_become_those_of_srgb(primaries, into):
    def srgb(light: np.ndarray) -> np.ndarray:
        return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0.003) ** (1 / 2.4) - 0.055)

    stated = f"colorspace=bt709:color_primaries={primaries}:color_trc=bt709:range=tv"
    data = encoded("mp4", srgb(linear(SHADES) @ into.T), "bt709", stated, HEVC, bits=10)
    assert np.abs(shades_of(data) - SHADES).max() <= 3


def test_a_turned_video_of_high_dynamic_range_and_full_size_is_decoded_within_its_memory():
    stated = "colorspace=bt2020nc:color_primaries=bt2020:color_trc=arib-std-b67:range=tv"
    signal = hlg(203 * (linear(SHADES[np.arange(60) % 7]) @ TO_BT2020.T))
    upright = encoded("mov", signal, "bt2020", stated, HEVC, bits=10, height=1080)
    data = remuxed("mov", upright, before=("-display_rotation", "90"))
    header = read_header(data, LIMITS)
    assert (header.width, header.height) == (1080, 1920)
    ((rgba, _, _),) = video_frames(data, header.container, LIMITS)
    assert np.abs(rgba[-16::-32, 500, :3].astype(int) - SHADES[np.arange(60) % 7]).max() <= 3


def test_an_ffmpeg_without_the_filter_is_told(monkeypatch):
    stated = "colorspace=bt2020nc:color_primaries=bt2020:color_trc=smpte2084:range=tv"
    data = encoded("mp4", pq(203 * linear(SHADES)), "bt2020", stated, HEVC, bits=10)
    monkeypatch.setattr("sticker_pipeline.media.video_colour.HDR_FILTER", "zscale_of_another_build")
    with pytest.raises(MediaError, match=r"high dynamic range or of wide colours.*convert it to SDR"):
        list(decode_bytes(data, LIMITS))


@pytest.mark.parametrize(
    ("line", "colours"),
    [
        ("h264 (High) (avc1 / 0x31637661), yuv420p(tv, progressive), 640x360, 154 kb/s", VideoColours(is_yuv=True)),
        ("vp9 (Profile 0), yuva420p, 512x512, q=2-31", VideoColours(is_yuv=True)),
        ("h264 (High), yuv420p(tv, bt709, progressive), 64x64", VideoColours("bt709", "bt709", "bt709", True)),
        ("mjpeg, yuvj420p(pc, bt470bg/unknown/unknown), 64x64", VideoColours("bt470bg", is_yuv=True)),
        (
            "hevc (Main 10) (hvc1 / 0x31637668), yuv420p10le(tv, bt2020nc/bt2020/arib-std-b67, progressive), 64x64",
            VideoColours("bt2020nc", "bt2020", "arib-std-b67", True),
        ),
        ("png (MPNG / 0x474E504D), rgba(pc, gbr/unknown/unknown), 9x9", VideoColours("gbr")),
    ],
)
def test_what_ffmpeg_prints_of_a_stream(line, colours):
    assert stated_colours(f"  Stream #0:0[0x1](und): Video: {line}") == colours
    assert stated_colours(f"  Stream #0:0: Audio: {line}") is None


def test_colours_of_rgb_streams_are_left_alone():
    canvas = Canvas(9, 9, 9, 9, lines=720)
    assert "zscale" not in filters(VideoColours("gbr", "bt2020", "smpte2084"), canvas)
    assert "in_color_matrix" not in filters(VideoColours("gbr"), canvas)
