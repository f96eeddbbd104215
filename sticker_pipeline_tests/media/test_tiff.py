"""TIFF files written byte by byte, or by Pillow in every compression."""

import numpy as np
import pytest
from PIL import Image

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media.decode import decode_bytes
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.header import read_header
from sticker_pipeline.media.inventory import rejected_files, scan
from sticker_pipeline_tests.media.makers import DISPLAY_P3, RED, icc_cmyk, noise, saved, tiff
from sticker_pipeline_tests.media.readers import frames, only

LIMITS = MediaSettings()
PHOTOMETRIC, ORIENTATION, EXTRA, SUBFILE, DNG_VERSION, FORMAT = 262, 274, 338, 254, 50706, 339
NOISE = noise(1, 9, 7)[0]
GREYS = np.array([[[0], [257], [32768], [65535]]], dtype=np.uint16)


@pytest.mark.parametrize("order", ["<", ">"])
def test_rgb_in_both_orders_of_bytes(order):
    data = tiff(({}, NOISE[..., :3]), order=order)
    header = read_header(data, LIMITS)
    assert (header.format, header.width, header.height, header.n_frames) == ("TIFF", 9, 7, 1)
    assert (header.note, header.remark) == ("", "")
    assert (only(data) == NOISE).all()


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bits(order):
    grey = only(tiff(({PHOTOMETRIC: 1}, GREYS), order=order))
    assert grey[0, :, 0].tolist() == [0, 1, 128, 255]
    colour = only(tiff(({}, NOISE[..., :3].astype(np.uint16) * 256 + 255), order=order))
    assert (colour == NOISE).all()


def test_12_bits():
    packed = np.array([[[0xFF], [0xF8], [0x00]]], dtype=np.uint8)  # 4095 and 2048
    data = tiff(({PHOTOMETRIC: 1, 256: 2, 258: 12}, packed))
    assert only(data)[0, :, 0].tolist() == [255, 128]


def test_white_may_be_zero():
    assert only(tiff(({PHOTOMETRIC: 0}, GREYS)))[0, :, 0].tolist() == [255, 254, 127, 0]
    assert only(tiff(({PHOTOMETRIC: 0}, (GREYS >> 8).astype(np.uint8))))[0, :, 0].tolist() == [255, 254, 127, 0]


def test_alpha_straight_and_premultiplied():
    straight = np.array([[[200, 100, 50, 255], [200, 100, 50, 51], [9, 9, 9, 0]]], dtype=np.uint8)
    premultiplied = np.array([[[200, 100, 50, 255], [40, 20, 10, 51], [0, 0, 0, 0]]], dtype=np.uint8)
    expected = [[[200, 100, 50, 255], [200, 100, 50, 51], [0, 0, 0, 0]]]
    assert only(tiff(({EXTRA: 2}, straight))).tolist() == expected
    assert only(tiff(({EXTRA: 1}, premultiplied))).tolist() == expected


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_and_compression(mode, compression):
    image = Image.fromarray(NOISE).convert("L").convert("I;16") if mode == "I;16" else Image.fromarray(NOISE)
    image = image.convert(mode)
    shown = image.convert("RGB" if mode == "CMYK" else "RGBA").convert("RGBA")
    expected = np.asarray(shown) if mode != "I;16" else 0 * NOISE + (0, 0, 0, 255)
    seen = only(saved(image, "TIFF", compression=compression)).astype(int)
    assert np.abs(seen - expected).max() <= (1 if mode == "I;16" else 0)


def test_jpeg_inside():
    data = saved(Image.new("RGB", (16, 16), RED), "TIFF", compression="jpeg", quality=95)
    assert np.abs(only(data).astype(int) - (*RED, 255)).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compressed", [False, True])
def test_orientation(orientation, compressed):
    upright = NOISE
    turned = {1: 0, 2: "f", 3: 2, 4: "v", 5: "t", 6: 1, 7: "a", 8: 3}[orientation]
    stored = {"f": upright[:, ::-1], "v": upright[::-1], "t": upright.swapaxes(0, 1)}.get(turned)
    if turned == "a":
        stored = upright[::-1, ::-1].swapaxes(0, 1)
    elif stored is None:
        stored = np.rot90(upright, turned)
    stored = np.ascontiguousarray(stored[..., :3])
    if compressed:
        data = saved(Image.fromarray(stored), "TIFF", compression="tiff_lzw", tiffinfo={ORIENTATION: orientation})
    else:
        data = tiff(({ORIENTATION: orientation}, stored))
    header = read_header(data, LIMITS)
    assert (header.width, header.height) == (9, 7)
    assert (only(data) == upright).all()


def test_an_orientation_in_xmp_does_not_count():
    xmp = b'<rdf:Description tiff:Orientation="6"/>'
    data = saved(Image.fromarray(NOISE), "TIFF", tiffinfo={700: xmp})
    assert xmp in data
    assert (only(data) == NOISE).all()


def test_profiles():
    data = saved(Image.new("RGB", (4, 4), (200, 60, 40)), "TIFF", icc_profile=DISPLAY_P3)
    assert np.abs(frames(data)[0].astype(int) - (217, 42, 23, 255)).max() <= 1
    lightness = np.full((2, 2, 2, 2), 255, dtype=np.uint8)
    inks = saved(Image.new("CMYK", (4, 4), (255, 255, 0, 255)), "TIFF", icc_profile=icc_cmyk(lightness))
    assert (frames(inks)[0] >= 254).all()
    assert read_header(saved(Image.new("L", (4, 4)), "TIFF", icc_profile=b"x"), LIMITS).remark.endswith("is ignored")


def test_of_several_pages_the_first_is_read_and_that_is_remarked(tmp_path):
    data = tiff(({}, NOISE[..., :3]), ({}, NOISE[:4, :4, :3]))
    header = read_header(data, LIMITS)
    assert (header.n_frames, header.note, header.remark) == (1, "", "only the first of its pages is read")
    assert (only(data) == NOISE).all()
    (tmp_path / "gifs").mkdir()
    (tmp_path / "gifs/a.tif").write_bytes(data)
    table = scan(tmp_path, ["gifs"], LIMITS)
    assert table[["status", "format", "remark"]].values.tolist() == [["accepted", "TIFF", header.remark]]
    assert rejected_files(table).passed


def test_limits_hold_before_anything_is_unpacked():
    data = tiff(({256: 9_000, 257: 9_000}, NOISE[..., :3]))
    with pytest.raises(MediaError, match="9000×9000 pixels: more than 80999999"):
        read_header(data, MediaSettings(max_pixels=80_999_999))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tiff(({DNG_VERSION: 1}, NOISE[..., :3])), "a camera's raw image"),
        (tiff(({SUBFILE: 1}, NOISE[..., :3])), "a camera's raw image"),
        (saved(Image.new("F", (4, 4)), "TIFF"), "floating-point numbers is not read: convert it to PNG"),
        (saved(Image.new("I", (4, 4)), "TIFF"), "32-bit"),
        (b"II*\0" + bytes(30), "the TIFF is damaged, or of a kind that is not read"),
    ],
)
def test_refused_with_the_cause(data, message):
    with pytest.raises(MediaError, match=message):
        read_header(data, LIMITS)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate"])
def test_a_page_that_is_cut_off_is_refused(compression):
    pixels = noise(1, 64, 64)[0]
    data = tiff(({}, pixels[..., :3]))
    if compression != "raw":
        data = saved(Image.fromarray(pixels), "TIFF", compression=compression)
    with pytest.raises(MediaError):
        list(decode_bytes(data[: len(data) * 6 // 10], LIMITS))
