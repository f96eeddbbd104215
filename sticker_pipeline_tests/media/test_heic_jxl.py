"""HEIC and JPEG XL, with their readers if installed; sizes of JPEG XL bit by bit."""

import io
import sys
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
from PIL import Image

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media import heic_jxl
from sticker_pipeline.media.decode import decode_bytes
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.header import read_header
from sticker_pipeline.media.heic_jxl import _jxl_facts, _jxl_stream
from sticker_pipeline.media.stills import upright
from sticker_pipeline_tests.media.fuzz import KINDS, Damage, damaged, outcome
from sticker_pipeline_tests.media.makers import DISPLAY_P3, solid

LIMITS = MediaSettings()
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
PACKAGES = {"HEIC": "pillow_heif", "JXL": "pillow_jxl"}


def stream(*fields: tuple[int, int]) -> bytes:
    """The signature, and (value, number of bits) one after the other, the lowest bit first."""
    value, at = 0, 0
    for number, count in fields:
        value |= number << at
        at += count
    return b"\xff\x0a" + value.to_bytes(at // 8 + 1, "little")


ALL_USUAL = (1, 1)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([(0, 1), (0, 2), (41, 9), (0, 3), (0, 2), (16, 9), ALL_USUAL], (17, 42, 1, False)),
        ([(0, 1), (1, 2), (5999, 13), (7, 3), ALL_USUAL], (12000, 6000, 1, False)),
        ([(0, 1), (2, 2), (100_000, 18), (1, 3), ALL_USUAL], (100_001, 100_001, 1, False)),
        ([(0, 1), (3, 2), (999_999_999, 30), (1, 3), ALL_USUAL], (1_000_000_000, 1_000_000_000, 1, False)),
        ([(1, 1), (3, 5), (0, 3), (5, 5), ALL_USUAL], (48, 32, 1, False)),
        ([(1, 1), (4, 5), (5, 3), (0, 1), (0, 1)], (71, 40, 1, False)),
        ([(1, 1), (3, 5), (4, 3), (0, 1), (1, 1), (5, 3), (0, 1), (0, 1), (0, 1)], (48, 32, 6, False)),
        (
            [(1, 1), (3, 5), (4, 3), (0, 1), (1, 1), (0, 3), (1, 1), (1, 1), (0, 5), (1, 3), (0, 1), (1, 1)],
            (48, 32, 1, True),
        ),
    ],
)
def test_the_size_is_read_from_the_first_bits(fields, expected):
    assert _jxl_facts(stream(*fields)) == expected


def test_the_stream_may_lie_in_boxes():
    content = stream((1, 1), (3, 5), (0, 3), (5, 5), ALL_USUAL)
    signature = b"\0\0\0\x0cJXL \r\n\x87\n"
    before = signature + b"\0\0\0\x0aExifab"
    assert _jxl_stream(before + (8 + len(content)).to_bytes(4, "big") + b"jxlc" + content) == content
    assert _jxl_stream(before + b"\0\0\0\0jxlp\0\0\0\0" + content) == content
    large = b"\0\0\0\1jxlc" + (16 + len(content)).to_bytes(8, "big")
    assert _jxl_stream(before + large + content) == content
    for broken in (before, before + b"\0\0\0\1jxll", before + b"\0\0\0\4none" * 3):
        with pytest.raises(MediaError, match="JPEG XL is damaged or cut off"):
            _jxl_facts(_jxl_stream(broken))


def test_limits_and_animations_are_refused_before_anything_is_unpacked():
    large = stream((0, 1), (1, 2), (5999, 13), (7, 3), ALL_USUAL)
    with pytest.raises(MediaError, match="12000×6000 pixels: more than 71999999"):
        read_header(large, MediaSettings(max_pixels=71_999_999))
    moving = stream((1, 1), (3, 5), (4, 3), (0, 1), (1, 1), (0, 3), (0, 1), (0, 1), (1, 1))
    with pytest.raises(MediaError, match="an animated JPEG XL is not read: convert it to APNG"):
        read_header(moving, LIMITS)


@pytest.mark.parametrize(
    ("name", "data"), [("HEIC", HEIC), ("JPEG XL", stream((1, 1), (3, 5), (0, 3), (5, 5), ALL_USUAL))]
)
def test_without_its_reader_the_message_names_the_remedy(monkeypatch, name, data):
    for package in PACKAGES.values():
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MediaError) as refused:
        read_header(data, LIMITS)
    package = {"HEIC": "pillow-heif", "JPEG XL": "pillow-jxl-plugin"}[name]
    remedy = f"is read with a package that is missing: pip install {package}, or convert it to PNG"
    assert str(refused.value) == f"{name} {remedy}"


def encoded(kind: str, image: Image.Image, **options) -> bytes:
    """Skips the test where the package is not installed."""
    package = pytest.importorskip(PACKAGES[kind])
    buffer = io.BytesIO()
    if kind == "HEIC":
        package.from_pillow(image).save(buffer, quality=-1, chroma=444, **options)
    else:
        image.save(buffer, "JXL", lossless=True, **options)
    return buffer.getvalue()


CORNERS = np.concatenate([solid((200, 60, 40), 24, 32), solid((10, 200, 30, 0), 24, 32)], axis=1)


@pytest.mark.parametrize(
    "size", [(1, 1), (8, 8), (17, 42), (300, 250), (1600, 900), (400, 300), (500, 400), (640, 320), (60, 50), (3, 9000)]
)
def test_the_size_of_a_jpeg_xl_is_what_its_encoder_wrote(size):
    header = read_header(encoded("JXL", Image.new("RGB", size)), LIMITS)
    assert (header.width, header.height) == size


@pytest.mark.parametrize("kind", PACKAGES)
def test_pixels_and_alpha(kind):
    data = encoded(kind, Image.fromarray(CORNERS))
    header = read_header(data, LIMITS)
    assert (header.format, header.width, header.height, header.n_frames) == (kind, 48, 32, 1)
    assert (header.note, header.remark) == ("", "")
    (frame,) = decode_bytes(data, LIMITS)
    expected = np.where(CORNERS[..., 3:] == 0, 0, CORNERS)
    assert np.abs(frame.rgba.astype(int) - expected).max() <= (2 if kind == "HEIC" else 0)
    with pytest.raises(MediaError, match="48×32 pixels: more than 1535"):
        read_header(data, MediaSettings(max_pixels=1535))


def test_the_profile_of_a_heic():
    image = Image.new("RGB", (32, 32), (200, 60, 40))
    image.info["icc_profile"] = DISPLAY_P3
    (frame,) = decode_bytes(encoded("HEIC", image), LIMITS)
    assert np.abs(frame.rgba.astype(int) - (217, 42, 23, 255)).max() <= 3


@pytest.mark.filterwarnings("ignore")  # the package's own, that it keeps the JPEG
def test_profile_and_orientation_of_a_jpeg_xl_made_of_a_jpeg(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(np.concatenate([solid((200, 60, 40), 32, 16), solid((255,) * 3, 32, 16)])).convert("RGB")
    image.save(tmp_path / "a.jpg", quality=100, subsampling=0, exif=exif, icc_profile=DISPLAY_P3)
    with Image.open(tmp_path / "a.jpg") as stored:
        data = encoded("JXL", stored)
    header = read_header(data, LIMITS)
    (frame,) = decode_bytes(data, LIMITS)
    (as_jpeg,) = decode_bytes((tmp_path / "a.jpg").read_bytes(), LIMITS)
    assert frame.rgba.shape == (header.height, header.width, 4)
    assert np.abs(frame.rgba.astype(int) - as_jpeg.rgba).max() <= 1
    assert np.abs(frame.rgba[:, -8:].astype(int) - (217, 42, 23, 255)).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_heic_is_turned_upright(orientation):
    image = Image.fromarray(CORNERS)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded("HEIC", image, exif=exif.tobytes())
    header = read_header(data, LIMITS)
    (frame,) = decode_bytes(data, LIMITS)
    turned = upright(np.where(CORNERS[..., 3:] == 0, 0, CORNERS), orientation)
    assert frame.rgba.shape == turned.shape == (header.height, header.width, 4)
    assert np.abs(frame.rgba.astype(int) - turned).max() <= 2


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", PACKAGES)
def test_damage_is_reported_and_nothing_else(kind):
    rng = np.random.default_rng(4)
    data = encoded(kind, Image.fromarray(CORNERS))
    limits = MediaSettings(max_pixels=100_000)
    for _ in range(200):
        damages = [
            Damage(KINDS[rng.integers(len(KINDS))], rng.random(), int(rng.integers(1, 64)), int(rng.integers(1 << 32)))
        ]
        assert outcome(damaged(data, damages, data, repair=False), limits)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", PACKAGES)
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_damage_has_one_short_reason(kind, kept):
    data = encoded(kind, Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)))
    with pytest.raises(MediaError) as caught:
        list(decode_bytes(data[: int(len(data) * kept)], LIMITS))
    name = {"HEIC": "HEIC", "JXL": "JPEG XL"}[kind]
    assert str(caught.value) == f"the {name} is damaged or cut off"


def test_what_is_installed_is_named_with_its_version(monkeypatch):
    def version(package: str) -> str:
        if package == "pillow-heif":
            return "1.2.3"
        raise PackageNotFoundError

    monkeypatch.setattr(heic_jxl, "version", version)
    monkeypatch.setattr(heic_jxl, "_installed", heic_jxl._installed.__wrapped__)
    assert heic_jxl.installed() == {"pillow-heif": "1.2.3"}
