"""Every bit depth and colour type of PNG against Skia, the decoder of Chromium."""

import struct
import zlib

import numpy as np
import pytest
import skia

from sticker_pipeline_tests.media.makers import SRGB_PRIMARIES, animation, chunk, icc_gamma, icc_rgb, png, png_rows
from sticker_pipeline_tests.media.readers import frames, only, theirs

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
KINDS = [(1, GREY), (2, GREY), (4, GREY), (8, GREY), (16, GREY), (8, RGB), (16, RGB)]
KINDS += [
    (1, PALETTE),
    (2, PALETTE),
    (4, PALETTE),
    (8, PALETTE),
    (8, GREY_ALPHA),
    (16, GREY_ALPHA),
    (8, RGBA),
    (16, RGBA),
]
COLOURS = np.random.default_rng(3).integers(0, 256, (256, 3), dtype=np.uint8)


def samples_of(depth: int, colour: int) -> np.ndarray:
    """Few different values, so that every key is met often; pixels that differ in the low byte only among them."""
    rng = np.random.default_rng(depth)
    values = rng.integers(0, 1 << depth, 4)
    values[1] = values[0] ^ 1
    return rng.choice(values, (13, 11, CHANNELS[colour]))


def palette(depth: int) -> bytes:
    return chunk(b"PLTE", COLOURS[: 1 << depth].tobytes())


def key_of(pixel: np.ndarray, above: int = 0) -> bytes:
    """The tRNS chunk of a colour key; `above` are bits beyond the depth, which do not count."""
    return chunk(b"tRNS", struct.pack(f">{len(pixel)}H", *(int(sample) | above for sample in pixel)))


def assert_same(data: bytes) -> np.ndarray:
    """Alpha exactly; opaque colours within a level, since 16 bits are rounded in several ways."""
    seen, expected = only(data).astype(int), theirs(data).astype(int)
    assert (seen[..., 3] == expected[..., 3]).all()
    visible = seen[..., 3] == 255
    assert np.abs(seen - expected)[visible].max(initial=0) <= 1
    return seen


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("depth", "colour"), KINDS)
def test_without_transparency(depth, colour, interlaced):
    chunks = [palette(depth)] if colour == PALETTE else []
    seen = assert_same(png(samples_of(depth, colour), depth, colour, *chunks, interlaced=interlaced))
    assert len(np.unique(seen.reshape(-1, 4), axis=0)) > 1


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("depth", "colour"), [kind for kind in KINDS if kind[1] in (GREY, RGB)])
def test_the_colour_key_is_transparent(depth, colour, interlaced):
    samples = samples_of(depth, colour)
    for pixel in np.unique(samples.reshape(-1, samples.shape[2]), axis=0):
        seen = assert_same(png(samples, depth, colour, key_of(pixel), interlaced=interlaced))
        hidden = (samples == pixel).all(axis=-1)
        assert hidden.any() and not hidden.all()
        assert ((seen[..., 3] == 0) == hidden).all()
        assert not seen[hidden].any()


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_of_a_key_only_the_bits_of_the_depth_count(depth):
    samples = np.arange(1 << depth).reshape(1, -1, 1)
    for value in (0, 1):
        seen = only(png(samples, depth, GREY, key_of(np.array([value]), above=1 << depth)))
        assert seen[0, :, 3].tolist() == [0 if sample == value else 255 for sample in range(1 << depth)]


def test_both_bytes_of_a_16_bit_key_count():
    pixels = [[0x1234, 0x5678, 0x9ABC], [0x1234, 0x5678, 0x9ABD], [0x1334, 0x5678, 0x9ABC]]
    seen = only(png(np.array([pixels]), 16, RGB, key_of(np.array(pixels[0]))))
    assert seen.tolist() == [[[0, 0, 0, 0], [0x12, 0x56, 0x9A, 255], [0x13, 0x56, 0x9A, 255]]]


@pytest.mark.parametrize(("depth", "step"), [(1, 255), (2, 85), (4, 17), (8, 1)])
def test_grey_is_scaled_to_the_whole_range(depth, step):
    samples = np.arange(1 << depth).reshape(1, -1, 1)
    assert only(png(samples, depth, GREY))[0].tolist() == [[step * n] * 3 + [255] for n in range(1 << depth)]


@pytest.mark.parametrize("depth", [8, 16])
def test_alpha_of_its_own_needs_no_key(depth):
    samples = np.array([[[9, 8, 7, 0], [9, 8, 7, 255], [9, 8, 7, 100]]]) * (257 if depth == 16 else 1)
    with_key = png(samples, depth, RGBA, key_of(samples[0, 0, :3]))
    assert only(with_key).tolist() == [[[0, 0, 0, 0], [9, 8, 7, 255], [9, 8, 7, 100]]]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_colours_beyond_the_list_of_transparencies_are_opaque(depth):
    samples = np.arange(1 << depth).reshape(1, -1, 1)
    seen = only(png(samples, depth, PALETTE, palette(depth), chunk(b"tRNS", b"\x80")))
    assert seen[0, :, 3].tolist() == [128, *[255] * ((1 << depth) - 1)]
    assert (seen[0, :, :3] == COLOURS[: 1 << depth]).all()


def test_colours_beyond_the_palette_are_black():
    chunks = [chunk(b"PLTE", bytes([1, 2, 3, 4, 5, 6])), chunk(b"tRNS", b"\xff\x07")]
    seen = only(png(np.array([[[0], [1], [2], [15]]]), 4, PALETTE, *chunks))
    assert seen.tolist() == [[[1, 2, 3, 255], [4, 5, 6, 7], [0, 0, 0, 255], [0, 0, 0, 255]]]


@pytest.mark.parametrize("content", [b"", b"\0", b"\0\1\0\1", bytes(6)])
def test_a_key_of_the_wrong_length_is_ignored(content):
    data = png(np.array([[[1], [0]]]), 8, GREY, chunk(b"tRNS", content))
    assert only(data)[..., 3].tolist() == [[255, 255]]


def test_a_key_behind_the_pixels_is_ignored():
    data = png(np.array([[[1], [0]]]), 8, GREY)
    late = data[:-12] + key_of(np.array([1])) + data[-12:]
    assert assert_same(late)[..., 3].tolist() == [[255, 255]]


@pytest.mark.parametrize(("depth", "colour"), [kind for kind in KINDS if kind[1] in (GREY, RGB)])
def test_the_key_holds_for_every_frame_of_an_animation(depth, colour):
    samples = samples_of(depth, colour)
    images = [samples, samples[::-1], samples[:, ::-1]]
    key = samples[5, 5]
    pixels = [png_rows(frame, depth) for frame in images]
    data = animation(samples.shape[1], samples.shape[0], depth, colour, [key_of(key)], pixels)
    alphas = [rgba[..., 3] for rgba in frames(data)]
    assert len(alphas) == 3
    for frame, alpha in zip(images, alphas, strict=True):
        assert ((alpha == 0) == (frame == key).all(axis=-1)).all()


def test_transparency_and_profiles_in_the_wrong_place_are_ignored():
    """As in browsers: a profile lies before the palette, transparency behind it, and both before the pixels."""
    samples = np.arange(4).reshape(2, 2, 1)
    srgb = skia.ColorSpace.MakeSRGB()
    alpha = chunk(b"tRNS", b"\0\x80")
    profile = chunk(b"iCCP", b"made\0\0" + zlib.compress(icc_rgb(SRGB_PRIMARIES, icc_gamma(1))))
    plain = png(samples, 8, PALETTE, palette(8))
    for chunks in ((alpha, palette(8)), (palette(8), profile), (alpha, palette(8), profile)):
        data = png(samples, 8, PALETTE, *chunks)
        assert (only(data) == only(plain)).all() and (theirs(data, srgb) == theirs(plain, srgb)).all()
    behind = plain.replace(chunk(b"IEND", b""), profile + alpha + chunk(b"IEND", b""))
    assert (only(behind) == only(plain)).all()
    right = png(samples, 8, PALETTE, profile, palette(8), alpha)
    assert only(right)[0, :, 3].tolist() == [0, 0x80]
    assert (only(png(samples, 8, PALETTE, palette(8), alpha)) != only(right)).any()
