"""Names in the pages exist."""

import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import dagster as dg
import pytest
import yaml

from sticker_pipeline.cli.commands import main
from sticker_pipeline.core.character import Settings, load_character
from sticker_pipeline.core.profile import OVERRIDABLE, character_profile
from sticker_pipeline.definitions import defs
from sticker_pipeline_tests.conftest import REPOSITORY, SLOW
from sticker_pipeline_tests.reference_pages import FOLDER, make_targets

README = REPOSITORY / "README.md"
DOCS = REPOSITORY / "docs"
PAGES = [README, REPOSITORY / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
BY_PROGRAMS = {DOCS / "results" / "experiments.md", DOCS / "results" / "composition.md", *FOLDER.glob("*.md")}
GUIDES = [README, DOCS / "index.md", *sorted((DOCS / "guide").glob("*.md"))]
MOST_LETTERS = 130  # of a line
MOST_LINES = 150  # of the README
ELSEWHERE = "network"  # in the comment of a command that needs it, or another machine
INSTALLED = {"dg", "tensorboard"}  # programs beside ours; launches by `dg` are tested by themselves
TEXTS = {".py", ".csv", ".yaml", ".jinja"}

NAMED = re.findall(r"`([a-z_/]+\.py)::(test_[a-z_0-9]+)`", (DOCS / "guide" / "security.md").read_text())
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
FILES = set(re.findall(r"`([\w/]+\.(?:py|csv|yaml))`", TEXT))
KNOWN = [f"/{path.relative_to(REPOSITORY).as_posix()}" for path in REPOSITORY.glob("sticker_pipeline*/**/*.*")]
GIVEN = {"character.yaml", "dagster.yaml", "workspace.yaml", "pack/picks.yaml", "picks.yaml", "pack.yaml"}
LAUNCHES = re.findall(r"bin/dg launch ((?:.+\\\n)*.+)", TEXT)
KEYS = {*Settings.model_fields, *OVERRIDABLE}
CHARACTER_YAML = [
    text for text in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL) if set(yaml.safe_load(text)) <= KEYS
]
LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def prose(page: Path) -> list[str]:
    """Return the lines outside of blocks of code."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE).splitlines()


def commands_in(page: Path) -> Iterator[str]:
    """Yield each command in the page's blocks of shell."""
    for block in re.findall(r"^```(?:sh|bash)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            command = re.sub(r"^(?:[A-Z_]+=\S+ +)+", "", line.strip())
            if command and not command.startswith(("#", "export ")):
                yield command


COMMANDS = [command for page in GUIDES for command in commands_in(page)]


@cache
def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings, as GitHub and the site make them."""
    headings = [line.lstrip("#").strip() for line in prose(page) if re.match(r"#{1,6} ", line)]
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_the_page_on_security_names_tests() -> None:
    assert len(NAMED) > 40


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_each_test_that_it_names_is_there(file: str, test: str) -> None:
    assert f"\ndef {test}(" in (REPOSITORY / "sticker_pipeline_tests" / file).read_text()


def test_no_page_names_a_command_that_dg_has_replaced() -> None:
    assert not re.findall(r"\bdagster (?:asset|job|dev|definitions|project)\b", TEXT)


@pytest.mark.parametrize("command", LAUNCHES)
def test_each_launch_that_they_show_would_begin(command: str) -> None:
    from dagster_dg_cli.cli.launch import launch_command

    arguments = shlex.split(command.replace("\\\n", " "), comments=True)
    given = launch_command.make_context("launch", arguments).params
    definitions = defs()
    job = definitions.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection={dg.AssetKey.from_user_string(given["assets"])}, asset_check_selection=set()
    )
    assert dg.validate_run_config(job, json.loads(given["config_json"] or "{}"))
    assert given["partition"]


def test_each_module_that_they_name_is_there() -> None:
    assert {file for file in FILES if not any(path.endswith(f"/{file}") for path in KNOWN)} <= GIVEN


def test_the_pages_show_settings_of_characters() -> None:
    assert len(CHARACTER_YAML) >= 4


@pytest.mark.parametrize("text", CHARACTER_YAML)
def test_each_character_yaml_that_they_show_is_valid(text: str, tmp_path: Path) -> None:
    for folder in ("gifs", "art"):
        (tmp_path / "luma" / folder).mkdir(parents=True)
    (tmp_path / "luma" / "my.json").write_text("{}")
    stated = text if "trigger" in yaml.safe_load(text) else f"trigger: luma_char\n{text}"
    (tmp_path / "luma" / "character.yaml").write_text(stated)
    character_profile(load_character(tmp_path / "luma"), tmp_path)


def test_each_slow_file_is_there() -> None:
    tests = REPOSITORY / "sticker_pipeline_tests"
    assert [file for file in SLOW if not (tests / file).is_file()] == []


def test_the_pages_show_launches() -> None:
    assert len(LAUNCHES) >= 4


def test_every_page_that_the_program_names_is_there() -> None:
    sources = [path for path in (REPOSITORY / "sticker_pipeline").rglob("*") if path.suffix in TEXTS]
    texts = [path.read_text(encoding="utf-8") for path in sources]
    ours = re.compile(r"(?<![\w./-])docs/(?!config_README)[\w/-]+\.md")  # the other is sd-scripts'
    named = {page for text in texts for page in ours.findall(text)} - {"docs/spec.md"}  # of git-lfs
    assert len(named) >= 4
    assert {page for page in named if not (REPOSITORY / page).is_file()} == set()


def test_the_readme_is_one_screen() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("page", [page for page in PAGES if page not in BY_PROGRAMS], ids=name_of)
def test_lines_are_short(page: Path) -> None:
    """But for tables and code. Pages that a program writes are as they come."""
    assert [line for line in prose(page) if len(line) > MOST_LETTERS and not line.startswith("|")] == []


@pytest.mark.parametrize("page", [*PAGES, REPOSITORY / "CHANGELOG.md"], ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    dead = []
    for target in LINK.findall("\n".join(prose(page))):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            dead.append(target)
    assert dead == []


def test_every_page_is_in_the_navigation() -> None:
    """`mkdocs build --strict` says so too, where it is installed."""
    listed = re.findall(r": ([\w/-]+\.md)$", (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


def test_every_answer_is_where_the_page_says() -> None:
    """docs/explanation/where.md: each row has a file, and a name that is defined there."""
    text = (DOCS / "explanation" / "where.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .+ \| `(.+)` \| `(\w+)` \|$", text, re.MULTILINE)
    assert len(rows) > 40
    assert [row for row in rows if not defines(REPOSITORY / row[0], row[1])] == []


def defines(path: Path, name: str) -> bool:
    """Return whether the module at `path` has a function, class or constant of that name."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return bool(re.search(rf"^(?:(?:def|class) {name}\b|{name}\b.*=)", text, re.MULTILINE))


def test_the_pages_show_commands() -> None:
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_they_show_is_there(command: str) -> None:
    """Its target, or its subcommand with its options; one of another program is known, or marked."""
    program, *arguments = shlex.split(command, comments=True)
    name = Path(program).name
    if name == "make":
        assert {argument for argument in arguments if "=" not in argument} <= set(make_targets())
    elif name == "sticker-pipeline":
        check_arguments(arguments)
    elif name != "python":
        assert name in INSTALLED or ELSEWHERE in command.partition("#")[2]


def check_arguments(arguments: list[str]) -> None:
    """Raise UsageError for arguments that click refuses, whatever files they name."""
    command = main.commands[arguments[0]]
    context = click.Context(command, info_name=arguments[0], resilient_parsing=False)
    given, left, _ = command.make_parser(context).parse_args(arguments[1:])
    required = [each for each in command.params if each.required or isinstance(each, click.Argument)]
    assert "--help" in arguments or not left
    if "help" not in given:
        assert [each.name for each in required if each.required and not given.get(str(each.name))] == []


MODULES = sorted(set(re.findall(r"python -m ([\w.]+)", TEXT)))


@pytest.mark.parametrize("module", MODULES)
def test_every_module_that_they_start_is_there(module: str) -> None:
    path = REPOSITORY / module.replace(".", "/")
    assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
