"""JPEG: every kind against Skia; truncated files never pass as whole."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.header import read_header
from sticker_pipeline_tests.media.makers import RED, noise, saved, video
from sticker_pipeline_tests.media.readers import only, theirs

LIMITS = MediaSettings()
END = b"\xff\xd9"
Y, X = np.mgrid[:16, :16]
# Encoded by cjpeg from the ramps (16x, 16y, 255 - 8x - 8y), quality 50: with arithmetic coding, which Pillow does not
# write, and with a scan for each component.
RAMPS = np.dstack([16 * X, 16 * Y, 255 - 8 * (X + Y)])
ARITHMETIC = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19iZ2hnPk1xeXBk"
    "eFxlZ2P/2wBDARESEhgVGC8aGi9jQjhCY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2P/yQARCAAQ"
    "ABADASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/AEHYo1GGQu3zN+Fe4H+KvzKv95nCBKdiEP/Z"
)
SCAN_BY_SCAN = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19iZ2hnPk1xeXBk"
    "eFxlZ2P/2wBDARESEhgVGC8aGi9jQjhCY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2P/wAARCAAQ"
    "ABADASIAAhEBAxEB/8QAFAABAAAAAAAAAAAAAAAAAAAABf/EABkQAAMBAQEAAAAAAAAAAAAAAAADBGEhMf/aAAgBAQAAPwANMWCCYvOCSYsEExYf"
    "/8QAFAEBAAAAAAAAAAAAAAAAAAAAA//EABgRAAIDAAAAAAAAAAAAAAAAAAAEBSEx/9oACAECEQA/AEek9s//xAAUAQEAAAAAAAAAAAAAAAAAAAAB"
    "/8QAFxEAAwEAAAAAAAAAAAAAAAAAAAQFMf/aAAgBAxEAPwAmuYf/2Q=="
)


def drawing(mode: str) -> Image.Image:
    pixels = np.concatenate([np.dstack([X * 15, Y * 15, 200 - 4 * X]), noise(1, 16, 16)[0, :, :, :3]], axis=1)
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


KINDS = {
    "baseline": lambda: saved(drawing("RGB"), "JPEG"),
    "full chroma": lambda: saved(drawing("RGB"), "JPEG", subsampling=0, quality=95),
    "restarts": lambda: saved(drawing("RGB"), "JPEG", restart_marker_blocks=1),
    "progressive": lambda: saved(drawing("RGB"), "JPEG", progressive=True),
    "grey": lambda: saved(drawing("L"), "JPEG"),
    "grey progressive": lambda: saved(drawing("L"), "JPEG", progressive=True),
    "CMYK": lambda: saved(drawing("CMYK"), "JPEG", quality=95),
    "YCCK": lambda: ycck(saved(drawing("CMYK"), "JPEG", quality=95)),
    "RGB": lambda: saved(drawing("RGB"), "JPEG", keep_rgb=True, quality=95),
    "arithmetic": lambda: ARITHMETIC,
    "scan by scan": lambda: SCAN_BY_SCAN,
    "thumbnail": lambda: with_thumbnail(saved(drawing("RGB"), "JPEG")),
}


def ycck(cmyk: bytes) -> bytes:
    """The same components, declared as YCCK by the last byte of Adobe's segment."""
    at = cmyk.index(b"Adobe") + 11
    return cmyk[:at] + b"\x02" + cmyk[at + 1 :]


def with_thumbnail(data: bytes) -> bytes:
    """With a segment that holds a whole JPEG, end marker and all."""
    inner = b"Exif\0\0" + saved(Image.new("RGB", (8, 8)), "JPEG")
    return data[:2] + b"\xff\xe1" + (len(inner) + 2).to_bytes(2, "big") + inner + data[2:]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_what_skia_reads(kind):
    data = KINDS[kind]()
    assert np.abs(only(data).astype(int) - theirs(data)).max() <= 2


@pytest.mark.parametrize("data", [ARITHMETIC, SCAN_BY_SCAN], ids=["arithmetic", "scan by scan"])
def test_ramps_are_ramps(data):
    assert np.abs(only(data)[..., :3] - RAMPS).mean() < 12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missing", [b"", b"\xff"])
def test_only_the_end_marker_is_missing(kind, missing):
    data = KINDS[kind]()
    assert data.endswith(END)
    cut = data[:-2] + missing
    header = read_header(cut, LIMITS)
    assert (header.format, header.note) == ("JPEG", "")
    assert (only(cut) == only(data)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_cut_off_is_refused_or_lacks_nothing(kind):
    """At every length, an accepted file has the pixels of the whole one. Most of the last scan must be there."""
    data = KINDS[kind]()
    whole, taken = only(data), []
    for length in range(3, len(data) - 2):
        try:
            seen = only(data[:length])
        except MediaError as error:
            assert "cut off" in str(error)
        else:
            taken.append(length)
            assert (seen == whole).all()
    last_scan = data.rindex(b"\xff\xda")
    assert all(length > last_scan + (len(data) - last_scan) // 2 for length in taken)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("zeros", [64, 4000])
def test_zeros_that_fill_up_a_file_are_no_pixels(kind, zeros):
    """An accepted file has the pixels of the whole one; the whole one, filled up, is accepted."""
    data = KINDS[kind]()
    whole, last_scan = only(data), data.rindex(b"\xff\xda")
    assert (only(data[:-2] + bytes(zeros)) == whole).all()
    for length in range(last_scan + 20, len(data) - 12, 17):
        with pytest.raises(MediaError, match="the JPEG is cut off"):
            only(data[:length] + bytes(zeros))


def test_a_component_without_its_scan_is_missed():
    for scan in (2, 3):
        at = [n for n in range(len(SCAN_BY_SCAN)) if SCAN_BY_SCAN[n : n + 2] == b"\xff\xda"][scan - 1]
        with pytest.raises(MediaError, match="the JPEG is cut off"):
            read_header(SCAN_BY_SCAN[:at], LIMITS)


def test_a_refinement_that_is_missing_is_missed():
    data = KINDS["progressive"]()
    scans = [n for n in range(len(data)) if data[n : n + 2] == b"\xff\xda"]
    assert len(scans) > 4
    for at in scans[1:]:
        with pytest.raises(MediaError, match="the JPEG is cut off"):
            read_header(data[:at], LIMITS)


@pytest.mark.parametrize("kind", ["baseline", "progressive"])
@pytest.mark.parametrize("ended", [True, False])
def test_what_follows_the_image_does_not_count(kind, ended):
    """A second image, as in MPF, a video, as in motion photos, or anything, also behind a truncated image."""
    data = KINDS[kind]()
    second = saved(Image.new("RGB", (40, 40), RED), "JPEG")
    rests = [second] if not ended else [second, video("mp4", noise(2, 16, 16)), b"\0" * 100, b"\xff", b"\xff\xd8\xff"]
    for rest in rests:
        assert (only((data if ended else data[:-2]) + rest) == only(data)).all()


def test_several_images_give_the_first():
    buffer = io.BytesIO()
    drawing("RGB").save(buffer, "MPO", save_all=True, append_images=[Image.new("RGB", (32, 16), RED)])
    data = buffer.getvalue()
    assert data.count(END) >= 2
    assert (only(data) == theirs(data)).mean() > 0.99


@pytest.mark.parametrize(
    ("marker", "bits", "message"),
    [
        (0xC1, 12, "a JPEG of 12 bits is not read: convert it to PNG"),
        (0xC3, 8, "a lossless JPEG is not read: convert it to PNG"),
        (0xC5, 8, "a hierarchical JPEG is not read: convert it to PNG"),
    ],
)
def test_kinds_that_are_not_read_are_named(marker, bits, message):
    data = bytearray(KINDS["baseline"]())
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = marker, bits
    with pytest.raises(MediaError, match=message):
        read_header(bytes(data), LIMITS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_an_orientation_in_xmp_does_not_count(kind):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    if kind == "PNG":
        from PIL.PngImagePlugin import PngInfo

        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
        data = saved(drawing("RGB"), kind, pnginfo=text)
    else:
        data = saved(drawing("RGB"), kind, xmp=xmp)
    assert b'Orientation="6"' in data
    assert only(data).shape == (16, 32, 4)
