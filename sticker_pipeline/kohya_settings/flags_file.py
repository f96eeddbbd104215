"""A TOML file of sd-scripts (`--config_file`) as the form that kohya_ss would show for it.

Its keys are the flags of sd-scripts, for which keys.csv has a column; what else has another name there stands in
flags_file.csv. Read in sd-scripts 48d368f: library/train_util.py (read_config_from_file), train_network.py,
networks/lora.py. Sections are only for the eye: all of their keys count as if they stood in one. What is not in the
file is sd-scripts' own default, not the form's.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sticker_pipeline.kohya_settings.form import Fault, Form, Line, Target, closest, fault, parse, rows, shown
from sticker_pipeline.kohya_settings.kinds import ALGORITHMS, MODULES

MODULE, ARGUMENTS, LYCORIS = "network_module", "network_args", "lycoris.kohya"
EMPTY: Mapping[str, Any] = {"whole": 0, "number": 0.0, "numbers": 0.0, "switch": False}


@dataclass(frozen=True)
class Name:
    """Another name or default in a TOML file.

    `place` is where it stands: `file`, or `network_args`, whose entries are name=value. `key` is that of keys.csv, and
    `default` what sd-scripts takes where the file says nothing and keys.csv's `left_out` is not it.
    """

    place: str
    name: str
    key: str
    default: str
    note: str


@cache
def names() -> tuple[Name, ...]:
    """flags_file.csv."""
    with Path(__file__).with_name("flags_file.csv").open(encoding="utf-8", newline="") as file:
        return tuple(Name(**cells) for cells in csv.DictReader(file))


def is_dataset_config(data: Mapping[str, Any]) -> bool:
    """Whether this is sd-scripts' description of a dataset (docs/config_README-en.md there)."""
    return isinstance(data.get("datasets"), list)


def read_flags_file(data: Mapping[str, Any], target: Target) -> tuple[Form, list[Fault]]:
    """The form of a TOML table, and each unknown key or argument and each value of the wrong kind."""
    values = _flat(data)
    by_flag = {row.flag: row for row in rows().values() if row.flag}
    flags: dict[str, Any] = {}
    stated: dict[str, Any] = {}
    called: dict[str, str] = {}
    unread, faults = [], []
    for name, value in values.items():
        if name in (MODULE, ARGUMENTS):
            continue
        if name not in by_flag:
            if name in rows():
                unread.append(Line(name, shown(value), "ignored by sd-scripts", _unread(name)))
            else:
                problem = f"unknown key '{name}'.{closest(name, list(by_flag))} sd-scripts has no such flag; remove it"
                faults.append(fault(name, value, problem, f"{problem}."))
            continue
        row = by_flag[name]
        stated[row.key], called[row.key] = value, name
        try:
            flags[row.key] = parse(row.kind, value)
        except ValueError as error:
            faults.append(fault(name, value, str(error)))
    fields = {key: EMPTY.get(row.kind, "") for key, row in rows().items()}
    for each in names():
        if each.default:
            fields[each.key] = parse(rows()[each.key].kind, each.default)
    if "optimizer" not in stated and flags.get("use_8bit_adam"):
        fields["optimizer"] = "AdamW8bit"
    arguments, more = _arguments(values.get(ARGUMENTS, []))
    for name, (key, value) in arguments.items():
        stated[key], called[key] = value, f"{ARGUMENTS} {name}"
        try:
            fields[key] = parse(rows()[key].kind, value)
        except ValueError as error:
            faults.append(fault(called[key], value, str(error)))
    fields["LoRA_type"], algorithm = _type(values.get(MODULE), arguments)
    if MODULE in values:
        stated["LoRA_type"], called["LoRA_type"] = values[MODULE] + algorithm, MODULE
    return Form(fields, flags, stated, target, called, tuple(unread)), faults + more


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    """All keys in one table; of equal ones the last counts."""
    flat: dict[str, Any] = {}
    for name, value in data.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return flat


def _unread(name: str) -> str:
    if any(each.place == ARGUMENTS and each.key == name for each in names()):
        return f"sd-scripts has no such flag: it belongs into {ARGUMENTS}"
    return "sd-scripts has no such flag: kohya_ss writes it for itself"


def _arguments(given: Any) -> tuple[dict[str, tuple[str, str]], list[Fault]]:
    """The entries of network_args by their names, as (key of keys.csv, value), and each that is unknown."""
    known = {each.name: each.key for each in names() if each.place == ARGUMENTS}
    found, faults = {}, []
    for word in given if isinstance(given, list) else str(given).split():
        name, equals, value = str(word).partition("=")
        if not equals:
            faults.append(fault(ARGUMENTS, word, "it must be name=value"))
        elif name not in known:
            faults.append(
                fault(f"{ARGUMENTS} {name}", value, f"unknown argument.{closest(name, list(known))} Remove it")
            )
        else:
            found[name] = (known[name], value.strip("\"'"))
    return found, faults


def _type(module: str | None, arguments: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    """The type of LoRA as the form calls it, and LyCORIS's algorithm as it is shown. Without a module it is
    networks.lora: people give that on the command line."""
    if module == LYCORIS:
        _, algorithm = arguments.get("algo", ("", "lora"))
        return ALGORITHMS.get(algorithm.lower(), f"LyCORIS/{algorithm}"), f" algo={algorithm}"
    kind = MODULES.get(module or "networks.lora", str(module))
    return ("Kohya LoCon" if kind == "Standard" and "conv_dim" in arguments else kind), ""
