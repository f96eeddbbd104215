"""The store of artifacts in a bucket, with local copies.

    <url>/_blobs/<sha256>                 files by content, never changed
    <url>/<scope>/<asset>/artifact.json   manifest of the artifact, and pointer to its files
    <url>/<scope>/releases.json           files of the releases, by name
    <url>/<scope>/.work/<name>.json       files of an unfinished training

Only the last three change, each by one conditional write: readers see a whole version, and of two writers one wins.
"""

import json
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sticker_pipeline.core.files.inside import read_bytes
from sticker_pipeline.core.object_store.blobs import BLOBS, VERSIONS, download, keep, private_folder, upload
from sticker_pipeline.core.object_store.bucket import Bucket, BucketError, Conflict, Meta, open_bucket
from sticker_pipeline.core.storage import (
    MANIFEST,
    SCOPE,
    Artifact,
    ArtifactStore,
    Save,
    StorageError,
    Superseded,
    artifact_from,
    atomic_file,
    check_files,
    file_sha256,
    link_or_copy,
    said,
    visible_files,
)

BIG = 2**20  # bytes: larger files of a tree are fetched by `bring`
CHANGES = 20  # tries of a change that another machine came before
WORK_SECONDS = 15.0  # between two uploads of an unfinished training
AFTER_BLOBS = f"{BLOBS}/g"  # after the hex digits of all blobs
Files = dict[str, dict[str, Any]]  # name -> bytes, sha256
Result = TypeVar("Result")
_LOG = logging.getLogger(__name__)


class ObjectStore(ArtifactStore):
    """Artifacts in a bucket; claims and caches in the folder `scratch`."""

    def __init__(self, url: str, scratch: Path | str) -> None:
        super().__init__(scratch)
        self.bucket = open_bucket(url)
        self._exists = False

    # --- artifacts ----------------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        return self.bucket.url

    def stamp(self, scope: str, asset: str) -> str:
        return self._tag(self._key(scope, asset))

    def characters_with(self, asset: str) -> list[str]:
        return sorted(scope for scope, found in self.artifacts() if found == asset and not scope.startswith("_"))

    def _find(self, scope: str, asset: str) -> Artifact | None:
        key = self._key(scope, asset)
        found = self._manifest(key)
        if found is None:
            return None
        file, data = found
        artifact = artifact_from(file.parent, data)
        bring = partial(self._bring, file.parent, artifact.files)
        return replace(artifact, uri=self.uri(scope, asset), bring=bring)

    def published_at(self, artifact: Artifact) -> float:
        found = self.bucket.head(f"{artifact.uri.removeprefix(f'{self.bucket.url}/')}/{MANIFEST}")
        return found.changed if found else 0.0

    def _version(self, scope: str, asset: str) -> str:
        return self.afresh()._tag(self._key(scope, asset))

    def _put(self, staging: Path, scope: str, asset: str, before: str) -> bool:
        data = (staging / MANIFEST).read_bytes()
        blobs = {str(entry["sha256"]): staging / name for name, entry in json.loads(data)["files"].items()}
        try:
            tag = self._put_files(self._key(scope, asset), blobs, data, before)
        except Conflict:
            return False
        self._adopt(staging, self._local(self._key(scope, asset), tag).parent)
        return True

    def _put_over(self, key: str, data: bytes, before: str) -> str:
        """Write over version `before`; over nothing where it was deleted. Raises Conflict."""
        try:
            return self.bucket.put_if(key, data, before)
        except Conflict:
            if before and self.bucket.head(key) is None:
                return self.bucket.put_if(key, data, "")
            raise

    def _adopt(self, staging: Path, folder: Path) -> None:
        """Make the published `staging` this machine's copy; a copy that exists stays."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            staging.rename(folder)

    def artifacts(self) -> list[tuple[str, str]]:
        return self._listed(rf"(?P<name>[a-z][^/]*)/{re.escape(MANIFEST)}")

    def works(self) -> list[tuple[str, str]]:
        return self._listed(r"\.work/(?P<name>[^/]+)\.json")

    def _listed(self, pattern: str) -> list[tuple[str, str]]:
        """Return scope and name of manifests; other objects are none of ours."""
        whole = re.compile(rf"(?P<scope>{SCOPE.pattern})/{pattern}")
        return [(found["scope"], found["name"]) for found in map(whole.fullmatch, self._listing()) if found]

    # --- trees: folders that are changed in place ---------------------------------------------------------------------

    def tree(self, scope: str, name: str) -> Path:
        found = self._manifest(self._tree_key(scope, name))
        if found is None:
            return self.folder(scope, name)
        file, data = found
        folder, files = file.with_suffix(""), files_of(data, self.uri(scope, name))
        self._bring(folder, files, [one for one, entry in files.items() if entry["bytes"] <= BIG])
        return folder

    def characters_with_tree(self, name: str) -> list[str]:
        found = self._listed(rf"(?P<name>{re.escape(name)})\.json")
        return sorted(scope for scope, _ in found if not scope.startswith("_"))

    def bring(self, path: Path) -> Path:
        for folder in path.parents:
            manifest = folder.with_name(f"{folder.name}.json")
            if manifest.is_file():
                self._bring(folder, files_of(manifest.read_bytes(), str(folder)), [path.relative_to(folder).as_posix()])
                return path
        return path

    def change(self, scope: str, name: str, do: Callable[[Path], Result]) -> Result:
        key = self._tree_key(scope, name)
        for _ in range(CHANGES):
            with self._private_copy(scope, name) as (folder, before, files):
                result = do(folder)
                now = _described(folder)
                if now == files:
                    return result
                blobs = {str(entry["sha256"]): folder / one for one, entry in now.items()}
                try:
                    self._put_files(key, blobs, _tree_data(now), before)
                except Conflict:
                    continue
                return result
        raise Superseded(f"{self.uri(scope, name)} is changed by other machines all the time: run this again.")

    @contextmanager
    def _private_copy(self, scope: str, name: str) -> Iterator[tuple[Path, str, Files]]:
        """Yield a private copy of the tree, its version, its files."""
        found = self.bucket.get(self._tree_key(scope, name))
        data, before = found or (b'{"files": {}}', "")
        files = files_of(data, self.uri(scope, name))
        with private_folder(self.root) as place:
            folder = place / scope / name
            folder.mkdir(parents=True)
            self._bring(folder, files, None, shutil.copyfile)
            yield folder, before, files

    def _put_files(self, key: str, blobs: Mapping[str, Path], data: bytes, before: str) -> str:
        """Upload `blobs`, then put their manifest `data` over version `before`.

        Returns the new version. Raises Conflict.
        """
        upload(self.bucket, blobs)
        tag = self._put_over(key, data, before)
        for sha256, path in blobs.items():
            keep(self.root, sha256, path)
        return tag

    def _tree_key(self, scope: str, name: str) -> str:
        self._place(scope)
        return f"{scope}/{name}.json"

    # --- unfinished trainings -----------------------------------------------------------------------------------------

    @contextmanager
    def working(self, scope: str, name: str) -> Iterator[Save]:
        key, folder = self._tree_key(scope, f".work/{name}"), self.work(scope, name)
        work = _Work(self, key, folder)
        work.take_over()
        try:
            yield work.keep_now_and_then
        except Superseded:
            raise
        except BaseException:
            work.keep()
            raise
        work.keep()

    def finish_work(self, scope: str, name: str) -> None:
        super().finish_work(scope, name)
        self.bucket.delete([self._tree_key(scope, f".work/{name}")])

    # --- manifests ----------------------------------------------------------------------------------------------------

    def _key(self, scope: str, asset: str) -> str:
        self._place(scope)
        return f"{scope}/{asset}/{MANIFEST}"

    def _tag(self, key: str) -> str:
        """Return an object's version, empty without it. Raises BucketError without the bucket."""
        if self._seen is not None:
            return self._listing().get(key, "")
        found = self.bucket.head(key)
        if found is None and not self._exists:
            self.bucket.check()  # a bucket that is gone has no artifacts either
            self._exists = True
        return found.tag if found else ""

    def _listing(self) -> dict[str, str]:
        """Return key -> version of all manifests: a request for a thousand."""
        return self.once("listing", lambda: {meta.key: meta.tag for meta in every_manifest(self.bucket)})

    def _manifest(self, key: str) -> tuple[Path, bytes] | None:
        """Return a manifest's local path and bytes, read once for each version."""
        tag = self._tag(key)
        if not tag:
            return None
        file = self._local(key, tag)
        try:
            data = read_bytes(file)
            os.utime(self._versions_of(tag))  # in use: see `tidy`
            return file, data
        except OSError:
            found = self.bucket.get(key)
        if found is None:
            return None
        data, tag = found
        with atomic_file(self._local(key, tag)) as staging:
            staging.write_bytes(data)
        return self._local(key, tag), data

    def _local(self, key: str, tag: str) -> Path:
        """Return a manifest version's local path; its files lie beside it."""
        return self._versions_of(tag) / key

    def _versions_of(self, tag: str) -> Path:
        return self.root / VERSIONS / re.sub("[^A-Za-z0-9-]", "", tag)

    def _bring(
        self,
        folder: Path,
        files: Mapping[str, Mapping[str, Any]],
        names: Iterable[str] | None,
        to: Callable[[Path, Path], object] = link_or_copy,
    ) -> None:
        """Bring `names` (default: all) of `files` into `folder`."""
        wanted = files if names is None else [name for name in names if name in files]
        download(self.bucket, self.root, {folder / name: str(files[name]["sha256"]) for name in wanted}, to)


class _Work:
    """The files of an unfinished training, here and in the bucket.

    Taking over writes a new version of the manifest: a process that had it before cannot write it any more.
    """

    def __init__(self, store: ObjectStore, key: str, folder: Path) -> None:
        self.store, self.key, self.folder = store, key, folder
        self.tag, self.files, self.due = "", Files(), 0.0
        self.stamps: dict[str, tuple[int, int]] = {}  # size and time of files when they were hashed
        self.owner = uuid.uuid4().hex

    def take_over(self) -> None:
        """Bring the newest files here, and keep other processes from writing."""
        found = self.store.bucket.get(self.key)
        data, before = found or (b'{"files": {}}', "")
        self.files = files_of(data, f"{self.store.bucket.url}/{self.key}".removesuffix(".json"))
        if found:
            for name in _described(self.folder).keys() - self.files.keys():
                (self.folder / name).unlink(missing_ok=True)
            for name, entry in self.files.items():
                if (self.folder / name).is_file() and file_sha256(self.folder / name) != entry["sha256"]:
                    (self.folder / name).unlink()
            self._bring()
        self.tag = self._put(self.files, before)

    def _bring(self) -> None:
        """Bring missing files.

        Without one that is lost, the training goes on from another state.
        """
        for name in [name for name in self.files if not (self.folder / name).is_file()]:
            try:
                self.store._bring(self.folder, self.files, [name], shutil.copyfile)
            except BucketError:
                raise
            except StorageError as error:
                _LOG.warning("%s", error)
                del self.files[name]

    def keep_now_and_then(self, at_once: bool = False) -> None:
        """Upload what is new; unless `at_once`, at most once in WORK_SECONDS."""
        if at_once or time.monotonic() >= self.due:
            self.keep()
            self.due = time.monotonic() + WORK_SECONDS

    def keep(self) -> None:
        """Upload what is new. Raises Superseded where another process took over."""
        with self._copied() as (copies, files):
            upload(self.store.bucket, copies)
            if files != self.files:
                self.tag = self._put(files, self.tag)
                self.files = files

    def _put(self, files: Files, before: str) -> str:
        try:
            return self.store.bucket.put_if(self.key, _tree_data(files, owner=self.owner), before)
        except Conflict as error:
            raise Superseded(
                f"{self.store.bucket.url}/{self.key}: another run goes on with this work. This one ends."
            ) from error

    @contextmanager
    def _copied(self) -> Iterator[tuple[dict[str, Path], Files]]:
        """Yield copies of new files, and sizes and hashes of all.

        Copies, since logs grow during an upload.
        """
        copies, files = dict[str, Path](), Files()
        with private_folder(self.store.root) as place:
            for name, path in visible_files(self.folder).items():
                with suppress(FileNotFoundError):  # removed meanwhile: an older state
                    about = path.stat()
                    stamp = about.st_size, about.st_mtime_ns
                    if name in self.files and self.stamps.get(name) == stamp:
                        files[name] = self.files[name]
                        continue
                    copy = place / uuid.uuid4().hex
                    shutil.copyfile(path, copy)
                    files[name], self.stamps[name] = _entry(copy), stamp
                    copies[str(files[name]["sha256"])] = copy
            yield copies, dict(sorted(files.items()))


def every_manifest(bucket: Bucket) -> Iterator[Meta]:
    """Yield all objects of the bucket but blobs.

    Some names come before those of blobs, such as `007`.
    """
    for meta in bucket.listed(""):
        if meta.key.startswith(f"{BLOBS}/"):
            break
        yield meta
    else:
        return
    yield from bucket.listed("", after=AFTER_BLOBS)


def files_of(data: bytes, uri: str) -> Files:
    """Return a manifest's files. Raises StorageError for a damaged one."""
    try:
        files: Files = json.loads(data)["files"]
        check_files(files)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StorageError(
            f"{uri}.json is damaged: {said(error)}. Bring an earlier version of it back, or move it away."
        ) from error
    return files


def _tree_data(files: Files, **more: str) -> bytes:
    return (json.dumps({"files": files, **more}, indent=1, sort_keys=True) + "\n").encode()


def _described(folder: Path) -> Files:
    """Return bytes and SHA-256 of the folder's files, without hidden ones."""
    return {name: _entry(path) for name, path in visible_files(folder).items()}


def _entry(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
