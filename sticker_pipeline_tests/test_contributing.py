"""The diffs of docs/contributing/index.md, applied to a copy of the code and tested there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sticker_pipeline_tests.conftest import REPOSITORY

PAGE = REPOSITORY / "docs" / "contributing" / "index.md"
METRIC_TESTS = (
    *("benchmark/test_metrics.py", "test_reference_pages.py::test_a_page_is_that_of_the_code[metrics]"),
    "benchmark/test_similarity.py::test_an_image_is_as_near_as_the_nearest_reference_is",
    "publishing/test_metrics_shown.py::test_a_metric_is_in_the_tables[nearest_holdout]",
    "publishing/test_metrics_shown.py::test_a_metric_is_on_the_pages[nearest_holdout]",
)
OPTIMIZER_TESTS = (
    *("core/test_optimizer_table.py", "core/test_settings.py::test_the_table_of_this_test_is_whole"),
    "training/test_optimizers.py::test_radam_begins_with_plain_steps",
    "training/test_optimizers.py::test_each_trains_the_tiny_model[radam]",
    "training/test_optimizers.py::test_values_keep_their_types[radam]",
    "training/memory/test_dry_run.py::test_what_optimizers_keep[radam]",
    "core/kohya_settings/test_optimizers.py::test_an_optimizer_is_read_under_its_names[radam]",
)


def change(title: str) -> str:
    """Return the only diff in the page's section `title`."""
    (section,) = (part for part in PAGE.read_text(encoding="utf-8").split("\n## ") if part.startswith(f"{title}\n"))
    (diff,) = re.findall(r"^```diff\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return diff


def copy_of_the_code(folder: Path) -> None:
    """Write the packages, the pages and the project file into `folder`."""
    for name in ("sticker_pipeline", "sticker_pipeline_tests"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPOSITORY / "docs", folder / "docs", ignore=shutil.ignore_patterns("images"))
    for name in ("pyproject.toml", "README.md", "CONTRIBUTING.md"):
        shutil.copy(REPOSITORY / name, folder)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git, which applies the change")
@pytest.mark.parametrize(
    ("title", "tests"),
    [("Add a metric", METRIC_TESTS), ("Add an optimizer", OPTIMIZER_TESTS)],
    ids=["metric", "optimizer"],
)
def test_the_change_applies_and_its_tests_pass(tmp_path: Path, title: str, tests: tuple[str, ...]) -> None:
    copy_of_the_code(tmp_path)
    outside = os.environ | {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}  # of any repository
    applied = subprocess.run(
        ["git", "apply", "-"], input=change(title), cwd=tmp_path, env=outside, text=True, capture_output=True
    )
    assert applied.returncode == 0, f"docs/contributing/index.md, {title}: {applied.stderr}"

    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"]
    ran = subprocess.run(
        [*command, *(f"sticker_pipeline_tests/{test}" for test in tests)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        text=True,
        capture_output=True,
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-1000:]
