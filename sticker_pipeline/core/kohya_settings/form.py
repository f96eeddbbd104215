"""A kohya_ss settings file as the form that it fills in: every key with its kind, and the flags that go with it.

The keys stand in keys.csv: those of kohya_ss's LoRA form (every version up to 45088f0), and the flags of sd-scripts
(48d368f). A TOML file of sd-scripts fills in the same form: see flags_file.py. What becomes of a key does not belong
here, but in rules.py.
"""

import csv
import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from sticker_pipeline.core.files.inside import ANYWHERE, read_bytes
from sticker_pipeline.core.files.limited_files import MOST_BYTES, LimitedFileError, parse_json, parse_toml
from sticker_pipeline.core.texts import MOST_QUOTED, UserError, quoted, shortened

EXTRA = "additional_parameters"

MOST_KEYS = 1_000  # of a file, and words of additional_parameters or network_args
MOST_SHOWN = 500  # letters of a value in the report


class KohyaSettingsError(UserError):
    """A kohya_ss file that is none, or that asks for something unknown or not to be had here: a line for each fault."""


Verdict = Literal[
    "taken over", "differs here", "ignored by sd-scripts", "same without it", "not about training", "refused"
]


@dataclass(frozen=True)
class Line:
    """One key of the file (or one flag of its additional_parameters), what becomes of it, and why."""

    key: str
    value: str
    verdict: Verdict
    effect: str


@dataclass(frozen=True)
class Target:
    """What profile and character.yaml have decided, as far as the meaning of a kohya_ss file depends on it."""

    profile: str
    family: Literal["sd15", "sdxl"]
    resolution: int
    epochs: int


@dataclass(frozen=True)
class Row:
    """A key of keys.csv.

    `flag` is the flag of sd-scripts that says the same, if any; a key that begins with -- is a flag without a field in
    the form. `default` is what the form shows where a file lacks the key. `left_out` is what sd-scripts does where the
    form holds 0, False or nothing: kohya_ss then passes no flag at all.
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
    """keys.csv by key, in the order of the report."""
    with Path(__file__).with_name("keys.csv").open(encoding="utf-8", newline="") as file:
        return {cells["key"]: _row(cells) for cells in csv.DictReader(file)}


def _row(cells: dict[str, Any]) -> Row:
    values = {name: parse(cells["kind"], cells[name]) for name in ("default", "left_out")}
    return Row(**{**cells, **values})


def parse(kind: str, value: Any) -> Any:
    """`value` as the form reads it: an empty field of a number is 0; of several `numbers` the first counts. Raises
    ValueError saying what it must be."""
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
    """Fields and flags by key; `stated`: what the file has in their place. `form[key]` is what sd-scripts works with.

    Flags are those of additional_parameters, or those of a TOML file: then `names` has what the file calls each stated
    key, and the fields are empty but for what is no flag.
    """

    fields: Mapping[str, Any]
    flags: Mapping[str, Any]
    stated: Mapping[str, Any]
    target: Target
    names: Mapping[str, str] | None = None
    unread: tuple[Line, ...] = ()  # about keys of a TOML file that sd-scripts passes over

    @property
    def is_toml(self) -> bool:
        return self.names is not None

    def name(self, key: str) -> str:
        """What the file calls a key."""
        return (self.names or {}).get(key, key)

    def __getitem__(self, key: str) -> Any:
        """The flag's value, which sd-scripts lets win; else the field's, or where that is 0 or empty, `left_out`."""
        return self.flags[key] if key in self.flags else self.fields[key] or rows()[key].left_out


@dataclass(frozen=True)
class Fault:
    """A key that nobody knows, or a value of the wrong kind: its line in the report, and the sentence about it."""

    line: Line
    sentence: str


def fault(key: str, value: Any, problem: str, sentence: str = "") -> Fault:
    """The fault of a key; the usual sentence is "'key' = value: problem."."""
    key = shortened(key)
    return Fault(
        Line(key, shown(value), "refused", problem), sentence or f"'{shortened(key)}' = {quoted(value)}: {problem}."
    )


def shown(value: Any) -> str:
    return shortened(value if isinstance(value, str) else json.dumps(value, default=str), MOST_SHOWN)


def read_object(path: Path, roots: Sequence[Path] = ANYWHERE) -> dict[str, Any]:
    """The JSON object or TOML table at `path`, below `roots`; a name that ends in .toml says which.

    Raises KohyaSettingsError where there is none.
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
    """The form that `data` fills in, and each unknown key or flag and each value of the wrong kind.

    A null counts as a missing key, as in kohya_ss; a value of the wrong kind as the default, so that reading goes on.
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
    """The flags of additional_parameters by key of the table, and each that is wrong."""
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
    """`--flag value …` and `--flag=value …` as (flag, its values joined by spaces)."""
    found: list[list[str]] = []
    for word in words:
        if word.startswith("--"):
            found.append(word[2:].split("=", 1))
        elif found:
            found[-1].append(word)
    return [(name, " ".join(values)) for name, *values in found]


def closest(word: str, known: Sequence[str]) -> str:
    """' Did you mean …?' with the word of `known` that `word` is a misspelling of, or nothing."""
    match = difflib.get_close_matches(word[:MOST_QUOTED], known, n=1)
    return f" Did you mean '{match[0]}'?" if match else ""
