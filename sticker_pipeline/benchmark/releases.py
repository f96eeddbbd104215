"""Releases of a character: immutable numbered folders, and a pointer.

    <artifacts>/<character>/releases/0001/          <character>.safetensors, sources.parquet, spec.json, release.json
    <artifacts>/<character>/releases/current.json   the current number, and a log of publishing and rolling back

They are no artifact, since artifacts are replaced whole: every step would have to copy the history. Only the pointer is
ever rewritten, by one rename. The artifact `released_lora` shows the current release by `place`.

A folder gets its number once whole, and is used once the pointer names it. A killed publish leaves the current release
as it was, and at most a folder that no log names, which is skipped. gate.py decides on releases.
"""

import hashlib
import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from sticker_pipeline.benchmark.gate import Check, decision, may_be_released
from sticker_pipeline.core.earlier_names import record_of_today
from sticker_pipeline.core.files.space import SpaceError, writing
from sticker_pipeline.core.storage import (
    Artifact,
    ArtifactStore,
    StorageError,
    discard,
    durable_file,
    durable_folder,
    file_sha256,
    link_or_copy,
)
from sticker_pipeline.dataset.sources import SOURCES, read_sources

FOLDER, RECORD, SPEC, POINTER = "releases", "release.json", "spec.json", "current.json"
NUMBER = re.compile(r"\d{4,}")
Model = TypeVar("Model", bound=BaseModel)
WAIT_SECONDS = 60.0  # for another publish or roll-back of the character, each as long as copying one file


class ReleaseError(StorageError):
    """A missing, damaged or forbidden release; the message names the remedy."""


class NotRecorded(ReleaseError):
    """A release of an earlier version, without the table of its sources."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _of_today(cls, data: Any) -> Any:
        """Read what an earlier version wrote: a release is never written again."""
        return record_of_today(data)


class MetricRow(_Record):
    """A row of the benchmark's table; NaN and infinity are None."""

    model: str
    medium: str
    metric: str
    mean: float | None
    ci_low: float | None
    ci_high: float | None
    n: int


class Outcome(_Record):
    """The result of one check of the gate."""

    name: str
    passed: bool
    checked: bool
    summary: str


class SamplingRecord(_Record):
    """Sampling settings of the benchmark's images."""

    scheduler: str
    steps: int
    guidance_scale: float
    negative_prompt: str
    resolution: int
    strength: float
    prompts: list[str]


class Data(_Record):
    """Numbers of images and their sources, trained on and held out."""

    images: int
    sources: int
    holdout_images: int
    holdout_sources: int


class Record(_Record):
    """The content of release.json.

    beginnings: medium -> the first tags of its prompts, trigger first. inputs: data versions of everything behind the
    LoRA (see `lineage`). sources_sha256: of sources.parquet; None where an earlier version trained the LoRA.
    """

    number: int
    previous: int | None
    published: datetime
    character: str
    trigger: str
    beginnings: dict[str, list[str]]
    file: str
    sha256: str
    sources_sha256: str | None = None
    base_model: str
    family: str
    profile: str
    epoch: int
    why_epoch: str
    sampling: SamplingRecord
    data: Data
    inputs: dict[str, str]
    metrics: list[MetricRow]
    checks: list[Outcome]


class Hashes(BaseModel):
    """File and hashes of a record, without reading its other keys."""

    model_config = ConfigDict(frozen=True)

    file: str
    sha256: str
    sources_sha256: str | None = None


class Event(_Record):
    """A log entry; `before` was the current release until then."""

    action: Literal["publish", "roll back"]
    number: int
    before: int | None
    time: datetime
    reason: str = ""


class _Pointer(_Record):
    number: int | None = None
    log: list[Event] = []


@dataclass(frozen=True)
class Release:
    """A whole release on disk."""

    folder: Path
    record: Record

    @property
    def lora(self) -> Path:
        return self.folder / self.record.file

    def spec(self) -> dict[str, Any]:
        """Every effective setting of the training, as given to the trainer."""
        path = self.folder / SPEC
        try:
            spec: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise _damaged(path, error) from error
        return spec

    def sources(self) -> pd.DataFrame:
        """Return the table SOURCES of its training. Raises as `sources_table`."""
        return read_sources(sources_table(self.folder, self.record.sources_sha256))


@dataclass(frozen=True)
class Candidate:
    """A LoRA that passed the gate, with everything to record.

    `metrics`: the benchmark's table. `sources`: the file SOURCES of its training, None if not recorded.
    """

    character: str
    trigger: str
    beginnings: Mapping[str, Sequence[str]]
    lora: Path
    base_model: str
    family: str
    profile: str
    epoch: int
    why_epoch: str
    sampling: SamplingRecord
    data: Data
    inputs: Mapping[str, str]
    spec: Mapping[str, Any]
    metrics: pd.DataFrame
    checks: Sequence[Check]
    sources: bytes | None


@dataclass(frozen=True)
class Published:
    """The current release, and how it became that.

    `new`; `again` (an earlier one of the same bytes); `already` (the candidate was current); `withdrawn` (unchanged: a
    person chose another than the candidate's bytes).
    """

    release: Release
    outcome: Literal["new", "again", "already", "withdrawn"]


def releases_folder(store: ArtifactStore, character: str) -> Path:
    """Return the folder for reading; `store.change` is for publishing and rolling back."""
    return store.tree(character, FOLDER)


def release_folder(folder: Path, number: int) -> Path:
    return folder / f"{number:04d}"


def released_characters(store: ArtifactStore) -> list[str]:
    """List the characters with releases, also removed ones."""
    found = store.characters_with_tree(FOLDER)
    return [name for name in found if (releases_folder(store, name) / POINTER).is_file()]


def current_number(folder: Path) -> int | None:
    """The number of the current release, or None. Raises ReleaseError if damaged."""
    return _pointer(folder).number


def current(folder: Path) -> Release | None:
    """The current release, or None. Raises ReleaseError if damaged."""
    number = current_number(folder)
    return None if number is None else read(folder, number)


def baseline_release(folder: Path, sha256: str) -> Release | None:
    """The release that a LoRA with these bytes is compared with.

    The current one or, if that has these bytes, the one it replaced when published: publishing does not change the
    comparison. None for the first.
    """
    present = current(folder)
    if present is None or present.record.sha256 != sha256:
        return present
    published = [one for one in events(folder) if (one.action, one.number) == ("publish", present.record.number)]
    before = published[-1].before
    return None if before is None else read(folder, before)


def all_releases(folder: Path) -> list[Release]:
    """List existing releases that were ever current, by number."""
    return [read(folder, number) for number in released_numbers(folder)]


def released_numbers(folder: Path) -> list[int]:
    """List the numbers of existing releases that were ever current."""
    numbers = sorted({event.number for event in _pointer(folder).log})
    return [number for number in numbers if release_folder(folder, number).is_dir()]


def events(folder: Path) -> list[Event]:
    """List publications and roll-backs, in order."""
    return _pointer(folder).log


def read(folder: Path, number: int) -> Release:
    """Read release `number`. Raises ReleaseError if missing or damaged."""
    return Release(release_folder(folder, number), _record(folder, number, Record))


def whole(store: ArtifactStore, release: Release) -> Release:
    """Return the release, once its LoRA is on this machine."""
    store.bring(release.lora)
    return release


def hashes(folder: Path, number: int) -> Hashes:
    """Read file and hashes of release `number`. Raises as `read`."""
    return _record(folder, number, Hashes)


def sources_table(release: Path, sha256: str | None) -> bytes:
    """Return the file SOURCES in the folder `release`.

    sha256: its recorded hash. Raises NotRecorded where none was recorded, ReleaseError for a missing or changed file.
    """
    path, whose = release / SOURCES.file, f"release {int(release.name)} of {release.parent.parent.name}"
    if sha256 is None:
        raise NotRecorded(f"{whose} was made by an earlier version, which did not record its sources")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _damaged_sources(path, whose, _why(error)) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _damaged_sources(path, whose, f"it is not what {RECORD} says")
    return data


def _damaged_sources(path: Path, whose: str, why: str) -> ReleaseError:
    return ReleaseError(f"{path} is damaged: {why}. Bring it back from a backup; {whose} stays usable without it.")


def _record(folder: Path, number: int, kind: type[Model]) -> Model:
    """Read release.json of `number` as `kind`. Raises ReleaseError if missing or damaged."""
    place = release_folder(folder, number)
    try:
        return kind.model_validate_json((place / RECORD).read_bytes())
    except FileNotFoundError as error:
        known = ", ".join(str(one) for one in _numbers(folder)) or "none yet"
        raise ReleaseError(f"There is no release {number} in {folder}. Releases: {known}.") from error
    except (OSError, ValueError) as error:
        raise _damaged(place / RECORD, error) from error


def publish(folder: Path, candidate: Candidate, time: datetime) -> Published:
    """Make `candidate` the current release in `folder`.

    The same bytes are never released twice. Those of the current release change nothing; those of an earlier one make
    it current again. Those that existed when a person rolled back to another stay withdrawn until a person rolls back
    to them: the newest LoRA may be any of them, and would undo the choice.

    Killed at any moment, this leaves the old or the new release current, whole. Raises ReleaseError for a candidate
    that did not pass the gate, and when another process works for too long.
    """
    if not may_be_released(candidate.checks):
        raise ReleaseError(f"{candidate.character} is not released: {decision(candidate.checks)}")
    sha256 = file_sha256(candidate.lora)
    with _alone(folder):
        pointer = _pointer(folder)
        same = [one for one in all_releases(folder) if one.record.sha256 == sha256]
        if not same:
            release = _write(folder, candidate, sha256, pointer.number, time)
            try:
                _move(folder, pointer, "publish", release.record.number, time)
            except SpaceError:
                shutil.rmtree(release.folder)  # no log names it
                raise
            return Published(release, "new")
        number = same[-1].record.number
        if number == pointer.number:
            return Published(same[-1], "already")
        if number in _withdrawn(pointer.log) and pointer.number is not None:
            return Published(read(folder, pointer.number), "withdrawn")
        _check_whole(same[-1])
        _move(folder, pointer, "publish", number, time)
        return Published(same[-1], "again")


def roll_back(folder: Path, number: int, reason: str, time: datetime) -> Release:
    """Make release `number` the current one.

    Later ones stay, but are published again only by rolling back to them. Raises ReleaseError for a release that is
    missing, damaged, or current already.
    """
    with _alone(folder):
        release, pointer = read(folder, number), _pointer(folder)
        if number == pointer.number:
            raise ReleaseError(f"Release {number} is the current one already.")
        _check_whole(release)
        _move(folder, pointer, "roll back", number, time, reason)
        return release


def place(release: Release, folder: Path) -> None:
    """Put the release's files into `folder`, by hard links where possible.

    Raises ReleaseError where its LoRA is not the released one.
    """
    _check_whole(release)
    for path in sorted(release.folder.iterdir()):
        link_or_copy(path, folder / path.name)


def lineage(store: ArtifactStore, character: str, assets: Sequence[str]) -> dict[str, str]:
    """Asset or `character/<section>` -> data version of `assets` and their inputs.

    Read recursively from the manifests. For an artifact made again since, only its version is known, not its inputs.
    """
    found: dict[str, str] = {}
    waiting: list[tuple[str, Artifact]] = [(asset, store.read(character, asset)) for asset in assets]
    while waiting:
        asset, artifact = waiting.pop()
        found[asset] = artifact.data_version
        for name, version in artifact.inputs.items():
            if name in found:
                continue
            found[name] = version
            behind = store.find(character, name) if "/" not in name else None
            if behind is not None and behind.data_version == version:
                waiting.append((name, behind))
    return dict(sorted(found.items()))


def _write(folder: Path, candidate: Candidate, sha256: str, previous: int | None, time: datetime) -> Release:
    """Write the candidate to a numbered folder; the pointer is not changed.

    The LoRA is copied, not linked: changes of the original must not reach the release.
    """
    number = max([*_numbers(folder), *(event.number for event in _pointer(folder).log)], default=0) + 1
    record = Record(
        number=number,
        previous=previous,
        published=time,
        character=candidate.character,
        trigger=candidate.trigger,
        beginnings={medium: list(tags) for medium, tags in candidate.beginnings.items()},
        file=f"{candidate.character}.safetensors",
        sha256=sha256,
        sources_sha256=None if candidate.sources is None else hashlib.sha256(candidate.sources).hexdigest(),
        base_model=candidate.base_model,
        family=candidate.family,
        profile=candidate.profile,
        epoch=candidate.epoch,
        why_epoch=candidate.why_epoch,
        sampling=candidate.sampling,
        data=candidate.data,
        inputs=dict(candidate.inputs),
        metrics=[_metric_row(row) for row in candidate.metrics.to_dict("records")],
        checks=[
            Outcome(name=check.name, passed=check.verdict.passed, checked=check.checked, summary=check.verdict.summary)
            for check in candidate.checks
        ],
    )
    with durable_folder(release_folder(folder, number)) as staging:
        shutil.copyfile(candidate.lora, staging / record.file)
        if candidate.sources is not None:
            (staging / SOURCES.file).write_bytes(candidate.sources)
        (staging / SPEC).write_text(json.dumps(candidate.spec, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        (staging / RECORD).write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
        _check_whole(Release(staging, record))
    return read(folder, number)


def _metric_row(row: Mapping[Any, Any]) -> MetricRow:
    numbers = {name: None if math.isnan(row[name]) else row[name] for name in ("mean", "ci_low", "ci_high")}
    return MetricRow(**{name: row[name] for name in ("model", "medium", "metric", "n")}, **numbers)


def _move(
    folder: Path,
    pointer: _Pointer,
    action: Literal["publish", "roll back"],
    number: int,
    time: datetime,
    reason: str = "",
) -> None:
    event = Event(action=action, number=number, before=pointer.number, time=time, reason=reason)
    moved = _Pointer(number=number, log=[*pointer.log, event])
    with durable_file(folder / POINTER) as staging:
        staging.write_text(moved.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _withdrawn(log: Sequence[Event]) -> set[int]:
    known: set[int] = set()
    withdrawn: set[int] = set()
    for event in log:
        if event.action == "roll back":
            withdrawn = (withdrawn | known) - {event.number}
        known.add(event.number)
    return withdrawn


def _check_whole(release: Release) -> None:
    if not release.lora.is_file() or file_sha256(release.lora) != release.record.sha256:
        raise ReleaseError(
            f"{release.lora} is not the file that was released: it was changed, or is damaged. Bring it back from a "
            f"backup, or make another release current: `sticker-pipeline roll-back {release.record.character} NUMBER`."
        )


def _pointer(folder: Path) -> _Pointer:
    try:
        return _Pointer.model_validate_json((folder / POINTER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return _Pointer()
    except (OSError, ValueError) as error:
        raise ReleaseError(
            f"{folder / POINTER} is damaged: {_why(error)}. Move it away, and choose the current release of "
            f"{folder.parent.name} with `sticker-pipeline roll-back {folder.parent.name} NUMBER`, which does not "
            "change the releases."
        ) from error


def _damaged(path: Path, error: Exception) -> ReleaseError:
    place = path.parent
    return ReleaseError(
        f"{path} is damaged: {_why(error)}. Bring that release of {place.parent.parent.name} back from a backup, or "
        f"move {place} out of {place.parent}: it counts as removed then, and the others stay."
    )


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where}: {first['msg']}" if where else str(first["msg"])
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)


def _numbers(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.glob("*") if NUMBER.fullmatch(path.name))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lock `folder` against other publishers and roll-backs.

    Removes what a killed one left unfinished.
    """
    from filelock import FileLock, Timeout

    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / ".lock", timeout=WAIT_SECONDS):
                for path in folder.glob(".*.????????"):  # as storage.new_folder and atomic_file name them
                    discard(path)
                yield
    except Timeout as error:
        raise ReleaseError(f"Another process is at work in {folder}. Wait until it is done.") from error
