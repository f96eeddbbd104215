"""The lock file models.lock.json: revision, sizes and hashes of fetched models.

The first download writes it; later ones follow it, also on other machines.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from sticker_pipeline.core.caching import folder_hashes
from sticker_pipeline.core.known_models import REVISION, SAFE_NAME, FetchError, known_models
from sticker_pipeline.core.storage import durable_file
from sticker_pipeline.models.content import parse_json

LOCK_FILE = "models.lock.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class LockedFile:
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Locked:
    """One model of the lock file.

    `revision`: a commit of `repo`, or a single file's SHA-256 (`models/single.py`); `files`: by path in its folder.
    """

    repo: str
    revision: str
    files: dict[str, LockedFile]


def read_lock(models: Path) -> dict[str, Locked]:
    """Read models.lock.json by model name; empty without one. Raises FetchError if malformed."""
    path = models / LOCK_FILE
    try:
        entries = parse_json(path.read_text(encoding="utf-8"))
        return {name: checked_entry(name, entry) for name, entry in entries.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise FetchError(
            f"{path} is not a lock file ({error}). Take it from version control or another machine, or delete it: "
            "the next download of each model then writes it anew."
        ) from error


def checked_entry(name: str, entry: Mapping[str, object]) -> Locked:
    """Return the entry of model `name`.

    Raises ValueError, TypeError or KeyError for a malformed one, or unsafe paths.
    """
    locked = locked_from(entry)
    for text in (name, *locked.files):
        if not SAFE_NAME.fullmatch(text):
            raise ValueError(f"{text!r} is no name of a model or file")
    if not REVISION.fullmatch(locked.revision):
        raise ValueError(f"{name}: revision {locked.revision!r} is no commit, nor a SHA-256")
    if not locked.files or not all(_SHA256.fullmatch(file.sha256) for file in locked.files.values()):
        raise ValueError(f"{name}: a sha256 is missing or malformed")
    return locked


def locked_from(entry: Mapping[str, object]) -> Locked:
    """Read an entry written by `entry_of`."""
    files = entry["files"]
    if not isinstance(files, dict):
        raise TypeError("`files` is no object")
    return Locked(
        str(entry["repo"]),
        str(entry["revision"]),
        {name: LockedFile(int(file["bytes"]), str(file["sha256"])) for name, file in files.items()},
    )


def entry_of(locked: Locked) -> dict[str, object]:
    return asdict(locked)


def locked_origin(models: Path, name: str) -> str:
    """Return `name` if it fetches the locked model again, else its `repo`."""
    entry, known = read_lock(models).get(name), known_models().get(name)
    return entry.repo if entry and not (known and known.repo == entry.repo) else name


def write_entry(models: Path, name: str, locked: Locked) -> None:
    """Replace one model's entry in the lock file."""
    entries = {**{key: entry_of(value) for key, value in read_lock(models).items()}, name: entry_of(locked)}
    with durable_file(models / LOCK_FILE) as staging:
        staging.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def missing_files(models: Path, name: str, locked: Locked) -> list[str]:
    """Return the entry's files absent from the model's folder."""
    return [file for file in locked.files if not (models / name / file).is_file()]


def changed_files(models: Path, name: str, locked: Locked, memos: Path) -> list[str]:
    """Describe present files that differ from the lock entry; `memos`: see `folder_hashes`."""
    folder = models / name
    sentences = []
    hashes: dict[str, str] | None = None
    for file, expected in locked.files.items():
        path = folder / file
        if not path.is_file():
            continue
        size = path.stat().st_size
        if size != expected.bytes:
            found = f"has {size} bytes where {LOCK_FILE} has {expected.bytes}"
        else:
            hashes = hashes if hashes is not None else folder_hashes(folder, memos)
            if hashes.get(file) == expected.sha256:
                continue
            found = f"has sha256 {hashes.get(file, 'unreadable')} where {LOCK_FILE} has {expected.sha256}"
        sentences.append(
            f"{path} {found}: it was changed or came from elsewhere. Delete it, then `sticker-pipeline fetch-models "
            f"{name}` brings the locked one back; or keep it and remove {name!r} from {models / LOCK_FILE}."
        )
    return sentences


def problems(models: Path, memos: Path) -> list[str]:
    """Describe changed and missing files of all fetched models, a sentence each."""
    try:
        entries = read_lock(models)
    except FetchError as error:
        return [str(error)]
    found = []
    for name, locked in entries.items():
        missing = missing_files(models, name, locked)
        if missing:
            found.append(
                f"{models / name / missing[0]} is in {LOCK_FILE} but missing: "
                f"`sticker-pipeline fetch-models {name}` brings it back."
            )
        found += changed_files(models, name, locked, memos)
    return found
