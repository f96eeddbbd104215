"""A TOML file of sd-scripts (`--config_file`) as the form of kohya_ss.

Keys are flags of sd-scripts, a column of keys.csv; flags_file.csv has other names. Source: sd-scripts 48d368f,
library/train_util.py (read_config_from_file), train_network.py, networks/lora.py. Sections have no meaning. Missing
keys have sd-scripts' defaults, not the form's.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sticker_pipeline.core.kohya_settings.form import (
    MOST_KEYS,
    Fault,
    Form,
    Line,
    Target,
    fault,
    parse,
    rows,
    shown,
)
from sticker_pipeline.core.kohya_settings.kinds import ALGORITHMS, MODULES
from sticker_pipeline.core.texts import closest, shortened

MODULE, ARGUMENTS, LYCORIS = "network_module", "network_args", "lycoris.kohya"
EMPTY: Mapping[str, Any] = {"whole": 0, "number": 0.0, "numbers": 0.0, "switch": False}


@dataclass(frozen=True)
class Name:
    """A different name or default in a TOML file.

    `place`: `file`, or `network_args`, whose entries are name=value. `key`: of keys.csv. `default`: sd-scripts' value
    for a missing key, if not keys.csv's `left_out`.
    """

    place: str
    name: str
    key: str
    default: str
    note: str


@cache
def names() -> tuple[Name, ...]:
    with Path(__file__).with_name("flags_file.csv").open(encoding="utf-8", newline="") as file:
        return tuple(Name(**cells) for cells in csv.DictReader(file))


def is_dataset_config(data: Mapping[str, Any]) -> bool:
    """Tell whether `data` is sd-scripts' dataset configuration (docs/config_README-en.md there)."""
    return isinstance(data.get("datasets"), list)


def read_flags_file(data: Mapping[str, Any], target: Target) -> tuple[Form, list[Fault]]:
    """Return a TOML table's form; faults for unknown keys and invalid values."""
    values = _flat(data)
    arguments, unknown = _arguments(values.pop(ARGUMENTS, []))
    _, algorithm = arguments.pop("algo", ("", ""))
    module = values.pop(MODULE, None)
    given, unread, strange = _flags(values)
    flags, wrong = _parsed(given)
    more: Given = {key: (f"{ARGUMENTS} {name}", value) for name, (key, value) in arguments.items()}
    extra, misfits = _parsed(more)
    fields = {**_defaults(), **extra, "LoRA_type": _type(module, algorithm, arguments)}
    if "optimizer" not in given and flags.get("use_8bit_adam"):
        fields["optimizer"] = "AdamW8bit"
    named = {**given, **more}
    if module is not None:
        named["LoRA_type"] = (MODULE, f"{module} algo={algorithm}" if algorithm else module)
    stated = {key: value for key, (_, value) in named.items()}
    names_of_keys = {key: name for key, (name, _) in named.items()}
    form = Form(fields, flags, stated, target, names_of_keys, tuple(unread))
    return form, [*strange, *wrong, *unknown, *misfits]


Given = dict[str, tuple[str, Any]]
"""A file's values, by key of keys.csv: (its name there, value)."""


def _flags(values: Mapping[str, Any]) -> tuple[Given, list[Line], list[Fault]]:
    """Split values into flags, keys ignored by sd-scripts, and unknown keys."""
    known = {row.flag: row.key for row in rows().values() if row.flag}
    found: Given = {}
    unread, faults = [], []
    for name, value in values.items():
        if name in known:
            found[known[name]] = (name, value)
        elif name in rows():
            unread.append(Line(name, shown(value), "ignored by sd-scripts", _unread(name)))
        else:
            problem = (
                f"unknown key '{shortened(name)}'.{closest(name, list(known))} sd-scripts has no such flag; remove it"
            )
            faults.append(fault(name, value, problem, f"{problem}."))
    return found, unread, faults


def _parsed(given: Given) -> tuple[dict[str, Any], list[Fault]]:
    found, faults = {}, []
    for key, (name, value) in given.items():
        try:
            found[key] = parse(rows()[key].kind, value)
        except ValueError as error:
            faults.append(fault(name, value, str(error)))
    return found, faults


def _defaults() -> dict[str, Any]:
    """Return an empty form with sd-scripts' own defaults."""
    own = {each.key: parse(rows()[each.key].kind, each.default) for each in names() if each.default}
    return {key: EMPTY.get(row.kind, "") for key, row in rows().items()} | own


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    """Merge all sections; the last of equal keys counts."""
    flat: dict[str, Any] = {}
    for name, value in data.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return flat


def _unread(name: str) -> str:
    if any(each.place == ARGUMENTS and each.key == name for each in names()):
        return f"sd-scripts has no such flag: it belongs into {ARGUMENTS}"
    return "sd-scripts has no such flag: kohya_ss writes it for itself"


def _arguments(given: Any) -> tuple[dict[str, tuple[str, str]], list[Fault]]:
    """Return network_args by name, as (key of keys.csv, value), and their faults."""
    known = {each.name: each.key for each in names() if each.place == ARGUMENTS}
    found, faults = {}, []
    words = given if isinstance(given, list) else str(given).split()
    if len(words) > MOST_KEYS:
        return {}, [fault(ARGUMENTS, given, f"it has more than {MOST_KEYS:,} entries")]
    for word in words:
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


def _type(module: Any, algorithm: str, arguments: Mapping[str, Any]) -> str:
    """Return the LoRA type; by default networks.lora's, as on the command line."""
    if module == LYCORIS:
        return ALGORITHMS.get(algorithm.lower() or "lora", f"LyCORIS/{algorithm}")
    kind = MODULES.get(str(module or "networks.lora"), str(module))
    return "Kohya LoCon" if kind == "Standard" and "conv_dim" in arguments else kind
