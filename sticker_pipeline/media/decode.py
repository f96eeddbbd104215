"""Decoding of a file to frames, by its format's module."""

from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media import apng, bmp, gif, heic_jxl, jpeg, tiff, video, webp
from sticker_pipeline.media.frame import Frame, MediaError, shown_ms
from sticker_pipeline.media.header import Header, read_header
from sticker_pipeline.media.stills import PILLOW_ERRORS, image_pixels, open_image, open_pixels


def decode(path: Path, limits: MediaSettings) -> Generator[Frame, None, None]:
    """Yield the frames of the file; a still has duration 0.

    Memory: the compressed file and a few canvases, for any number of frames. Raises MediaError for an unreadable file
    or one beyond `limits`, also midway: earlier frames are whole. Closing the generator ends its processes.
    """
    yield from decode_bytes(path.read_bytes(), limits)


def decode_bytes(data: bytes, limits: MediaSettings) -> Generator[Frame, None, None]:
    """Decode a file in memory, as `decode`."""
    header = read_header(data, limits)
    if isinstance(header.container, video.Video):
        with closing(video.video_frames(data, header.container, limits)) as shown:
            for index, (rgba, start, duration) in enumerate(shown):
                yield Frame(rgba, index, start, duration)
        return
    start = 0
    for index, (rgba, duration) in enumerate(_images(data, header)):
        yield Frame(rgba, index, start, duration)
        start += shown_ms(duration)


def _images(data: bytes, header: Header) -> Iterator[tuple[np.ndarray, int]]:
    container = header.container
    if isinstance(container, gif.Gif):
        yield from gif.gif_frames(data, container)
    elif isinstance(container, apng.Png):
        yield from apng.apng_frames(data, container) if container.images else [(apng.still_pixels(data, container), 0)]
    elif isinstance(container, webp.Webp) and container.durations_ms:
        yield from webp.webp_frames(data, container)
    elif isinstance(container, webp.Webp):
        yield open_pixels(webp.mended(data), "WEBP", header.orientation), 0
    elif isinstance(container, jpeg.Jpeg):
        yield open_pixels(container.closed(data), "JPEG", header.orientation), 0
    elif isinstance(container, heic_jxl.Heic):
        yield heic_jxl.heic_pixels(data, container), 0
    elif isinstance(container, heic_jxl.Jxl):
        yield heic_jxl.jxl_pixels(data, container), 0
    elif isinstance(container, tiff.Tiff):
        yield tiff.tiff_pixels(data), 0
    elif header.format == "BMP":
        yield bmp.bmp_pixels(data, header.orientation), 0
    elif header.n_frames > 1:
        yield from _avif_frames(data, header.n_frames)
    else:
        yield open_pixels(data, header.format, header.orientation), 0


def _avif_frames(data: bytes, n_frames: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield AVIF frames, composited by libavif, and their durations in ms."""
    with open_image(data, "AVIF") as image:
        for number in range(n_frames):
            try:
                image.seek(number)
            except PILLOW_ERRORS as error:
                raise MediaError(f"frame {number} of the AVIF is damaged ({error})") from error
            rgba = image_pixels(image, "AVIF", orientation=1)
            yield rgba, round(image.info.get("duration", 0))
