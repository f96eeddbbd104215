"""Decisions of a person about a pack: read, and never written here.

They lie in the character's folder: pack/picks.yaml, and pack/override/<slot>.<suffix> for images of the person.
"""

import stat
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from sticker_pipeline.core.character import PACK, Strict, is_system_folder, may_lead, read_model
from sticker_pipeline.core.files.inside import OutsideError, list_folder, status
from sticker_pipeline.core.files.limited_files import parse_yaml
from sticker_pipeline.core.texts import (
    UserError,
    closest,
    folded,
    hidden_letters,
    is_unicode,
    listed,
    name_finder,
    quoted,
    shortened,
    tidy,
)
from sticker_pipeline.packing.emoji import is_emoji

FILE = f"{PACK}/picks.yaml"
OVERRIDES = f"{PACK}/override"
SUFFIXES = frozenset(  # of the formats that `media/header.py` knows
    f".{name}"
    for name in (
        *("png", "apng", "webp", "gif", "jpg", "jpeg", "jfif", "bmp", "avif", "tif", "tiff", "heic", "heif", "jxl"),
        *("webm", "mp4", "mov"),
    )
)
NOT_IMAGES = frozenset({"thumbs.db", "desktop.ini", "readme.txt", "readme.md"})  # of systems, and notes
MOST_EMOJI = 20  # of one sticker: Telegram's limit, the highest of all platforms

Motion = Literal["bounce", "shake", "pulse", "none"]


class PicksError(UserError):
    """An unusable picks.yaml or override; the message has file, key and remedy."""


def _emoji(text: str) -> str:
    if not is_emoji(text):
        raise ValueError("it is not one emoji")
    return text


def _tidy(text: str) -> str:
    """Return `text` in one line without invisible letters."""
    line = tidy(text)
    return tidy("".join(one for one in line if not hidden_letters(one))) if hidden_letters(line) else line


def _each_once(names: list[str]) -> list[str]:
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ValueError(f"{listed(twice)} occurs twice: keep one")
    return names


Line = Annotated[str, AfterValidator(_tidy)]
SlotName = Annotated[str, StringConstraints(min_length=1, max_length=255)]
CandidateId = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Emoji = Annotated[str, AfterValidator(_emoji)]
Keyword = Annotated[str, StringConstraints(min_length=1), AfterValidator(_tidy)]


class Picks(Strict):
    """Decisions of a person; without one, the pipeline's own is taken."""

    title: Line = Field("", max_length=128, description="the pack's title")
    author: Line = Field("", max_length=128, description="the pack's author")
    accept: dict[SlotName, CandidateId] = Field(default_factory=dict, description="a slot, and the candidate for it")
    reject: Annotated[list[CandidateId], AfterValidator(_each_once)] = Field(
        default_factory=list, description="candidates that are never taken"
    )
    order: Annotated[list[SlotName], AfterValidator(_each_once)] = Field(
        default_factory=list, description="slots that come first, in this order"
    )
    emoji: dict[SlotName, Annotated[list[Emoji], Field(min_length=1, max_length=MOST_EMOJI)]] = Field(
        default_factory=dict, description="a slot, and its emoji, the most fitting first"
    )
    text: dict[SlotName, Line] = Field(default_factory=dict, description="a slot, and its words; empty: no words")
    keywords: dict[SlotName, Annotated[list[Keyword], Field(max_length=20)]] = Field(
        default_factory=dict, description="a slot, and words by which people search it"
    )
    motion: dict[SlotName, Motion] = Field(default_factory=dict, description="a slot, and how a still moves")

    @model_validator(mode="before")
    @classmethod
    def _empty_sections_are_defaults(cls, data: Any) -> Any:
        """Read null sections (all lines commented out) as defaults."""
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}

    @field_validator("reject")
    @classmethod
    def _are_not_accepted(cls, reject: list[str], others: ValidationInfo) -> list[str]:
        if both := sorted({*others.data.get("accept", {}).values()} & {*reject}):
            raise ValueError(f"{listed(both)} is in `accept` too: keep one")
        return reject


def load_picks(folder: Path, roots: Sequence[Path] = ()) -> Picks:
    """Read pack/picks.yaml of the character's `folder`; without one, no decisions.

    `roots` as in `core/files/inside.py`. Raises PicksError, with file and key.
    """
    path = folder / FILE
    try:
        return read_model(
            path, Picks, PicksError, "keys such as `title: My stickers`", parse=_parsed, roots=roots or (folder,)
        )
    except FileNotFoundError:
        return Picks()
    except OutsideError as error:
        raise PicksError(f"{path} is {error.strerror}: {may_lead(folder)}") from error


def _parsed(text: str) -> Any:
    """Parse YAML; an empty file decides nothing."""
    data = parse_yaml(text)
    return {} if data is None else data


def overrides(folder: Path, roots: Sequence[Path] = ()) -> dict[str, Path]:
    """Return the images of pack/override: slot, folded as by `core/texts.py`, -> file.

    Raises PicksError for two files of one slot, files that are not images, and links that leave `roots`.
    """
    place, roots = folder / OVERRIDES, roots or (folder,)
    try:
        names = [entry.name for entry in list_folder(place, roots)[1]]
    except FileNotFoundError:
        return {}
    except OutsideError as error:
        raise PicksError(f"{place} is {error.strerror}: {may_lead(folder)}") from error
    except OSError as error:
        raise PicksError(f"{place} cannot be read: {error.strerror}.") from error
    found: dict[str, Path] = {}
    for name in names:
        if is_system_folder(name) or name.lower() in NOT_IMAGES:
            continue
        _check_override(place / name, folder, roots)
        slot = folded(Path(name).stem)
        if slot in found:
            raise PicksError(
                f"{place}: {shortened(found[slot].name)} and {shortened(name)} are for one slot: keep one."
            )
        found[slot] = place / name
    return found


def _check_override(path: Path, folder: Path, roots: Sequence[Path]) -> None:
    if not is_unicode(path.name):
        raise PicksError(f"{path.parent}: the name {quoted(path.name)} is not UTF-8: rename the file.")
    if path.suffix.lower() not in SUFFIXES:
        known = ", ".join(sorted(SUFFIXES))
        raise PicksError(f"{path.parent / shortened(path.name)} is no image by its name; known are {known}.")
    try:
        status_of = status(path, roots)
    except OutsideError as error:
        raise PicksError(f"{path} is {error.strerror}: {may_lead(folder)}") from error
    except OSError as error:
        raise PicksError(f"{path} cannot be read: {error.strerror}.") from error
    if not stat.S_ISREG(status_of.st_mode):
        raise PicksError(f"{path} is no file: put the image itself there.")


def stated_in_vain(
    folder: Path, picks: Picks, own: Mapping[str, Path], slots: Collection[str], candidates: Collection[str]
) -> list[str]:
    """Return sentences on decisions without effect, with file and key.

    They name missing slots and candidates, and one for two slots. `own`: of `overrides`. Candidates change with
    each release, so these are no errors.
    """
    path, names = folder / FILE, sorted(slots)
    find = name_finder(names)
    sentences = [
        f"{path}: {key}: there is no slot '{shortened(slot)}'.{closest(slot, names)}"
        for key in ("accept", "order", "emoji", "text", "keywords", "motion")
        for slot in getattr(picks, key)
        if slot not in slots
    ]
    sentences += [
        f"{path}: {key}: there is no candidate '{shortened(name)}' any more.{closest(name, sorted(candidates))}"
        for key, stated in (("accept", picks.accept.values()), ("reject", picks.reject))
        for name in stated
        if name not in candidates
    ]
    accepted = {slot: name for slot, name in picks.accept.items() if slot not in own}
    sentences += [
        f"{path}: accept: {shortened(name)} is accepted for {listed(of_name)}, and is in the pack once: keep one of "
        "these slots."
        for name in dict.fromkeys(accepted.values())
        if len(of_name := [slot for slot in accepted if accepted[slot] == name]) > 1
    ]
    return sentences + [
        f"{file}: there is no slot '{shortened(file.stem)}'.{closest(file.stem, names)}"
        for slot, file in own.items()
        if find(slot) is None
    ]
