"""What the pages name exists."""

import json
import re
import shlex

import dagster as dg
import pytest

from sticker_pipeline.definitions import defs
from sticker_pipeline_tests import metrics_page
from sticker_pipeline_tests.conftest import REPOSITORY, SLOW

NAMED = re.findall(r"`([a-z_/]+\.py)::(test_[a-z_0-9]+)`", (REPOSITORY / "docs" / "security.md").read_text())


def test_the_page_on_security_names_tests() -> None:
    assert len(NAMED) > 40


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_each_test_that_it_names_is_there(file: str, test: str) -> None:
    assert f"\ndef {test}(" in (REPOSITORY / "sticker_pipeline_tests" / file).read_text()


def test_the_page_of_metrics_is_that_of_the_rows() -> None:
    """Written anew by `python -m sticker_pipeline_tests.metrics_page`."""
    assert metrics_page.PAGE.read_text(encoding="utf-8") == metrics_page.page()


PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").glob("*.md")]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
FILES = set(re.findall(r"`([\w/]+\.(?:py|csv|yaml))`", TEXT))
KNOWN = [f"/{path.relative_to(REPOSITORY).as_posix()}" for path in REPOSITORY.glob("sticker_pipeline*/**/*.*")]
GIVEN = {"character.yaml", "dagster.yaml", "workspace.yaml"}
LAUNCHES = re.findall(r"bin/dg launch ((?:.+\\\n)*.+)", TEXT)


def test_no_page_names_a_command_that_dg_has_replaced() -> None:
    assert not re.findall(r"\bdagster (?:asset|job|dev|definitions|project)\b", TEXT)


@pytest.mark.parametrize("command", LAUNCHES)
def test_each_launch_that_they_show_would_begin(command: str) -> None:
    from dagster_dg_cli.cli.launch import launch_command

    arguments = shlex.split(command.replace("\\\n", " "))
    given = launch_command.make_context("launch", arguments).params
    definitions = defs()
    job = definitions.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection={dg.AssetKey.from_user_string(given["assets"])}, asset_check_selection=set()
    )
    assert dg.validate_run_config(job, json.loads(given["config_json"] or "{}"))
    assert given["partition"]


def test_each_module_that_they_name_is_there() -> None:
    assert {file for file in FILES if not any(path.endswith(f"/{file}") for path in KNOWN)} <= GIVEN


def test_each_slow_file_is_there() -> None:
    tests = REPOSITORY / "sticker_pipeline_tests"
    assert [file for file in SLOW if not (tests / file).is_file()] == []


def test_the_pages_show_launches() -> None:
    assert len(LAUNCHES) >= 4
