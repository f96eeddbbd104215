"""The limits of a profile, each with its sentence, and the reading of a file within them.

They are checked before anything of that size is allocated.
"""

import stat
from pathlib import Path

from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.settings import MediaSettings

IN_ANNEX = "kept in git-annex: fetch it with `git annex get`"
SPECIAL_FILES = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


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
    """The bytes of a regular file.

    Raises MediaError for anything else, and for one of more than max_bytes, both unopened; for a link to nothing; and
    for a file that cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = SPECIAL_FILES.get(stat.S_IFMT(status.st_mode), "a special file")
            raise MediaError(f"{kind}, which is never opened")
        if status.st_size > limits.max_bytes:
            raise MediaError(f"{status.st_size} bytes: more than {limits.max_bytes} ({_named('max_bytes')})")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise MediaError(IN_ANNEX if _is_in_annex(path) else "a link to a file that does not exist") from error
    except OSError as error:
        raise MediaError(f"cannot be read: {error.strerror}") from error


def _is_in_annex(path: Path) -> bool:
    """Tell whether `path` is a link that git-annex made; the file may be elsewhere."""
    return path.is_symlink() and "annex/objects" in path.readlink().as_posix()


def _named(setting: str) -> str:
    return f"the limit {setting} of the profile"
