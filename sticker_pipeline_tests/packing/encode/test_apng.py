import struct

import numpy as np
import pytest
from hypothesis import given

from sticker_pipeline.packing.animation import Animation, animation
from sticker_pipeline.packing.encode.apng import _delay, encode
from sticker_pipeline.packing.encode.merge import merged
from sticker_pipeline.packing.encode.settings import Settings
from sticker_pipeline_tests.packing.encode.examples import by_pillow, disc_animation, ours, small_animations


@given(small_animations())
def test_two_decoders_return_frames_durations_and_loops(example):
    expected = merged(example)
    data = encode(example, Settings())
    frames, durations = ours(data)
    assert np.array_equal(frames, expected.frames)
    seen, delays, loops = by_pillow(data)
    assert np.array_equal(seen, expected.frames)
    if len(expected.frames) > 1:
        assert tuple(durations) == expected.durations
        assert tuple(round(delay) for delay in delays) == expected.durations
        assert loops == example.loops


def controls(data: bytes) -> list[tuple[int, ...]]:
    """Fields of each fcTL chunk."""
    found, at = [], 8
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"fcTL":
            found.append(struct.unpack(">IIIIIHHBB", data[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def test_each_frame_is_the_whole_canvas_and_replaces_it():
    found = controls(encode(disc_animation(4, 32), Settings()))
    assert [fields[1:5] for fields in found] == [(32, 32, 0, 0)] * 4
    assert [fields[7:] for fields in found] == [(0, 0)] * 4
    assert [fields[0] for fields in found] == [0, 1, 3, 5]
    assert [fields[5] / fields[6] for fields in found] == [0.04, 0.06, 0.04, 0.06]


@pytest.mark.parametrize(("colours", "kind"), [(256, 3), (257, 6)])
def test_many_colours_are_stored_as_rgba(colours, kind):
    values = np.arange(2 * 16 * 17).reshape(2, 16, 17) % colours
    frames = np.stack([values % 256, values // 256, 0 * values, 255 + 0 * values], axis=-1).astype(np.uint8)
    data = encode(animation(frames, [50, 70]), Settings())
    assert data[25] == kind
    assert np.array_equal(by_pillow(data)[0], frames)


def test_a_palette_loses_little():
    example = disc_animation(6, 64)
    frames, durations = ours(encode(example, Settings(colours=64)))
    assert tuple(durations) == example.durations
    assert 0 < np.abs(frames[..., 3].astype(int) - example.frames[..., 3]).mean() < 1


def test_equal_frames_become_a_still_with_one_frame():
    frames = np.full((3, 2, 2, 4), 255, np.uint8)
    assert len(controls(encode(Animation(frames, (10, 20, 30)), Settings()))) == 1


@pytest.mark.parametrize(("ms", "seconds"), [(1, 0.001), (125, 0.125), (65_535, 65.535), (70_400, 70), (10**9, 65_535)])
def test_delays_are_fractions_of_seconds(ms, seconds):
    numerator, denominator = struct.unpack(">HH", _delay(ms))
    assert numerator / denominator == pytest.approx(seconds)


def test_the_same_animation_gives_the_same_bytes():
    assert encode(disc_animation(), Settings(colours=20)) == encode(disc_animation(), Settings(colours=20))
