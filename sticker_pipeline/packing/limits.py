"""Limits of one file of a pack, which its encoding must keep."""

from dataclasses import dataclass
from typing import Literal

Format = Literal["PNG", "APNG", "WEBP", "WEBM", "GIF"]


@dataclass(frozen=True)
class FileLimits:
    """Limits of a file; None: there is no such limit.

    `max_bytes`: of the file. `max_ms`: of one loop, or of all loops where `max_loops` is stated. `min_frame_ms`:
    shortest duration of a frame. `min_frames`, `max_frames`: of an animation. `max_loops`: 0 is for ever.
    `whole_seconds`: the length of all loops must be whole seconds.
    """

    format: Format
    max_bytes: int
    max_ms: int | None = None
    min_frame_ms: int = 1
    min_frames: int = 1
    max_frames: int | None = None
    max_loops: int = 0
    whole_seconds: bool = False
