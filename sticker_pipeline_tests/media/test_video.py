"""Videos encoded and decoded by the same ffmpeg: decoded pixels against the original arrays."""

import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.storage import file_sha256
from sticker_pipeline.media import frames as frames_module
from sticker_pipeline.media import video as module
from sticker_pipeline.media.decode import decode_bytes
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.frames import cache_entry, decode_to_cache
from sticker_pipeline.media.header import is_image, read_header
from sticker_pipeline.media.video import read_video, video_frames
from sticker_pipeline_tests.media.makers import cropped_matroska, cropped_mp4, ffmpeg, noise, remuxed, solid, video

LIMITS = MediaSettings()
H264 = ("-c:v", "libx264rgb", "-qp", "0")
VP9 = ("-c:v", "libvpx-vp9", "-lossless", "1")
NOISE = noise(6, 22, 18)


@pytest.fixture(autouse=True)
def no_process_left():
    before = set(psutil.Process().children())  # earlier tests may have left a fork server
    yield
    assert set(psutil.Process().children()) == before


def decoded(data: bytes) -> list:
    return list(decode_bytes(data, LIMITS))


def pixels(data: bytes) -> np.ndarray:
    return np.stack([frame.rgba for frame in decode_bytes(data, LIMITS)])


@pytest.mark.parametrize(
    ("kind", "container", "options"),
    [
        ("MP4", "mp4", H264),
        ("MP4", "mov", ("-c:v", "qtrle")),
        ("WEBM", "webm", (*VP9, "-pix_fmt", "gbrp")),
        ("WEBM", "matroska", ("-c:v", "ffv1")),
        ("WEBM", "matroska", H264),
    ],
)
def test_lossless_video_comes_out_as_it_went_in(kind, container, options):
    data = video(container, NOISE, *options)
    header = read_header(data, LIMITS)
    assert (header.format, header.width, header.height, header.n_frames, header.note) == (kind, 22, 18, 6, "")
    assert (pixels(data) == NOISE).all()
    assert [(f.index, f.start_ms, f.duration_ms) for f in decoded(data)] == [(n, 100 * n, 100) for n in range(6)]


@pytest.mark.parametrize(("container", "options"), [("matroska", ("-c:v", "ffv1")), ("mov", ("-c:v", "qtrle"))])
def test_alpha_is_exact_and_hides_no_colour(container, options):
    frames = noise(3, 16, 12)
    frames[..., 3] = np.arange(16) * 17
    expected = np.where(frames[..., 3:] == 0, 0, frames)
    assert (frames[..., 0, :3] > 0).any()
    assert (pixels(video(container, frames, *options)) == expected).all()


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [((*VP9, "-pix_fmt", "yuva420p"), 1), (("-c:v", "libvpx", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0"), 6)],
    ids=["vp9", "vp8"],
)
def test_video_stickers_keep_their_alpha(options, tolerance):
    """ffmpeg's own decoders of VP8 and VP9 show such a sticker opaque."""
    frames = np.stack([solid((200, 40, 40), 64, 48)] * 4)
    frames[..., 3] = np.repeat([0, 85, 170, 255], 16)
    data = video("webm", frames, *options, "-b:v", "2M")
    seen = pixels(data)
    middle = seen[:, :, 8::16]
    assert np.abs(middle[..., 3].astype(int) - [0, 85, 170, 255]).max() <= tolerance
    assert np.abs(middle[:, :, 1:, :3].astype(int) - (200, 40, 40)).max() <= 4
    assert not seen[seen[..., 3] == 0].any()


def test_odd_sizes_and_halved_chroma_are_converted_as_bt601_says():
    """Lossless, so the stored planes are known.

    Chroma is interpolated; a nearest-neighbour reading of a smooth image is within 6 levels of 255.
    """
    y, x = np.mgrid[0:47, 0:63]
    smooth = np.dstack([40 + x, 200 - y, 100 + x + y, np.full_like(x, 255)]).astype(np.uint8)
    data = video("webm", smooth[None], *VP9, "-pix_fmt", "yuv420p")
    planes = np.frombuffer(raw_planes(data), dtype=np.uint8).astype(float)
    luma, chroma = planes[: 47 * 63].reshape(47, 63), planes[47 * 63 :].reshape(2, 24, 32)
    blue, red = (chroma.repeat(2, 1).repeat(2, 2)[:, :47, :63] - 128) / 224
    luma = (luma - 16) / 219
    green = luma - (0.299 * 1.402 * red + 0.114 * 1.772 * blue) / 0.587
    expected = 255 * np.dstack([luma + 1.402 * red, green, luma + 1.772 * blue]).clip(0, 1)
    (seen,) = pixels(data)
    assert seen.shape == (47, 63, 4)
    assert np.abs(seen[..., :3] - expected)[2:-2, 2:-2].max() <= 6


def raw_planes(data: bytes) -> bytes:
    arguments = [module._executable(), "-v", "error", "-i", "pipe:0", "-pix_fmt", "yuv420p", "-f", "rawvideo", "pipe:1"]
    return subprocess.run(arguments, input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize(("container", "options"), [("mp4", (*H264, "-bf", "2")), ("webm", (*VP9, "-pix_fmt", "gbrp"))])
def test_true_times_of_a_variable_frame_rate(container, options):
    times = "settb=1/1000,setpts='eq(N,1)*40+eq(N,2)*300+eq(N,3)*333+eq(N,4)*1000+eq(N,5)*1017'"
    timing = ("-vf", times, "-fps_mode", "passthrough", "-enc_time_base", "1/1000")
    data = video(container, NOISE, *timing, *options)
    frames = decoded(data)
    assert [frame.start_ms for frame in frames] == [0, 40, 300, 333, 1000, 1017]
    assert [frame.duration_ms for frame in frames[:-1]] == [40, 260, 33, 667, 17]
    assert (pixels(data) == NOISE).all()


def test_times_count_from_the_first_frame():
    data = remuxed("matroska", video("mp4", NOISE, *H264), before=("-itsoffset", "5"))
    assert [frame.start_ms for frame in decoded(data)] == [0, 100, 200, 300, 400, 500]


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_rotated_video_is_turned_upright(degrees, turns):
    data = remuxed("mp4", video("mp4", NOISE, *H264), before=("-display_rotation:v:0", str(degrees)))
    header = read_header(data, LIMITS)
    assert (header.width, header.height) == ((22, 18) if degrees == 180 else (18, 22))
    assert (pixels(data) == np.rot90(NOISE, turns, axes=(1, 2))).all()


QUARTERS = np.concatenate(
    [
        np.concatenate([solid(c, 8, 6) for c in row], axis=1)
        for row in (((250, 0, 0), (0, 250, 0)), ((0, 0, 250), (99,) * 3))
    ]
)  # 16×12


def stretched(container: str, aspect: str, *options: str, frame: np.ndarray = QUARTERS) -> bytes:
    return video(container, frame[None].repeat(2, axis=0), "-vf", f"setsar={aspect}", *options)


@pytest.mark.parametrize(
    ("container", "options"),
    [
        ("mp4", H264),
        ("mov", ("-c:v", "qtrle")),
        ("webm", (*VP9, "-pix_fmt", "gbrp")),
        ("matroska", ("-c:v", "ffv1")),
        ("matroska", H264),
    ],
)
@pytest.mark.parametrize(
    ("aspect", "size"),
    [("3/2", (24, 12)), ("1/2", (16, 24)), ("64/45", (23, 12)), ("8/9", (16, 14)), ("4/1", (64, 12))],
)
def test_pixels_that_are_not_square_are_shown_as_players_do(container, options, aspect, size):
    """One side is enlarged: 64/45 of 16 is 22.76, 9/8 of 12 is 13.5, and a half is rounded to the even side."""
    data = stretched(container, aspect, *options)
    header = read_header(data, LIMITS)
    assert (header.width, header.height, header.n_frames, header.note) == (*size, 2, "")
    width, height = size
    for rgba in pixels(data):
        assert rgba.shape == (height, width, 4)
        middles = rgba[height // 4 :: height // 2, width // 4 :: width // 2][:2, :2].astype(int)
        assert np.abs(middles - QUARTERS[3::6, 4::8]).max() <= 2


@pytest.mark.parametrize("aspect", ["5/1", "1/5", "0/1", "1/1", "1000/1"])
def test_absurd_and_unknown_pixels_count_as_square(aspect):
    data = stretched("mp4", aspect, *H264)
    assert (pixels(data) == QUARTERS).all()


def test_a_circle_stays_a_circle():
    y, x = np.mgrid[:60, :40]
    disc = solid((0, 0, 0), 40, 60)
    disc[np.hypot((x - 19.5) * 3 / 2, y - 29.5) < 24] = 255
    (seen, _) = pixels(stretched("mp4", "3/2", *H264, frame=disc))
    white = seen[..., 0] > 127
    assert seen.shape == (60, 60, 4)
    assert abs(int(white.any(axis=0).sum()) - int(white.any(axis=1).sum())) <= 1
    assert abs(white.sum() - np.pi * 24**2) < 40


def test_stretched_and_rotated():
    data = remuxed("mp4", stretched("mp4", "3/2", *H264), before=("-display_rotation:v:0", "90"))
    header = read_header(data, LIMITS)
    assert (header.width, header.height) == (12, 24)
    turned = np.rot90(QUARTERS)
    middles = pixels(data)[0][6::12, 3::6].astype(int)
    assert np.abs(middles - turned[4::8, 3::6]).max() <= 2


def test_limits_hold_for_the_size_that_is_shown():
    data = stretched("mp4", "3/2", *H264)
    assert read_header(data, MediaSettings(max_pixels=288)).width == 24
    with pytest.raises(MediaError, match="24×12 pixels: more than 287"):
        read_header(data, MediaSettings(max_pixels=287))


CROP = (5, 11, 3, 9)  # left, right, top, bottom: what is left of 64×48 is 48×36


def cropped(container: str, aspect: str = "1/1") -> tuple[bytes, np.ndarray]:
    """Lossless frames of 64×48 with CROP in the container, and what is left of them."""
    frames = noise(3, 64, 48)
    options = ("-vf", f"setsar={aspect}")
    data = (
        cropped_mp4(video("mp4", frames, *options, *H264), (64, 48), *CROP)
        if container == "mp4"
        else cropped_matroska(video("matroska", frames, *options, "-c:v", "ffv1"), *CROP)
    )
    return data, frames[:, 3:39, 5:53]


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_a_crop_of_the_container_is_cut_off_and_the_rest_keeps_its_size(container):
    data, expected = cropped(container)
    header = read_header(data, MediaSettings(max_pixels=64 * 48))
    assert (header.width, header.height, header.n_frames, header.note) == (48, 36, 3, "")
    assert (pixels(data) == expected).all()


def test_a_crop_goes_before_stretching_and_limits_hold_for_the_outcome():
    data, expected = cropped("mp4", "2/1")
    found = read_video(data, "mov", LIMITS)
    assert (found.width, found.height, found.canvas.lines) == (96, 36, 36)
    seen = pixels(data).reshape(3, 36, 48, 2, 4).mean(axis=3)  # of two pixels that one became
    assert np.corrcoef(seen[..., :3].ravel(), expected[..., :3].ravel())[0, 1] > 0.95
    with pytest.raises(MediaError, match="96×36 pixels: more than 3455"):
        read_header(data, MediaSettings(max_pixels=3455))


def test_a_crop_goes_before_rotation():
    frames = noise(3, 64, 48)
    turned = remuxed("mp4", video("mp4", frames, *H264), before=("-display_rotation:v:0", "90"))
    data = cropped_mp4(turned, (64, 48), *CROP)
    header = read_header(data, LIMITS)
    assert (header.width, header.height) == (36, 48)
    assert (pixels(data) == np.rot90(frames[:, 3:39, 5:53], axes=(1, 2))).all()


def resized(*sizes: tuple[int, int], aspect: str = "1/1") -> bytes:
    """A VP8 stream that changes its size: its key frames state it, unlike the container.

    Each part has two frames, red on the left and blue on the right.
    """
    parts = []
    for width, height in sizes:
        frame = np.concatenate([solid((250, 0, 0), width // 2, height), solid((0, 0, 250), width // 2, height)], axis=1)
        options = ("-c:v", "libvpx", "-b:v", "2M", "-pix_fmt", "yuv420p", "-vf", f"setsar={aspect}")
        parts.append(video("ivf", frame[None].repeat(2, axis=0), *options))
    frames = [part[32:] for part in parts]
    return remuxed("webm", parts[0][:32] + b"".join(renumbered(frames)))


def renumbered(parts: list[bytes]) -> Iterator[bytes]:
    """The frames of IVF streams with the times 0, 1, 2, … of its time base."""
    number = 0
    for part in parts:
        at = 0
        while at < len(part):
            size = int.from_bytes(part[at : at + 4], "little")
            yield part[at : at + 4] + number.to_bytes(8, "little") + part[at + 12 : at + 12 + size]
            at, number = at + 12 + size, number + 1


def shape(rgba: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is visible."""
    rows, columns = np.flatnonzero(rgba[..., 3].any(axis=1)), np.flatnonzero(rgba[..., 3].any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def test_frames_of_another_shape_keep_it_on_the_first_ones_canvas():
    """48×64 on 64×48 is 36×48, in the middle; the rest is transparent."""
    data = resized((64, 48), (48, 64), (128, 32))
    frames = pixels(data)
    assert frames.shape == (6, 48, 64, 4)
    assert [shape(frame) for frame in frames] == [(0, 0, 64, 48)] * 2 + [(14, 0, 50, 48)] * 2 + [(0, 16, 64, 32)] * 2
    for frame in frames:
        left, top, right, bottom = shape(frame)
        seen = frame[top:bottom, left:right].astype(int)
        quarter = (right - left) // 4
        assert np.abs(seen[:, quarter] - (250, 0, 0, 255)).max() <= 8
        assert np.abs(seen[:, -quarter] - (0, 0, 250, 255)).max() <= 8


@pytest.mark.parametrize("sizes", [((64, 48), (32, 24)), ((64, 48), (128, 96)), ((62, 46), (32, 24))])
def test_frames_of_another_size_and_the_same_shape_fill_the_canvas(sizes):
    frames = pixels(resized(*sizes))
    assert {shape(frame) for frame in frames} == {(0, 0, *sizes[0])}
    assert frames[..., 3].min() == 255


def test_frames_of_another_shape_with_pixels_that_are_not_square_or_turned():
    """Pixels of 2:1: 64×48 is shown as 128×48, and 64×24 as 128×24."""
    stretched = remuxed("matroska", resized((64, 48), (64, 24)), "-aspect", "8/3")
    header = read_header(stretched, LIMITS)
    assert (header.width, header.height) == (128, 48)
    assert [shape(frame) for frame in pixels(stretched)] == [(0, 0, 128, 48)] * 2 + [(0, 12, 128, 36)] * 2
    turned = remuxed("matroska", resized((64, 48), (48, 64)), before=("-display_rotation:v:0", "90"))
    assert [shape(frame) for frame in pixels(turned)] == [(0, 0, 48, 64)] * 2 + [(0, 14, 48, 50)] * 2


def test_only_the_rotation_of_the_stream_itself_counts():
    """A file with two video streams, of which the second, which is not read, is rotated."""
    with_two = ("-map", "0", "-map", "1", "-c", "copy")
    with tempfile.TemporaryDirectory() as folder:
        upright, turned = Path(folder) / "upright.mp4", Path(folder) / "turned.mp4"
        upright.write_bytes(video("mp4", NOISE, *H264))
        turned.write_bytes(remuxed("mp4", upright.read_bytes(), before=("-display_rotation:v:0", "90")))
        data = ffmpeg("mp4", "-i", str(upright), "-i", str(turned), *with_two)
    assert (pixels(data) == NOISE).all()


def test_the_index_may_lie_at_either_end():
    last, first = (video("mp4", NOISE, *H264, *flags) for flags in ((), ("-movflags", "+faststart")))
    assert last.index(b"mdat") < last.index(b"moov") < len(last)
    assert first.index(b"moov") < first.index(b"mdat")
    assert (pixels(last) == pixels(first)).all()
    fragments = video("mp4", NOISE, *H264, "-movflags", "frag_keyframe+empty_moov")
    assert (pixels(fragments) == NOISE).all()


def test_frames_cut_off_by_an_edit_list_are_no_frames():
    data = remuxed("mp4", video("mp4", NOISE, *H264), before=("-ss", "0.25"))
    assert read_header(data, LIMITS).n_frames == 3
    assert (pixels(data) == NOISE[3:]).all()


def test_frames_that_are_never_shown_are_not_counted(tmp_path):
    """Two passes make the VP8 encoder store reference frames that are not for showing."""
    source = ("-f", "lavfi", "-i", "testsrc=s=64x48:r=30:d=2")
    options = ("-c:v", "libvpx", "-b:v", "100k", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-g", "128")
    log = ("-passlogfile", str(tmp_path / "log"))
    ffmpeg("framecrc", *source, *options, *log, "-pass", "1")
    data = ffmpeg("webm", *source, *options, *log, "-pass", "2")
    assert remuxed("framecrc", data).count(b"\n0,") > 60
    header = read_header(data, LIMITS)
    assert header.n_frames == len(decoded(data)) == 60
    with pytest.raises(MediaError, match="more than 59 frames"):
        read_header(data, MediaSettings(max_frames=59))


@pytest.mark.parametrize(
    ("container", "options"),
    [
        ("mp4", (*H264, "-bf", "0", "-movflags", "+faststart")),
        ("webm", (*VP9, "-pix_fmt", "gbrp")),
        ("matroska", ("-c:v", "ffv1")),
    ],
)
def test_a_video_that_is_cut_off_keeps_its_whole_frames(container, options):
    data = video(container, NOISE, *options)
    cut = data[: len(data) * 7 // 10]
    header = read_header(cut, LIMITS)
    assert 2 <= header.n_frames < 6
    assert header.note == f"the video is cut off: only what comes before, {header.n_frames} whole frames, is kept"
    assert (pixels(cut) == NOISE[: header.n_frames]).all()


def test_an_mp4_without_its_index_is_refused():
    data = video("mp4", NOISE, *H264)
    with pytest.raises(MediaError, match=r"cut off: its index \(the moov box\) is missing"):
        read_header(data[: len(data) * 7 // 10], LIMITS)


LOST_LAST = "the video is cut off: only what comes before, {} whole frames, is kept"


@pytest.mark.parametrize("bytes_lost", [1, 5, 100])
@pytest.mark.parametrize("flags", ["+faststart", "frag_keyframe+empty_moov"])
def test_a_video_that_is_cut_inside_its_last_frame_says_so(flags, bytes_lost):
    """ffmpeg only warns of a packet that ends too soon, in the order of decoding."""
    data = video("mp4", NOISE, *H264, "-bf", "0", "-movflags", flags)
    end = data.rindex(b"mfra") - 4 if "frag" in flags else len(data)
    cut = data[: end - bytes_lost]
    header = read_header(cut, LIMITS)
    assert (header.n_frames, header.note) == (5, LOST_LAST.format(5))
    assert (pixels(cut) == NOISE[:5]).all()


def test_a_video_that_is_cut_inside_the_index_of_a_fragment_says_so():
    data = video("mp4", NOISE, *H264, "-g", "2", "-movflags", "frag_keyframe+empty_moov")
    cut = data[: data.rindex(b"moof") + 20]
    header = read_header(cut, LIMITS)
    assert (header.n_frames, header.note) == (4, LOST_LAST.format(4))


@pytest.mark.parametrize("bytes_kept", [12, 100, 300])
def test_a_video_that_is_cut_inside_its_index_is_not_taken_for_sound(bytes_kept):
    data = video("mov", NOISE, "-c:v", "qtrle")
    with pytest.raises(MediaError, match=r"the video is cut off inside its index \(the moov box\)"):
        read_header(data[: data.rindex(b"moov") + bytes_kept], LIMITS)


def test_sound_that_is_cut_off_is_no_fault_of_the_frames():
    """The sound lies last: interleaved, it would be cut off together with frames."""
    sound = ("-f", "lavfi", "-i", "sine=d=3", "-map", "0", "-map", "1", "-c:a", "aac")
    data = video("mp4", NOISE, *sound, *H264, "-movflags", "+faststart")
    cut = data[:-100]
    assert read_video(cut, "mov", LIMITS).note == ""
    assert (pixels(cut) == NOISE).all()


@pytest.mark.parametrize(
    ("container", "options"),
    [("mp4", (*H264, "-bf", "0")), ("webm", (*VP9, "-pix_fmt", "gbrp"))],
)
def test_frames_before_damage_are_given(tmp_path, container, options):
    data = bytearray(video(container, NOISE, *options))
    middle, more_than_a_frame = len(data) // 2, len(data) // 5
    data[middle : middle + more_than_a_frame] = b"\xee" * more_than_a_frame
    seen = []
    with pytest.raises(MediaError, match=r"frame \d of the video is damaged"):
        for frame in decode_bytes(bytes(data), LIMITS):
            seen.append(frame.rgba)
    assert 1 <= len(seen) < 6
    assert (np.stack(seen) == NOISE[: len(seen)]).all()
    path = tmp_path / "damaged"
    path.write_bytes(data)
    table = decode_to_cache(path, file_sha256(path), tmp_path / "cache", LIMITS)
    assert table["problem"].tolist()[: len(seen)] == [""] * len(seen)
    assert table["problem"].iloc[-1].startswith(f"cannot be decoded from frame {len(seen)} on: ")


def test_sound_alone_is_refused_even_with_a_cover():
    sound = ffmpeg("mp4", "-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac")
    cover = (
        "-f",
        "lavfi",
        "-i",
        "color=red:s=32x32",
        "-frames:v",
        "1",
        "-c:v",
        "png",
        "-disposition:v",
        "attached_pic",
    )
    with_cover = ffmpeg("mp4", "-f", "lavfi", "-i", "sine=d=1", *cover)
    for data in (sound, with_cover):
        with pytest.raises(MediaError, match="it holds no video, only sound or text"):
            read_header(data, LIMITS)


def test_sound_beside_the_images_changes_nothing():
    data = video("mp4", NOISE, "-f", "lavfi", "-i", "sine=d=1", "-map", "1", "-map", "0", *H264, "-c:a", "aac")
    assert (pixels(data) == NOISE).all()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_pixels": 395}, r"22×18 pixels: more than 395 \(the limit max_pixels of the profile\)"),
        ({"max_frames": 5}, r"more than 5 frames \(the limit max_frames of the profile\)"),
        ({"max_seconds": 0.59}, r"0\.6 seconds: more than 0\.59 \(the limit max_seconds of the profile\)"),
    ],
)
@pytest.mark.parametrize(("container", "options"), [("mp4", H264), ("webm", (*VP9, "-pix_fmt", "gbrp"))])
def test_limits_hold_before_decoding_and_while_decoding(monkeypatch, limits, message, container, options):
    data = video(container, NOISE, *options)
    assert read_header(data, MediaSettings(max_pixels=396, max_frames=6, max_seconds=0.6)).n_frames == 6
    found = read_video(data, "mov" if container == "mp4" else "matroska", LIMITS)
    # As if the container had lied: only the decoder sees what is really there.
    strict = MediaSettings(**limits)
    if "max_seconds" in limits:
        found, strict, message = (
            replace(found, origin_s=found.origin_s - 1),
            MediaSettings(max_seconds=1),
            "more than 1",
        )
    with pytest.raises(MediaError, match=message):
        list(video_frames(data, found, strict))
    monkeypatch.setattr(module, "video_frames", lambda *_: pytest.fail("decoded"))
    with pytest.raises(MediaError, match=message if "max_seconds" not in limits else "0.6 seconds"):
        list(decode_bytes(data, MediaSettings(**limits)))


linux = pytest.mark.skipif(sys.platform != "linux", reason="memory of a process is limited on Linux only")


@linux
def test_an_index_that_claims_millions_of_frames_takes_no_memory():
    """Ten million packets of one byte each, in a file of some kilobytes: without a limit ffmpeg takes 755 MB."""
    data = bytearray(video("mp4", NOISE, *H264, "-bf", "0"))
    claimed = (10_000_000).to_bytes(4, "big")
    sizes, times, chunks = (data.index(name) + 8 for name in (b"stsz", b"stts", b"stsc"))
    data[sizes : sizes + 8] = (1).to_bytes(4, "big") + claimed
    data[times + 4 : times + 8] = claimed
    data[chunks + 8 : chunks + 12] = claimed
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with pytest.raises(MediaError):
        read_header(bytes(data), LIMITS)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < max(before, 400_000) + 1  # KB


@linux
def test_decoding_has_its_own_limit_of_memory(monkeypatch):
    data = video("mp4", NOISE, *H264)
    found = read_video(data, "mov", LIMITS)
    monkeypatch.setattr(module, "OWN_MEMORY", 1_000_000)
    with pytest.raises(MediaError):
        list(video_frames(data, found, LIMITS))


def test_fewer_frames_than_the_container_states_are_reported():
    data = video("mp4", NOISE, *H264)
    found = read_video(data, "mov", LIMITS)
    lying = replace(found, starts_ms=(*found.starts_ms, 600), end_ms=700)
    with pytest.raises(MediaError, match="only 6 of the video's 7 frames can be decoded"):
        list(video_frames(data, lying, LIMITS))


def test_closing_early_leaves_no_process():
    frames = decode_bytes(video("matroska", noise(40, 200, 200), "-c:v", "ffv1"), LIMITS)
    before = set(psutil.Process().children())
    next(frames)
    (process,) = set(psutil.Process().children()) - before
    assert "ffmpeg" in process.name()
    frames.close()
    assert not process.is_running()


def test_a_silent_ffmpeg_is_ended(monkeypatch, tmp_path):
    data = video("mp4", NOISE, *H264)
    found = read_video(data, "mov", LIMITS)
    sleeper = tmp_path / "ffmpeg"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(module, "_executable", lambda: str(sleeper))
    monkeypatch.setattr(module, "SILENCE_S", 0.3)
    start = time.monotonic()
    for work in (lambda: read_video(data, "mov", LIMITS), lambda: list(video_frames(data, found, LIMITS))):
        with pytest.raises(MediaError, match=r"ffmpeg gave nothing for 0\.3 s"):
            work()
    assert time.monotonic() - start < 10


def test_ffmpeg_opens_nothing_but_what_it_is_given(tmp_path):
    """A QuickTime reference to another file is the way to make a reader open it."""
    outside = tmp_path / "outside.mov"
    outside.write_bytes(video("mov", NOISE, "-c:v", "qtrle"))
    for source in (f"file:{outside}", str(outside)):
        arguments = [module._executable(), "-v", "error", *module._input("mov", LIMITS), "-f", "null", "-"]
        arguments[arguments.index("fd:")] = source
        del arguments[arguments.index("-fd") : arguments.index("-fd") + 2]
        run = subprocess.run(arguments, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert run.returncode
        assert "not on whitelist" in run.stderr


def test_the_cache_is_of_one_ffmpeg(monkeypatch, tmp_path):
    before = cache_entry(tmp_path, "ab12", LIMITS)
    version = frames_module.version
    monkeypatch.setattr(frames_module, "version", lambda name: version(name) + (name == "imageio-ffmpeg") * ".1")
    assert cache_entry(tmp_path, "ab12", LIMITS) != before


@pytest.mark.parametrize("text", [b"eye wide open", b"hat skipping, smile", b"the free fox", b"any moov, mdat"])
def test_a_text_with_the_name_of_a_box_in_its_fifth_letter_is_no_video(text):
    assert not is_image(text)


@pytest.mark.parametrize("box", [b"free", b"wide", b"skip"])
def test_a_mov_from_before_its_first_box_was_invented_is_read(box):
    data = video("mov", noise(3, 16, 12), "-c:v", "qtrle").replace(b"ftyp", box, 1)
    assert len(list(decode_bytes(data, LIMITS))) == 3


FRAME = 'head -c 1584 /dev/zero; echo "<time $n 1/10>" >&2; n=$((n+1)); sleep 0.2'  # one of NOISE, in raw bytes
STUBBORN = {
    "one that gives a frame now and then, for ever": f"n=0; while true; do {FRAME}; done",
    "one that computes for ever": "while true; do :; done",
    "one that waits for another program": "sleep 60; true",
    "one that leaves a program behind": "sleep 60 & wait",
    "one that says something for ever": "while true; do echo '[error] x' >&2; done",
}


@pytest.mark.parametrize("script", STUBBORN.values(), ids=STUBBORN)
def test_a_video_that_decodes_for_ever_is_given_up(script, monkeypatch, tmp_path):
    """It is stopped in any state, with its child processes; the files after it are decoded."""
    data = video("mp4", NOISE, *H264)
    found = read_video(data, "mov", LIMITS)
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    start = time.monotonic()
    with monkeypatch.context() as patched:
        patched.setattr(module, "_executable", lambda: str(program))
        patched.setattr(module, "SILENCE_S", 0.5)
        with pytest.raises(
            MediaError, match=r"ffmpeg (gave nothing for 0\.5 s|is so slow): the video is damaged|so slow"
        ):
            list(video_frames(data, found, LIMITS))
    assert time.monotonic() - start < 10
    assert not [
        process for process in psutil.process_iter(["cmdline"]) if str(program) in (process.info["cmdline"] or [])
    ]
    assert len(pixels(data)) == len(NOISE)


def test_an_ffmpeg_that_nobody_waits_for_any_more_ends_by_itself(tmp_path):
    """Its time on the processor is limited: this process may have been killed before."""
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\nwhile true; do :; done\n")
    program.chmod(0o755)
    with subprocess.Popen([program]) as process:
        module._limit(process.pid, module.OWN_MEMORY, 0.2)
        assert process.wait(30) == -signal.SIGXCPU or process.returncode == -signal.SIGKILL


def _as_video(kind: str, text: str) -> bytes:
    """A text for one of ffmpeg's other demuxers, plain or behind the first box of an MP4."""
    box = b"\0\0\0\x14ftypisom\0\0\0\0isom" if kind == "mp4" else b""
    return box + text.encode()


PLAYLISTS = {
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{outside}\n#EXT-X-ENDLIST\n",
    "HLS over a network": "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:{port}/x.ts\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{outside}'\n",
    "concat without its mark": "file '{outside}'\n",
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n",
    "a part of a file": "subfile,,start,0,end,0,,:{outside}",
    "DASH": "<?xml version='1.0'?><MPD><Period><AdaptationSet><Representation><BaseURL>{outside}</BaseURL>",
}


@pytest.mark.parametrize("kind", ["text", "mp4"])
@pytest.mark.parametrize("playlist", PLAYLISTS.values(), ids=PLAYLISTS)
def test_a_playlist_opens_no_file_and_no_connection(playlist, kind, tmp_path):
    outside = tmp_path / "outside.mp4"
    outside.write_bytes(video("mp4", NOISE, *H264))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        data = _as_video(kind, playlist.format(outside=outside, port=server.getsockname()[1]))
        for demuxer in ("mov", "matroska"):
            with pytest.raises(MediaError):
                read_video(data, demuxer, LIMITS)
        with pytest.raises(MediaError):
            decoded(data)
        with pytest.raises(TimeoutError):
            server.accept()
