"""Which frames stand for which, on hand-made hashes and thumbnails."""

import time

import numpy as np

from sticker_pipeline.media.duplicates import THUMBNAIL_TOLERANCE, representatives, thumbnail_difference


def grey(*levels: int) -> np.ndarray:
    return np.stack([np.full((16, 16, 4), level, dtype=np.uint8) for level in levels])


def merged(hashes, thumbnails, distance, preference=None, pixels=None, captions=None) -> list[int]:
    count = len(hashes)
    positions, _ = representatives(
        pixels or [str(number) for number in range(count)],
        np.array(hashes, dtype=np.uint64),
        thumbnails,
        np.arange(count) if preference is None else np.array(preference),
        distance,
        captions or [""] * count,
    )
    return positions.tolist()


def test_the_hash_distance_decides_among_equal_colours():
    hashes = [0, 0b11, 0b111, 2**64 - 1]
    assert merged(hashes, grey(9, 9, 9, 9), 2) == [0, 0, 2, 3]
    assert merged(hashes, grey(9, 9, 9, 9), 3) == [0, 0, 0, 3]
    assert merged(hashes, grey(9, 9, 9, 9), 0) == [0, 1, 2, 3]


def test_colour_and_alpha_must_agree_in_every_cell():
    thumbnails = grey(100, 100 + THUMBNAIL_TOLERANCE, 101 + THUMBNAIL_TOLERANCE, 100, 100)
    thumbnails[3, 5, 5, 1] += THUMBNAIL_TOLERANCE + 1
    thumbnails[4, 15, 0, 3] -= THUMBNAIL_TOLERANCE + 1
    assert merged([7] * 5, thumbnails, 2) == [0, 0, 2, 3, 4]


def test_difference_does_not_wrap_around():
    dark, light = grey(0, 255)
    assert thumbnail_difference(dark, light) == thumbnail_difference(light, dark) == 255


def test_likeness_does_not_drift_along_an_animation():
    # Each frame is one bit from the next: with distance 1 the third is not merged through the second.
    assert merged([0, 1, 3, 7], grey(9, 9, 9, 9), 1) == [0, 0, 2, 2]


def test_preference_decides_who_is_kept():
    assert merged([0, 0, 0], grey(9, 9, 9), 2, preference=[2, 0, 1]) == [2, 2, 2]


def test_equal_pixels_follow_each_other_and_none_merges_only_those():
    assert merged([0, 0, 0, 5], grey(9, 9, 9, 9), -1, pixels=["a", "b", "a", "b"]) == [0, 1, 0, 1]
    # 2 has the pixels of 1, which is near 0: it follows to 0, not to the merged 1.
    assert merged([0, 1, 1], grey(9, 9, 9), 2, pixels=["a", "b", "b"]) == [0, 0, 0]


def test_different_captions_keep_equal_pictures_apart():
    alike = grey(9, 9, 9, 9)
    assert merged([0] * 4, alike, 2, captions=["a", "b", "a", "b"]) == [0, 1, 0, 1]
    assert merged([0] * 4, alike, 2, pixels=["p"] * 4, captions=["a", "b", "", "b"]) == [0, 1, 0, 1]
    assert merged([0] * 4, alike, -1, pixels=["p"] * 4, captions=["a", "b", "a", "b"]) == [0, 1, 0, 1]


def test_one_without_a_caption_does_not_stand_for_two_that_differ():
    alike = grey(9, 9, 9, 9)
    assert merged([0] * 4, alike, 2, captions=["", "a", "b", "a"]) == [0, 0, 2, 0]
    assert merged([0] * 4, alike, 2, pixels=["p"] * 4, captions=["", "a", "b", "b"]) == [0, 0, 2, 2]


def test_many_alike_with_captions_of_their_own_are_all_kept_and_said_to_be_apart():
    count = 3_000
    positions, apart = representatives(
        ["p"] * count,
        np.zeros(count, np.uint64),
        grey(*[9] * count),
        np.arange(count),
        2,
        [str(n) for n in range(count)],
    )
    assert positions.tolist() == list(range(count))
    assert apart == dict.fromkeys(range(1, count), 0)


def test_equals_the_obvious_algorithm_on_random_frames():
    rng = np.random.default_rng(3)
    hashes = rng.integers(0, 16, 300)
    thumbnails = grey(*rng.integers(0, 120, 300))
    expected: list[int] = []
    for one in range(300):
        same = (
            other
            for other in range(one)
            if expected[other] == other
            and int(hashes[one] ^ hashes[other]).bit_count() <= 1
            and abs(int(thumbnails[one, 0, 0, 0]) - int(thumbnails[other, 0, 0, 0])) <= THUMBNAIL_TOLERANCE
        )
        expected.append(next(same, one))
    assert merged(hashes, thumbnails, 1) == expected


def test_thirty_thousand_frames_take_seconds():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 30_000, dtype=np.uint64)
    thumbnails = np.zeros((30_000, 16, 16, 4), dtype=np.uint8)
    start = time.process_time()
    result, _ = representatives(
        [str(n) for n in range(30_000)], hashes, thumbnails, np.arange(30_000), 2, [""] * 30_000
    )
    assert time.process_time() - start < 10
    assert (result == np.arange(30_000)).all()
