"""The limits of a profile, each with its sentence. They are checked before anything of that size is allocated."""

from pathlib import Path

from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.settings import MediaSettings


def check_pixels(width: int, height: int, limits: MediaSettings) -> None:
    """Raise MediaError for a canvas beyond max_pixels."""
    if width * height > limits.max_pixels:
        raise MediaError(f"{width}×{height} pixels: more than {limits.max_pixels} ({_named('max_pixels')})")


def check_frames(n_frames: int, limits: MediaSettings) -> None:
    """Raise MediaError for more frames than max_frames."""
    if n_frames > limits.max_frames:
        raise MediaError(f"more than {limits.max_frames} frames ({_named('max_frames')})")


def check_seconds(milliseconds: int, limits: MediaSettings) -> None:
    """Raise MediaError for a video longer than max_seconds."""
    if milliseconds > 1000 * limits.max_seconds:
        raise MediaError(f"{milliseconds / 1000:g} seconds: more than {limits.max_seconds:g} ({_named('max_seconds')})")


def read_within(path: Path, limits: MediaSettings) -> bytes:
    """The bytes of a regular file. Raises MediaError, unread, for one of more than max_bytes; and OSError."""
    size = path.stat().st_size
    if size > limits.max_bytes:
        raise MediaError(f"{size} bytes: more than {limits.max_bytes} ({_named('max_bytes')})")
    return path.read_bytes()


def _named(setting: str) -> str:
    return f"the limit {setting} of the profile"
