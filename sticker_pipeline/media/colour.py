"""Colours become sRGB by the colour profile (ICC) that a file carries, as browsers show them.

Only ICC profiles count: gamma and chromaticities of a PNG (gAMA, cHRM) and coded colour spaces (cICP) are not applied.
"""

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image, ImageCms

from sticker_pipeline.media.frame import OPAQUE

Model = Literal["grey", "RGB", "CMYK"]

SPACES: dict[bytes, Model] = {b"GRAY": "grey", b"RGB ": "RGB", b"CMYK": "CMYK"}  # as a profile's header names them
# What Pillow takes and gives: alpha goes through unchanged.
MODES = {"grey": ("L", "RGB"), "RGB": ("RGBA", "RGBA"), "CMYK": ("CMYK", "RGB")}
PROFILES_KEPT = 32
# Colours that tell a profile that is sRGB from others, and how far sRGB profiles are apart.
PROBE_STEP, ROUNDING = 15, 1


@dataclass(frozen=True)
class Conversion:
    """The conversion from one profile to sRGB.

    `model` is the profile's. Without a `transform` colours stay as they are; `fault` says why a profile cannot be used.
    """

    model: Model = "RGB"
    transform: ImageCms.ImageCmsTransform | None = None
    fault: str = ""


@lru_cache(maxsize=PROFILES_KEPT)
def conversion_of(profile: bytes, model: Model) -> Conversion:
    """The conversion of images of `model` with the embedded `profile`; empty bytes stand for no profile.

    A grey image may have an RGB profile. Never raises: a profile that is damaged, or of another model, is a fault.
    """
    if not profile:
        return Conversion()
    own = SPACES.get(profile[16:20])
    if own is None:
        return Conversion(fault="its colour profile is damaged or of a kind that is not read, and is ignored")
    if own != model and (model, own) != ("grey", "RGB"):
        return Conversion(fault=f"its colour profile is for {own} images, and is ignored")
    try:
        mode, result = MODES[own]
        srgb = ImageCms.createProfile("sRGB")
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC  # without black point compensation, as Chromium does it
        transform = ImageCms.buildTransform(io.BytesIO(profile), srgb, mode, result, intent)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        return Conversion(fault=f"its colour profile is damaged ({error}), and is ignored")
    return Conversion(own, None if own == "RGB" and _is_srgb(transform) else transform)


def to_srgb(rgba: np.ndarray, profile: bytes, model: Model) -> np.ndarray:
    """`rgba` (uint8 [H,W,4]) of a grey image, which has R=G=B, or of an RGB one with its colours in sRGB; alpha stays
    as it is."""
    conversion = conversion_of(profile, model)
    if conversion.transform is None:
        return rgba
    if conversion.model == "RGB":
        return np.array(conversion.transform.apply(Image.fromarray(rgba)))
    colours = conversion.transform.apply(Image.fromarray(np.ascontiguousarray(rgba[..., 0])))
    return np.dstack([np.asarray(colours), rgba[..., 3]])


def cmyk_to_srgb(image: Image.Image, profile: bytes) -> np.ndarray:
    """A CMYK image as opaque RGBA, uint8 [H,W,4]; without a profile by the plain formula (1 - ink)·(1 - black)."""
    conversion = conversion_of(profile, "CMYK")
    rgb = np.asarray(conversion.transform.apply(image) if conversion.transform else image.convert("RGB"))
    return np.dstack([rgb, np.full(rgb.shape[:2], OPAQUE, dtype=np.uint8)])


def embedded_profile(image: Image.Image) -> bytes:
    """The profile that Pillow found in the file; empty where there is none.

    Pillow says None of a profile that lacks a part: that is passed on as bytes that are no profile.
    """
    profile = image.info.get("icc_profile", b"")
    return profile if isinstance(profile, bytes) else b"incomplete"


def model_of(image: Image.Image) -> Model:
    """The colour model of an opened image."""
    if image.mode == "CMYK":
        return "CMYK"
    return "grey" if image.mode in ("1", "L", "LA") or image.mode.startswith("I") else "RGB"


def _is_srgb(transform: ImageCms.ImageCmsTransform) -> bool:
    """Tell whether `transform` leaves colours as they are, but for rounding. Many profiles describe sRGB."""
    axis = np.arange(0, 256, PROBE_STEP, dtype=np.uint8)
    colours = np.stack(np.meshgrid(axis, axis, axis, [OPAQUE]), axis=-1).reshape(-1, 1, 4).astype(np.uint8)
    changed = np.asarray(transform.apply(Image.fromarray(colours)))
    return int(np.abs(changed.astype(int) - colours).max()) <= ROUNDING
