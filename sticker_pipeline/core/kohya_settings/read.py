"""Import of kohya_ss settings as ours, with a report per key.

`rules.py` interprets keys; `dataset/kohya_import.py` imports training folders.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ValidationError

from sticker_pipeline.core.files.inside import ANYWHERE
from sticker_pipeline.core.kohya_settings.answers import Answer, ignored, refused
from sticker_pipeline.core.kohya_settings.flags_file import is_dataset_config, read_flags_file
from sticker_pipeline.core.kohya_settings.form import (
    EXTRA,
    Fault,
    Form,
    KohyaSettingsError,
    Line,
    Row,
    Target,
    fault,
    parse,
    read_form,
    read_object,
    rows,
    shown,
)
from sticker_pipeline.core.kohya_settings.kinds import no_lora
from sticker_pipeline.core.kohya_settings.rules import KINDS, answer
from sticker_pipeline.core.settings import BucketSettings, TrainingSettings
from sticker_pipeline.core.texts import are, counted, quoted

COLUMNS = ["key", "value", "verdict", "effect"]
NOT_STATED = "(not in the file)"
MOST_FAULTS = 20  # of one file, in a message


@dataclass(frozen=True)
class KohyaImport:
    """Overrides of `training` and `buckets`, the report, and a sentence per refusal.

    After refusals, the settings are those of the other keys.
    """

    training: dict[str, Any]
    buckets: dict[str, Any]
    report: tuple[Line, ...]
    refusals: tuple[str, ...] = ()


def read_kohya_settings(path: Path, target: Target, roots: Sequence[Path] = ANYWHERE) -> KohyaImport:
    """Return the kohya_ss file at `path`, below `roots`, as settings for `target`.

    Raises KohyaSettingsError, with file and all faults, for a refusal or an error of `examine_kohya_settings`.
    """
    found = examine_kohya_settings(path, target, roots)
    if found.refusals:
        listed = found.refusals[:MOST_FAULTS]
        more = len(found.refusals) - len(listed)
        rest = [f"{counted(more, 'more key')} {are(more)} refused."] if more else []
        raise KohyaSettingsError("\n".join(f"{path}: {refusal}" for refusal in [*listed, *rest]))
    return found


def examine_kohya_settings(path: Path, target: Target, roots: Sequence[Path] = ANYWHERE) -> KohyaImport:
    """Return the importable settings, even where keys are refused.

    A missing key has the form's default, or sd-scripts' in a TOML file; it is reported if it becomes a setting.
    Refused: unknown keys and flags, invalid or out-of-range values, and options without an equivalent here. The refusal
    of an unsupported kind of training replaces all others. Raises KohyaSettingsError for a file that does not configure
    LoRA training.
    """
    data = read_object(path, roots)
    form, faults = _read(path, data, target)
    answers = {key: _within_range(form, answer(row, form)) for key, row in rows().items()}
    faulty = {each.line.key for each in faults}
    found = {key: _fault(form, key, each.effect) for key, each in answers.items() if each.verdict == "refused"}
    kind = next((found[key] for key in KINDS if key in found), None)
    refusals = [kind] if kind else [*faults, *(each for key, each in found.items() if form.name(key) not in faulty)]
    lines = [line for key, row in rows().items() for line in _lines(row, form, answers[key]) if line.key not in faulty]
    return KohyaImport(
        {name: value for each in answers.values() for name, value in each.training.items()},
        {name: value for each in answers.values() for name, value in each.buckets.items()},
        (*lines, *(each.line for each in faults), *form.unread),
        tuple(each.sentence for each in refusals),
    )


def family_of(path: Path) -> Literal["sd15", "sdxl"]:
    """Return a file's base model family; unstated: sd15, the form's default.

    Raises KohyaSettingsError for an unreadable file.
    """
    try:
        return "sdxl" if parse("switch", read_object(path).get("sdxl", False)) else "sd15"
    except ValueError as error:
        if isinstance(error, KohyaSettingsError):
            raise
        return "sd15"


def _read(path: Path, data: Mapping[str, Any], target: Target) -> tuple[Form, list[Fault]]:
    """Return the file's form. Raises KohyaSettingsError unless it trains a LoRA."""
    if is_dataset_config(data):
        raise KohyaSettingsError(
            f"{path} is a dataset configuration of sd-scripts ([general] and [[datasets]], for --dataset_config), not "
            "one of a training. `sticker-pipeline import-kohya` makes a character from the folders of such a dataset."
        )
    if kind := no_lora(data):
        raise KohyaSettingsError(
            f"{path} is a configuration for {kind}, which trains no LoRA: nothing of it is taken over. Give the file "
            "that kohya_ss's LoRA tab has saved."
        )
    return read_flags_file(data, target) if path.suffix.lower() == ".toml" else read_form(data, target)


def report_table(imported: KohyaImport) -> pd.DataFrame:
    """Return the report: text columns COLUMNS, a row per key."""
    return pd.DataFrame([vars(line) for line in imported.report], columns=COLUMNS, dtype=str)


def _lines(row: Row, form: Form, found: Answer) -> Iterator[Line]:
    """Yield a key's lines, for its flag in additional_parameters and itself.

    A missing key has a line only if it becomes a setting.
    """
    by_flag = _by_flag(form, row.key)
    if by_flag:
        yield Line(f"--{row.flag}", shown(form.flags[row.key]), found.verdict, found.effect)
    if row.key in form.stated:
        answer = ignored(f"{EXTRA} has --{row.flag}") if by_flag else found
        effect = answer.effect + _left_out(row, form, answer)
        yield Line(form.name(row.key), shown(form.stated[row.key]), answer.verdict, effect)
    elif not by_flag and (found.training or found.buckets or found.verdict == "refused"):
        yield Line(row.key, NOT_STATED, found.verdict, found.effect)


def _by_flag(form: Form, key: str) -> bool:
    return key in form.flags and not form.is_toml


def _left_out(row: Row, form: Form, found: Answer) -> str:
    """Note sd-scripts' own value for an empty field."""
    own = row.left_out and not form.fields[row.key] and found.verdict == "taken over" and not form.is_toml
    return f"; for 0 or nothing kohya_ss passes no flag, and sd-scripts takes {row.left_out}" if own else ""


def _fault(form: Form, key: str, problem: str) -> Fault:
    if _by_flag(form, key):
        flag, value = f"--{rows()[key].flag}", shown(form.flags[key])
        return fault(flag, value, problem, f"'{EXTRA}': {flag} {value}: {problem}.")
    return fault(form.name(key), form.stated.get(key, form.fields[key]), problem)


def _within_range(form: Form, found: Answer) -> Answer:
    problems = [*_out_of_range(found.training, TrainingSettings), *_out_of_range(found.buckets, BucketSettings)]
    return refused("; ".join(problems)) if problems else found


def _out_of_range(values: Mapping[str, Any], model: type[BaseModel]) -> list[str]:
    try:
        model.model_validate(values)
    except ValidationError as error:
        return [
            f"here it is {each['loc'][0]} = {quoted(each['input'])}, and {each['msg'][:1].lower()}{each['msg'][1:]}"
            for each in error.errors()
        ]
    return []
