import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sticker_pipeline.packing.animation import still
from sticker_pipeline.packing.encode.png import _filtered, encode
from sticker_pipeline.packing.encode.settings import Settings
from sticker_pipeline_tests.packing.encode.examples import by_pillow, disc_animation, ours, small_animations


@given(small_animations())
def test_two_decoders_return_the_first_frame(animation):
    data = encode(animation, Settings())
    assert np.array_equal(by_pillow(data)[0], animation.frames[:1])
    assert np.array_equal(ours(data)[0], animation.frames[:1])


def test_it_is_truecolour_with_alpha_of_72_dpi():
    data = encode(still(np.full((4, 6, 4), 255, np.uint8)), Settings())
    with Image.open(io.BytesIO(data)) as image:
        assert (image.mode, image.size) == ("RGBA", (6, 4))
        assert image.info["dpi"] == pytest.approx((72, 72), abs=0.01)
        assert image.info["dpi"][0] >= 72


@pytest.mark.parametrize(("colours", "depth"), [(2, 1), (3, 2), (4, 2), (5, 4), (16, 4), (17, 8), (256, 8)])
def test_a_palette_has_the_fewest_bits(colours, depth):
    grey = np.arange(16 * 17, dtype=int).reshape(16, 17) % colours
    rgba = np.dstack([grey, 255 - grey, grey // 2, np.where(grey % 3, 255, 40 + grey // 2)]).astype(np.uint8)
    data = encode(still(rgba), Settings(colours=colours))
    assert struct.unpack(">BB", data[24:26]) == (depth, 3)
    assert np.array_equal(by_pillow(data)[0][0], rgba)
    assert np.array_equal(ours(data)[0][0], rgba)


def test_a_palette_makes_the_file_smaller():
    image = still(disc_animation(1, 200).frames[0])
    assert len(encode(image, Settings(colours=32))) < 0.6 * len(encode(image, Settings()))


def test_an_opaque_palette_has_no_table_of_alpha():
    opaque = np.dstack([np.arange(9).reshape(3, 3)] * 3 + [np.full((3, 3), 255)]).astype(np.uint8)
    assert b"tRNS" not in encode(still(opaque), Settings(colours=16))


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6))
def test_filters_are_undone_by_the_rule_of_the_specification(seed, height, width):
    random = np.random.default_rng(seed)
    rows = random.integers(0, 256, (height, 4 * width), dtype=np.uint8) // random.integers(1, 60)
    assert _undone(_filtered(rows)) == rows.tolist()


def _undone(filtered: np.ndarray) -> list[list[int]]:
    rows: list[list[int]] = []
    for kind, *stored in filtered.tolist():
        up = rows[-1] if rows else [0] * len(stored)
        row: list[int] = []
        for place, value in enumerate(stored):
            a, b, c = (row[place - 4], up[place], up[place - 4]) if place >= 4 else (0, up[place], 0)
            guess = a + b - c
            nearest = min((abs(guess - a), 0, a), (abs(guess - b), 1, b), (abs(guess - c), 2, c))[2]
            row.append((value + [0, a, b, (a + b) // 2, nearest][kind]) % 256)
        rows.append(row)
    return rows
