"""Writes docs/reference from the code: `make reference`."""

import re
import types
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
import dagster as dg
from pydantic import BaseModel, ByteSize
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sticker_pipeline.cli.commands import main
from sticker_pipeline.cli.work import EXIT_STATUSES
from sticker_pipeline.core.character import Settings
from sticker_pipeline.core.markdown import literal, table
from sticker_pipeline.core.optimizer_table import OPTIMIZERS
from sticker_pipeline.core.profile import OVERRIDABLE, PRESETS, PROFILES, Profile
from sticker_pipeline.definitions import defs
from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.environment_table import VARIABLES
from sticker_pipeline_tests.metrics_page import metrics_page
from sticker_pipeline_tests.tables_page import STAGES, tables_page

FOLDER = REPOSITORY / "docs" / "reference"
IMAGE = REPOSITORY / "docs" / "images" / "embedded-base.webp"
IMAGE_SOURCE = REPOSITORY / "data" / "models" / "embedded" / "report" / "base_sticker.webp"
Pages = Mapping[str, Callable[[], str]]


# settings

SETTINGS = """\
# Settings

`make reference` writes this page from the models in `sticker_pipeline/core/`: `character.py`, `profile.py` and
`settings.py`. An unknown key and a value out of range are errors that name the file and the key.

The first part is what character.yaml may say. The second is what a profile says; of its sections,
{overridable} may be overridden in character.yaml
under the same name. [What each edit makes stale](../explanation/staleness.md).
"""
OF_A_PROFILE = "{} of a profile"
TEXTS = {str: "text", int: "whole number", float: "number", bool: "yes or no", Path: "path", ByteSize: "bytes"}
SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "a multiple of", "min_length": "at least"}


def settings_page() -> str:
    """Return the page of all settings."""
    overridable = ", ".join(f"`{name}`" for name in OVERRIDABLE)
    parts = [SETTINGS.format(overridable=overridable), "## character.yaml\n", _fields(Settings, "{}")]
    for key, model in _sections(Settings):
        parts += [f"### `{key}`\n", _fields(model, "{}", f"{key}.")]
    parts += ["## Profiles\n", _fields(Profile, OF_A_PROFILE)]
    for key, model in _sections(Profile):
        parts += [f"### {OF_A_PROFILE.format(f'`{key}`')}\n", _fields(model, OF_A_PROFILE, f"{key}.")]
    parts += ["## Values of the profiles\n", "Where a cell is empty the default above holds.\n", _values()]
    parts += ["## Presets\n", "`training.preset` changes these before character.yaml does.\n", _presets()]
    parts += ["## Optimizers\n", _optimizers()]
    return "\n".join(parts)


def _sections(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the models inside `model`, each with the key that leads to it."""
    for name, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        if inner is not None:
            key = f"{above}{name}{_step_into(field.annotation)}"
            yield key, inner
            yield from _sections(inner, f"{key}.")


def _step_into(annotation: Any) -> str:
    return {dict: ".<name>", list: "[]"}.get(get_origin(annotation), "")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for each in get_args(annotation) if (model := _model_in(each))), None)


def _fields(model: type[BaseModel], title: str, above: str = "") -> str:
    """Return the table of a model's fields. `title`: that of a section, with a place for its key."""
    head = [("key", "type", "default", "meaning"), ("---",) * 4]
    rows = []
    for name, field in model.model_fields.items():
        meaning = _cell(field.description or "")
        if _model_in(field.annotation):
            section = title.format(f"{above}{name}{_step_into(field.annotation)}")
            meaning = f"{meaning}{'; ' if meaning else ''}[its keys](#{_anchor(section)})"
        rows.append((f"`{name}`", _type_of(field), _default(field), meaning))
    return f"{table([*head, *rows])}\n"


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _cell(text: str) -> str:
    """Return `text`, in which code stands in backticks, for a cell of a table."""
    parts = text.replace("|", "\\|").split("`")
    return "`".join([part if place % 2 else part.replace("<", "&lt;") for place, part in enumerate(parts)])


def _type_of(field: FieldInfo) -> str:
    limits = "".join(f", {limit}" for limit in _limits(field.metadata))
    return f"{_type(field.annotation)}{limits}"


def _type(annotation: Any) -> str:
    """Return the words for a type."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return "".join([_type(inner[0]), *(f", {limit}" for limit in _limits(inner[1:]))])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(each) for each in inner if each is not type(None))
    if origin in (list, tuple):
        if origin is tuple and inner[-1] is not Ellipsis:
            return f"{len(inner)} numbers"
        return f"list of {_type(inner[0])}"
    if origin is dict:
        return f"mapping to {_type(inner[1])}" if inner[1] is not Any else "mapping"
    if _model_in(annotation):
        return "section"
    return TEXTS[annotation]


def _limits(metadata: Any) -> list[str]:
    """Return the words for pydantic's limits."""
    found = []
    for each in metadata:
        for name, sign in SIGNS.items():
            value = getattr(each, name, None)
            if value is not None and not (name == "min_length" and hasattr(each, "strip_whitespace")):
                found.append(f"{sign} {value:,}" + (" entry" if name == "min_length" else ""))
    return found


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined or isinstance(value, BaseModel):
        return ""
    if isinstance(value, tuple | list | dict):
        return _code(value) if len(str(value)) < 60 else "see the code"
    return _code(value)


def _code(value: Any) -> str:
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    text = str(list(value)) if isinstance(value, tuple) else f"{value}"
    return f"`{text}`" if text else ""


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{above}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], list):
            flat[f"{above}{name}"] = f"{len(value)} lists"
        else:
            flat[f"{above}{name}"] = value
    return flat


def _values() -> str:
    columns = {name: _flat(values) for name, values in PROFILES.items()}
    keys = dict.fromkeys(key for values in columns.values() for key in values)
    rows = [(f"`{key}`", *(_code(values[key]) if key in values else "" for values in columns.values())) for key in keys]
    return f"{table([('key', *columns), ('---',) * (1 + len(columns)), *rows])}\n"


def _presets() -> str:
    rows = [
        (f"`{name}`", family, ", ".join(f"`{key}: {value}`" for key, value in values.items()))
        for name, families in PRESETS.items()
        for family, values in families.items()
    ]
    return f"{table([('preset', 'family', 'changes'), ('---',) * 3, *rows])}\n"


def _optimizers() -> str:
    head = [("optimizer", "what it is", "its settings", "in kohya's files"), ("---",) * 4]
    rows = [
        (f"`{row.name}`", _cell(row.note), ", ".join(f"`{key}`" for key in row.arguments), ", ".join(row.kohya))
        for row in OPTIMIZERS.values()
    ]
    return f"{table([*head, *rows])}\n"


# commands

COMMANDS = """\
# Commands

`make reference` writes this page from `sticker_pipeline/cli/commands.py` and the Makefile. After `make`, the command is
`.venv/bin/sticker-pipeline`; every one has `--help`.
"""


def cli_page() -> str:
    """Return the page of all commands, and of the targets of make."""
    statuses = [(f"`{number}`", literal(meaning)) for number, meaning in EXIT_STATUSES.items()]
    parts = [COMMANDS, "## Exit status\n", table([("status", "meaning"), ("---", "---"), *statuses]), ""]
    parts += ["## make\n", table([("target", "what it does"), ("---", "---"), *_targets()])]
    for name, command in main.commands.items():
        context = click.Context(command, info_name=f"sticker-pipeline {name}", parent=None)
        usage = context.command.collect_usage_pieces(context)
        parts += [f"\n## {name}\n", f"```\nsticker-pipeline {' '.join([name, *usage])}\n```\n"]
        parts += [literal_paragraphs(command.help or "")]
        if rows := list(_options(command, context)):
            parts += ["", table([("option", "meaning", "default"), ("---",) * 3, *rows])]
    return "\n".join(parts) + "\n"


def make_targets() -> dict[str, str]:
    """Return the targets of the Makefile that say what they do."""
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z-]+):.*? ## (.+)$", text, re.MULTILINE))


def _targets() -> list[tuple[str, str]]:
    return [(f"`make {name}`", literal(meaning)) for name, meaning in make_targets().items()]


def literal_paragraphs(text: str) -> str:
    """Return the paragraphs of a help text as markdown, one line each."""
    return "\n\n".join(literal(" ".join(part.split())) for part in text.split("\n\n"))


def _options(command: click.Command, context: click.Context) -> Iterator[tuple[str, str, str]]:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            value = "" if parameter.is_flag else f" {parameter.make_metavar(context)}"
            shown = parameter.show_default and parameter.default is not None
            variable = f" Also `{parameter.envvar}`." if parameter.envvar else ""
            default = f"`{parameter.default}`" if shown else ""
            name = f"`{', '.join(parameter.opts)}{value}`".replace("|", "\\|")
            yield name, literal(parameter.help or "") + variable, default


# environment

ENVIRONMENT = """\
# Environment variables

`make reference` writes this page from `sticker_pipeline_tests/environment_table.py`. Relative folders are below the
folder in which the command is started.
"""


def environment_page() -> str:
    """Return the page of the variables."""
    parts = [ENVIRONMENT]
    for title, internal in (("For you", False), ("Set by the program itself", True)):
        rows = [
            (f"`{row.name}`", row.meaning, f"`{row.default}`" if row.default else "")
            for row in VARIABLES
            if row.internal == internal
        ]
        parts += [f"## {title}\n", f"{table([('name', 'meaning', 'default'), ('---',) * 3, *rows])}\n"]
    return "\n".join(parts)


# assets

ASSETS = """\
# Assets

`make reference` writes this page from the definitions. An asset in `characters` has one partition for each character.
[Tables](tables.md) has the columns of what they write, [where things are](../explanation/where.md) where their code is.
"""


def assets_page(definitions: dg.Definitions) -> str:
    """Return the page of all assets, roots, checks and jobs."""
    graph = definitions.resolve_asset_graph()
    order = {key: place for place, key in enumerate(graph.toposorted_asset_keys)}
    specs = sorted(definitions.resolve_all_asset_specs(), key=lambda spec: order[spec.key])
    made = [spec for spec in specs if spec.key in graph.materializable_asset_keys]
    parts = [ASSETS]
    for stage in STAGES:
        parts += [f"## {stage}\n", *(_asset(spec) for spec in made if spec.group_name == stage)]
    parts += ["## Roots\n", "What people give, observed by the folder sensor.\n", *_roots(graph, specs, made)]
    parts += ["## Checks\n", _checks(graph, order), "## Jobs\n", _jobs(definitions)]
    return "\n".join(parts)


def _asset(spec: dg.AssetSpec) -> str:
    of = "none" if spec.partitions_def is None else getattr(spec.partitions_def, "name", None) or "profiles"
    needs = ", ".join(f"`{each.asset_key.to_user_string()}`" for each in spec.deps) or "nothing"
    uses = [name.removeprefix("uses/") for name in spec.tags if name.startswith("uses/")]
    used = f"\n- parts of the roots: {', '.join(uses)}" if uses else ""
    key = spec.key.to_user_string()
    return f"### `{key}`\n\n{spec.description}\n\n- partitions: {of}\n- made from: {needs}{used}\n"


def _roots(graph: Any, specs: list[dg.AssetSpec], made: list[dg.AssetSpec]) -> Iterator[str]:
    head = [("root", "what it is", "used by"), ("---",) * 3]
    rows = [
        (
            f"`{spec.key.to_user_string()}`",
            _root(spec.description or ""),
            ", ".join(f"`{each.key.to_user_string()}`" for each in made if _is_made_from(each, spec.key)),
        )
        for spec in specs
        if spec.key not in graph.materializable_asset_keys
    ]
    yield f"{table([*head, *rows])}\n"


def _is_made_from(spec: dg.AssetSpec, key: dg.AssetKey) -> bool:
    return any(each.asset_key == key for each in spec.deps)


def _root(description: str) -> str:
    """Return the description of a root, whose parts are a list, in one line."""
    first, *parts = [line.strip() for line in description.splitlines() if line.strip()]
    return f"{first} Parts: {'; '.join(part.removeprefix('- ') for part in parts)}"


def _checks(graph: Any, order: Mapping[dg.AssetKey, int]) -> str:
    nodes = [graph.get(key) for key in graph.asset_check_keys]
    nodes.sort(key=lambda node: (order[node.key.asset_key], node.key.name))
    rows = [
        (
            f"`{node.key.asset_key.to_user_string()}`",
            f"`{node.key.name}`",
            literal(node.description or ""),
            "yes" if node.blocking else "",
        )
        for node in nodes
    ]
    return f"{table([('asset', 'check', 'what passes', 'blocks'), ('---',) * 4, *rows])}\n"


def _jobs(definitions: dg.Definitions) -> str:
    jobs = sorted(definitions.resolve_all_job_defs(), key=lambda job: job.name)
    rows = [(f"`{job.name}`", literal(job.description or "")) for job in jobs if not job.name.startswith("__")]
    return table([("job", "what it makes"), ("---", "---"), *rows]) + "\n"


@cache
def _definitions() -> dg.Definitions:
    return defs()


PAGES: Pages = {
    "settings": settings_page,
    "cli": cli_page,
    "environment": environment_page,
    "assets": lambda: assets_page(_definitions()),
    "tables": lambda: tables_page(_definitions()),
    "metrics": metrics_page,
}
"""By the name of the file in docs/reference: the function that gives its text."""


def write(folder: Path = FOLDER) -> None:
    """Write every page into `folder`, and the image that docs/results/embedded.md shows."""
    for name, page in PAGES.items():
        (folder / f"{name}.md").write_text(page(), encoding="utf-8")
    IMAGE.write_bytes(IMAGE_SOURCE.read_bytes())


if __name__ == "__main__":
    write()
