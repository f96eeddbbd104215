"""A kohya_ss settings file as its form: keys, kinds and flags.

keys.csv has kohya_ss's LoRA form (every version up to 45088f0) and sd-scripts' flags (48d368f). `flags_file.py` reads
TOML into the form; `rules.py` interprets it.
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from sticker_pipeline.core.files.inside import ANYWHERE, read_bytes
from sticker_pipeline.core.files.limited_files import MOST_BYTES, LimitedFileError, parse_json, parse_toml
from sticker_pipeline.core.texts import UserError, closest, quoted, shortened

EXTRA = "additional_parameters"

MOST_KEYS = 1_000  # keys of a file, words of additional_parameters or network_args
MOST_SHOWN = 500  # letters of a value in the report


class KohyaSettingsError(UserError):
    """An invalid kohya_ss file, or unsupported values: a line for each fault."""


Verdict = Literal[
    "taken over", "differs here", "ignored by sd-scripts", "same without it", "not about training", "refused"
]


@dataclass(frozen=True)
class Line:
    """A key (or flag of additional_parameters), its verdict and the reason."""

    key: str
    value: str
    verdict: Verdict
    effect: str


@dataclass(frozen=True)
class Target:
    """Values of profile and character.yaml that affect a file's meaning."""

    profile: str
    family: Literal["sd15", "sdxl"]
    resolution: int
    epochs: int


@dataclass(frozen=True)
class Row:
    """A key of keys.csv.

    `flag`: sd-scripts' equivalent, if any; a key that begins with -- is a flag without field. `default`: the form's for
    a missing key. `left_out`: sd-scripts' value where the form has 0, False or nothing: kohya_ss then passes no flag.
    """

    key: str
    flag: str
    kind: Literal["", "text", "whole", "number", "numbers", "switch"]
    default: Any
    left_out: Any
    role: Literal["rule", "setting", "off", "other", "elsewhere", "old"]
    note: str


@cache
def rows() -> Mapping[str, Row]:
    """Return keys.csv by key, in the report's order."""
    with Path(__file__).with_name("keys.csv").open(encoding="utf-8", newline="") as file:
        return {cells["key"]: _row(cells) for cells in csv.DictReader(file)}


def _row(cells: dict[str, Any]) -> Row:
    values = {name: parse(cells["kind"], cells[name]) for name in ("default", "left_out")}
    return Row(**{**cells, **values})


def parse(kind: str, value: Any) -> Any:
    """Parse `value` as the form does. Raises ValueError with the expected kind.

    An empty number is 0; of several `numbers` the first counts.
    """
    if kind == "numbers":
        several = value if isinstance(value, list) else str(value).split()
        return next(_number("number", each) for each in several or [0])
    if kind in ("whole", "number"):
        return _number(kind, value)
    if kind == "switch":
        words = {"true": True, "false": False, "1": True, "0": False, "": False}
        if str(value).lower() not in words:
            raise ValueError("it must be true or false")
        return words[str(value).lower()]
    return (" ".join(map(str, value)) if isinstance(value, list) else str(value)).strip()


def _number(kind: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value or 0)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("it must be a number")
    if kind == "number":
        return number
    if number != int(number):
        raise ValueError("it must be a whole number")
    return int(number)


@dataclass(frozen=True)
class Form:
    """Fields and flags by key; `form[key]` is sd-scripts' effective value.

    `stated`: the file's original values. Flags: of additional_parameters or a TOML file. For TOML, `names` has the
    file's name of each stated key, and only fields without a flag are filled in.
    """

    fields: Mapping[str, Any]
    flags: Mapping[str, Any]
    stated: Mapping[str, Any]
    target: Target
    names: Mapping[str, str] | None = None
    unread: tuple[Line, ...] = ()  # keys of a TOML file that sd-scripts ignores

    @property
    def is_toml(self) -> bool:
        return self.names is not None

    def name(self, key: str) -> str:
        """Return the file's name of a key."""
        return (self.names or {}).get(key, key)

    def __getitem__(self, key: str) -> Any:
        """Return the flag's value, else the field's, else `left_out` for 0 or empty."""
        return self.flags[key] if key in self.flags else self.fields[key] or rows()[key].left_out


@dataclass(frozen=True)
class Fault:
    """An unknown key or invalid value: its line and sentence."""

    line: Line
    sentence: str


def fault(key: str, value: Any, problem: str, sentence: str = "") -> Fault:
    """Make the fault of a key; default sentence: "'key' = value: problem."."""
    key = shortened(key)
    return Fault(
        Line(key, shown(value), "refused", problem), sentence or f"'{shortened(key)}' = {quoted(value)}: {problem}."
    )


def shown(value: Any) -> str:
    return shortened(value if isinstance(value, str) else json.dumps(value, default=str), MOST_SHOWN)


def read_object(path: Path, roots: Sequence[Path] = ANYWHERE) -> dict[str, Any]:
    """Read the JSON object or, for .toml, TOML table at `path` below `roots`.

    Raises KohyaSettingsError for an invalid file.
    """
    toml = path.suffix.lower() == ".toml"
    try:
        text = read_bytes(path, roots, MOST_BYTES).decode("utf-8-sig")
        data = parse_toml(text) if toml else parse_json(text)
    except OSError as error:
        raise KohyaSettingsError(f"{path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, LimitedFileError) as error:
        raise KohyaSettingsError(f"{path} is not valid {'TOML' if toml else 'JSON'}: {error}.") from error
    if not isinstance(data, dict):
        raise KohyaSettingsError(
            f"{path} must hold the keys of kohya_ss's LoRA form, as its button 'Save' writes them; it holds a "
            f"{type(data).__name__}."
        )
    if sum(len(value) if isinstance(value, dict) else 1 for value in data.values()) > MOST_KEYS:
        raise KohyaSettingsError(f"{path} has more than {MOST_KEYS:,} keys, and kohya_ss's form has {len(rows())}.")
    return data


def read_form(data: Mapping[str, Any], target: Target) -> tuple[Form, list[Fault]]:
    """Return the form, and a fault per unknown or invalid entry.

    As in kohya_ss, null counts as missing. Invalid values become defaults.
    """
    fields = [key for key in rows() if not key.startswith("--")]
    faults = []
    for key in data:
        if key not in fields:
            hint = f"unknown key '{shortened(key)}'.{closest(key, fields)}"
            problem = f"{hint} It is no field of kohya_ss's LoRA form; remove it"
            faults.append(fault(key, data[key], problem, f"{problem}."))
    stated = {key: data[key] for key in fields if data.get(key) is not None}
    read = {}
    for key, row in rows().items():
        try:
            read[key] = parse(row.kind, stated.get(key, row.default))
        except ValueError as error:
            read[key] = row.default
            faults.append(fault(key, stated[key], str(error)))
    if "optimizer" not in stated and read["use_8bit_adam"]:
        read["optimizer"] = "AdamW8bit"
    flags, more = _read_flags(read[EXTRA])
    return Form(read, flags, stated, target), faults + more


def _read_flags(text: str) -> tuple[dict[str, Any], list[Fault]]:
    known = {row.flag: row for row in rows().values() if row.flag}
    words = text.replace('"', "").split()  # as kohya_ss does
    flags: dict[str, Any] = {}
    faults = []
    if len(words) > MOST_KEYS:
        problem = f"it has more than {MOST_KEYS:,} words"
        return {}, [fault(EXTRA, text, problem)]
    if words and words[0][:2] != "--":
        problem = f"'{shortened(words[0])}' belongs to no flag; remove it"
        faults.append(fault(words[0], "", problem, f"'{EXTRA}': {problem}."))
    for name, value in _split_flags(words):
        if name not in known:
            problem = f"unknown flag '--{shortened(name)}'.{closest(name, list(known))} Remove it"
            faults.append(fault(f"--{name}", value, problem, f"'{EXTRA}': {problem}."))
            continue
        row = known[name]
        try:
            flags[row.key] = parse(row.kind, "true" if row.kind == "switch" and not value else value)
        except ValueError as error:
            faults.append(fault(f"--{name}", value, str(error), f"'{EXTRA}': --{name} {shortened(value)}: {error}."))
    return flags, faults


def _split_flags(words: Sequence[str]) -> list[tuple[str, str]]:
    """Split `--flag value …` and `--flag=value …` into (flag, joined values)."""
    found: list[list[str]] = []
    for word in words:
        if word.startswith("--"):
            found.append(word[2:].split("=", 1))
        elif found:
            found[-1].append(word)
    return [(name, " ".join(values)) for name, *values in found]
