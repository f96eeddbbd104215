"""Format, size, frame count and completeness of a file, from its bytes.

No pixel is unpacked, except for the completeness of a JPEG without end marker. Limits are checked before allocation.
"""

import re
from dataclasses import dataclass, replace
from typing import Literal

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media import apng, gif, heic_jxl, jpeg, tiff, video, webp
from sticker_pipeline.media.colour import conversion_of, embedded_profile, model_of
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.limits import check_frames, check_pixels
from sticker_pipeline.media.other_files import what_else_is_it
from sticker_pipeline.media.png_pixels import SIGNATURE
from sticker_pipeline.media.stills import (
    SIDEWAYS,
    exif_orientation,
    open_image,
)

Format = Literal["GIF", "PNG", "APNG", "WEBP", "JPEG", "BMP", "AVIF", "TIFF", "HEIC", "JXL", "MP4", "WEBM"]

# First bytes of other files found among images.
NOT_IMAGES = (
    (b"7z\xbc\xaf", "a 7z archive: unpack it"),
    (b"Rar!", "a RAR archive: unpack it"),
    (b"%PDF", "not an image: a PDF"),
    (b"8BPS", "a Photoshop drawing: export it as PNG"),
    (b"gimp xcf", "a GIMP drawing: export it as PNG"),
    (b"CSFCHUNK", "a Clip Studio drawing: export it as PNG"),
    (b"L\0\0\0\x01\x14\x02\0", "a shortcut of Windows: copy the image itself"),
    (b"\x00\x00\x01\x00", "an icon: convert it to PNG"),
    (b"\x00\x00\x02\x00", "a mouse pointer: convert it to PNG"),
    (b"icns", "an icon of macOS: convert it to PNG"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000 is not read: convert it to PNG"),
    (b"\xff\x4f\xff\x51", "JPEG 2000 is not read: convert it to PNG"),
    (b"qoif", "QOI is not read: convert it to PNG"),
    (b"v/1\x01", "OpenEXR is not read: convert it to PNG"),
    (b"FWS", "a Flash animation: convert it to MP4 or GIF"),
    (b"CWS", "a Flash animation: convert it to MP4 or GIF"),
    (b"FLV\x01", "FLV is not read: convert it to MP4"),
    (b"OggS", "OGV is not read: convert it to MP4 or WEBM"),
    (bytes.fromhex("3026b2758e66cf11"), "WMV is not read: convert it to MP4"),
    (b"\x00\x00\x01\xba", "MPEG is not read: convert it to MP4"),
    (b"BZh", "a bzip2 archive: unpack it"),
    (b"\xfd7zXZ\x00", "an xz archive: unpack it"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive: unpack it"),
    (b"DDS ", "DDS is not read: convert it to PNG"),
    (b"\x0a\x05\x01\x08", "PCX is not read: convert it to PNG"),
    (b"BLENDER", "a scene of Blender: render it as PNG"),
    (b"ID3", "sound: it holds no image"),
    (b"fLaC", "sound: it holds no image"),
    (b"SQLite format 3\0", "not an image: a database"),
    (b"\xd0\xcf\x11\xe0", "not an image: a document, or Windows' file of thumbnails"),
    (b"\x7fELF", "not an image: a program"),
    (b"MZ", "not an image: a program"),
)
AVIF_BRANDS = (b"avif", b"avis")
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
Container = gif.Gif | apng.Png | webp.Webp | jpeg.Jpeg | tiff.Tiff | heic_jxl.Heic | heic_jxl.Jxl | video.Video
OLDER_MOV_BOXES = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")  # beginnings of a MOV without ftyp
BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # sizes of the second header
TS_PACKET, TS_SYNC = 188, 0x47  # ISO/IEC 13818-1
EBML = b"\x1aE\xdf\xa3"  # WebM and Matroska


@dataclass(frozen=True)
class Header:
    """Size of the upright image, EXIF `orientation` 1 to 8, and remarks.

    `note`: missing parts of a partly used file. `remark`: a hint on a file used whole, such as an ignored colour
    profile. `container`: result of the format's walk, for most formats. MOV counts as MP4, Matroska as WEBM.
    """

    format: Format
    width: int
    height: int
    n_frames: int
    orientation: int = 1
    note: str = ""
    remark: str = ""
    container: Container | None = None


def read_header(data: bytes, limits: MediaSettings) -> Header:
    """Return the header of the image or video file `data`.

    Raises MediaError for no image, damage visible without unpacking, and anything beyond `limits`.
    """
    if data.startswith(gif.SIGNATURES):
        animation = gif.read_gif(data, limits)
        return Header(
            "GIF", animation.width, animation.height, len(animation.images), note=animation.note, container=animation
        )
    if data.startswith(SIGNATURE):
        return _png_header(apng.read_png(data, limits))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_header(data, webp.read_webp(data, limits))
    if data.startswith(jpeg.SIGNATURE):
        return _jpeg_header(data, limits)
    if data.startswith(tiff.SIGNATURES):
        page = tiff.read_tiff(data, limits)
        return Header("TIFF", page.width, page.height, 1, remark=page.remark, container=page)
    if _is_bmp(data):
        return _pillow_header("BMP", data, limits)
    if _is_iso(data, AVIF_BRANDS):
        return _pillow_header("AVIF", data, limits)
    if _is_iso(data, HEIC_BRANDS):
        heic = heic_jxl.read_heic(data, limits)
        return Header("HEIC", heic.width, heic.height, 1, remark=heic.remark, container=heic)
    if data.startswith(heic_jxl.JXL_SIGNATURES):
        jxl = heic_jxl.read_jxl(data, limits)
        return Header("JXL", jxl.width, jxl.height, 1, container=jxl)
    if _is_mp4(data):
        return _video_header("MP4", video.read_video(data, "mov", limits))
    if data.startswith(EBML):
        return _video_header("WEBM", video.read_video(data, "matroska", limits))
    raise MediaError(what_is_it(data))


def is_image(data: bytes) -> bool:
    """Tell whether `read_header` supports the format, perhaps with another package."""
    return (
        data.startswith((*gif.SIGNATURES, *tiff.SIGNATURES, *heic_jxl.JXL_SIGNATURES, SIGNATURE, jpeg.SIGNATURE, EBML))
        or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")
        or _is_bmp(data)
        or _is_iso(data, AVIF_BRANDS + HEIC_BRANDS)
        or _is_mp4(data)
    )


def what_is_it(data: bytes) -> str:
    """Return why `data` is unreadable."""
    if not data:
        return "the file is empty"
    if _is_tga(data):
        return "TGA is not read: convert it to PNG"
    for prefix, description in NOT_IMAGES:
        if data.startswith(prefix):
            return description
    if re.match(rb"P[1-7]\s", data):
        return "PPM and PGM are not read: convert it to PNG"
    if data[4:6] == b"\xe0\xa5" and int.from_bytes(data[:4], "little") == len(data):
        return "a drawing of Aseprite: export it as GIF or PNG"
    if data[257:262] == b"ustar":
        return "a tar archive: unpack it"
    if data[:4] == b"RIFF" and data[8:11] == b"AVI":
        return "AVI is not read: convert it to MP4, GIF or APNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "sound: it holds no image"
    if len(data) > 2 * TS_PACKET and data[0] == data[TS_PACKET] == data[2 * TS_PACKET] == TS_SYNC:
        return "an MPEG transport stream is not read: convert it to MP4"
    return what_else_is_it(data)


def _is_bmp(data: bytes) -> bool:
    return data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in BMP_HEADERS


def _is_tga(data: bytes) -> bool:
    """Detect TGA 2's footer, or TGA 1's colour header (near mouse pointers')."""
    colours = data[:2] == b"\0\0" and data[2:3] in (b"\x02", b"\x0a") and data[16:17] in (b"\x18", b"\x20")
    return data[-18:] == b"TRUEVISION-XFILE.\0" or (colours and data[3:8] == bytes(5))


def _is_mp4(data: bytes) -> bool:
    # A box fits the file: in a text such as "eye wide open", the first bytes as a size exceed it.
    size = int.from_bytes(data[:4], "big")
    older = data[4:8] in OLDER_MOV_BOXES and size <= len(data)
    return older or (data[4:8] == b"ftyp" and not _is_iso(data, AVIF_BRANDS + HEIC_BRANDS))


def _is_iso(data: bytes, brands: tuple[bytes, ...]) -> bool:
    return data[4:8] == b"ftyp" and not _brands(data).isdisjoint(brands)


def _brands(data: bytes) -> set[bytes]:
    box = data[8 : min(int.from_bytes(data[:4], "big"), 512)]
    return {box[at : at + 4] for at in range(0, len(box), 4) if at != 4}


def _video_header(name: Literal["MP4", "WEBM"], found: video.Video) -> Header:
    return Header(name, found.width, found.height, len(found.starts_ms), note=found.note, container=found)


def _png_header(png: apng.Png) -> Header:
    remark = conversion_of(png.rules.profile, png.rules.model).fault
    if png.images:
        return Header("APNG", png.width, png.height, len(png.images), note=png.note, remark=remark, container=png)
    width, height = _upright_size(png.width, png.height, png.orientation)
    return Header("PNG", width, height, 1, png.orientation, remark=remark, container=png)


def _webp_header(data: bytes, found: webp.Webp) -> Header:
    remark = conversion_of(found.profile, "RGB").fault
    if found.durations_ms:
        n_frames = len(found.durations_ms)
        return Header("WEBP", found.width, found.height, n_frames, remark=remark, container=found)
    with open_image(webp.mended(data), "WEBP") as image:
        orientation = exif_orientation(image.info.get("exif", b""))
    width, height = _upright_size(found.width, found.height, orientation)
    return Header("WEBP", width, height, 1, orientation, remark=remark, container=found)


def _jpeg_header(data: bytes, limits: MediaSettings) -> Header:
    image = jpeg.read_jpeg(data)
    header = _pillow_header("JPEG", image.closed(data), limits)
    jpeg.check_all_pixels(data, image)
    return replace(header, container=image)


def _pillow_header(name: Literal["JPEG", "BMP", "AVIF"], data: bytes, limits: MediaSettings) -> Header:
    with open_image(data, name) as image:
        width, height = image.size
        n_frames = getattr(image, "n_frames", 1) if name == "AVIF" else 1
        orientation = exif_orientation(image.info.get("exif", b"")) if n_frames == 1 else 1
        remark = conversion_of(embedded_profile(image), model_of(image)).fault
    check_pixels(width, height, limits)
    check_frames(n_frames, limits)
    return Header(name, *_upright_size(width, height, orientation), n_frames, orientation, remark=remark)


def _upright_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    return (height, width) if orientation in SIDEWAYS else (width, height)
