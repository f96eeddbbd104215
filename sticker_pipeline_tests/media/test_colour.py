"""Colour profiles made byte by byte, against the definition of sRGB and against Skia."""

import io
import zlib

import numpy as np
import pytest
import skia
from PIL import Image, ImageCms

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media.colour import conversion_of
from sticker_pipeline.media.header import read_header
from sticker_pipeline.media.inventory import rejected_files, scan
from sticker_pipeline_tests.media.makers import (
    DISPLAY_P3,
    P3_PRIMARIES,
    RED,
    SRGB_PRIMARIES,
    animation,
    chunk,
    icc_cmyk,
    icc_gamma,
    icc_grey,
    icc_rgb,
    icc_table,
    insert_chunk,
    linear_light,
    noise,
    png,
    png_rows,
    saved,
    srgb_curve,
)
from sticker_pipeline_tests.media.readers import frames, theirs

LIMITS = MediaSettings()
CURVE = icc_table(linear_light(np.linspace(0, 1, 1024)))
LINEAR = icc_rgb(SRGB_PRIMARIES, icc_gamma(1))
SRGB_MADE = icc_rgb(SRGB_PRIMARIES, CURVE)
SRGB_LCMS = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
IGNORED = "and is ignored"
FORMATS = {
    "PNG": {},
    "JPEG": {"quality": 100, "subsampling": 0},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}
ANIMATED = {"PNG": {}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}


def flat(colour: tuple[int, ...]) -> Image.Image:
    return Image.new("RGB" if len(colour) == 3 else "RGBA", (16, 16), colour)


def in_srgb(colours: np.ndarray, primaries: tuple) -> np.ndarray:
    """Colours 0..255 of these primaries, with sRGB's curve, in sRGB: clipped and rounded."""
    matrix = np.linalg.inv(np.array(SRGB_PRIMARIES).T) @ np.array(primaries).T
    linear = linear_light(np.asarray(colours) / 255) @ matrix.T
    return np.round(255 * srgb_curve(linear.clip(0, 1))).astype(int)


@pytest.mark.parametrize("kind", FORMATS)
def test_display_p3_in_every_format(kind):
    data = saved(flat((200, 60, 40)), kind, icc_profile=DISPLAY_P3, **FORMATS[kind])
    assert in_srgb((200, 60, 40), P3_PRIMARIES).tolist() == [217, 42, 23]
    (rgba,) = frames(data)
    exact = 1 if kind in ("PNG", "WEBP") else 3
    assert np.abs(rgba.astype(int) - (217, 42, 23, 255)).max() <= exact
    assert read_header(data, LIMITS).remark == ""


@pytest.mark.parametrize("kind", ANIMATED)
def test_every_frame_of_an_animation(kind):
    colours = [(200, 60, 40), (60, 160, 220), (90, 200, 90)]
    images = [flat(colour) for colour in colours]
    data = saved(
        images[0], kind, save_all=True, append_images=images[1:], duration=50, icc_profile=DISPLAY_P3, **ANIMATED[kind]
    )
    seen = frames(data)
    assert len(seen) == 3
    for rgba, colour in zip(seen, colours, strict=True):
        assert np.abs(rgba[..., :3].astype(int) - in_srgb(colour, P3_PRIMARIES)).max() <= (3 if kind == "AVIF" else 1)


def test_a_cube_of_colours_is_what_the_definition_and_skia_say():
    axis = np.arange(0, 256, 17, dtype=np.uint8)
    cube = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(64, 64, 3)
    data = saved(Image.fromarray(cube), "PNG", icc_profile=DISPLAY_P3)
    seen = frames(data)[0][..., :3].astype(int)
    assert np.abs(seen - in_srgb(cube, P3_PRIMARIES)).max() <= 2
    assert np.abs(seen - in_srgb(cube, P3_PRIMARIES)).mean() < 0.2
    assert np.abs(seen - theirs(data, skia.ColorSpace.MakeSRGB())[..., :3]).max() <= 3


@pytest.mark.parametrize("profile", [SRGB_LCMS, SRGB_MADE], ids=["lcms", "made"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_srgb_profile_changes_nothing(profile, kind):
    pixels = noise(1, 64, 64)[0]
    assert conversion_of(profile, "RGB").transform is None
    assert (frames(saved(Image.fromarray(pixels), kind, icc_profile=profile, **FORMATS[kind]))[0] == pixels).all()


def test_the_tone_curve_counts_and_alpha_does_not_change():
    image = Image.fromarray(np.array([[[64, 128, 255, 77], [9, 9, 9, 0]]], dtype=np.uint8))
    expected = np.round(255 * srgb_curve(np.array([64, 128, 255]) / 255)).tolist()
    assert expected == [137, 188, 255]
    assert frames(saved(image, "PNG", icc_profile=LINEAR))[0].tolist() == [[[*expected, 77], [0, 0, 0, 0]]]


@pytest.mark.parametrize("depth", [1, 8, 16])
def test_grey_profiles(depth):
    samples = np.linspace(0, (1 << depth) - 1, 6).astype(int).reshape(1, -1, 1)
    data = png(samples, depth, 0, iccp(icc_grey(1)))
    expected = np.round(255 * srgb_curve(samples[0, :, 0] / ((1 << depth) - 1)))
    seen = frames(data)[0][0].astype(int)
    assert np.abs(seen[:, :3] - expected[:, None]).max() <= 1
    assert read_header(data, LIMITS).remark == ""


def iccp(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"made\0\0" + zlib.compress(profile))


def test_a_grey_jpeg_with_a_grey_profile():
    (rgba,) = frames(saved(Image.new("L", (16, 16), 128), "JPEG", icc_profile=icc_grey(1), quality=100))
    assert np.abs(rgba.astype(int) - (188, 188, 188, 255)).max() <= 1


def test_a_grey_image_may_have_an_rgb_profile():
    (rgba,) = frames(saved(Image.new("LA", (4, 4), (128, 50)), "PNG", icc_profile=LINEAR))
    assert np.abs(rgba.astype(int) - (188, 188, 188, 50)).max() <= 1


def test_a_colour_key_is_compared_before_colours_are_converted():
    samples = np.array([[[200, 60, 40], [201, 60, 40]]])
    data = png(samples, 8, 2, iccp(DISPLAY_P3), chunk(b"tRNS", bytes([0, 200, 0, 60, 0, 40])))
    assert frames(data)[0][0, 0].tolist() == [0, 0, 0, 0]
    assert np.abs(frames(data)[0][0, 1].astype(int) - (218, 42, 23, 255)).max() <= 1


def test_a_palette_with_a_profile():
    samples = np.array([[[1], [0]]])
    palette = [chunk(b"PLTE", bytes([200, 60, 40, 0, 0, 0])), chunk(b"tRNS", bytes([99]))]
    seen = frames(png(samples, 8, 3, iccp(DISPLAY_P3), *palette))[0]
    assert np.abs(seen.astype(int) - [[(0, 0, 0, 255), (217, 42, 23, 99)]]).max() <= 1


def test_cmyk_is_converted_by_its_profile():
    """Lightness halves with black and is otherwise whole: half black is L* 74.9, which is grey 185."""
    lightness = np.full((2, 2, 2, 2), 255, dtype=np.uint8)
    lightness[..., 1] = 127
    profile = icc_cmyk(lightness)
    for ink, expected in {(0, 0, 0, 0): 255, (0, 0, 0, 255): grey_of(49.8), (255, 9, 77, 128): grey_of(74.9)}.items():
        data = saved(Image.new("CMYK", (16, 16), ink), "JPEG", icc_profile=profile, quality=100)
        assert np.abs(frames(data)[0][..., :3].astype(int) - expected).max() <= 3
        assert read_header(data, LIMITS).remark == ""


def grey_of(lightness: float) -> int:
    """The grey 0..255 of sRGB with this CIE L* above 8."""
    return round(255 * float(srgb_curve(np.array(((lightness + 16) / 116) ** 3))))


BROKEN = {
    "junk": b"no profile at all",
    "short": DISPLAY_P3[:100],
    "cut": DISPLAY_P3[: len(DISPLAY_P3) // 2],
    "other kind": icc_cmyk(np.full((2, 2, 2, 2), 255)),
    "grey": icc_grey(1),
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_profile_is_ignored_with_a_remark(kind, broken):
    pixels = noise(1, 16, 16)[0, ..., :3]
    with_profile = saved(Image.fromarray(pixels), kind, icc_profile=BROKEN[broken], **FORMATS[kind])
    without = saved(Image.fromarray(pixels), kind, **FORMATS[kind])
    assert (frames(with_profile)[0] == frames(without)[0]).all()
    header = read_header(with_profile, LIMITS)
    assert header.remark.startswith("its colour profile is ")
    assert header.remark.endswith(IGNORED)
    assert header.note == ""


def test_a_profile_that_cannot_be_unpacked_is_remarked():
    data = insert_chunk(saved(flat(RED), "PNG"), b"iCCP", b"name\0\0no deflate stream")
    assert (frames(data)[0] == (*RED, 255)).all()
    assert read_header(data, LIMITS).remark.endswith(IGNORED)


def test_a_jpeg_profile_that_lacks_a_part_is_remarked():
    data = saved(flat(RED), "JPEG", icc_profile=DISPLAY_P3 + bytes(70_000))
    at = data.rindex(b"ICC_PROFILE\0")
    lacking = data[: at - 4] + data[at - 2 + int.from_bytes(data[at - 2 : at], "big") :]
    assert read_header(lacking, LIMITS).remark.endswith(IGNORED)
    assert np.abs(frames(lacking)[0].astype(int) - (*RED, 255)).max() <= 3


def test_a_remark_reaches_the_inventory_and_fails_no_check(tmp_path):
    (tmp_path / "gifs").mkdir()
    (tmp_path / "gifs/a.png").write_bytes(saved(flat(RED), "PNG", icc_profile=b"junk"))
    (tmp_path / "gifs/b.png").write_bytes(saved(flat(RED), "PNG", icc_profile=DISPLAY_P3))
    table = scan(tmp_path, ["gifs"], LIMITS)
    assert table["status"].tolist() == ["accepted", "accepted"]
    assert table["reason"].tolist() == ["", ""]
    assert table["remark"].str.endswith(IGNORED).tolist() == [True, False]
    assert rejected_files(table).passed


@pytest.mark.parametrize(("kind", "content"), [(b"gAMA", (100_000).to_bytes(4, "big")), (b"cICP", b"\x0c\x0d\0\1")])
def test_gamma_and_coded_colour_spaces_are_not_applied(kind, content):
    data = insert_chunk(saved(flat((200, 60, 40)), "PNG"), kind, content)
    assert (frames(data)[0] == (200, 60, 40, 255)).all()


def test_the_coded_colour_space_of_an_avif_is_not_applied():
    data = bytearray(saved(flat((200, 60, 40)), "AVIF", **FORMATS["AVIF"]))
    before = frames(bytes(data))[0]
    at = data.index(b"colrnclx") + 8
    assert data[at : at + 2] == b"\0\1"
    data[at : at + 2] = b"\0\x0c"  # Display P3's primaries
    assert (frames(bytes(data))[0] == before).all()


def test_sub_images_are_converted_before_they_are_blended():
    data = animation(1, 1, 8, 2, [iccp(DISPLAY_P3)], [png_rows(np.array([[[200, 60, 40]]]), 8)] * 2)
    for rgba in frames(data):
        assert np.abs(rgba.astype(int) - (217, 42, 23, 255)).max() <= 1


def test_a_transform_is_made_once():
    conversion_of.cache_clear()
    data = saved(flat(RED), "PNG", icc_profile=DISPLAY_P3)
    frames(data)
    made = conversion_of.cache_info().misses
    frames(data)
    assert 1 <= made == conversion_of.cache_info().misses


def test_one_more_read_of_the_profiles_made_here():
    """lcms reads them all: a profile that no reader takes would test nothing."""
    for profile in (DISPLAY_P3, LINEAR, SRGB_MADE, icc_grey(2.2), BROKEN["other kind"]):
        assert ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space.strip() in ("RGB", "GRAY", "CMYK")
