"""Copies of artifacts, releases and unfinished work from one store to another."""

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from sticker_pipeline.core.storage import (
    MANIFEST,
    ArtifactStore,
    StorageError,
    file_sha256,
    link_or_copy,
    visible_files,
)

RELEASES = "releases"


def copies(source: ArtifactStore, target: ArtifactStore) -> Mapping[str, Callable[[], bool]]:
    """Return item -> function that copies it: all but caches.

    Each returns False for what is there already, so this can be repeated after an interruption. It raises StorageError
    for a damaged item, and where the target has another version, which stays. The source is not changed.
    """
    here, there = source.snapshot(), target.snapshot()
    found = {
        f"{scope}/{asset}": partial(copy_artifact, here, target, there, scope, asset)
        for scope, asset in here.artifacts()
    }
    trees = [(scope, RELEASES) for scope in here.characters_with_tree(RELEASES)]
    trees += [(scope, f".work/{name}") for scope, name in here.works()]
    return found | {f"{scope}/{name}": partial(copy_tree, source, target, scope, name) for scope, name in trees}


def copy_artifact(source: ArtifactStore, target: ArtifactStore, there: ArtifactStore, scope: str, asset: str) -> bool:
    """Copy an artifact with its manifest; verify files by hash.

    Its data version stays. there: a snapshot of `target`.
    """
    artifact, present = source.read(scope, asset), there.find(scope, asset)
    if present is not None:
        if present.files != artifact.files or present.inputs != artifact.inputs:
            raise _another(target, scope, asset)
        return False
    artifact.fetched()
    with target.writing(scope, asset) as staging:
        for name in artifact.files:
            link_or_copy(artifact.file(name), staging / name)
        shutil.copyfile(artifact.folder / MANIFEST, staging / MANIFEST)
        if not target.adopt(staging, scope, asset):
            raise _another(target, scope, asset)
    return True


def copy_tree(source: ArtifactStore, target: ArtifactStore, scope: str, name: str) -> bool:
    """Copy a tree's files, such as all releases."""

    def add(files: dict[str, Path], folder: Path) -> bool:
        present = visible_files(folder)
        for one, path in files.items():
            if one in present and file_sha256(present[one]) != file_sha256(path):
                raise _another(target, scope, name)
        if present.keys() - files.keys():
            raise _another(target, scope, name)
        for one in files.keys() - present.keys():
            (folder / one).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(files[one], folder / one)
        return bool(files.keys() - present.keys())

    return source.change(scope, name, lambda folder: target.change(scope, name, partial(add, visible_files(folder))))


def _another(target: ArtifactStore, scope: str, name: str) -> StorageError:
    return StorageError(f"{target.uri(scope, name)} is another version, and stays. Move it away for this one.")
