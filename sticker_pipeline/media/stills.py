"""Pixels of one image through Pillow: upright 8-bit sRGB RGBA."""

import io
import struct

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from sticker_pipeline.media.colour import cmyk_to_srgb, embedded_profile, model_of, to_srgb
from sticker_pipeline.media.frame import OPAQUE, MediaError, clear_hidden_colour

ORIENTATION_TAG = 0x0112
SHORT = 3  # a type of values: two bytes
ENTRY = 12  # bytes of an entry: tag, type, number of values, value or its position
BYTE_ORDERS = {b"II\x2a\0": "<", b"MM\0\x2a": ">"}
# Makes the stored image upright (EXIF 2.3, tag Orientation).
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap width and height

# Errors of Pillow's decoders for damaged input.
PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    UnidentifiedImageError,
    Image.DecompressionBombError,
)


def open_image(data: bytes, pillow_format: str) -> ImageFile.ImageFile:
    """Open the image without unpacking. Raises MediaError for another format or damage."""
    try:
        return Image.open(io.BytesIO(data), formats=[pillow_format])
    except PILLOW_ERRORS as error:
        raise MediaError(f"the {pillow_format} is damaged or cut off ({_cause(error)})") from error


def open_pixels(data: bytes, pillow_format: str, orientation: int) -> np.ndarray:
    """Return the first image in `data`, upright, as RGBA uint8 [H,W,4].

    Raises MediaError for damaged or incomplete pixels.
    """
    with open_image(data, pillow_format) as image:
        return image_pixels(image, pillow_format, orientation)


def image_pixels(image: Image.Image, pillow_format: str, orientation: int) -> np.ndarray:
    """Return the current image of `image`, upright, as sRGB RGBA uint8 [H,W,4].

    R=G=B=0 wherever A=0. Raises MediaError for damaged or incomplete pixels.
    """
    try:
        image.load()
        return clear_hidden_colour(upright(_rgba(image), orientation))
    except PILLOW_ERRORS as error:
        raise MediaError(f"the {pillow_format} is damaged or cut off ({_cause(error)})") from error


def upright(rgba: np.ndarray, orientation: int) -> np.ndarray:
    """Return `rgba` (uint8 [H,W,4]) rotated and mirrored by EXIF `orientation`."""
    return np.array(Image.fromarray(rgba).transpose(UPRIGHT[orientation])) if orientation in UPRIGHT else rgba


def exif_orientation(exif: bytes) -> int:
    """Return an EXIF block's orientation, 1 to 8; 1 (upright) by default.

    One rule for all formats, as in browsers (Skia): one SHORT counts; XMP does not. For AVIF, `exif` is Pillow's,
    stating the boxes irot and imir instead of the EXIF. Source of the layout: TIFF 6.0, section 2.
    """
    block = exif.removeprefix(b"Exif\0\0")
    order = BYTE_ORDERS.get(block[:4])
    if order is None:
        return 1
    (start,) = struct.unpack_from(f"{order}I", block.ljust(8, b"\0"), 4)
    (count,) = struct.unpack(f"{order}H", block[start : start + 2].ljust(2, b"\0"))
    for tag, kind, values, value in struct.iter_unpack(f"{order}HHIHxx", _entries(block, start + 2, count)):
        if (tag, kind, values) == (ORIENTATION_TAG, SHORT, 1) and value in UPRIGHT:
            return int(value)
    return 1


def _entries(block: bytes, start: int, count: int) -> bytes:
    whole = min(count, max(0, len(block) - start) // ENTRY)
    return block[start : start + ENTRY * whole]


def _cause(error: BaseException) -> str:
    """Return Pillow's message, without the buffer's address."""
    return "its header cannot be read" if isinstance(error, UnidentifiedImageError) else str(error)


def _rgba(image: Image.Image) -> np.ndarray:
    profile, model = embedded_profile(image), model_of(image)
    if model == "CMYK":
        return cmyk_to_srgb(image, profile)
    return to_srgb(_unconverted(image), profile, model)


def _unconverted(image: Image.Image) -> np.ndarray:
    """Return a grey or RGB image as RGBA, in stored colours."""
    if image.mode.startswith("I"):
        return _from_16_bit_grey(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels are not supported")
    if image.mode == "La":  # grey with premultiplied alpha
        image = image.convert("LA")
    if image.mode in ("YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")
    return np.array(image if image.mode == "RGBA" else image.convert("RGBA"))


def _from_16_bit_grey(image: Image.Image) -> np.ndarray:
    """Return 16-bit grey as RGBA, scaled to 0..255, rounded; Pillow would clip."""
    values = np.asarray(image).astype(np.uint32)
    if values.size and values.max() > 65535:
        raise ValueError("32-bit grey pixels are not supported")
    rgba = np.empty((*values.shape, 4), dtype=np.uint8)
    rgba[..., :3] = ((values * 255 + 32767) // 65535).astype(np.uint8)[..., None]
    rgba[..., 3] = OPAQUE
    return rgba
