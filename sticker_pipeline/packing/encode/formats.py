"""Encoder of each format."""

from collections.abc import Callable, Mapping

from sticker_pipeline.packing.animation import Animation
from sticker_pipeline.packing.encode import apng, gif, png, webm, webp
from sticker_pipeline.packing.encode.settings import Settings
from sticker_pipeline.packing.limits import Format

Encoder = Callable[[Animation, Settings], bytes]

ENCODERS: Mapping[Format, Encoder] = {
    "PNG": png.encode,
    "APNG": apng.encode,
    "WEBP": webp.encode,
    "WEBM": webm.encode,
    "GIF": gif.encode,
}
