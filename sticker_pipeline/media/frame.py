"""What decoding gives: one frame, and the error for a file that cannot be read.

How a format is read is the business of gif.py, apng.py, webp.py, video.py and stills.py.
"""

from dataclasses import dataclass

import numpy as np

from sticker_pipeline.core.texts import UserError

OPAQUE = 255


class MediaError(UserError):
    """A file that is not a readable image. The message says what is wrong with it, without its name."""


@dataclass(frozen=True)
class Frame:
    """One full composited canvas.

    `rgba` is uint8 [height, width, 4], straight alpha, with R=G=B=0 wherever A=0. `duration_ms` is the delay as the
    file states it, which may be 0. `start_ms` is when a viewer shows the frame: the sum of the earlier frames' delays
    as browsers play them (see `shown_ms`), so that it grows from frame to frame even where all delays are 0; in a video
    it is the time that the file states, counted from the first frame.
    """

    rgba: np.ndarray
    index: int
    start_ms: int
    duration_ms: int


def shown_ms(duration_ms: int) -> int:
    """How long browsers show a frame of an animation: Chromium, Firefox and WebKit play a delay of 10 ms or less as
    100 ms, since old encoders wrote 0 or 1 hundredth for 'as fast as you can'."""
    return duration_ms if duration_ms > 10 else 100


def clear_hidden_colour(rgba: np.ndarray) -> np.ndarray:
    """`rgba` (uint8 [H,W,4], contiguous) with R=G=B=0 wherever A=0; changes the array itself and returns it."""
    # Whole pixels at once: several times as fast as by channel.
    np.copyto(rgba.view(np.uint32)[..., 0], 0, where=rgba[..., 3] == 0)
    return rgba


def partly_whole(fault: str, n_whole: int) -> str:
    """The note on an animation of which only the beginning can be used."""
    return f"{fault}: only what comes before, {n_whole} whole {'frame' if n_whole == 1 else 'frames'}, is kept"
