"""Folders that are taken up again later, with the hash of each file: one flipped bit is noticed before it is used."""

import json
from collections.abc import Sequence
from pathlib import Path

from sticker_pipeline.storage import file_sha256

NAME = "sealed.json"
_REMEDY = "it counts as none, and what it held is made again"


def seal(folder: Path, beside: Sequence[Path] = ()) -> None:
    """Write the hashes of the files in `folder`, and of those `beside` it, into it.

    Args:
        folder: complete but for this.
        beside: files that are needed with it. They are found again by their folder's and their own name, two levels
            above `folder`.
    """
    hashes = {
        "files": {path.name: file_sha256(path) for path in sorted(folder.iterdir())},
        "beside": {f"{path.parent.name}/{path.name}": file_sha256(path) for path in beside},
    }
    (folder / NAME).write_text(json.dumps(hashes), encoding="utf-8")


def damage(folder: Path) -> str | None:
    """The sentence about a `folder` that is not as it was sealed; None where it is."""
    try:
        hashes = json.loads((folder / NAME).read_text(encoding="utf-8"))
        files = {folder / name: sha256 for name, sha256 in hashes["files"].items()}
        files |= {folder.parent.parent / name: sha256 for name, sha256 in hashes["beside"].items()}
        there = {path for path in folder.iterdir() if path.name != NAME}
        if strange := sorted(there.difference(files)):
            return f"{folder} is damaged: {strange[0].name} is no part of it; {_REMEDY}."
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"{folder} is damaged: {NAME} cannot be read ({type(error).__name__}); {_REMEDY}."
    for path, sha256 in files.items():
        if _sha256(path) != sha256:
            return f"{folder} is damaged: {path.name} is not what was written; {_REMEDY}."
    return None


def _sha256(path: Path) -> str | None:
    """The hash of a file; None for one that cannot be read."""
    try:
        return file_sha256(path)
    except OSError:
        return None
