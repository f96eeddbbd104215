"""Files and folders opened below allowed folders, which no link can leave.

`roots`: the first holds the path, links may lead into all of them. Default: the path's own folder. Links in the roots'
own paths are followed. Below a root, opening follows no link: a path with one is resolved by name, compared with the
roots, and opened again from a root. A link made in between is thus refused. Hard links look like files.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

ANYWHERE = (Path(os.sep).absolute(),)  # roots for paths from the command line
SPECIAL_FILES = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}
CHUNK = 1 << 20  # bytes
DEEPEST = 32  # levels of folders that are searched
MOST_PARTS = 256  # names from a root to a path
# Windows has neither: there a path is resolved, compared, and opened by name.
_BY_DESCRIPTOR = hasattr(os, "O_NOFOLLOW") and {os.open, os.stat} <= os.supports_dir_fd and os.scandir in os.supports_fd
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_FOLDER = getattr(os, "O_DIRECTORY", 0)
_PASSED = _FOLDER | getattr(os, "O_PATH", 0)  # for folders on the way, which need not be readable
_FILE = _NO_LINK | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
_OF_LINKS = (errno.ELOOP, errno.EMLINK, errno.ENOTDIR)  # systems' errors for O_NOFOLLOW at a link

T = TypeVar("T")


class OutsideError(OSError):
    """A path that leads out of the allowed folders, to `filename2`."""


class SpecialFileError(OSError):
    """An irregular file, such as a device; it was not opened."""


class TooLargeError(OSError):
    """A file with more bytes than allowed."""


class Entry(NamedTuple):
    """An entry of a folder, links not followed.

    `size`: bytes of a regular file, else 0.
    """

    name: str
    mode: int
    size: int

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)


@contextmanager
def opened(path: Path, roots: Sequence[Path] = ()) -> Iterator[int]:
    """Open a regular file and yield its descriptor.

    Raises OutsideError for a link out of `roots`, SpecialFileError for irregular files, else OSError.
    """
    descriptor = _reach(path, roots, _open_at)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_bytes(path: Path, roots: Sequence[Path] = (), most: int | None = None) -> bytes:
    """Read a regular file. Raises as `opened`; TooLargeError above `most` bytes.

    The bytes read count, not the stated size.
    """
    parts, count = [], 0
    with opened(path, roots) as descriptor:
        size = os.fstat(descriptor).st_size
        _check_size(size, most, path)
        while part := os.read(descriptor, min(max(size - count + 1, CHUNK // 16), 16 * CHUNK)):
            parts.append(part)
            count += len(part)
            _check_size(count, most, path)
    return b"".join(parts)


def _check_size(size: int, most: int | None, path: Path) -> None:
    if most is not None and size > most:
        raise TooLargeError(errno.EFBIG, f"{size} bytes: more than {most}", str(path))


def sha256(path: Path, roots: Sequence[Path] = ()) -> str:
    """Return the hex SHA-256 of a regular file. Raises as `opened`."""
    with opened(path, roots) as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_file(path: Path, target: Path, roots: Sequence[Path] = (), most: int | None = None) -> None:
    """Copy a regular file and its times to the new file `target`.

    Raises as `read_bytes`.
    """
    with opened(path, roots) as descriptor, target.open("xb") as copy:
        count = 0
        while part := os.read(descriptor, CHUNK):
            count += len(part)
            _check_size(count, most, path)
            copy.write(part)
        status = os.fstat(descriptor)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def status(path: Path, roots: Sequence[Path] = ()) -> os.stat_result:
    """Return the status of `path`, links followed, unopened. Raises OutsideError or OSError."""
    return _reach(path, roots, _status_at)


def is_folder(path: Path, roots: Sequence[Path] = ()) -> bool:
    """Tell whether `path` is a folder below `roots`, links followed; False if unreadable."""
    try:
        return stat.S_ISDIR(status(path, roots).st_mode)
    except OSError:
        return False


def list_folder(path: Path, roots: Sequence[Path] = ()) -> tuple[tuple[int, int], list[Entry]]:
    """Return a folder's (device, inode) and sorted entries. Raises OutsideError or OSError."""
    return _reach(path, roots, _list_at)


def folders_in(path: Path, roots: Sequence[Path] = ()) -> list[str]:
    """Name subfolders, and links to folders below `roots`. Raises as `list_folder`."""
    entries = list_folder(path, roots)[1]
    return [
        entry.name for entry in entries if entry.is_folder or (entry.is_link and is_folder(path / entry.name, roots))
    ]


def real_path(path: Path, roots: Sequence[Path] = ()) -> Path:
    """Resolve `path`, which need not exist.

    Raises OutsideError for links out of `roots` or in circles.
    """
    try:
        real = _resolved(path)
    except RecursionError as error:
        raise OutsideError(
            errno.ELOOP, "a link that leads through too many links", str(path), None, str(path)
        ) from error
    _root_of(path, real, roots)
    return real


def _resolved(path: Path) -> Path:
    """Return `path` without links; missing parts stay as named."""
    try:
        return _followed(path)
    except OSError:
        return Path(os.path.realpath(path))


def _followed(path: Path) -> Path:
    """Resolve an existing `path` by one system call, else part by part."""
    if not hasattr(os, "O_PATH"):
        path.stat()  # limits chains of links, without recursion in Python
        return Path(os.path.realpath(path, strict=True))
    descriptor = os.open(path, os.O_PATH)
    try:
        real = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 (Path.readlink adds nothing)
    except OSError:
        real = ""
    finally:
        os.close(descriptor)
    return Path(real if real.startswith(os.sep) else os.path.realpath(path, strict=True))


def _reach(path: Path, roots: Sequence[Path], act: Callable[[int | None, str], T]) -> T:
    """Call `act` with the descriptor of `path`'s folder and the name in it."""
    first = roots[0] if roots else path.parent
    parts = _parts_below(first, path)
    if _BY_DESCRIPTOR and parts is not None and os.pardir not in parts:
        try:
            return _act_below(first, parts, act)
        except OSError as error:
            if error.errno not in _OF_LINKS or isinstance(error, OutsideError | SpecialFileError):
                raise
    real = _followed(path)
    root = _root_of(path, real, roots)
    if not _BY_DESCRIPTOR:
        return act(None, str(real))
    return _act_below(root, real.relative_to(root).parts, act)


def _parts_below(first: Path, path: Path) -> list[str] | None:
    """Return the names from `first` to `path`; None if it is elsewhere."""
    beginning, whole = f"{os.fspath(first).rstrip(os.sep)}{os.sep}", os.fspath(path)
    if whole.startswith(beginning):
        return whole[len(beginning) :].split(os.sep)  # noqa: PTH206 (four times as slow)
    return [] if path == first else None


def _root_of(path: Path, real: Path, roots: Sequence[Path]) -> Path:
    """Return the resolved root that holds `real`. Raises OutsideError for none."""
    for root in roots or [path.parent]:
        resolved = _resolved(root)
        if real.is_relative_to(resolved):
            return resolved
    shown = str(real).encode("utf-8", "backslashreplace").decode("utf-8")
    raise OutsideError(errno.EXDEV, f"a link that leaves the folder, to {shown}", str(path), None, shown)


def _act_below(root: Path, parts: Sequence[str], act: Callable[[int | None, str], T]) -> T:
    """Call `act` in root/parts[:-1] for parts[-1]. Raises OSError (_OF_LINKS) at links."""
    if len(parts) > MOST_PARTS:
        raise OSError(errno.ENAMETOOLONG, f"folders lie more than {MOST_PARTS} deep in each other", str(root))
    current = os.open(root, _PASSED)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _PASSED | _NO_LINK, dir_fd=current)
            os.close(current)
            current = inner
        return act(current, parts[-1] if parts else os.curdir)
    finally:
        os.close(current)


def _status_at(parent: int | None, name: str) -> os.stat_result:
    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
    return found


def _open_at(parent: int | None, name: str) -> int:
    _refuse_special(_status_at(parent, name), name)
    descriptor = os.open(name, os.O_RDONLY | _FILE, dir_fd=parent)
    try:
        _refuse_special(os.fstat(descriptor), name)
    except SpecialFileError:
        os.close(descriptor)
        raise
    return descriptor


def _refuse_special(found: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = SPECIAL_FILES.get(stat.S_IFMT(found.st_mode), "a special file")
        raise SpecialFileError(errno.EINVAL, f"{kind}, which is never opened", name)


def _list_at(parent: int | None, name: str) -> tuple[tuple[int, int], list[Entry]]:
    if parent is None:
        return _listed(name, Path(name).stat())
    descriptor = os.open(name, os.O_RDONLY | _FOLDER | _NO_LINK, dir_fd=parent)
    try:
        return _listed(descriptor, os.fstat(descriptor))
    finally:
        os.close(descriptor)


def _listed(folder: int | str, found: os.stat_result) -> tuple[tuple[int, int], list[Entry]]:
    entries = []
    with os.scandir(folder) as listing:
        for entry in listing:
            try:
                about = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # removed meanwhile
                continue
            size = about.st_size if stat.S_ISREG(about.st_mode) else 0
            entries.append(Entry(entry.name, about.st_mode, size))
    return (found.st_dev, found.st_ino), sorted(entries)
