"""Traces of images into LoRAs, and of LoRAs to their sources.

LoRAs are releases, and checkpoints that are not released. Content decides, not the name of a file. A search for an
image reads one small table per release and training; a search for a LoRA reads a hash, or a header.
"""

import hashlib
import io
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from sticker_pipeline.benchmark.releases import (
    NotRecorded,
    Release,
    current_number,
    hashes,
    read,
    release_folder,
    released_characters,
    released_numbers,
    releases_folder,
    sources_table,
)
from sticker_pipeline.core.files.inside import ANYWHERE
from sticker_pipeline.core.files.inside import sha256 as file_sha256
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.storage import Artifact, ArtifactStore, StorageError
from sticker_pipeline.core.texts import UserError
from sticker_pipeline.dataset.sources import SOURCES, by_source, read_sources
from sticker_pipeline.media.crop import cropped
from sticker_pipeline.media.decode import decode_bytes
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.frames import pixel_sha256
from sticker_pipeline.media.header import is_image
from sticker_pipeline.media.limits import read_within
from sticker_pipeline.models.content import MOST_HEADER, read_header, why_not_safetensors
from sticker_pipeline.training.logs.results import checkpoint_epochs

TRAINING = "lora"  # artifact of a character's last training
CROPS: tuple[Literal["none", "alpha", "subject"], ...] = ("none", "alpha", "subject")
Column = Literal["sha256", "pixel_sha256"]


@dataclass
class Searched:
    """Extent of a search.

    not_recorded: clauses about LoRAs without a table of sources. problems: sentences about damaged files, left out.
    """

    releases: int = 0
    trainings: int = 0
    characters: set[str] = field(default_factory=set)
    not_recorded: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note an unreadable release or training, and go on."""
        try:
            yield
        except NotRecorded as error:
            self.not_recorded.append(str(error))
        except (StorageError, OSError) as error:
            problem = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
            if problem not in self.problems:  # a pointer is read for releases and for the training
                self.problems.append(problem)

    def count(self, character: str, number: int | None) -> None:
        self.releases += number is not None
        self.trainings += number is None
        self.characters.add(character)


@dataclass(frozen=True)
class Use:
    """Use of one source in a LoRA.

    number: of the release; None for the last training where none of its epochs is released. path: the file then.
    frames: of the source; alike: of these, frames with the wanted bytes or pixels. weight, caption, captions: as from
    `by_source`.
    """

    character: str
    number: int | None
    published: datetime | None
    is_current: bool
    path: str
    group: str
    sha256: str
    split: str
    frames: int
    alike: int
    weight: float
    caption: str
    captions: int


@dataclass(frozen=True)
class Uses:
    """Uses of an image, found by its bytes or its pixels."""

    found: tuple[Use, ...]
    how: Literal["bytes", "pixels"]
    searched: Searched


@dataclass(frozen=True)
class Lora:
    """A LoRA of the store, with its sources as from `by_source`.

    number: of the release; None for a checkpoint that is not released. Without sources, `why_not` says why.
    """

    character: str
    number: int | None
    epoch: int
    published: datetime | None
    is_current: bool
    sources: pd.DataFrame = field(default_factory=pd.DataFrame)
    why_not: str = ""


@dataclass(frozen=True)
class Loras:
    """LoRAs that a file is.

    how: equal bytes; equal weights behind another header; or other weights whose metadata states those of the LoRA.
    """

    found: tuple[Lora, ...]
    how: Literal["bytes", "weights", "metadata"]
    searched: Searched


def sources_of(release: Release) -> pd.DataFrame:
    """Return a row per source, as `by_source`.

    Raises NotRecorded for a release of an earlier version, ReleaseError for a damaged table.
    """
    return by_source(release.sources())


def releases_with(store: ArtifactStore, sha256: str) -> Uses:
    """Return the uses, in all releases, of a file with these bytes."""
    return _uses_of(store, _released_tables, "sha256", {sha256})


def lora_with(store: ArtifactStore, sha256: str) -> Loras:
    """Return the LoRAs, released or not, with these bytes."""
    return _loras(store, "bytes", lambda file: file.sha256 == sha256)


def traced(store: ArtifactStore, path: Path) -> Uses | Loras:
    """Return the uses of the image `path`, or the LoRAs that `path` is.

    An image is found by its bytes, else by pixels of its frames; a LoRA by its bytes, else by its weights, else by its
    metadata. Raises OSError or UserError for a file that cannot be read, or is neither.
    """
    sha256 = file_sha256(path, ANYWHERE)
    why = why_not_safetensors(path)
    return _traced_lora(store, path, sha256) if why is None else _traced_image(store, path, sha256, why)


def _traced_image(store: ArtifactStore, path: Path, sha256: str, why_no_lora: str) -> Uses:
    uses = _uses_of(store, _tables, "sha256", {sha256})
    if uses.found:
        return uses
    data = read_within(path, MediaSettings(), ANYWHERE)
    if not is_image(data):
        raise UserError(f"it is no image, and as a LoRA it {why_no_lora}")
    return _uses_of(store, _tables, "pixel_sha256", image_pixels(data))


def _traced_lora(store: ArtifactStore, path: Path, sha256: str) -> Loras:
    loras = lora_with(store, sha256)
    if not loras.found:
        weights = {weights_sha256(path)}
        loras = _loras(store, "weights", lambda file: _states(file.path(), weights))
    if not loras.found:
        stated = stated_weights(path)
        loras = _loras(store, "metadata", lambda file: _states(file.path(), stated))
    return loras


def image_pixels(data: bytes) -> set[str]:
    """Return `pixel_sha256` of each frame, whole and cropped in each way.

    Limits and margin are the default ones. A file damaged midway gives its whole frames. Raises MediaError for none.
    """
    found: set[str] = set()
    limits = MediaSettings()
    try:
        with closing(decode_bytes(data, limits)) as frames:
            for frame in frames:
                parts = (cropped(frame.rgba, how, limits.crop_margin) for how in CROPS)
                found |= {pixel_sha256(np.ascontiguousarray(part)) for part in parts}
    except MediaError:
        if not found:
            raise
    return found


def weights_sha256(path: Path) -> str:
    """Return the SHA-256 of all bytes behind a safetensors file's header."""
    with path.open("rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        return hashlib.file_digest(file, "sha256").hexdigest()


def stated_weights(path: Path) -> set[str]:
    """Return each `weights_sha256` that a safetensors file's metadata states.

    Keys: `sshs_model_hash` and `modelspec.hash_sha256`. Raises StorageError for another file.
    """
    if why := why_not_safetensors(path):
        raise StorageError(f"{path} {why}")
    metadata = read_header(path).get("__metadata__") or {}
    stated = (metadata.get("sshs_model_hash"), metadata.get("modelspec.hash_sha256"))
    return {text.removeprefix("0x").lower() for text in stated if isinstance(text, str) and text}


def _states(path: Path, weights: Collection[str]) -> bool:
    """Tell whether the file's metadata states one of `weights`.

    Most headers are not parsed: that takes milliseconds.
    """
    with path.open("rb") as file:
        header = file.read(min(int.from_bytes(file.read(8), "little"), MOST_HEADER))
    return any(one.encode() in header for one in weights) and not stated_weights(path).isdisjoint(weights)


# --- tables of sources ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """A table SOURCES: of a release, or (number None) of a training."""

    character: str
    number: int | None
    read: Callable[[], bytes]


def _tables(store: ArtifactStore, searched: Searched) -> Iterator[_Table]:
    yield from _released_tables(store, searched)
    for training, unreleased in _trainings(store, searched):
        if len(unreleased) == len(checkpoint_epochs(training)):
            yield _Table(training.folder.parent.name, None, partial(_training_table, training))


def _released_tables(store: ArtifactStore, searched: Searched) -> Iterator[_Table]:
    for character, number in _releases(store, searched):
        yield _Table(character, number, partial(_released_table, releases_folder(store, character), number))


def _released_table(folder: Path, number: int) -> bytes:
    return sources_table(release_folder(folder, number), hashes(folder, number).sources_sha256)


def _training_table(training: Artifact) -> bytes:
    if SOURCES.file not in training.files:
        character = training.folder.parent.name
        raise NotRecorded(
            f"the last LoRA of {character} was made by an earlier version, which did not record its sources"
        )
    return training.content(SOURCES.file)


def _releases(store: ArtifactStore, searched: Searched) -> Iterator[tuple[str, int]]:
    """Yield character and number of each release that was ever current."""
    for character in released_characters(store):
        with searched.noting():
            yield from ((character, number) for number in released_numbers(releases_folder(store, character)))


def _trainings(store: ArtifactStore, searched: Searched) -> Iterator[tuple[Artifact, dict[str, int]]]:
    """Yield each character's last training, and epochs by unreleased checkpoint."""
    for character in store.characters_with(TRAINING):
        with searched.noting():
            training, folder = store.read(character, TRAINING), releases_folder(store, character)
            released = {hashes(folder, number).sha256 for number in released_numbers(folder)}
            checkpoints = checkpoint_epochs(training).items()
            yield training, {name: epoch for name, epoch in checkpoints if training.sha256(name) not in released}


def _uses_of(
    store: ArtifactStore,
    tables: Callable[[ArtifactStore, Searched], Iterator[_Table]],
    column: Column,
    wanted: Collection[str],
) -> Uses:
    """Return the uses of sources that have a `wanted` value in `column`."""
    from pyarrow.parquet import ParquetFile

    searched, found = Searched(), list[Use]()
    for table in tables(store, searched):
        with searched.noting():
            data = table.read()
            searched.count(table.character, table.number)
            values = ParquetFile(io.BytesIO(data)).read([column]).column(0).to_pylist()
            if not set(wanted).isdisjoint(values):
                found += _uses_in(store, table, read_sources(data), column, wanted)
    return Uses(tuple(found), "bytes" if column == "sha256" else "pixels", searched)


def _uses_in(
    store: ArtifactStore, table: _Table, rows: pd.DataFrame, column: Column, wanted: Collection[str]
) -> list[Use]:
    alike = rows[rows[column].isin(list(wanted))].groupby("path").size()
    sources = by_source(rows[rows["path"].isin(alike.index)])
    sources["alike"] = sources["path"].map(alike)
    of_lora = (table.character, table.number, *_published(store, table.character, table.number))
    records: list[Any] = sources.to_dict(orient="records")
    return [Use(*of_lora, **record) for record in records]


def _published(store: ArtifactStore, character: str, number: int | None) -> tuple[datetime | None, bool]:
    """Return a release's time, and whether it is the current one."""
    if number is None:
        return None, False
    folder = releases_folder(store, character)
    return read(folder, number).record.published, number == current_number(folder)


# --- files of LoRAs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _File:
    """A LoRA file with its recorded hash; `path` brings it, `lora` reads the rest."""

    path: Callable[[], Path]
    sha256: str
    lora: Callable[[], Lora]


def _loras(
    store: ArtifactStore, how: Literal["bytes", "weights", "metadata"], matches: Callable[[_File], bool]
) -> Loras:
    searched, found = Searched(), list[Lora]()
    for file in _files(store, searched):
        with searched.noting():
            if matches(file):
                found.append(file.lora())
    return Loras(tuple(found), how, searched)


def _files(store: ArtifactStore, searched: Searched) -> Iterator[_File]:
    for character, number in _releases(store, searched):
        with searched.noting():
            folder = releases_folder(store, character)
            known = hashes(folder, number)
            searched.count(character, number)
            path = release_folder(folder, number) / known.file
            yield _File(partial(store.bring, path), known.sha256, partial(_released, store, character, number))
    for training, unreleased in _trainings(store, searched):
        searched.count(training.folder.parent.name, None)
        for name, epoch in unreleased.items():
            yield _File(partial(_fetched, training, name), training.sha256(name), partial(_trained, training, epoch))


def _fetched(training: Artifact, name: str) -> Path:
    return training.fetched([name]) / name


def _released(store: ArtifactStore, character: str, number: int) -> Lora:
    release = read(releases_folder(store, character), number)
    lora = Lora(character, number, release.record.epoch, *_published(store, character, number))
    return _with_sources(lora, partial(sources_table, release.folder, release.record.sources_sha256))


def _trained(training: Artifact, epoch: int) -> Lora:
    lora = Lora(training.folder.parent.name, None, epoch, None, False)
    return _with_sources(lora, partial(_training_table, training))


def _with_sources(lora: Lora, table: Callable[[], bytes]) -> Lora:
    """Return `lora` with its sources, or with the reason for none."""
    try:
        return replace(lora, sources=by_source(read_sources(table())))
    except StorageError as error:
        return replace(lora, why_not=str(error))
