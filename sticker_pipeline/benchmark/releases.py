"""Releases of a character: numbered folders that are never changed again, and the pointer to the one that counts.

    <artifacts>/<character>/releases/0001/          <character>.safetensors, spec.json, release.json
    <artifacts>/<character>/releases/current.json   the current number, and a log of what was published and rolled back

They lie beside the artifacts and not in one: an artifact is exchanged whole, and what it held before is deleted. A
history inside it would have to be carried from one to the next by every step, and be lost by the first that forgets.
Here nothing that exists is ever written again but the pointer, which is exchanged by one rename. The artifact
`released_lora` shows the current release by `place`.

A folder gets its number only when it is whole; it counts from when the pointer names it. So a publish that is killed
leaves the current release as it was, and at most a folder that no log names, which is passed over.
Whether a LoRA may be released is gate.py's business.
"""

import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from sticker_pipeline.benchmark.gate import Check, decision, may_be_released
from sticker_pipeline.core.files.space import SpaceError, writing
from sticker_pipeline.core.schemas import EARLIER_METRICS
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

FOLDER, RECORD, SPEC, POINTER = "releases", "release.json", "spec.json", "current.json"
NUMBER = re.compile(r"\d{4,}")
WAIT_SECONDS = 60.0  # for another publish or roll-back of the same character; each takes as long as copying one file


class ReleaseError(StorageError):
    """A release that is not there, is damaged, or may not be made; the message says what to do."""


EARLIER_KEYS = {  # of release.json
    "clips": "sources",
    "held_out_clips": "holdout_sources",
    "held_out_pictures": "holdout_images",
    "pictures": "images",
}


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _with_present_names(cls, data: Any) -> Any:
        """Read what an earlier version wrote: a release is never written again."""
        if not isinstance(data, dict):
            return data
        named = {EARLIER_KEYS.get(key, key): value for key, value in data.items()}
        if isinstance(named.get("metric"), str):
            named["metric"] = EARLIER_METRICS.get(named["metric"], named["metric"])
        return named


class MetricRow(_Record):
    """A row of the benchmark's table; None for what is no number there."""

    model: str
    style: str
    metric: str
    mean: float | None
    ci_low: float | None
    ci_high: float | None
    n: int


class Outcome(_Record):
    """What a check of the gate said."""

    name: str
    passed: bool
    checked: bool
    summary: str


class Drawing(_Record):
    """How the images of the benchmark were drawn."""

    scheduler: str
    steps: int
    guidance_scale: float
    negative_prompt: str
    resolution: int
    strength: float
    prompts: list[str]


class Data(_Record):
    """How many images, and sources that they come from, were trained on and held out."""

    images: int
    sources: int
    holdout_images: int
    holdout_sources: int


class Record(_Record):
    """release.json. `beginnings`: style -> the tags that the prompts of that style begin with, the trigger first.
    `inputs`: data versions of everything that the LoRA was made of (see `lineage`)."""

    number: int
    previous: int | None
    published: datetime
    character: str
    trigger: str
    beginnings: dict[str, list[str]]
    file: str
    sha256: str
    base_model: str
    family: str
    profile: str
    epoch: int
    why_epoch: str
    drawing: Drawing
    data: Data
    inputs: dict[str, str]
    metrics: list[MetricRow]
    checks: list[Outcome]


class Event(_Record):
    """`before` was the current release until then."""

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
    """A release as it lies on disk, whole."""

    folder: Path
    record: Record

    @property
    def lora(self) -> Path:
        return self.folder / self.record.file

    def spec(self) -> dict[str, Any]:
        """Every effective setting of the training, as the trainer was given it."""
        path = self.folder / SPEC
        try:
            spec: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise _damaged(path, error) from error
        return spec


@dataclass(frozen=True)
class Candidate:
    """A LoRA that passed the gate, and all that is to be remembered of it. `metrics` is the benchmark's table."""

    character: str
    trigger: str
    beginnings: Mapping[str, Sequence[str]]
    lora: Path
    base_model: str
    family: str
    profile: str
    epoch: int
    why_epoch: str
    drawing: Drawing
    data: Data
    inputs: Mapping[str, str]
    spec: Mapping[str, Any]
    metrics: pd.DataFrame
    checks: Sequence[Check]


@dataclass(frozen=True)
class Published:
    """The current release, and how it came to be that: `new`, or `again` (an earlier one of the same bytes), or it was
    so before: `already` (the candidate is it) or `withdrawn` (a person chose another than the candidate's bytes)."""

    release: Release
    outcome: Literal["new", "again", "already", "withdrawn"]


def releases_folder(store: ArtifactStore, character: str) -> Path:
    return store.folder(character, FOLDER)


def current(folder: Path) -> Release | None:
    """The release that counts, or None where nothing is released. Raises ReleaseError where it is damaged."""
    number = _pointer(folder).number
    return None if number is None else read(folder, number)


def baseline_release(folder: Path, sha256: str) -> Release | None:
    """The release that a LoRA with these bytes has to stand beside: the current one; where it is that one itself, the
    one that it replaced when it was published. None where it is, or was, the first.

    So the answer stays the same when the LoRA is published: what was compared stays what was compared.
    """
    present = current(folder)
    if present is None or present.record.sha256 != sha256:
        return present
    published = [one for one in events(folder) if (one.action, one.number) == ("publish", present.record.number)]
    before = published[-1].before
    return None if before is None else read(folder, before)


def all_releases(folder: Path) -> list[Release]:
    """Every release that has ever been current and is still there, by number."""
    numbers = sorted({event.number for event in _pointer(folder).log})
    return [read(folder, number) for number in numbers if _place(folder, number).is_dir()]


def events(folder: Path) -> list[Event]:
    """What was published and rolled back, in order."""
    return _pointer(folder).log


def read(folder: Path, number: int) -> Release:
    """Raises ReleaseError for a number that is not there, or a record that is damaged."""
    place = _place(folder, number)
    try:
        text = (place / RECORD).read_text(encoding="utf-8")
        return Release(place, Record.model_validate_json(text))
    except FileNotFoundError as error:
        known = ", ".join(str(one) for one in _numbers(folder)) or "none yet"
        raise ReleaseError(f"There is no release {number} in {folder}. Releases: {known}.") from error
    except (OSError, ValueError) as error:
        raise _damaged(place / RECORD, error) from error


def publish(folder: Path, candidate: Candidate, time: datetime) -> Published:
    """Make `candidate` the current release of the character whose releases lie in `folder`.

    The same bytes are never released twice: those of the current release change nothing, those of an earlier one make
    that one current again, and those that a person knew when rolling back to another stay withdrawn until a person
    rolls back to them: the newest LoRA may be any of them, and would undo the choice.
    Killed at any moment, this leaves either the current release of before, whole, or the new one, whole.
    Raises ReleaseError for a candidate that did not pass the gate, and when another process is at work for too long.
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
    """Make release `number` the current one. Later ones stay where they are, and are not published again by themselves;
    to go forward again, roll back to their number. Raises ReleaseError for a release that is not there, is damaged, or
    is the current one already."""
    with _alone(folder):
        release, pointer = read(folder, number), _pointer(folder)
        if number == pointer.number:
            raise ReleaseError(f"Release {number} is the current one already.")
        _check_whole(release)
        _move(folder, pointer, "roll back", number, time, reason)
        return release


def place(release: Release, folder: Path) -> None:
    """Put the release's files into `folder`, by hard links where the file system has them. Raises ReleaseError where
    its LoRA is not the one that was released."""
    _check_whole(release)
    for path in sorted(release.folder.iterdir()):
        link_or_copy(path, folder / path.name)


def lineage(store: ArtifactStore, character: str, assets: Sequence[str]) -> dict[str, str]:
    """Asset or `character/<section>` -> data version, of `assets` and of all that these were made of.

    Read from the manifests. Where an artifact has been made anew since, what the older one was made of is not known any
    more: its version is there, and nothing behind it.
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
    """The candidate as a numbered folder, of which the pointer does not know yet. The LoRA is copied, not linked: what
    happens to the file that it was must not happen to the release."""
    number = max([*_numbers(folder), *(event.number for event in _pointer(folder).log)], default=0) + 1
    record = Record(
        number=number,
        previous=previous,
        published=time,
        character=candidate.character,
        trigger=candidate.trigger,
        beginnings={style: list(tags) for style, tags in candidate.beginnings.items()},
        file=f"{candidate.character}.safetensors",
        sha256=sha256,
        base_model=candidate.base_model,
        family=candidate.family,
        profile=candidate.profile,
        epoch=candidate.epoch,
        why_epoch=candidate.why_epoch,
        drawing=candidate.drawing,
        data=candidate.data,
        inputs=dict(candidate.inputs),
        metrics=[_figure(row) for row in candidate.metrics.to_dict("records")],
        checks=[
            Outcome(name=check.name, passed=check.verdict.passed, checked=check.checked, summary=check.verdict.summary)
            for check in candidate.checks
        ],
    )
    with durable_folder(_place(folder, number)) as staging:
        shutil.copyfile(candidate.lora, staging / record.file)
        (staging / SPEC).write_text(json.dumps(candidate.spec, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        (staging / RECORD).write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
        _check_whole(Release(staging, record))
    return read(folder, number)


def _figure(row: Mapping[Any, Any]) -> MetricRow:
    numbers = {name: None if math.isnan(row[name]) else row[name] for name in ("mean", "ci_low", "ci_high")}
    return MetricRow(**{name: row[name] for name in ("model", "style", "metric", "n")}, **numbers)


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
    """The releases that a person knew when choosing another one, and has not chosen since."""
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
            f"backup, or `sticker-pipeline roll-back {release.record.character} NUMBER` makes another release count."
        )


def _pointer(folder: Path) -> _Pointer:
    try:
        return _Pointer.model_validate_json((folder / POINTER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return _Pointer()
    except (OSError, ValueError) as error:
        raise ReleaseError(
            f"{folder / POINTER} is damaged: {_why(error)}. Move it away, and choose the release of "
            f"{folder.parent.name} that counts with `sticker-pipeline roll-back {folder.parent.name} NUMBER`; the "
            "releases themselves are not changed by that."
        ) from error


def _damaged(path: Path, error: Exception) -> ReleaseError:
    """The error that says that a file of a release is damaged, and what to do."""
    place = path.parent
    return ReleaseError(
        f"{path} is damaged: {_why(error)}. Bring that release of {place.parent.parent.name} back from a backup, or "
        f"move {place} out of {place.parent}: it counts as removed then, and the others stay."
    )


def _why(error: Exception) -> str:
    """The first line of what is wrong."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where}: {first['msg']}" if where else str(first["msg"])
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)


def _place(folder: Path, number: int) -> Path:
    return folder / f"{number:04d}"


def _numbers(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.glob("*") if NUMBER.fullmatch(path.name))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other publishers and roll-backs of `folder` out, and remove what a killed one left half done."""
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
