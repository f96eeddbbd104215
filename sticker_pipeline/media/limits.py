"""A profile's limits, checked before allocation, and reading within them."""

from collections.abc import Sequence
from pathlib import Path

from sticker_pipeline.core.files.inside import OutsideError, SpecialFileError, TooLargeError, read_bytes
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.texts import counted
from sticker_pipeline.media.frame import MediaError

IN_ANNEX = "kept in git-annex: fetch it with `git annex get`"


def check_pixels(width: int, height: int, limits: MediaSettings) -> None:
    """Raise MediaError beyond max_pixels."""
    if width * height > limits.max_pixels:
        raise MediaError(f"{width}×{height} pixels: more than {limits.max_pixels} ({_named('max_pixels')})")


def check_frames(n_frames: int, limits: MediaSettings) -> None:
    """Raise MediaError beyond max_frames."""
    if n_frames > limits.max_frames:
        raise MediaError(f"more than {counted(limits.max_frames, 'frame')} ({_named('max_frames')})")


def check_seconds(milliseconds: int, limits: MediaSettings) -> None:
    """Raise MediaError beyond max_seconds."""
    if milliseconds > 1000 * limits.max_seconds:
        raise MediaError(f"{milliseconds / 1000:g} seconds: more than {limits.max_seconds:g} ({_named('max_seconds')})")


def read_within(path: Path, limits: MediaSettings, roots: Sequence[Path] = ()) -> bytes:
    """Read a regular file below `roots` (`core/files/inside.py`).

    Raises MediaError for other kinds, unopened; for more than max_bytes, whatever the stated size; for a link out of
    `roots` or to nothing; for an unreadable file.
    """
    try:
        return read_bytes(path, roots, limits.max_bytes)
    except TooLargeError as error:
        raise MediaError(f"{error.strerror} ({_named('max_bytes')})") from error
    except (OutsideError, SpecialFileError) as error:
        raise MediaError(str(error.strerror)) from error
    except FileNotFoundError as error:
        raise MediaError(IN_ANNEX if _is_in_annex(path) else "a link to a file that does not exist") from error
    except OSError as error:
        raise MediaError(f"cannot be read: {error.strerror}") from error


def _is_in_annex(path: Path) -> bool:
    """Tell whether `path` is git-annex's link; the file may be elsewhere."""
    return path.is_symlink() and "annex/objects" in path.readlink().as_posix()


def _named(setting: str) -> str:
    return f"the limit {setting} of the profile"
