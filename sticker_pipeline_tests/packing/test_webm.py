"""WebM read from its bytes: as built, as ffmpeg writes it, and damaged."""

from fractions import Fraction

import pytest

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.packing.webm import read_webm
from sticker_pipeline_tests.media.makers import noise, video
from sticker_pipeline_tests.packing.files import element, number, webm

LIMITS = MediaSettings()


def test_built_file_is_read_as_it_was_built():
    found = read_webm(webm(320, 200, (0, 40, 90), audio=True, duration=120), LIMITS)
    assert (found.doc_type, found.starts_ms, found.duration_ms) == ("webm", (0, 40, 90), 120)
    assert (found.video.width, found.video.height, found.video.codec) == (320, 200, "V_VP9")
    assert [track.kind for track in found.tracks] == [1, 2]
    assert found.has_alpha and found.has_audio


def test_without_a_stated_duration_the_last_frame_counts():
    assert read_webm(webm(starts=(0, 40)), LIMITS).duration_ms == 73
    assert read_webm(webm(starts=(0, 40), duration=20), LIMITS).duration_ms == 73  # earlier than the last frame


def test_blocks_of_other_tracks_are_no_frames():
    data = webm(starts=(0, 40), audio=True)
    other = data.replace(
        b"\xa1\x01\x00\x00\x00\x00\x00\x00\x05\x81\x00\x28", b"\xa1\x01\x00\x00\x00\x00\x00\x00\x05\x82\x00\x28"
    )
    assert other != data
    assert read_webm(other, LIMITS).starts_ms == (0,)


@pytest.mark.parametrize("rate", [10, 24, 25, 30])
def test_rate_of_ffmpegs_files(rate):
    data = video("webm", noise(7, 32, 32), "-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p", rate=rate)
    found = read_webm(data, LIMITS)
    assert [round(start) for start in found.starts_ms] == [round(1000 * Fraction(at, rate)) for at in range(7)]
    assert abs(found.duration_ms - Fraction(7000, rate)) <= 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not begin with its header"),
        (element(0x18538067), "does not begin with its header"),
        (b"\x1a\x45\xdf\xa3", "without ID or size"),
        (b"\x1a\x45\xdf\xa3\xff", "unknown size"),
        (b"\x1a\x45\xdf\xa3\x88aaaa", "reaches beyond its parent"),
        (element(0x1A45DFA3), "no video track"),
        (webm(starts=()), "no frame"),
        (webm()[:-3], "cut off"),
        (webm(0, 0), "no video track"),
        (webm(duration=float("nan")), "a duration that is no number"),
        (element(0x1A45DFA3) + element(0x1549A966, element(0x4489, b"abc")), "a number of the wrong size"),
        (element(0x1A45DFA3) + element(0x1549A966, element(0x2AD7B1, bytes(9))), "more than 8 bytes"),
        (element(0x1A45DFA3) + element(0xA0, number(0xAB, 1)), "a group without block"),
        (element(0x1A45DFA3) + element(0xA3, b"\x81\0\0"), "an empty block"),
        (element(0x1A45DFA3) + element(0xA3, b"\x81\0\0\x02aa"), "several frames"),
        (element(0x1A45DFA3) + b"\0" * 20, "without ID or size"),
    ],
)
def test_damaged_files_are_refused(data, message):
    with pytest.raises(MediaError, match=message):
        read_webm(data, LIMITS)


def test_limits_are_kept():
    with pytest.raises(MediaError, match="more than 3 frames"):
        read_webm(webm(), MediaSettings(max_frames=3))
    with pytest.raises(MediaError, match="more than 100"):
        read_webm(webm(), MediaSettings(max_pixels=100))
