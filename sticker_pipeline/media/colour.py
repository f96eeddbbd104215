"""Conversion of images to sRGB by ICC profile, as in browsers.

PNG's gAMA and cHRM, and coded colour spaces (cICP), are not applied.
"""

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image, ImageCms

from sticker_pipeline.media.frame import OPAQUE

Model = Literal["grey", "RGB", "CMYK"]

SPACES: dict[bytes, Model] = {b"GRAY": "grey", b"RGB ": "RGB", b"CMYK": "CMYK"}  # names in a profile's header
# Pillow's input and output modes; alpha stays unchanged.
MODES = {"grey": ("L", "RGB"), "RGB": ("RGBA", "RGBA"), "CMYK": ("CMYK", "RGB")}
PROFILES_KEPT = 32
# Step of the probed colours, and the largest difference between sRGB profiles.
PROBE_STEP, ROUNDING = 15, 1


@dataclass(frozen=True)
class Conversion:
    """The conversion from a profile of `model` to sRGB.

    Without `transform`, colours stay unchanged. `fault` says why a profile is unusable.
    """

    model: Model = "RGB"
    transform: ImageCms.ImageCmsTransform | None = None
    fault: str = ""


@lru_cache(maxsize=PROFILES_KEPT)
def conversion_of(profile: bytes, model: Model) -> Conversion:
    """Return the conversion for images of `model` with `profile` (empty: none).

    A grey image may have an RGB profile. Never raises: unusable profiles give a fault.
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
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC  # without black point compensation, as in Chromium
        transform = ImageCms.buildTransform(io.BytesIO(profile), srgb, mode, result, intent)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        return Conversion(fault=f"its colour profile is damaged ({error}), and is ignored")
    return Conversion(own, None if own == "RGB" and _is_srgb(transform) else transform)


def to_srgb(rgba: np.ndarray, profile: bytes, model: Model) -> np.ndarray:
    """Convert `rgba` (uint8 [H,W,4]; RGB, or grey with R=G=B) to sRGB; alpha stays."""
    conversion = conversion_of(profile, model)
    if conversion.transform is None:
        return rgba
    if conversion.model == "RGB":
        return np.array(conversion.transform.apply(Image.fromarray(rgba)))
    colours = conversion.transform.apply(Image.fromarray(np.ascontiguousarray(rgba[..., 0])))
    return np.dstack([np.asarray(colours), rgba[..., 3]])


def cmyk_to_srgb(image: Image.Image, profile: bytes) -> np.ndarray:
    """Return opaque RGBA uint8 [H,W,4]; without a profile by `(1 - ink)·(1 - black)`."""
    conversion = conversion_of(profile, "CMYK")
    rgb = np.asarray(conversion.transform.apply(image) if conversion.transform else image.convert("RGB"))
    return np.dstack([rgb, np.full(rgb.shape[:2], OPAQUE, dtype=np.uint8)])


def embedded_profile(image: Image.Image) -> bytes:
    """Return the profile that Pillow found; empty for none.

    For an incomplete one (None in Pillow), it is bytes that are no valid profile.
    """
    profile = image.info.get("icc_profile", b"")
    return profile if isinstance(profile, bytes) else b"incomplete"


def model_of(image: Image.Image) -> Model:
    if image.mode == "CMYK":
        return "CMYK"
    return "grey" if image.mode in ("1", "L", "LA") or image.mode.startswith("I") else "RGB"


def _is_srgb(transform: ImageCms.ImageCmsTransform) -> bool:
    """Tell whether `transform` only rounds colours: many profiles describe sRGB."""
    axis = np.arange(0, 256, PROBE_STEP, dtype=np.uint8)
    colours = np.stack(np.meshgrid(axis, axis, axis, [OPAQUE]), axis=-1).reshape(-1, 1, 4).astype(np.uint8)
    changed = np.asarray(transform.apply(Image.fromarray(colours)))
    return int(np.abs(changed.astype(int) - colours).max()) <= ROUNDING
