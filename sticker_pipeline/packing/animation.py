"""A sticker's frames in memory; a still has one."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.texts import counted
from sticker_pipeline.media.decode import decode
from sticker_pipeline.media.frame import clear_hidden_colour, shown_ms

ENDLESS = 0


@dataclass(frozen=True)
class Animation:
    """Whole frames in order, and how long each is shown.

    `frames`: uint8 [n, height, width, 4], sRGB with straight alpha, R=G=B=0 wherever A=0. `durations`: milliseconds,
    one per frame and at least 1; (0,) for a still. `loops`: how often it plays; 0 is for ever.
    """

    frames: np.ndarray
    durations: tuple[int, ...]
    loops: int = ENDLESS

    def __post_init__(self) -> None:
        if self.frames.dtype != np.uint8 or self.frames.ndim != 4 or self.frames.shape[3] != 4 or not len(self.frames):
            raise ValueError(f"frames are {self.frames.dtype}{list(self.frames.shape)}, and must be uint8[n, h, w, 4].")
        if len(self.durations) != len(self.frames):
            raise ValueError(
                f"there must be a duration for each of {counted(len(self.frames), 'frame')}, not {len(self.durations)}."
            )

    @property
    def is_still(self) -> bool:
        return len(self.frames) == 1

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.frames.shape[2], self.frames.shape[1]

    @property
    def total_ms(self) -> int:
        """Length of one loop in milliseconds; 0 for a still."""
        return sum(self.durations)


def still(rgba: np.ndarray) -> Animation:
    """Return one image, uint8[height, width, 4], as a still."""
    return Animation(clear_hidden_colour(np.ascontiguousarray(rgba)[None].copy()), (0,))


def animation(frames: Sequence[np.ndarray] | np.ndarray, durations: Sequence[int], loops: int = ENDLESS) -> Animation:
    """Return frames of equal size as one; hidden colours are cleared."""
    stacked = clear_hidden_colour(np.ascontiguousarray(np.stack(list(frames))))
    return Animation(stacked, tuple(durations) if len(stacked) > 1 else (0,), loops)


def read_animation(path: Path, limits: MediaSettings) -> Animation:
    """Decode an image or animation of any readable format.

    It loops for ever. Delays are those that browsers show. Raises MediaError, as `decode`.
    """
    with closing(decode(path, limits)) as found:
        frames = list(found)
    return animation([frame.rgba for frame in frames], [shown_ms(frame.duration_ms) for frame in frames])


def read_still(path: Path, limits: MediaSettings) -> Animation:
    """Decode the first frame alone; otherwise as `read_animation`."""
    with closing(decode(path, limits)) as found:
        return still(next(iter(found)).rgba)
