"""Fetching of models at the locked revision, verified, all or nothing.

`.fetch/<name>` in the models' folder holds arriving files. When all are verified, the new lock entry is written there;
then moving files and updating the lock can be repeated after any interruption.
"""

import errno
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sticker_pipeline.core.files.space import SpaceError, enough, writing
from sticker_pipeline.core.known_models import FetchError, Source
from sticker_pipeline.core.storage import atomic_file, file_sha256
from sticker_pipeline.core.texts import counted
from sticker_pipeline.models import hub
from sticker_pipeline.models.arriving import part_of
from sticker_pipeline.models.content import parse_json, why_refused
from sticker_pipeline.models.hub import Remote, RemoteFile
from sticker_pipeline.models.lock import (
    LOCK_FILE,
    Locked,
    LockedFile,
    changed_files,
    checked_entry,
    entry_of,
    missing_files,
    read_lock,
    write_entry,
)

STAGING = ".fetch"
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_WHOLE = "whole.json"  # in a staging folder: the entry of its complete, verified files

Say = Callable[[str], None]
Download = Callable[[str, str, RemoteFile, Path], None]  # (revision, name, expected, target)
Judge = Callable[[Path], str | None]


def fetch(
    source: Source, models: Path, memos: Path, *, update: bool = False, endpoint: str | None = None, say: Say
) -> None:
    """Fetch the locked files of a model into `models`/<name>, or lock them.

    Args:
        source: from `known_models.source_of`.
        models: STICKER_MODELS.
        memos: folder of remembered hashes (see `caching.folder_hashes`).
        update: go to the newest revision (or the source's own) and lock it.
        endpoint: of the hub; None: HF_ENDPOINT, else the public one.
        say: receives progress as sentences.

    Correct files are left alone; if none is missing there is no network traffic. Raises FetchError, one sentence with
    remedy, for a file that is not the locked one or the hub's, another repository than the locked one, content that may
    not be loaded, and errors of hub or disk.
    """

    def download(revision: str, name: str, expected: RemoteFile, target: Path) -> None:
        hub.download(source.repo, revision, name, expected.bytes, target, endpoint, say)

    look_up = partial(hub.look_up, source, endpoint)
    bring(source, models, memos, look_up=look_up, download=download, update=update, say=say)


def bring(
    source: Source,
    models: Path,
    memos: Path,
    *,
    look_up: Callable[[], Remote],
    download: Download,
    judge: Judge = lambda path: None,
    update: bool = False,
    say: Say,
) -> None:
    """Run `fetch` with any source.

    `look_up` returns the files, `download` fetches one at a revision, `judge` returns the end of a sentence on a bad
    file.
    """
    with _disk_in_plain_words(models):
        old = _checked_entry(source, models, memos, update)
        interrupted = (_staging(models, source.name) / _WHOLE).is_file()
        if old is not None and not update and not interrupted and not missing_files(models, source.name, old):
            say(f"{source.name}: complete and verified, {old.repo} at {old.revision[:12]}")
            return
        with _alone(models):
            _finish_interrupted(models, source.name)
            old = _checked_entry(source, models, memos, update)
            if old is not None and not update:
                _bring(source, models, Remote(old.revision, _as_remote(old)), old, download, judge, say)
            else:
                _bring(source, models, look_up(), old, download, judge, say)


def _checked_entry(source: Source, models: Path, memos: Path, update: bool) -> Locked | None:
    """Return the model's lock entry, if any, after checking source and files.

    Nothing is checked while an interrupted move is pending: files may be of either revision.
    """
    old = read_lock(models).get(source.name)
    if old is None or (_staging(models, source.name) / _WHOLE).is_file():
        return old
    _refuse_other_source(source, old, models, update)
    changed = changed_files(models, source.name, old, memos)
    if changed:
        raise FetchError("\n".join(changed))
    return old


def _refuse_other_source(source: Source, old: Locked, models: Path, update: bool) -> None:
    if old.repo != source.repo:
        raise FetchError(
            f"{source.name} is locked to {old.repo} in {models / LOCK_FILE}, not to {source.repo}. To change it, "
            "delete the folder and its entry there."
        )
    commit = source.revision is not None and _COMMIT.fullmatch(source.revision)  # a branch may have moved
    if commit and not update and not old.revision.startswith(str(source.revision)):
        raise FetchError(
            f"{source.name} is locked at {old.revision}, not at {source.revision}: "
            f"`sticker-pipeline fetch-models --update {source.repo}@{source.revision}` moves it there."
        )


def _as_remote(locked: Locked) -> dict[str, RemoteFile]:
    return {name: RemoteFile(file.bytes, file.sha256, None) for name, file in locked.files.items()}


def _bring(
    source: Source,
    models: Path,
    remote: Remote,
    old: Locked | None,
    download: Download,
    judge: Judge,
    say: Say,
) -> None:
    revision, wanted = remote.revision, remote.files
    folder, staging = models / source.name, _staging(models, source.name)
    absent = [name for name, expected in wanted.items() if not _is(folder / name, expected)]
    if old is None:
        _refuse_to_overwrite(folder, absent, source)
    arriving = [name for name in absent if not _is(staging / name, wanted[name])]
    left = sum(max(0, wanted[name].bytes - _arrived(staging / name)) for name in arriving)
    enough(models, left, f"{source.name} from {source.repo}", say)
    if arriving:
        say(f"{source.name}: {counted(len(arriving), 'file')} of {source.repo} at {revision[:12]}")
    files = {}
    for name, expected in wanted.items():
        path = (staging if name in absent else folder) / name
        if name in arriving:
            path.unlink(missing_ok=True)
            download(revision, name, expected, path)
            _verify(path, name, expected, source, revision)
        _check_content(path, name, source, judge)
        files[name] = LockedFile(expected.bytes, expected.sha256 or file_sha256(path))
    entry = Locked(source.repo, revision, files)
    if not absent and old == entry:
        say(f"{source.name}: {source.repo} at {revision[:12]} is the newest, complete and verified")
        return
    staging.mkdir(parents=True, exist_ok=True)
    with atomic_file(staging / _WHOLE) as path:
        path.write_text(json.dumps(entry_of(entry)), encoding="utf-8")
    _finish_interrupted(models, source.name)
    say(f"{source.name}: {source.repo} at {revision[:12]} is in {folder}, and locked in {LOCK_FILE}")


def _refuse_to_overwrite(folder: Path, absent: list[str], source: Source) -> None:
    strange = [folder / name for name in absent if (folder / name).exists()]
    if strange:
        raise FetchError(
            f"{strange[0]} is there already and is not the file of {source.repo}. It is used as it is; to have "
            "that one instead, move it away and run this again."
        )


def _is(path: Path, expected: RemoteFile) -> bool:
    return path.is_file() and path.stat().st_size == expected.bytes and _hash_like(path, expected) == _hash_of(expected)


def _hash_of(expected: RemoteFile) -> str | None:
    return expected.sha256 or expected.git_sha1


def _hash_like(path: Path, expected: RemoteFile) -> str:
    if expected.sha256:
        return file_sha256(path)
    hasher = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)  # git's
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


def _verify(path: Path, name: str, expected: RemoteFile, source: Source, revision: str) -> None:
    if _is(path, expected):
        return
    got = f"{path.stat().st_size} bytes, hash {_hash_like(path, expected)}"
    path.unlink()
    raise FetchError(
        f"{source.name}: {name} of {source.repo} at {revision} arrived as {got} where {expected.bytes} bytes, hash "
        f"{_hash_of(expected)} was expected, and was thrown away. Run this again; if it stays so, this is not the "
        "file that was locked, there or in the mirror in HF_ENDPOINT."
    )


def _check_content(path: Path, name: str, source: Source, judge: Judge) -> None:
    """Raise FetchError for refused content, or a CLIP without quick_gelu."""
    why = why_refused(path, name) or judge(path)
    if why:
        raise FetchError(f"{source.name}: {name} of {source.repo} {why} It was not put into place.")
    if name != "open_clip_config.json":
        return
    try:
        quick = parse_json(path.read_bytes())["model_cfg"]["quick_gelu"]
    except (ValueError, TypeError, LookupError):
        quick = None
    if quick is not True:
        raise FetchError(
            f"{source.name}: {name} of {source.repo} does not say `quick_gelu: true`. Its weights were trained with "
            f"it; without it, all similarities come out wrong. Use a revision that says so: {source.repo}@REVISION."
        )


def _arrived(path: Path) -> int:
    part = part_of(path)
    return part.stat().st_size if part.is_file() else 0


def _staging(models: Path, name: str) -> Path:
    return models / STAGING / name.replace("/", "+")


def _finish_interrupted(models: Path, name: str) -> None:
    """Move verified staged files, if any, into place and lock them."""
    staging, folder = _staging(models, name), models / name
    if not (staging / _WHOLE).is_file():
        return
    try:
        entry = checked_entry(name, parse_json((staging / _WHOLE).read_bytes()))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):  # damaged: staged files are verified again
        (staging / _WHOLE).unlink()
        return
    for file in entry.files:
        if (staging / file).is_file():
            _move(staging / file, folder / file)
    before = read_lock(models).get(name)
    write_entry(models, name, entry)
    for file in set(before.files if before else ()) - set(entry.files):
        (folder / file).unlink(missing_ok=True)
    shutil.rmtree(staging)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:  # the model's folder is a link to another disk
            raise
        with atomic_file(target) as staging:
            shutil.copyfile(source, staging)


@contextmanager
def _alone(models: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    (models / STAGING).mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(models / STAGING / "lock", timeout=0):
            yield
    except Timeout as error:
        raise FetchError(f"Another fetch-models is at work in {models}. Wait until it is done.") from error


@contextmanager
def _disk_in_plain_words(models: Path) -> Iterator[None]:
    try:
        with writing(models):
            yield
    except SpaceError as error:
        raise FetchError(str(error)) from error
    except OSError as error:
        raise FetchError(f"{error.filename or models}: {error.strerror or error}.") from error
