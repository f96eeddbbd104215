"""The store of artifacts: atomically written folders, manifests, hashes and caches."""

import csv
import errno
import hashlib
import io
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from copy import copy
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import pandas as pd

from sticker_pipeline.core import earlier_names
from sticker_pipeline.core.earlier_names import table_of_today
from sticker_pipeline.core.files.claims import claimed, is_claimed, silent
from sticker_pipeline.core.files.durable import sync_file, sync_folder, sync_tree
from sticker_pipeline.core.files.inside import read_bytes
from sticker_pipeline.core.files.space import Say, writing
from sticker_pipeline.core.schemas import INDEX, TableSchema, check
from sticker_pipeline.core.texts import UserError, shortened

MANIFEST = "artifact.json"
BEGUN = ".begun"  # in a folder being written, until somebody removes it
_FORMULA = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "＝",
    "＋",
    "－",
    "＠",
)  # first characters of cells that a spreadsheet computes
CLAIMS = ".claims"
ABANDONED = re.compile(r"\..+\.[0-9a-f]{8}")  # name of a folder being written
ALL = "_all"  # the scope of artifacts across characters
SOFTWARE = ("sticker_pipeline", "dagster", "torch", "diffusers", "peft", "onnxruntime", "pillow", "pandas")


ASSETS = {  # artifacts whose name differs from the asset's key
    "style_training_set": "style/training_set",
    "style_lora": "style/lora",
    "selected_style_lora": "style/selected_lora",
    "lcm_lora": "profile/lcm_lora",
}


def asset_of(artifact: str) -> str:
    """Return the asset key of an artifact, as in the UI."""
    return ASSETS.get(artifact, artifact)


def artifact_of(asset: str) -> str:
    names = {key: artifact for artifact, key in ASSETS.items()}
    return names.get(asset, asset.rpartition("/")[2])


def style_scope(style: str) -> str:
    return f"_styles/{style}"


def profile_scope(profile: str) -> str:
    return f"_profiles/{profile}"


SCOPE = re.compile(r"(_styles/|_profiles/)?[a-z0-9_][a-z0-9_.-]*")  # a scope's name
_SHA256 = re.compile("[0-9a-f]{64}")
_SCOPES = ("[a-z0-9]*", ALL, style_scope("*"), profile_scope("*"))  # as patterns
Read = TypeVar("Read")


class Save(Protocol):
    """Save a folder of unfinished work: now and then, or at once."""

    def __call__(self, at_once: bool = False) -> None: ...


class StorageError(UserError):
    """An artifact that is missing, damaged, or not made by this project."""


class Superseded(StorageError):
    """A write that another one came before; nothing was replaced."""


def _is_here(names: Iterable[str] | None) -> None:
    """Bring no files: they are on this machine."""


@dataclass(frozen=True)
class Artifact:
    """A published artifact; equal content has an equal `data_version`.

    `folder`: `.../<scope>/<asset>` on this machine; an object store's files come with `fetched`. `uri`: for people.
    """

    folder: Path
    asset: str
    code_version: str
    data_version: str
    inputs: dict[str, str]
    settings: dict[str, Any]
    files: dict[str, dict[str, Any]]
    uri: str = ""
    bring: Callable[[Iterable[str] | None], None] = field(default=_is_here, compare=False, repr=False)

    def fetched(self, names: Iterable[str] | None = None) -> Path:
        """Return the folder, with the files `names` (default: all) on this machine.

        Raises StorageError for a file that the object store lacks.
        """
        self.bring(names)
        return self.folder

    def table(self, name: str = INDEX) -> pd.DataFrame:
        """Return a published table with today's column names."""
        return table_of_today(pd.read_parquet(io.BytesIO(self.content(name))))

    def content(self, name: str) -> bytes:
        """Return a file's published bytes. Raises StorageError if damaged or missing."""
        return self._published(name, Path.read_bytes, lambda data: hashlib.sha256(data).hexdigest())

    def own_content(self, name: str) -> bytes | None:
        """Return a file's bytes of this manifest. Raises as `content`.

        None if the artifact was exchanged since.
        """
        data = self.content(name)
        return data if hashlib.sha256(data).hexdigest() == self.sha256(name) else None

    def file(self, name: str) -> Path:
        """Return a file's path, verified by its hash. Raises as `content`."""
        self._published(name, file_sha256, lambda sha256: sha256)
        return self.folder / name

    def sha256(self, name: str) -> str:
        """Return a file's hex SHA-256 from the manifest. Raises StorageError if absent."""
        if name not in self.files:
            raise self._without(name)
        return str(self.files[name]["sha256"])

    def _without(self, name: str) -> StorageError:
        asset = asset_of(self.folder.name)
        return StorageError(
            f"{self.uri or self.folder} has no {name}: it is of an earlier version, materialize '{asset}' again."
        )

    def _published(self, name: str, read: Callable[[Path], Read], sha256: Callable[[Read], str]) -> Read:
        if name not in self.files:
            raise self._without(name)
        path = self.fetched([name]) / name
        try:
            found = _while_exchanged(self.folder, lambda: read(path))
        except OSError as error:
            raise _damaged(path, self.folder, error.strerror or str(error)) from error
        if sha256(found) not in (self.sha256(name), _sha256_now(self.folder, name)):
            raise _damaged(path, self.folder, f"it is not what {MANIFEST} says")
        return found


class ArtifactStore:
    """Artifacts in `<root>/<scope>/<asset>/`, caches in `<root>/_cache/`."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()
        self._seen: dict[Hashable, Any] | None = None

    def folder(self, scope: str, asset: str) -> Path:
        """Return an artifact's folder. Raises StorageError for an invalid scope."""
        return self._place(scope) / asset

    def _place(self, scope: str) -> Path:
        if not SCOPE.fullmatch(scope):
            raise StorageError(f"{shortened(scope)!r} is the name of no character, style or profile.")
        return self.root / scope

    def snapshot(self) -> Self:
        """Return a store for surveys: it reads each artifact once."""
        return self._with({})

    def afresh(self) -> Self:
        """Return a store without a snapshot's results."""
        return self._with(None)

    def _with(self, seen: dict[Hashable, Any] | None) -> Self:
        store = copy(self)
        store._seen = seen
        return store

    def once(self, what: Hashable, read: Callable[[], Read]) -> Read:
        """Return the result of `read`; a snapshot calls it once per `what`."""
        if self._seen is None:
            return read()
        if what not in self._seen:
            self._seen[what] = read()
        found: Read = self._seen[what]
        return found

    def cache(self, kind: str) -> Path:
        """Return the cache folder of one kind; deleting it is always safe.

        Entries are named by the hash of all their inputs, so never stale.
        """
        return _folder(self.root / "_cache" / kind)

    def work(self, scope: str, name: str) -> Path:
        """Return a folder for work that survives interruptions, such as checkpoints."""
        return _folder(self._place(scope) / ".work" / name)

    @property
    def address(self) -> str:
        """The folder or URL, for people."""
        return str(self.root)

    def uri(self, scope: str, asset: str) -> str:
        """Return an artifact's address, for people."""
        return f"{self.address}/{scope}/{asset}"

    def find(self, scope: str, asset: str) -> Artifact | None:
        """Return the artifact, or None. Raises StorageError for a damaged one."""
        return self.once(("artifact", scope, asset), lambda: self._find(scope, asset))

    def stamp(self, scope: str, asset: str) -> str:
        """Return a text that publishing changes; empty without an artifact."""
        try:
            about = (self.folder(scope, asset) / MANIFEST).stat()
        except (FileNotFoundError, NotADirectoryError):
            return ""
        return f"{about.st_ino} {about.st_size} {about.st_mtime_ns}"

    def characters_with(self, asset: str) -> list[str]:
        """List the characters with this artifact, also removed ones."""
        return sorted(path.parent.parent.name for path in self.root.glob(f"[a-z0-9]*/{asset}/{MANIFEST}"))

    def _find(self, scope: str, asset: str) -> Artifact | None:
        folder = self.folder(scope, asset)
        _finish_interrupted_swap(folder)
        try:
            return artifact_from(folder, read_bytes(folder / MANIFEST))
        except FileNotFoundError:
            # it is being exchanged, or just was, or has its earlier name
            if _previous(folder).exists() or (folder / MANIFEST).is_file() or _renamed_to(folder):
                return self._find(scope, asset)
            return None
        except OSError as error:
            raise _damaged(folder / MANIFEST, folder, error.strerror or str(error)) from error

    def read(self, scope: str, asset: str) -> Artifact:
        """Return the artifact. Raises StorageError, naming the asset to materialize, for none."""
        artifact = self.find(scope, asset)
        if artifact is None:
            raise StorageError(
                f"{self.uri(scope, asset)} does not exist: materialize '{asset_of(asset)}' of '{scope}' first."
            )
        return artifact

    @contextmanager
    def writing(self, scope: str, asset: str, say: Say = silent, run: str | None = None) -> Iterator[Path]:
        """Yield a new empty folder beside the artifact, deleted at the end.

        `publish` moves it into place. One block at a time writes an artifact: others wait and `say` for whom (`run`:
        this Dagster run, named to them). Raises SpaceError for a full disk or a refused write. In an object store,
        others on other machines are not waited for: `publish` tells who came first.
        """
        with (
            writing(self.folder(scope, asset)),
            claimed(self.claim(scope, asset), f"{asset} of {scope}", say, run=run),
        ):
            _remove_abandoned(self._place(scope), asset)
            staging = self._place(scope) / f".{asset}.{uuid.uuid4().hex[:8]}"
            try:
                staging.mkdir(parents=True)
                (staging / BEGUN).write_text(self._version(scope, asset), encoding="utf-8")
                yield staging
            except FileNotFoundError as error:
                if staging.is_dir() or not _is_inside(error, staging):
                    raise
                raise _removed(staging) from error
            finally:
                shutil.rmtree(staging, ignore_errors=True)

    def tree(self, scope: str, name: str) -> Path:
        """Return a folder that is changed in place, for reading.

        An object store leaves out files over 1 MB: `bring` fetches them.
        """
        return self.folder(scope, name)

    def change(self, scope: str, name: str, do: Callable[[Path], Read]) -> Read:
        """Return `do(folder)`, which changes the whole tree `name`.

        In an object store `do` is called again where another machine changed the tree meanwhile.
        """
        return do(self.folder(scope, name))

    def bring(self, path: Path) -> Path:
        """Return `path`, a tree's file, fetched if needed."""
        return path

    def characters_with_tree(self, name: str) -> list[str]:
        """List the characters with this tree, also removed ones."""
        return sorted(path.parent.name for path in self.root.glob(f"[a-z0-9]*/{name}"))

    @contextmanager
    def working(self, scope: str, name: str) -> Iterator[Save]:
        """Open the folder `work(scope, name)` for one process; yield a function that saves it.

        An object store brings what another machine saved. There, that function saves the folder, unless `at_once` only
        now and then, and so does the block's end; both raise Superseded where another process opened it since.
        """
        yield lambda at_once=False: None

    def finish_work(self, scope: str, name: str) -> None:
        """Discard the folder `work(scope, name)`."""
        discard(self._place(scope) / ".work" / name)

    def claim(self, scope: str, work: str) -> Path:
        """Return the claim file for `work` on the scope (`core/files/claims.py`)."""
        return self._place(scope) / CLAIMS / f"{work}.lock"

    def published_at(self, artifact: Artifact) -> float:
        """Return the publication time in seconds since 1970."""
        return (artifact.folder / MANIFEST).stat().st_mtime

    def artifacts(self) -> list[tuple[str, str]]:
        """List scope and asset of all artifacts, damaged ones too."""
        manifests = [path for place in _SCOPES for path in self.root.glob(f"{place}/[a-z]*/{MANIFEST}")]
        exchanged = [path.with_name(path.name[1:-4]) for place in _SCOPES for path in self.root.glob(f"{place}/.*.old")]
        return self._named([path.parent for path in manifests] + exchanged)

    def works(self) -> list[tuple[str, str]]:
        """List scope and name of all folders of `work`."""
        folders = [path for place in _SCOPES for path in self.root.glob(f"{place}/.work/*") if path.is_dir()]
        return self._named([path.parent.with_name(path.name) for path in folders])

    def _named(self, folders: Iterable[Path]) -> list[tuple[str, str]]:
        """Return scope and name of `<root>/<scope>/<name>`, sorted, of valid scopes."""
        found = sorted({(path.parent.relative_to(self.root).as_posix(), path.name) for path in folders})
        return [(scope, name) for scope, name in found if SCOPE.fullmatch(scope)]

    def damaged(self) -> list[str]:
        """Return a sentence, with the remedy, for each damaged manifest."""
        found, store = [], self.snapshot()
        for scope, asset in self.artifacts():
            try:
                store.find(scope, asset)
            except StorageError as error:
                found.append(str(error))
        return found

    def abandoned(self) -> list[Path]:
        """Return unclaimed folders of killed runs; the next writer removes them."""
        found = [path for scope in _SCOPES for path in self.root.glob(f"{scope}/.*.????????")]
        return [
            path
            for path in sorted(found)
            if path.is_dir()
            and ABANDONED.fullmatch(path.name)
            and not is_claimed(path.parent / CLAIMS / f"{path.stem.removeprefix('.')}.lock")
        ]

    def remove_abandoned(self) -> list[Path]:
        found = self.abandoned()
        for folder in found:
            forget(folder)
        return found

    def publish(
        self,
        staging: Path,
        scope: str,
        asset: str,
        *,
        code_version: str,
        inputs: Mapping[str, str],
        settings: Mapping[str, Any],
        content: Callable[[str], bool] = lambda name: True,
    ) -> Artifact:
        """Write the manifest and put `staging` into the artifact's place.

        The bytes are synced to the disk before. `content` selects the files (posix paths in the folder) of the data
        version: not logs with timings. Where another writer published since `writing` began, its artifact is returned
        if made from equal inputs, settings and code. Raises Superseded for another one.
        """
        before = _begun(staging)
        files = {
            path.relative_to(staging).as_posix(): {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
            for path in sorted(staging.rglob("*"))
            if path.is_file()
        }
        data_version = content_hash({name: entry["sha256"] for name, entry in files.items() if content(name)})
        manifest = {
            "asset": asset,
            "code_version": code_version,
            "data_version": data_version,
            "inputs": dict(inputs),
            "settings": dict(settings),
            "files": files,
            "software": {name: version(name) for name in SOFTWARE},
        }
        (staging / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        sync_tree(staging)
        if self._put(staging, scope, asset, before):
            return self.afresh().read(scope, asset)
        return self._of_the_first(scope, asset, manifest)

    def adopt(self, staging: Path, scope: str, asset: str) -> bool:
        """Put `staging`, with its manifest, into place.

        `staging` is that of `writing`. False where another writer was first.
        """
        before = _begun(staging)
        sync_tree(staging)
        return self._put(staging, scope, asset, before)

    def _version(self, scope: str, asset: str) -> str:
        """Return the manifest's version, empty without one: `_put` replaces only this."""
        folder = self.folder(scope, asset)
        _finish_interrupted_swap(folder)
        try:
            return hashlib.sha256(read_bytes(folder / MANIFEST)).hexdigest()
        except OSError:  # none, or a damaged one
            return ""

    def _put(self, staging: Path, scope: str, asset: str, before: str) -> bool:
        """Replace version `before` by `staging`; False where it is another one by now."""
        final = self.folder(scope, asset)
        with _exchanging(final):
            _mend(final)
            if self._version(scope, asset) not in ("", before):
                return False
            _swap_in(staging, final)
        sync_folder(final.parent)
        return True

    def _of_the_first(self, scope: str, asset: str, manifest: Mapping[str, Any]) -> Artifact:
        first = self.afresh().read(scope, asset)
        made_from = json.loads(json.dumps([manifest[name] for name in ("code_version", "inputs", "settings")]))
        if [first.code_version, first.inputs, first.settings] == made_from:
            return first
        raise Superseded(
            f"Another run published '{asset_of(asset)}' of '{scope}' since this one began, from other inputs, settings "
            "or code. Nothing was replaced. Materialize it again if it is out of date."
        )


def _folder(path: Path) -> Path:
    """Make the folder. Raises SpaceError, also for a file in its place."""
    with writing(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error
    return path


def _renamed_to(folder: Path) -> bool:
    """Rename this artifact's folder of an earlier version; False without one."""
    for earlier, name in earlier_names.ARTIFACTS.items():
        if name == folder.name:
            before = folder.with_name(earlier)
            try:
                before.rename(folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StorageError(
                    f"{before} is called {name} now, and cannot be renamed: {error.strerror}. Rename it."
                ) from error
            return True
    return False


def _begun(staging: Path) -> str:
    """Return the version that `staging` is to replace, and remove its mark."""
    try:
        before = (staging / BEGUN).read_text(encoding="utf-8")
        (staging / BEGUN).unlink()
        return before
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _removed(staging) from error


def _removed(staging: Path) -> StorageError:
    return StorageError(
        f"{staging} was removed, or a folder around it, while it was written: nothing was published. Do not change the "
        "folder of artifacts during a run, and run this again."
    )


def _is_inside(error: OSError, folder: Path) -> bool:
    """Tell whether `error` is about a file in `folder`, or names no file."""
    names = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    return not names or any(name.is_relative_to(folder) for name in names)


def artifact_from(folder: Path, data: bytes) -> Artifact:
    """Read the manifest `data`. Raises StorageError for an invalid one."""
    types = {"asset": str, "code_version": str, "data_version": str, "inputs": dict, "settings": dict, "files": dict}
    try:
        manifest = json.loads(data.decode("utf-8"))
        values = {name: manifest[name] for name in types}
        wrong = [name for name, value in values.items() if not isinstance(value, types[name])]
        check_files(values["files"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(folder / MANIFEST, folder, said(error)) from error
    if wrong:
        raise _damaged(folder / MANIFEST, folder, f"{wrong[0]} is of a wrong type")
    return Artifact(folder=folder, uri=str(folder), **values)


def check_files(files: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ValueError for names and hashes that lead out of folders.

    Raises KeyError, TypeError and AttributeError for what is no `files` of a manifest.
    """
    for name, entry in files.items():
        path = Path(name)
        if path.as_posix() != name or path.anchor or path.name in ("", "..") or ".." in path.parts or "\0" in name:
            raise ValueError(f"{shortened(name)!r} is the name of no file in it")
        if not _SHA256.fullmatch(entry["sha256"]):
            raise ValueError(f"{shortened(name)!r} has no SHA-256")
        if not isinstance(entry["bytes"], int):
            raise TypeError


def said(error: Exception) -> str:
    """Return what is wrong in a manifest, in words."""
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return str(error) if isinstance(error, ValueError) else "it is no manifest"


def _damaged(path: Path, folder: Path, why: str) -> StorageError:
    asset, owner = asset_of(folder.name), folder.parent.name
    return StorageError(
        f"{path} is damaged: {why}. It belongs to '{asset}' of '{owner}': materialize that again, or delete the folder "
        f"{folder} and run `sticker-pipeline update`."
    )


def _sha256_now(folder: Path, name: str) -> str | None:
    """Return the file's hash in the current manifest, after a possible exchange."""
    try:
        return str(artifact_from(folder, read_bytes(folder / MANIFEST)).files[name]["sha256"])
    except (OSError, StorageError, KeyError):
        return None


def _while_exchanged(folder: Path, read: Callable[[], Read]) -> Read:
    """Call `read`, again after an exchange of the artifact."""
    try:
        return read()
    except FileNotFoundError:
        _finish_interrupted_swap(folder)
        return read()


def _remove_abandoned(scope: Path, asset: str) -> None:
    """Remove the unfinished folders of `asset`; the caller holds its claim."""
    for path in scope.glob(f".{asset}.????????"):
        if ABANDONED.fullmatch(path.name):
            forget(path)


def forget(path: Path) -> None:
    """Discard `path`, ignoring an OSError."""
    with suppress(OSError):
        discard(path)


def _previous(final: Path) -> Path:
    return final.with_name(f".{final.name}.old")


def _swap_in(staging: Path, final: Path) -> None:
    """Rename `staging` to `final`; `_finish_interrupted_swap` repairs an interruption."""
    previous = _previous(final)
    if final.exists():
        forget(previous)
        final.rename(previous)
    staging.rename(final)
    forget(previous)


def _finish_interrupted_swap(final: Path) -> None:
    if _previous(final).exists():
        with _exchanging(final):  # not between another process's two renames
            _mend(final)


def _mend(final: Path) -> None:
    previous = _previous(final)
    if final.exists():
        forget(previous)
    elif previous.exists():
        previous.rename(final)


def _exchanging(final: Path) -> AbstractContextManager[Any]:
    """Lock an artifact for exchange or mending; dead processes lose the lock."""
    from filelock import FileLock

    return FileLock(final.with_name(f".{final.name}.lock"))


def write_table(table: pd.DataFrame, folder: Path, schema: TableSchema) -> None:
    """Write the Parquet file of `schema`; deterministic. Raises SchemaError."""
    check(table, schema)
    table.to_parquet(folder / schema.file, index=False)


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write `table` as CSV for spreadsheets, with an apostrophe before formulas.

    Source: OWASP, "CSV Injection". Texts are quoted: pandas leaves a carriage return bare.
    """
    plain = table.map(lambda cell: f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell)
    plain.to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder, renamed to `target` on success, deleted on failure.

    `target` (absent, or an empty folder) appears whole or not at all. Raises SpaceError for a failed write.
    """
    staging = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            staging.mkdir()
            yield staging
            if target.exists():
                target.rmdir()
            staging.rename(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path, renamed to `path` on success. Raises SpaceError."""
    staging = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield staging
            staging.replace(path)
        finally:
            staging.unlink(missing_ok=True)


@contextmanager
def durable_file(path: Path) -> Iterator[Path]:
    """Use `atomic_file` for an irreplaceable file: synced to the disk before the rename."""
    with writing(path):
        with atomic_file(path) as staging:
            yield staging
            sync_file(staging)
        sync_folder(path.parent)


@contextmanager
def durable_folder(target: Path) -> Iterator[Path]:
    """Use `new_folder` for an irreplaceable one: synced to the disk before the rename."""
    with writing(target):
        with new_folder(target) as staging:
            yield staging
            sync_tree(staging)
        sync_folder(target.parent)


@contextmanager
def atomic_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Open `atomic_file` for all `paths`, renamed directly after each other.

    A batch stays together: its members would round differently in another one.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(atomic_file(path)) for path in paths]


def discard(path: Path) -> None:
    """Remove a file, folder or link (not its target), if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link or copy `source` to `target`; neither may be written again.

    A link is copied as the file that it leads to.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        shutil.copyfile(source, target)
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def visible_files(folder: Path) -> dict[str, Path]:
    """Return posix name -> path of a folder's files, without hidden ones.

    Raises StorageError for a link to a folder.
    """
    everything = sorted(folder.rglob("*"))
    for path in everything:
        if path.is_symlink() and path.is_dir():
            raise StorageError(f"{path} is a link to a folder, which is not copied. Put that folder in its place.")
    found = {path.relative_to(folder).as_posix(): path for path in everything if path.is_file()}
    return {name: path for name, path in found.items() if "/." not in f"/{name}"}


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(value: Any) -> str:
    """Return the hex SHA-256 of `value` (JSON types) in canonical JSON.

    Sorted keys, no spaces, ASCII, so that a file name of invalid UTF-8 has a hash, too.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()
