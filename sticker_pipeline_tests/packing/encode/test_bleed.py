import numpy as np

from sticker_pipeline.packing.encode.bleed import bled


def test_colour_spreads_under_transparent_pixels_only():
    frames = np.zeros((2, 5, 7, 4), np.uint8)
    frames[0, 2, 3] = 10, 20, 30, 255
    frames[1, 0, 0] = 200, 100, 50, 40
    found = bled(frames)
    assert np.array_equal(found[..., 3], frames[..., 3])
    assert (found[0, ..., :3] == (10, 20, 30)).all()
    assert (found[1, ..., :3] == (200, 100, 50)).all()


def test_the_nearest_block_gives_the_colour():
    frames = np.zeros((1, 4, 8, 4), np.uint8)
    frames[0, 0, 0] = 255, 0, 0, 255
    frames[0, 0, 7] = 0, 0, 255, 255
    found = bled(frames)[0, ..., :3]
    assert (found[:, :4] == (255, 0, 0)).all()
    assert (found[:, 4:] == (0, 0, 255)).all()


def test_a_mean_is_weighted_by_alpha():
    frames = np.zeros((1, 1, 3, 4), np.uint8)
    frames[0, 0, 0], frames[0, 0, 1] = (100, 100, 100, 30), (200, 200, 200, 10)
    assert (bled(frames)[0, 0, 2, :3] == 125).all()


def test_visible_pixels_and_empty_frames_stay():
    random = np.random.default_rng(0)
    frames = random.integers(1, 256, (1, 6, 6, 4), dtype=np.uint8)
    assert np.array_equal(bled(frames), frames)
    assert not bled(np.zeros((1, 3, 3, 4), np.uint8)).any()
