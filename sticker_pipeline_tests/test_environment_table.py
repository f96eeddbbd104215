"""Table of environment variables: exactly the names in the code."""

import os
import re
import subprocess
import sys
from pathlib import Path

from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.environment_table import VARIABLES

PACKAGE = REPOSITORY / "sticker_pipeline"
NAME = re.compile(r"\b(?:STICKER_[A-Z_]+|CIVITAI_TOKEN|TELEGRAM_(?:BOT_TOKEN|USER_ID))\b")
NOT_VARIABLES = {"STICKER_MARGIN"}  # a constant of the embedded drawings
DEFAULTS = """
from types import SimpleNamespace
from sticker_pipeline.core.address import ui_address
from sticker_pipeline.core.profile import profile_name
from sticker_pipeline.defs.automation import schedule
from sticker_pipeline.defs.resources import workspace_from_environment
from sticker_pipeline.training.supervisor import DEFAULT_GRACE_SECONDS
found = workspace_from_environment()
nobody = SimpleNamespace(settings=SimpleNamespace(profile=None))
values = [found.characters, found.artifacts, found.scratch, found.models]
values += [profile_name(nobody), schedule({}), ui_address({}), DEFAULT_GRACE_SECONDS]
print(*values, sep="|")
"""


def names_in(path: Path) -> set[str]:
    return set(NAME.findall(path.read_text(encoding="utf-8")))


def test_the_table_has_the_names_that_the_code_has() -> None:
    files = PACKAGE.rglob("*.py")
    used = set().union(*map(names_in, [*files, REPOSITORY / "Makefile"])) - NOT_VARIABLES
    ours = {row.name for row in VARIABLES if NAME.fullmatch(row.name)}
    assert used == ours


def test_each_name_stands_there_once() -> None:
    names = [row.name for row in VARIABLES]
    assert len(names) == len(set(names))


def test_defaults_are_those_of_the_code() -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STICKER_")}
    printed = subprocess.run([sys.executable, "-c", DEFAULTS], env=clean, capture_output=True, text=True, check=True)
    *texts, seconds = printed.stdout.strip().split("|")
    stated = {row.name: row.default for row in VARIABLES}
    names = ("CHARACTERS", "ARTIFACTS", "SCRATCH", "MODELS", "PROFILE", "RETRAIN", "UI", "STOP_GRACE_SECONDS")
    assert [stated[f"STICKER_{name}"] for name in names] == [*texts, f"{float(seconds):g}"]
