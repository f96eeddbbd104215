"""Results of decoding: a frame, or the error of an unreadable file."""

from dataclasses import dataclass

import numpy as np

from sticker_pipeline.core.texts import UserError

OPAQUE = 255


class MediaError(UserError):
    """An unreadable file; the message omits its name."""


@dataclass(frozen=True)
class Frame:
    """One full composited canvas.

    `rgba`: uint8 [height, width, 4], straight alpha, R=G=B=0 wherever A=0. `duration_ms`: the delay in the file, may
    be 0. `start_ms`: the sum of earlier delays as browsers play them (`shown_ms`), which grows even where all delays
    are 0; in a video, the time in the file since the first frame.
    """

    rgba: np.ndarray
    index: int
    start_ms: int
    duration_ms: int


def shown_ms(duration_ms: int) -> int:
    """Return how long browsers show a frame of an animation.

    Chromium, Firefox and WebKit play delays up to 10 ms as 100 ms: old encoders wrote 0 or 1 hundredth for "as fast as
    possible".
    """
    return duration_ms if duration_ms > 10 else 100


def clear_hidden_colour(rgba: np.ndarray) -> np.ndarray:
    """Set R=G=B=0 wherever A=0 in `rgba` (uint8 [H,W,4], contiguous); return it."""
    # Whole pixels: several times as fast as by channel.
    np.copyto(rgba.view(np.uint32)[..., 0], 0, where=rgba[..., 3] == 0)
    return rgba


def partly_whole(fault: str, n_whole: int) -> str:
    """Return the note on a partly usable animation."""
    return f"{fault}: only what comes before, {n_whole} whole {'frame' if n_whole == 1 else 'frames'}, is kept"
