"""Hashes of files, cached in the store by path, size and time."""

import stat
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sticker_pipeline.core.caching import file_hashes, folder_hashes
from sticker_pipeline.core.files.inside import sha256, status
from sticker_pipeline.core.storage import ArtifactStore, content_hash
from sticker_pipeline.diffusion.lora.formats import lora_hash


def base_hash(base: Path, store: ArtifactStore) -> str:
    """Return a base model's `model_hash`; a single file's covers configurations beside it."""
    return store.once(("base", base), lambda: _base_hash(base, store))


def _base_hash(base: Path, store: ArtifactStore) -> str:
    own, beside = model_hash(base, store), base.with_suffix("")
    if base.is_file() and beside.is_dir():
        return content_hash({"file": own, "configurations": model_hash(beside, store)})
    return own


def file_hash(path: Path, store: ArtifactStore) -> str:
    """Return an existing file's hex SHA-256, cached in the store."""
    return file_hashes([path], store.cache("hashes") / f"{path.name}.json")[path]


def model_hash(folder: Path, store: ArtifactStore) -> str:
    """Return a hash of a model's file names and contents.

    A single file's is its own; `missing` without either.
    """
    return store.once(("model", folder), lambda: _model_hash(folder, store))


def _model_hash(folder: Path, store: ArtifactStore) -> str:
    if folder.is_file():
        return file_hash(folder, store)
    if not folder.is_dir():
        return "missing"
    return content_hash(folder_hashes(folder, store.cache("hashes")))


def lora_file_hash(path: Path, roots: Sequence[Path], store: ArtifactStore) -> str:
    """Return a LoRA's hash; `missing` unless a readable regular file below `roots`."""

    def hash_file(file: Path) -> str:
        memo = store.cache("hashes") / f"lora-{content_hash(str(file))[:16]}.json"
        return file_hashes([file], memo, partial(sha256, roots=roots)).get(file, "missing")

    try:
        return lora_hash(path, hash_file) if stat.S_ISREG(status(path, roots).st_mode) else "missing"
    except OSError:  # a name too long, a folder without permission, a path outside `roots`
        return "missing"
