"""A kohya_ss settings file as settings of ours, with a report: what became of each of its keys, and why.

Only files are read and reports written here; what a key makes sd-scripts do stands in rules.py. Training folders in
kohya's layout belong to dataset/kohya_import.py.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ValidationError

from sticker_pipeline.kohya_settings.answers import Answer, Verdict, ignored
from sticker_pipeline.kohya_settings.form import (
    EXTRA,
    Form,
    KohyaSettingsError,
    Row,
    Target,
    read_form,
    read_object,
    rows,
)
from sticker_pipeline.kohya_settings.rules import answer
from sticker_pipeline.settings import BucketSettings, TrainingSettings

COLUMNS = ["key", "value", "verdict", "effect"]
NOT_STATED = "(not in the file)"


@dataclass(frozen=True)
class Line:
    """One key of the file (or one flag of its additional_parameters), what becomes of it, and why."""

    key: str
    value: str
    verdict: Verdict
    effect: str


@dataclass(frozen=True)
class KohyaImport:
    """Settings of TrainingSettings and of BucketSettings by name, and the report on every key of the file."""

    training: dict[str, Any]
    buckets: dict[str, Any]
    report: tuple[Line, ...]


def read_kohya_settings(path: Path, target: Target) -> KohyaImport:
    """What the kohya_ss file at `path` makes sd-scripts do, as settings of a character trained with `target`.

    A key that the file lacks counts as what the form then shows; it is reported where it becomes a setting.
    Raises KohyaSettingsError, naming the file and all that is wrong at once: no JSON object, unknown keys and flags,
    values that are not of their kind or out of range, and what would train in sd-scripts as nothing here does.
    """
    form, problems = read_form(read_object(path), target)
    answers = {key: answer(row, form) for key, row in rows().items()}
    training = {name: value for each in answers.values() for name, value in each.training.items()}
    buckets = {name: value for each in answers.values() for name, value in each.buckets.items()}
    problems += [_fault(form, key, each.problem) for key, each in answers.items() if each.problem]
    problems += _out_of_range(form, {key: each.training for key, each in answers.items()}, TrainingSettings)
    problems += _out_of_range(form, {key: each.buckets for key, each in answers.items()}, BucketSettings)
    if problems:
        raise KohyaSettingsError("\n".join(f"{path}: {problem}" for problem in problems))
    report = tuple(line for key, row in rows().items() for line in _lines(row, form, answers[key]))
    return KohyaImport(training, buckets, report)


def report_table(imported: KohyaImport) -> pd.DataFrame:
    """The report as a table with the columns COLUMNS, all text, one row for each key."""
    return pd.DataFrame([vars(line) for line in imported.report], columns=COLUMNS, dtype=str)


def _lines(row: Row, form: Form, found: Answer) -> list[Line]:
    """The lines of a key: that of its flag in additional_parameters, and its own. A key that the file lacks has one
    only where it becomes a setting."""
    lines = []
    if row.key in form.flags:
        lines.append(Line(f"--{row.flag}", _shown(form.flags[row.key]), found.verdict, found.effect))
        found = ignored(f"{EXTRA} has --{row.flag}")
    if row.key in form.stated:
        lines.append(
            Line(row.key, _shown(form.stated[row.key]), found.verdict, found.effect + _left_out(row, form, found))
        )
    elif not lines and (found.training or found.buckets):
        lines.append(Line(row.key, NOT_STATED, found.verdict, found.effect))
    return lines


def _left_out(row: Row, form: Form, found: Answer) -> str:
    """What is said more where an empty field has made sd-scripts take a value of its own."""
    own = row.left_out and not form.fields[row.key] and found.verdict == "taken over"
    return f"; for 0 or nothing kohya_ss passes no flag, and sd-scripts takes {row.left_out}" if own else ""


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _fault(form: Form, key: str, problem: str) -> str:
    if key in form.flags:
        return f"'{EXTRA}': --{rows()[key].flag} {_shown(form.flags[key])}: {problem}."
    return f"'{key}' = {form.stated.get(key, form.fields[key])!r}: {problem}."


def _out_of_range(form: Form, settings: Mapping[str, Mapping[str, Any]], model: type[BaseModel]) -> list[str]:
    """A sentence for each key whose `settings` the model refuses."""
    problems = []
    for key, values in settings.items():
        try:
            model.model_validate(values)
        except ValidationError as error:
            for fault in error.errors():
                message = fault["msg"][:1].lower() + fault["msg"][1:]
                problems.append(_fault(form, key, f"here it is {fault['loc'][0]} = {fault['input']!r}, and {message}"))
    return problems
