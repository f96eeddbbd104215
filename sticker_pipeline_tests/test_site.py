"""The documentation builds strictly; its pages make no network requests."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sticker_pipeline_tests.conftest import REPOSITORY

pytest.importorskip("mkdocs")

FETCHED = re.compile(r"""<(?:script|img|iframe|source)[^>]+src=["']?https?:|<link[^>]+href=["']?https?:""")
IN_STYLES = re.compile(r"""(?:url\(|@import\s+)["']?https?:""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_each_page_is_there(site: Path) -> None:
    pages = [page.relative_to(REPOSITORY / "docs").with_suffix(".html") for page in (REPOSITORY / "docs").rglob("*.md")]
    assert len(pages) > 30
    assert [page for page in pages if not (site / page).is_file()] == []


def test_nothing_is_fetched_from_the_network(site: Path) -> None:
    assert [page.name for page in site.rglob("*.html") if FETCHED.search(page.read_text(encoding="utf-8"))] == []
    assert [file.name for file in site.rglob("*.css") if IN_STYLES.search(file.read_text(encoding="utf-8"))] == []
