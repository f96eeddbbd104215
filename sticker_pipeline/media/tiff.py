"""TIFF: the first page, through Pillow, which makes it upright.

Cameras' raw images are refused: their first page is a small preview. Source: TIFF 6.0.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media.colour import conversion_of, embedded_profile, model_of
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.limits import check_pixels
from sticker_pipeline.media.stills import PILLOW_ERRORS, image_pixels, open_image

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF
BITS, WHITE_IS_ZERO, SUBFILE, DNG_VERSION, PHOTOMETRIC = 258, 0, 254, 50706, 262
REDUCED = 1  # of SUBFILE: a smaller version of another page
FULL = 65535
PLANES, SEPARATE = 284, 2
SAMPLE_FORMAT, UNSIGNED, UNDEFINED = 339, 1, 4


@dataclass(frozen=True)
class Tiff:
    """Size of the upright first page; `remark` says what is not read."""

    width: int
    height: int
    remark: str


def read_tiff(data: bytes, limits: MediaSettings) -> Tiff:
    """Return the header of the first page; no pixel is unpacked.

    Raises MediaError for damage, a camera's raw image, unsupported samples, or a page beyond `limits`.
    """
    with _first_page(data) as image:
        width, height = image.size
        check_pixels(width, height, limits)
        if data[8:10] == b"CR" or DNG_VERSION in image.tag_v2 or _integer(image, SUBFILE) & REDUCED:
            raise MediaError("a camera's raw image: export it as PNG or JPEG")
        if image.mode in ("I", "F") or _integer(image, SAMPLE_FORMAT, UNSIGNED) not in (UNSIGNED, UNDEFINED):
            raise MediaError("a TIFF of signed, 32-bit or floating-point numbers is not read: convert it to PNG")
        if _integer(image, BITS, 8) > 8 and _integer(image, PLANES, 1) == SEPARATE:
            raise MediaError("a TIFF of 16 bits in separate planes is not read: convert it to PNG")
        remarks = [conversion_of(embedded_profile(image), model_of(image)).fault]
        if _has_more_pages(image):
            remarks.append("only the first of its pages is read")
    return Tiff(width, height, "; ".join(filter(None, remarks)))


def tiff_pixels(data: bytes) -> np.ndarray:
    """Return the first page upright, RGBA uint8 [H,W,4]. Raises MediaError if damaged."""
    with _first_page(data) as image:
        return image_pixels(_scaled(image) if image.mode.startswith("I;16") else image, "TIFF", orientation=1)


def _first_page(data: bytes) -> TiffImageFile:
    try:
        image = open_image(data, "TIFF")
    except MediaError as error:
        raise MediaError("the TIFF is damaged, or of a kind that is not read: convert it to PNG") from error
    if not isinstance(image, TiffImageFile):
        raise MediaError("the TIFF is damaged or of a kind that is not read")
    image.info.pop("xmp", None)  # Pillow would rotate by it
    return image


def _scaled(image: ImageFile.ImageFile) -> Image.Image:
    """Scale 12- or 16-bit grey, unscaled in Pillow: 0 black, 65535 white."""
    try:
        bits, inverted = _integer(image, BITS, 16), _integer(image, PHOTOMETRIC, 1) == WHITE_IS_ZERO
        values = np.asarray(image).astype(np.uint32) * FULL // ((1 << bits) - 1)
    except PILLOW_ERRORS as error:
        raise MediaError(f"the TIFF is damaged or cut off ({error})") from error
    scaled = Image.fromarray((FULL - values if inverted else values).clip(0, FULL).astype(np.uint16))
    scaled.info = image.info
    return scaled


def _integer(image: Image.Image, tag: int, missing: int = 0) -> int:
    value = image.tag_v2.get(tag, missing) if isinstance(image, TiffImageFile) else missing
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else missing


def _has_more_pages(image: TiffImageFile) -> bool:
    try:
        image.seek(1)
    except EOFError:
        return False
    except PILLOW_ERRORS:
        return True  # damaged, but there
    return True
