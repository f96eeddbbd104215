import numpy as np
import pytest
from hypothesis import given, settings

from sticker_pipeline.packing.encode.merge import merged
from sticker_pipeline.packing.encode.settings import Settings
from sticker_pipeline.packing.encode.webp import encode
from sticker_pipeline_tests.packing.encode.examples import (
    by_pillow,
    disc_animation,
    ours,
    premultiplied,
    small_animations,
)


@settings(max_examples=60)
@given(small_animations())
def test_lossless_files_are_read_exactly_by_two_decoders(example):
    expected = merged(example)
    data = encode(example, Settings())
    frames, durations = ours(data)
    assert np.array_equal(frames, expected.frames)
    seen, delays, loops = by_pillow(data)
    assert np.array_equal(seen, expected.frames)
    if len(expected.frames) > 1:
        assert tuple(durations) == tuple(delays) == expected.durations
        assert loops == example.loops


def test_lossy_files_keep_alpha_exactly_and_colour_nearly():
    example = disc_animation()
    data = encode(example, Settings(quality=80))
    frames, durations = ours(data)
    assert tuple(durations) == example.durations
    assert np.array_equal(frames[..., 3], example.frames[..., 3])
    assert np.abs(premultiplied(frames) - premultiplied(example.frames)).mean() < 2


@pytest.mark.parametrize("colour", [(255, 255, 255), (20, 20, 20)])
def test_lossy_files_have_no_fringe_of_the_hidden_colour(colour):
    """Edge pixels of one colour over nothing: darker ones would show the hidden black."""
    example = disc_animation(1, 48)
    frames = example.frames.copy()
    frames[..., :3] = np.where(frames[..., 3:] > 0, np.array(colour, np.uint8), 0)
    shown, _ = ours(encode(type(example)(frames, (0,)), Settings(quality=60)))
    edge = (frames[..., 3] > 0) & (frames[..., 3] < 255)
    assert edge.sum() > 20
    assert np.abs(shown[edge][:, :3].astype(int) - colour).max() <= 6


def test_less_quality_and_fewer_colours_make_smaller_files():
    example = disc_animation(4, 96)
    sizes = [len(encode(example, Settings(quality=quality))) for quality in (10, 50, 95)]
    assert sizes == sorted(sizes)
    assert len(encode(example, Settings(colours=8))) < len(encode(example, Settings()))


def test_reduced_colours_are_the_only_loss():
    frames, _ = ours(encode(disc_animation(3, 32), Settings(colours=9)))
    assert len(np.unique(frames.reshape(-1, 4), axis=0)) <= 9


def test_the_same_animation_gives_the_same_bytes():
    assert encode(disc_animation(), Settings(quality=40)) == encode(disc_animation(), Settings(quality=40))
