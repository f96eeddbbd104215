"""Where artifacts live: folders that appear whole or not at all, their manifests, hashes and caches.

What is inside an artifact is the business of the stage that makes it.
"""

import csv
import errno
import hashlib
import io
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from sticker_pipeline.core.files.claims import claimed, is_claimed, silent
from sticker_pipeline.core.files.durable import sync_file, sync_folder, sync_tree
from sticker_pipeline.core.files.inside import read_bytes
from sticker_pipeline.core.files.space import Say, writing
from sticker_pipeline.core.schemas import INDEX, TableSchema, check, with_present_names
from sticker_pipeline.core.texts import UserError, shortened

MANIFEST = "artifact.json"
BEGUN = ".begun"  # in a folder that is written; gone where that was removed meanwhile, and something made again
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
)  # how a cell begins that a spreadsheet computes
CLAIMS = ".claims"
ABANDONED = re.compile(r"\..+\.[0-9a-f]{8}")  # the name of a folder that an artifact is written in
ALL = "_all"  # the scope of artifacts across characters
SOFTWARE = ("sticker_pipeline", "dagster", "torch", "diffusers", "peft", "onnxruntime", "pillow", "pandas")


ASSETS = {  # where an artifact lies under another name than its asset's key
    "style_training_set": "style/training_set",
    "style_lora": "style/lora",
    "selected_style_lora": "style/selected_lora",
    "lcm_lora": "profile/lcm_lora",
}


def asset_of(artifact: str) -> str:
    """Return the key of the asset that an artifact is of, as the UI writes it."""
    return ASSETS.get(artifact, artifact)


def artifact_of(asset: str) -> str:
    """Return the name of the artifact of an asset, given by its key as the UI writes it."""
    names = {key: artifact for artifact, key in ASSETS.items()}
    return names.get(asset, asset.rpartition("/")[2])


def style_scope(style: str) -> str:
    """Where the artifacts of a style that characters share lie."""
    return f"_styles/{style}"


def profile_scope(profile: str) -> str:
    """The scope of artifacts that belong to a profile's base model."""
    return f"_profiles/{profile}"


_SCOPE = re.compile(r"(_styles/|_profiles/)?[a-z0-9_][a-z0-9_.-]*")  # the name of a scope
_SCOPES = ("[a-z0-9]*", ALL, style_scope("*"), profile_scope("*"))  # as patterns
Read = TypeVar("Read")


class StorageError(UserError):
    """An artifact that is missing, damaged, or was made by something else than this project."""


@dataclass(frozen=True)
class Artifact:
    """A published artifact folder. `data_version` names its content: equal content, equal version."""

    folder: Path
    asset: str
    code_version: str
    data_version: str
    inputs: dict[str, str]
    settings: dict[str, Any]
    files: dict[str, dict[str, Any]]

    def table(self, name: str = INDEX) -> pd.DataFrame:
        """Return a table as it was published, with the names of today. Raises StorageError as `content` does."""
        return with_present_names(pd.read_parquet(io.BytesIO(self.content(name))))

    def content(self, name: str) -> bytes:
        """The bytes of a file as they were published.

        Raises StorageError, saying what to do, for a file that is damaged, or that an earlier version did not have.
        """
        return self._published(name, Path.read_bytes, lambda data: hashlib.sha256(data).hexdigest())

    def file(self, name: str) -> Path:
        """The path of a file, after looking whether it is as it was published. Raises StorageError like `content`."""
        self._published(name, file_sha256, lambda sha256: sha256)
        return self.folder / name

    def sha256(self, name: str) -> str:
        """Return the hex SHA-256 of a file as its manifest has it. Raises StorageError as `content` does."""
        if name not in self.files:
            raise self._without(name)
        return str(self.files[name]["sha256"])

    def _without(self, name: str) -> StorageError:
        return StorageError(
            f"{self.folder} has no {name}: it is of an earlier version, materialize '{asset_of(self.asset)}' again."
        )

    def _published(self, name: str, read: Callable[[Path], Read], sha256: Callable[[Read], str]) -> Read:
        if name not in self.files:
            raise self._without(name)
        path = self.folder / name
        try:
            found = _while_exchanged(self.folder, lambda: read(path))
        except OSError as error:
            raise _damaged(path, self.folder, error.strerror or str(error)) from error
        if sha256(found) not in (self.sha256(name), _sha256_now(self.folder, name)):
            raise _damaged(path, self.folder, f"it is not what {MANIFEST} says")
        return found


class ArtifactStore:
    """Artifacts under one root folder: `<root>/<scope>/<asset>/`, caches under `<root>/_cache/`."""

    def __init__(self, root: Path | str) -> None:
        if "://" in str(root):
            raise StorageError(f"STICKER_ARTIFACTS={root}: only folders on this machine are supported.")
        self.root = Path(root).absolute()

    def folder(self, scope: str, asset: str) -> Path:
        """Where an artifact lies. Raises StorageError for a scope that is no name, and so leads elsewhere."""
        return self._place(scope) / asset

    def _place(self, scope: str) -> Path:
        if not _SCOPE.fullmatch(scope):
            raise StorageError(f"{shortened(scope)!r} is the name of no character, style or profile.")
        return self.root / scope

    def once(self, what: Hashable, read: Callable[[], Read]) -> Read:
        """Return the result of `read`; a Snapshot reads once for each `what`."""
        return read()

    def afresh(self) -> "ArtifactStore":
        """Return the store as it is now, whatever a snapshot of it has read."""
        return ArtifactStore(self.root)

    def cache(self, kind: str) -> Path:
        """The folder of cached work of one kind, made if needed. Entries are named by the hash of all that decides
        them, so they are never stale; the folder may be deleted at any time."""
        return _folder(self.root / "_cache" / kind)

    def work(self, scope: str, name: str) -> Path:
        """A folder for work that outlives an interrupted run, such as a training's checkpoints; made if needed."""
        return _folder(self._place(scope) / ".work" / name)

    def find(self, scope: str, asset: str) -> Artifact | None:
        """The published artifact, or None where there is none yet. Raises StorageError for a damaged one."""
        folder = self.folder(scope, asset)
        _finish_interrupted_swap(folder)
        try:
            return _artifact(folder, read_bytes(folder / MANIFEST))
        except FileNotFoundError:
            # it is being exchanged, or was a moment ago
            if _previous(folder).exists() or (folder / MANIFEST).is_file():
                return self.find(scope, asset)
            return None
        except OSError as error:
            raise _damaged(folder / MANIFEST, folder, error.strerror or str(error)) from error

    def read(self, scope: str, asset: str) -> Artifact:
        """The published artifact. Raises StorageError, saying what to materialize, where there is none."""
        artifact = self.find(scope, asset)
        if artifact is None:
            raise StorageError(
                f"{self.folder(scope, asset)} does not exist: materialize '{asset_of(asset)}' of '{scope}' first."
            )
        return artifact

    @contextmanager
    def writing(self, scope: str, asset: str, say: Say = silent, run: str | None = None) -> Iterator[Path]:
        """A new empty folder beside the artifact's final place, deleted when the block fails.

        `publish` inside the block moves it into place. Only one block at a time writes an artifact: another one waits,
        and `say`s for whom, for example for the Dagster `run` that has it. Raises SpaceError where the block meets a
        full disk, or may not write there.
        """
        with (
            writing(self.folder(scope, asset)),
            claimed(self.claim(scope, asset), f"{asset} of {scope}", say, run=run),
        ):
            _remove_abandoned(self._place(scope), asset)
            staging = self._place(scope) / f".{asset}.{uuid.uuid4().hex[:8]}"
            try:
                staging.mkdir(parents=True)
                (staging / BEGUN).touch()
                yield staging
            except FileNotFoundError as error:
                if staging.is_dir() or not _is_inside(error, staging):
                    raise
                raise _removed(staging) from error
            finally:
                shutil.rmtree(staging, ignore_errors=True)

    def claim(self, scope: str, work: str) -> Path:
        """The claim of whoever does `work` for the scope, such as making an asset (see claims.py)."""
        return self._place(scope) / CLAIMS / f"{work}.lock"

    def published_at(self, artifact: Artifact) -> float:
        """When the artifact was published, in seconds since 1970."""
        return (artifact.folder / MANIFEST).stat().st_mtime

    def damaged(self) -> list[str]:
        """A sentence about each artifact with a damaged manifest, which says what to do."""
        found = []
        for place in _SCOPES:
            for folder in sorted(path for path in self.root.glob(f"{place}/[a-z]*") if path.is_dir()):
                scope = folder.parent.relative_to(self.root).as_posix()
                if not _SCOPE.fullmatch(scope):
                    continue
                try:
                    self.find(scope, folder.name)
                except StorageError as error:
                    found.append(str(error))
        return found

    def abandoned(self) -> list[Path]:
        """The folders that killed runs left behind, and that nobody works on; the next one to write there removes
        them."""
        found = [path for scope in _SCOPES for path in self.root.glob(f"{scope}/.*.????????")]
        return [
            path
            for path in sorted(found)
            if path.is_dir()
            and ABANDONED.fullmatch(path.name)
            and not is_claimed(path.parent / CLAIMS / f"{path.stem.removeprefix('.')}.lock")
        ]

    def remove_abandoned(self) -> list[Path]:
        """Remove the folders that killed runs left behind; returns them."""
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
        """Write the manifest into `staging` and move it to the artifact's place in one rename, once it is on the disk.

        `content` says which files (posix paths in the folder) make the data version: logs with timings do not.
        """
        try:
            (staging / BEGUN).unlink()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _removed(staging) from error
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
        final = self.folder(scope, asset)
        _swap_in(staging, final)
        sync_folder(final.parent)
        return self.read(scope, asset)


def _folder(path: Path) -> Path:
    """Make the folder, if needed. Raises SpaceError where that cannot be, also where a file is in its place."""
    with writing(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error
    return path


def _removed(staging: Path) -> StorageError:
    """The error that says that the folder of an artifact went away while the artifact was made."""
    return StorageError(
        f"{staging} was removed, or a folder around it, while it was written: nothing was published. Leave the folder "
        "of the artifacts alone while something is made, and run this again."
    )


def _is_inside(error: OSError, folder: Path) -> bool:
    """Tell whether `error` is about a file in `folder`, or does not say which file."""
    names = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    return not names or any(name.is_relative_to(folder) for name in names)


def _artifact(folder: Path, data: bytes) -> Artifact:
    """The artifact in `folder`, of which `data` is the manifest. Raises StorageError for what is none."""
    types = {"asset": str, "code_version": str, "data_version": str, "inputs": dict, "settings": dict, "files": dict}
    try:
        manifest = json.loads(data.decode("utf-8"))
        values = {name: manifest[name] for name in types}
        wrong = [name for name, value in values.items() if not isinstance(value, types[name])]
        wrong += [name for name, entry in values["files"].items() if not isinstance(entry["sha256"], str)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(folder / MANIFEST, folder, _said(error)) from error
    if wrong:
        raise _damaged(folder / MANIFEST, folder, f"{wrong[0]} is of a wrong type")
    return Artifact(folder=folder, **values)


def _said(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return str(error) if isinstance(error, ValueError) else "it is no manifest"


def _damaged(path: Path, folder: Path, why: str) -> StorageError:
    """The error that says that `path`, of the artifact in `folder`, is damaged, and what to do."""
    asset, owner = asset_of(folder.name), folder.parent.name
    return StorageError(
        f"{path} is damaged: {why}. It belongs to '{asset}' of '{owner}': materialize that again, or delete the folder "
        f"{folder} and run `sticker-pipeline update`."
    )


def _sha256_now(folder: Path, name: str) -> str | None:
    """The hash of the file by the manifest that is there now: the artifact may have been exchanged since."""
    try:
        return str(_artifact(folder, read_bytes(folder / MANIFEST)).files[name]["sha256"])
    except (OSError, StorageError, KeyError):
        return None


def _while_exchanged(folder: Path, read: Callable[[], Read]) -> Read:
    """Read the artifact in `folder` by `read`, also while it is being exchanged."""
    try:
        return read()
    except FileNotFoundError:
        _finish_interrupted_swap(folder)
        return read()


class Snapshot(ArtifactStore):
    """A store as it is at one look: what was read is not read again. For looks at many characters, not for writing."""

    def __init__(self, root: Path | str) -> None:
        super().__init__(root)
        self._seen: dict[Hashable, Any] = {}

    def once(self, what: Hashable, read: Callable[[], Read]) -> Read:
        if what not in self._seen:
            self._seen[what] = read()
        found: Read = self._seen[what]
        return found

    def find(self, scope: str, asset: str) -> Artifact | None:
        return self.once(("artifact", scope, asset), lambda: super(Snapshot, self).find(scope, asset))


def _remove_abandoned(scope: Path, asset: str) -> None:
    """Remove what killed runs left of `asset`. Only for whoever has the claim on it."""
    for path in scope.glob(f".{asset}.????????"):
        if ABANDONED.fullmatch(path.name):
            forget(path)


def forget(path: Path) -> None:
    """`discard` what nobody needs, where that is allowed."""
    with suppress(OSError):
        discard(path)


def _previous(final: Path) -> Path:
    return final.with_name(f".{final.name}.old")


def _swap_in(staging: Path, final: Path) -> None:
    """Rename `staging` to `final`. Between the two renames only the previous artifact can be missing, and
    `_finish_interrupted_swap` brings it back."""
    with _exchanging(final):
        _mend(final)
        previous = _previous(final)
        if final.exists():
            forget(previous)
            final.rename(previous)
        staging.rename(final)
        forget(previous)


def _finish_interrupted_swap(final: Path) -> None:
    if _previous(final).exists():
        with _exchanging(final):  # not while somebody is between the two renames
            _mend(final)


def _mend(final: Path) -> None:
    previous = _previous(final)
    if final.exists():
        forget(previous)
    elif previous.exists():
        previous.rename(final)


def _exchanging(final: Path) -> AbstractContextManager[Any]:
    """Keeps out others who would exchange or mend the same artifact; whoever dies in it lets them in."""
    from filelock import FileLock

    return FileLock(final.with_name(f".{final.name}.lock"))


def write_table(table: pd.DataFrame, folder: Path, schema: TableSchema) -> None:
    """Write `table` as the Parquet file of `schema`; equal tables give equal bytes. Raises SchemaError."""
    check(table, schema)
    table.to_parquet(folder / schema.file, index=False)


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write `table` as CSV for spreadsheets, in which no text is a formula: such texts begin with an apostrophe.

    Source: OWASP, "CSV Injection". Numbers stay numbers; texts are quoted, as pandas leaves a carriage return bare.
    """
    plain = table.map(lambda cell: f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell)
    plain.to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A new empty folder beside `target`, renamed to it when the block succeeds and deleted when it fails: `target`
    (absent, or an empty folder) appears whole or not at all. Raises SpaceError where it cannot be written."""
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
    """A temporary path beside `path`, renamed to it when the block succeeds: for single files, as in caches. Raises
    SpaceError where it cannot be written."""
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
    """`atomic_file` whose bytes are on the disk before its name is: for what cannot be made again."""
    with writing(path):
        with atomic_file(path) as staging:
            yield staging
            sync_file(staging)
        sync_folder(path.parent)


@contextmanager
def durable_folder(target: Path) -> Iterator[Path]:
    """`new_folder` whose files are on the disk before its name is: for what cannot be made again."""
    with writing(target):
        with new_folder(target) as staging:
            yield staging
            sync_tree(staging)
        sync_folder(target.parent)


@contextmanager
def atomic_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """`atomic_file` for each of `paths`, renamed one right after the other: what was computed as one batch, whose
    other members a later batch would round otherwise, is kept as one."""
    with ExitStack() as stack:
        yield [stack.enter_context(atomic_file(path)) for path in paths]


def discard(path: Path) -> None:
    """Remove a file, a folder, or a link without the target of it; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source` (both are never written again), or a copy on another file system."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of the file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(value: Any) -> str:
    """Hex SHA-256 of `value` (JSON types) in canonical JSON: sorted keys, no spaces, ASCII (so that any file name,
    even one that is no valid UTF-8, has a hash)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()
