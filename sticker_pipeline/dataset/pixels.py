"""The pixels that models see of a picture: flattened over the background and fitted into a bucket.

Training, benchmark and samples all prepare pictures here, so that they see the same pixels.
"""

import numpy as np
from PIL import Image, ImageColor


def fit_picture(rgba: np.ndarray, width: int, height: int, background: str) -> np.ndarray:
    """The whole picture (uint8 [H,W,4], straight alpha) as large as fits into width × height pixels, centred on
    `background` (a CSS colour name or #rrggbb), uint8 [height, width, 3].

    Nothing is cropped or stretched. Colour under alpha 0 is never seen: the picture is flattened first, then resized
    (Lanczos). Raises ValueError for a colour that does not exist.
    """
    colour = ImageColor.getrgb(background)[:3]
    picture = flatten(rgba, colour)
    scale = min(width / picture.width, height / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    canvas = Image.new("RGB", (width, height), colour)
    resized = picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)
    canvas.paste(resized, ((width - size[0]) // 2, (height - size[1]) // 2))
    return np.asarray(canvas)


def flatten(rgba: np.ndarray, colour: tuple[int, ...]) -> Image.Image:
    """The picture (uint8 [H,W,4]) over an opaque colour (R, G, B), as an RGB image."""
    picture = Image.fromarray(np.ascontiguousarray(rgba))
    flat = Image.new("RGB", picture.size, tuple(colour))
    flat.paste(picture, mask=picture.getchannel("A"))
    return flat
