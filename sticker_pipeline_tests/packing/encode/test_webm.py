import re
import subprocess
from fractions import Fraction

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe

from sticker_pipeline.packing.animation import Animation
from sticker_pipeline.packing.encode import webm
from sticker_pipeline.packing.encode.settings import Settings
from sticker_pipeline.packing.errors import PackError
from sticker_pipeline_tests.packing.encode.examples import by_libvpx, disc_animation, ours, premultiplied


@pytest.fixture(scope="module")
def example() -> Animation:
    moving = disc_animation(6, 128)
    return Animation(moving.frames, (40,) * 6)


@pytest.fixture(scope="module")
def data(example: Animation) -> bytes:
    return webm.encode(example, Settings(quality=43))


def test_two_decoders_return_alpha_and_colour_nearly(example, data):
    for frames in (ours(data)[0], by_libvpx(data, example.size)):
        assert frames.shape == example.frames.shape
        assert np.abs(frames[..., 3].astype(int) - example.frames[..., 3]).mean() < 0.5
        assert np.abs(premultiplied(frames) - premultiplied(example.frames)).mean() < 1.5


def test_the_times_are_exact(data):
    assert ours(data)[1] == [40] * 6


def test_it_is_vp9_without_sound(data):
    said = subprocess.run([get_ffmpeg_exe(), "-i", "pipe:0"], input=data, capture_output=True, check=False)
    text = said.stderr.decode()
    assert re.search(r"Video: vp9", text)
    assert "25 fps" in text
    assert "alpha_mode" in text
    assert "Audio" not in text


def test_the_same_animation_gives_the_same_bytes(example, data):
    assert webm.encode(example, Settings(quality=43)) == data


def test_less_quality_makes_a_smaller_file(example, data):
    assert len(webm.encode(example, Settings(quality=5))) < len(data)


def numbered(durations: tuple[int, ...]) -> Animation:
    frames = np.zeros((len(durations), 1, 1, 4), np.uint8)
    frames[:, 0, 0] = np.arange(len(durations))[:, None]
    return Animation(frames, durations)


def test_multiples_of_a_long_step_are_repeated_exactly():
    frames, rate = webm.constant_rate(numbered((50, 100, 50)))
    assert frames[:, 0, 0, 0].tolist() == [0, 1, 1, 2]
    assert rate == 20


def test_fast_frames_are_shown_thirty_times_a_second():
    frames, rate = webm.constant_rate(numbered((20,) * 50))
    assert rate == Fraction(30)
    assert len(frames) == 30
    assert frames[:4, 0, 0, 0].tolist() == [0, 2, 4, 5]


def test_the_total_stays_at_any_rate():
    for durations in ((33, 34, 35), (7,), (999, 2), (100,) * 9):
        animation = numbered(durations if len(durations) > 1 else (durations[0], durations[0]))
        frames, rate = webm.constant_rate(animation)
        assert len(frames) / rate == Fraction(animation.total_ms, 1000)
        assert rate <= 30 or len(frames) == 1


def test_a_failure_of_ffmpeg_is_told():
    with pytest.raises(PackError, match="ffmpeg could not write the WEBM"):
        webm._run([get_ffmpeg_exe(), "-v", "error", "-i", "missing.file"], b"")
