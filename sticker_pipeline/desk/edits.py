"""Changes of a person's files: compared before writing, atomic, undoable."""

import codecs
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sticker_pipeline.core.files.durable import THREADS, sync_file, sync_folder
from sticker_pipeline.core.files.inside import OutsideError, TooLargeError, read_bytes
from sticker_pipeline.core.storage import atomic_file
from sticker_pipeline.core.texts import MARKS, UserError

MOST_BYTES = 1_000_000  # of a file that is changed
WRITABLE = 0o222
_CODECS = {  # of a file with this mark; Python's names without an end would write the mark again
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


class EditError(UserError):
    """An impossible change; the message has the remedy, nothing was written."""


class Conflict(EditError):
    """A file that was changed meanwhile, as by an editor."""


@dataclass(frozen=True)
class Edit:
    """New content of a file below `root`; None: no file.

    `before`: the content that the person saw.
    """

    root: Path
    file: str
    before: bytes | None
    after: bytes | None

    @property
    def path(self) -> Path:
        return self.root / self.file

    def undone(self) -> "Edit":
        """Return the edit that brings the earlier content back."""
        return Edit(self.root, self.file, self.after, self.before)


def content(root: Path, file: str) -> bytes | None:
    """Return a file's bytes; None without a file.

    Raises EditError for a file that cannot be read, or that lies behind a link out of `root`.
    """
    try:
        return read_bytes(root / file, [root], MOST_BYTES)
    except FileNotFoundError:
        return None
    except OutsideError as error:
        raise EditError(f"{file} lies behind a link, outside of {root}: change it there.") from error
    except TooLargeError as error:
        raise EditError(f"{file} has more than {MOST_BYTES:,} bytes: change it with an editor.") from error
    except OSError as error:
        raise EditError(f"{file} cannot be read: {error.strerror}.") from error


def encoded_like(text: str, before: bytes | None) -> bytes:
    """Encode `text` with the mark and uniform line ends of `before`."""
    mark = next((mark for mark, _ in MARKS if before and before.startswith(mark)), b"")
    codec = _CODECS.get(mark, "utf-8")
    old = before[len(mark) :].decode(codec) if before else ""
    if old.count("\r\n") == old.count("\n") > 0:
        text = text.replace("\r\n", "\n").replace("\n", "\r\n")
    return mark + text.encode(codec)


def apply(edits: Sequence[Edit]) -> tuple[list[Edit], list[str]]:
    """Write `edits`; return those made, and sentences on the others.

    A file whose content is not `before` is left as it is.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        said = list(pool.map(_problem, edits))
    return [edit for edit, problem in zip(edits, said, strict=True) if not problem], list(filter(None, said))


def _problem(edit: Edit) -> str:
    """Write one edit; return why it was not made, else ""."""
    try:
        apply_one(edit)
    except UserError as error:
        return str(error)
    return ""


def apply_one(edit: Edit) -> None:
    """Write one edit. Raises Conflict or EditError."""
    _check_place(edit)
    _compare(edit)
    try:
        if edit.after is None:
            edit.path.unlink()
        else:
            _write(edit, edit.after)
        sync_folder(edit.path.parent)
    except OSError as error:
        raise EditError(f"{edit.file} cannot be written: {error.strerror or error}.") from error


def _write(edit: Edit, after: bytes) -> None:
    mode = edit.path.stat().st_mode & 0o777 if edit.before is not None else None
    if mode is not None and not mode & WRITABLE:
        raise EditError(f"{edit.file} is write-protected, and is left as it is.")
    with atomic_file(edit.path) as staging:
        staging.write_bytes(after)
        if mode is not None:
            staging.chmod(mode)
        sync_file(staging)
        _compare(edit)  # an editor may have saved meanwhile


def _compare(edit: Edit) -> None:
    if content(edit.root, edit.file) != edit.before:
        raise Conflict(f"{edit.file} was changed meanwhile, and is left as it is: look at it again.")


def _check_place(edit: Edit) -> None:
    """Raise EditError for a path through a link or out of `root`."""
    place = edit.root
    for part in Path(edit.file).parts:
        if part in ("", ".", "..") or Path(part).is_absolute():
            raise EditError(f"{edit.file!r} is no path below {edit.root}.")
        place = place / part
        if place.is_symlink():
            raise EditError(f"{edit.file} lies behind the link {place}: change the file that it leads to.")
    if not edit.path.parent.is_dir():
        raise Conflict(f"The folder of {edit.file} is gone: load the page again.")
