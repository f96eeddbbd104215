"""Representatives of duplicate frames, on hand-made hashes and thumbnails."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sticker_pipeline.media.duplicates import (
    CLOSE_SIDE,
    CLOSE_TOLERANCE,
    MOST_CLOSE_LOOKS,
    RESIZED_TOLERANCE,
    THUMBNAIL_TOLERANCE,
    close_difference,
    close_up,
    representatives,
    thumbnail_difference,
)


def grey(*levels: int) -> np.ndarray:
    return np.stack([np.full((16, 16, 4), level, dtype=np.uint8) for level in levels])


def never(one: int, other: int) -> float:
    raise AssertionError(f"{one} is no still, and was looked at closely beside {other}")


def merged(
    hashes, thumbnails, distance, preference=None, pixels=None, captions=None, stills=None, close_look=never
) -> list[int]:
    count = len(hashes)
    positions, _ = representatives(
        pixels or [str(number) for number in range(count)],
        np.array(hashes, dtype=np.uint64),
        thumbnails,
        np.arange(count) if preference is None else np.array(preference),
        distance,
        captions or [""] * count,
        stills or [False] * count,
        close_look,
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


def test_different_captions_keep_equal_images_apart():
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
        [False] * count,
        never,
    )
    assert positions.tolist() == list(range(count))
    assert apart == dict.fromkeys(range(1, count), 0)


def test_a_still_is_merged_only_where_a_close_look_says_so():
    alike = grey(9, 9, 9, 9)
    looks = []

    def look(one: int, other: int) -> float:
        looks.append((one, other))
        return {(3, 0): 0.9, (3, 1): 0.5}.get((one, other), 1.1)

    assert merged([0] * 4, alike, 2, stills=[False, True, False, True], close_look=look) == [0, 1, 0, 1]
    assert looks == [(1, 0), (3, 0), (3, 1)]
    # Equal pixels need no look.
    assert merged([0] * 2, alike, 2, pixels=["p", "p"], stills=[True] * 2) == [0, 0]


def test_a_still_is_looked_at_beside_the_nearest_few():
    count = 200
    thumbnails = grey(*[9] * count)
    thumbnails[:, 3, 3, 0] = np.arange(count) % THUMBNAIL_TOLERANCE
    looks = dict.fromkeys(range(count), 0)

    def look(one: int, other: int) -> float:
        looks[one] += 1
        return 2.0

    assert merged([0] * count, thumbnails, 2, stills=[True] * count, close_look=look) == list(range(count))
    assert max(looks.values()) == MOST_CLOSE_LOOKS
    # Of a hundred kept ones the one with the nearest thumbnail is found, though it is none of the first.
    thumbnails[:, 3, 3, 0] = 9 + np.arange(count) % 20
    thumbnails[-1] = thumbnails[57]
    found = merged([0] * count, thumbnails, 2, stills=[True] * count, close_look=lambda a, b: 2 - ({a, b} == {199, 57}))
    assert found[:-1] == list(range(count - 1)) and found[-1] == 57


def face(mouth: str, size: tuple[int, int] = (800, 1600)) -> Image.Image:
    """A standing figure, whose mouth is a line of three pixels in an image of 800×1600."""
    image = Image.new("RGB", (800, 1600), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse([250, 100, 550, 400], fill="#ffe0c0", outline="black", width=6)
    draw.polygon([(400, 400), (200, 1500), (600, 1500)], fill="#4060c0", outline="black")
    box = {"smile": [360, 290, 440, 330], "frown": [360, 310, 440, 350]}[mouth]
    draw.arc(box, *((0, 180) if mouth == "smile" else (180, 360)), fill="black", width=3)
    return image.resize(size, Image.Resampling.LANCZOS)


def copies(image: Image.Image) -> Iterator[Image.Image]:
    """`image` as people save it once more."""
    for kind, quality in (("JPEG", 60), ("WEBP", 60)):
        buffer = io.BytesIO()
        image.save(buffer, kind, quality=quality)
        yield Image.open(buffer).convert("RGB")
    yield image.quantize(128).convert("RGB")
    for scale, how in ((0.5, Image.Resampling.BILINEAR), (0.66, Image.Resampling.LANCZOS), (1.5, Image.Resampling.BOX)):
        yield image.resize((round(image.width * scale), round(image.height * scale)), how)


def test_a_close_look_tells_expressions_apart_and_copies_not():
    smile, frown = face("smile"), face("frown")
    assert close_difference(close_up(smile), close_up(frown)) > CLOSE_TOLERANCE + 10
    for copy in copies(smile):
        same_size = copy.size == smile.size
        tolerance = CLOSE_TOLERANCE if same_size else RESIZED_TOLERANCE
        assert close_difference(close_up(smile), close_up(copy)) < tolerance - 10
        assert not same_size or close_difference(close_up(copy), close_up(frown)) > CLOSE_TOLERANCE + 10


def test_a_close_difference_is_the_largest_mean_of_three_by_three_pixels():
    one, other = np.full((40, 40), 100, np.uint8), np.full((40, 40), 100, np.uint8)
    other[10:13, 20:23] = 160
    assert close_difference(Image.fromarray(one), Image.fromarray(other)) == pytest.approx(60, abs=2)
    assert close_difference(Image.fromarray(other), Image.fromarray(one)) == pytest.approx(60, abs=2)
    black, white = Image.new("L", (9, 9), 0), Image.new("L", (9, 9), 255)
    assert [close_difference(black, white), close_difference(white, black)] == pytest.approx([255, 255], abs=1)
    assert close_up(Image.new("RGB", (800, 400))).size == (CLOSE_SIDE, CLOSE_SIDE // 2)
    assert close_up(Image.new("RGB", (30, 20))).size == (30, 20)


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


def test_thirty_thousand_frames_without_duplicates() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 30_000, dtype=np.uint64)
    thumbnails = np.zeros((30_000, 16, 16, 4), dtype=np.uint8)
    count = 30_000
    result, _ = representatives(
        [str(n) for n in range(count)], hashes, thumbnails, np.arange(count), 2, [""] * count, [False] * count, never
    )
    assert (result == np.arange(30_000)).all()
