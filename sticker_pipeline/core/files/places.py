"""Checks of a deployment's folders before any work: writable, and not overlapping.

The project replaces and removes artifacts: no other files may lie among them, nor they among a person's.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sticker_pipeline.core.files.space import MIB, SpaceError, in_words
from sticker_pipeline.core.texts import is_unicode

LEAST = MIB  # free bytes without which nothing begins
_SYSTEM = ("/proc", "/sys", "/dev")
_MEMORY = "/dev/shm"  # a usable disk in memory
_OTHER = "Choose another folder."


@dataclass(frozen=True)
class Places:
    """A deployment's folders, one for each variable.

    artifacts: of `variable`; of local copies, if the artifacts are in an object store.
    """

    characters: Path
    artifacts: Path
    models: Path
    home: Path
    variable: str = "STICKER_ARTIFACTS"


def check_places(places: Places) -> None:
    """Raise SpaceError, in one sentence, for unusable folders."""
    problem = places_problem(places)
    if problem:
        raise SpaceError(problem)


def places_problem(places: Places) -> str | None:
    """Return the sentence on unusable folders, or None."""
    return next(_problems(places), None)


def check_writable(variable: str, folder: Path) -> None:
    """Raise SpaceError, in one sentence, for an unwritable folder."""
    problem = unwritable(variable, folder)
    if problem:
        raise SpaceError(problem)


def _problems(places: Places) -> Iterator[str]:
    named = {
        "STICKER_CHARACTERS": places.characters,
        places.variable: places.artifacts,
        "STICKER_MODELS": places.models,
        "DAGSTER_HOME": places.home,
    }
    yield from filter(None, (_no_folder(variable, folder) for variable, folder in named.items()))
    for one, other in (
        (places.variable, "STICKER_CHARACTERS"),
        (places.variable, "STICKER_MODELS"),
        ("DAGSTER_HOME", "STICKER_CHARACTERS"),
    ):
        yield from filter(None, [_overlap(one, named[one], other, named[other])])
    for variable in (places.variable, "DAGSTER_HOME"):
        yield from filter(None, [unwritable(variable, named[variable])])


def _overlap(one: str, folder: Path, other: str, beside: Path) -> str | None:
    first, second = (Path(os.path.realpath(path)) for path in (folder, beside))
    if first == second:
        how = f"it is {other}, too"
    elif second in first.parents:
        how = f"it is inside {other}={beside}"
    elif first in second.parents:
        how = f"{other}={beside} is inside it"
    else:
        return None
    return f"{one}={folder}: {how}. Choose two folders, neither inside the other."


def _no_folder(variable: str, folder: Path) -> str | None:
    """Return a sentence if the path cannot be our folder, else None."""
    said = f"{variable}={folder}"
    if not is_unicode(os.fspath(folder)):
        shown = os.fsencode(folder).decode("utf-8", "backslashreplace")
        return f"{variable}={shown}: its name is not UTF-8. {_OTHER}"
    real, named = os.path.realpath(folder), os.path.normpath(folder)  # /proc/self/cwd differs for each process
    both = [path for path in (named, real) if not _is_inside(path, _MEMORY)]
    inside = next((top for top in _SYSTEM if any(_is_inside(path, top) for path in both)), None)
    if sys.platform != "win32" and inside:
        return f"{said}: it is in {inside}, which holds no real files. {_OTHER}"
    try:
        there = _existing(folder)
        if not there.is_dir():
            return f"{said}: {there} is a file, and no folder. Move it away, or choose another folder."
        if folder.is_symlink() and not folder.exists():
            return f"{said}: it is a link to {real}, which is not there. Make that folder, or choose another one."
    except OSError as error:
        return f"{said}: {error.strerror}. {_OTHER}"
    return None


def unwritable(variable: str, folder: Path) -> str | None:
    """Return the sentence on an unwritable folder, or None."""
    if problem := _no_folder(variable, folder):
        return problem
    there = _existing(folder)
    said = f"{variable}={folder}"
    if not os.access(there, os.W_OK | os.X_OK):
        if _is_read_only(there):
            return f"{said}: its file system is read-only. Mount it for writing, or choose another folder."
        return f"{said}: writing to {there} is not allowed. Allow it, or choose another folder."
    free = shutil.disk_usage(there).free
    if free < LEAST:
        return f"{said}: its disk is full, {in_words(free)} are free. Make room there, or choose another folder."
    if not _has_names(there):
        return f"{said}: its disk can hold no more files (inodes). Remove some there, or choose another folder."
    return None


def _is_inside(path: str, top: str) -> bool:
    return path == top or path.startswith(f"{top}/")


def _is_read_only(folder: Path) -> bool:
    return hasattr(os, "statvfs") and bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def _has_names(folder: Path) -> bool:
    """Tell whether inodes are free; systems without a limit report 0."""
    if not hasattr(os, "statvfs"):
        return True
    status = os.statvfs(folder)
    return status.f_files == 0 or status.f_favail > 0


def _existing(path: Path) -> Path:
    return next((folder for folder in (path, *path.parents) if folder.exists()), Path())
