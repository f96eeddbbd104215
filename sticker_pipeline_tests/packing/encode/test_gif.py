import numpy as np
import pytest
from hypothesis import given

from sticker_pipeline.packing.animation import Animation, animation, still
from sticker_pipeline.packing.encode.gif import encode
from sticker_pipeline.packing.encode.merge import merged
from sticker_pipeline.packing.encode.settings import Settings
from sticker_pipeline_tests.packing.encode.examples import by_pillow, disc_animation, ours, small_animations


@given(small_animations(colours=255, shortest=25, alphas=(0, 255)))
def test_two_decoders_return_frames_of_few_colours_exactly(example):
    expected = merged(example)
    data = encode(example, Settings())
    frames, durations = ours(data)
    assert np.array_equal(frames, expected.frames)
    assert np.array_equal(by_pillow(data)[0], expected.frames)
    if len(expected.frames) > 1:
        assert np.abs(np.cumsum(durations) - np.cumsum(expected.durations)).max() <= 5


@pytest.mark.parametrize(("loops", "stated"), [(0, 0), (1, None), (4, 3)])
def test_loops_are_stated_as_repeats(loops, stated):
    example = disc_animation(3, 16)
    assert by_pillow(encode(Animation(example.frames, example.durations, loops), Settings()))[2] == stated


def test_alpha_is_cut_at_the_middle():
    frames = np.full((1, 1, 3, 4), 50, np.uint8)
    frames[0, 0, :, 3] = 127, 128, 255
    shown = ours(encode(still(frames[0]), Settings()))[0]
    assert shown[0, 0].tolist() == [[0, 0, 0, 0], [50, 50, 50, 255], [50, 50, 50, 255]]


def test_pixels_that_vanish_and_return_are_right():
    frames = np.zeros((4, 3, 3, 4), np.uint8)
    frames[0, 0, 0] = frames[2, 0, 0] = frames[1, 2, 2] = frames[2, 2, 2] = 9, 9, 9, 255
    example = animation(frames, [30, 40, 50, 60])
    assert np.array_equal(ours(encode(example, Settings()))[0], frames)
    assert np.array_equal(by_pillow(encode(example, Settings()))[0], frames)


def test_an_empty_animation_is_empty():
    assert not ours(encode(animation(np.zeros((2, 4, 4, 4), np.uint8), [50, 50]), Settings()))[0].any()


def test_short_frames_get_two_hundredths():
    assert ours(encode(Animation(disc_animation(3, 16).frames, (1, 5, 12)), Settings()))[1] == [20, 20, 20]


def test_fewer_colours_make_a_smaller_file():
    example = disc_animation(4, 96)
    assert len(encode(example, Settings(colours=8))) < len(encode(example, Settings()))
    assert encode(example, Settings(colours=8)) == encode(example, Settings(colours=8))
