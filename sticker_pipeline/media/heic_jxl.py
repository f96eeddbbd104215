"""HEIC and JPEG XL: one still per file (extra `formats`).

Sources: ISO/IEC 23008-12 (HEIC); ISO/IEC 18181-1 and 18181-2 (JPEG XL).
"""

import importlib
import io
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

import numpy as np
from PIL import ImageFile

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media.colour import conversion_of, embedded_profile, model_of
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.limits import check_pixels
from sticker_pipeline.media.stills import PILLOW_ERRORS, SIDEWAYS, exif_orientation, image_pixels

JXL_STREAM, JXL_BOXES = b"\xff\x0a", b"\0\0\0\x0cJXL "
JXL_SIGNATURES = (JXL_STREAM, JXL_BOXES)
PACKAGES = {"pillow_heif": "pillow-heif", "pillow_jxl": "pillow-jxl-plugin"}  # module -> its name for pip
SIDE_BITS = (9, 13, 18, 30)  # of a JPEG XL side, by selector
# Width : height, by code in a JPEG XL.
RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


@dataclass(frozen=True)
class Heic:
    """The upright main image; `remark` says which parts are not read."""

    width: int
    height: int
    remark: str


@dataclass(frozen=True)
class Jxl:
    """Size of the upright image."""

    width: int
    height: int


def installed() -> dict[str, str]:
    """Return the version of each installed reader package."""
    return dict(_installed())


@cache
def _installed() -> tuple[tuple[str, str], ...]:
    found = []
    for package in PACKAGES.values():
        with suppress(PackageNotFoundError):
            found.append((package, version(package)))
    return tuple(found)


def read_heic(data: bytes, limits: MediaSettings) -> Heic:
    """Return the header of a HEIC; no pixel is unpacked.

    Raises MediaError for a missing reader package, a damaged file, or a size beyond `limits`.
    """
    with _open_heic(data) as image:
        width, height = image.size
        check_pixels(width, height, limits)
        remarks = [conversion_of(embedded_profile(image), model_of(image)).fault]
        if getattr(image, "n_frames", 1) > 1:
            remarks.append("only the main one of its images is read")
    return Heic(width, height, "; ".join(filter(None, remarks)))


def heic_pixels(data: bytes, heic: Heic) -> np.ndarray:
    """Return the main image as RGBA uint8 [H,W,4]. Raises MediaError.

    libheif turns it upright.
    """
    with _open_heic(data) as image:
        return _pixels(image, 1, heic.width, heic.height, "HEIC")


def read_jxl(data: bytes, limits: MediaSettings) -> Jxl:
    """Return the size of a JPEG XL from its first bits.

    Its reader would unpack everything. Raises MediaError for an animation, a preview, damaged data, a size beyond
    `limits`, or a missing reader package.
    """
    width, height, orientation, animated = _jxl_facts(_jxl_stream(data))
    check_pixels(width, height, limits)
    if animated:
        raise MediaError("an animated JPEG XL is not read: convert it to APNG")
    _reader("pillow_jxl", "JPEG XL")
    return Jxl(*((height, width) if orientation in SIDEWAYS else (width, height)))


def jxl_pixels(data: bytes, jxl: Jxl) -> np.ndarray:
    """Return the image as RGBA uint8 [H,W,4]. Raises MediaError if damaged.

    libjxl turns it upright, unless it is made of a JPEG, which keeps its orientation.
    """
    reader = _reader("pillow_jxl", "JPEG XL")
    with _opened(reader.JpegXLImagePlugin.JXLImageFile, data, "JPEG XL") as image:
        orientation = exif_orientation(image.info.get("exif", b"")) if getattr(image, "jpeg", False) else 1
        return _pixels(image, orientation, jxl.width, jxl.height, "JPEG XL")


def _open_heic(data: bytes) -> ImageFile.ImageFile:
    return _opened(_reader("pillow_heif", "HEIC").HeifImageFile, data, "HEIC")


def _reader(module: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MediaError(
            f"{name} is read with a package that is missing: pip install {PACKAGES[module]}, or convert it to PNG"
        ) from error


def _opened(plugin: type[ImageFile.ImageFile], data: bytes, name: str) -> ImageFile.ImageFile:
    """Open the file with a Pillow plugin, registered or not."""
    try:
        return plugin(io.BytesIO(data))
    except PILLOW_ERRORS as error:
        raise MediaError(_damaged(name)) from error


def _damaged(name: str) -> str:
    """Return the reason, without messages about library builds."""
    return f"the {name} is damaged or cut off"


def _pixels(image: ImageFile.ImageFile, orientation: int, width: int, height: int, name: str) -> np.ndarray:
    """Return the image, upright, as RGBA uint8 [H,W,4].

    Raises MediaError for a damaged image or one of another size.
    """
    try:
        rgba = image_pixels(image, name, orientation)
    except MediaError as error:
        raise MediaError(_damaged(name)) from error
    if rgba.shape[:2] != (height, width):
        raise MediaError(f"the {name} is damaged (its pixels are not of the size that it states)")
    return rgba


def _jxl_stream(data: bytes) -> bytes:
    """Return the start of the code stream, perhaps in an ISO box."""
    at = 0
    while data.startswith(JXL_BOXES) and at + 8 <= len(data):
        size, kind, start = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], at + 8
        if size == 1:
            size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        if kind in (b"jxlc", b"jxlp"):
            return data[start + 4 * (kind == b"jxlp") :][:64]
        if size < start - at:
            break
        at += size
    return data[:64] if data.startswith(JXL_STREAM) else b""


def _jxl_facts(stream: bytes) -> tuple[int, int, int, bool]:
    """Return width, height, orientation (1 to 8) and whether animated.

    Raises MediaError for a short or missing `stream`, or a preview.
    """
    if not stream.startswith(JXL_STREAM):
        raise MediaError("the JPEG XL is damaged or cut off (it has no code stream)")
    bits = _Bits(stream[len(JXL_STREAM) :])
    width, height = _jxl_size(bits)
    if bits.take(1) or not bits.take(1):  # all metadata, or all from here, are defaults
        return width, height, 1, False
    orientation = 1 + bits.take(3)
    if bits.take(1):
        _jxl_size(bits)  # the intended display size, ignored by browsers
    if bits.take(1):
        raise MediaError("a JPEG XL with a preview is not read: convert it to PNG")
    return width, height, orientation, bool(bits.take(1))


def _jxl_size(bits: "_Bits") -> tuple[int, int]:
    small = bits.take(1)
    height = _jxl_side(bits, small)
    ratio = bits.take(3)
    if ratio:
        across, down = RATIOS[ratio]
        return height * across // down, height
    return _jxl_side(bits, small), height


def _jxl_side(bits: "_Bits", small: int) -> int:
    """Return a side in pixels; small ones are in eighths."""
    return 8 * (1 + bits.take(5)) if small else 1 + bits.take(SIDE_BITS[bits.take(2)])


class _Bits:
    """Bits of a JPEG XL stream, lowest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self.value, self.left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        """Return the next `count` bits; raise MediaError at the end."""
        if count > self.left:
            raise MediaError("the JPEG XL is cut off")
        taken = self.value & (1 << count) - 1
        self.value >>= count
        self.left -= count
        return taken
