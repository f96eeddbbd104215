"""What the pages name exists."""

import re

import pytest

from sticker_pipeline_tests import metrics_page
from sticker_pipeline_tests.conftest import REPOSITORY

NAMED = re.findall(r"`([a-z_/]+\.py)::(test_[a-z_0-9]+)`", (REPOSITORY / "docs" / "security.md").read_text())


def test_the_page_on_security_names_tests() -> None:
    assert len(NAMED) > 40


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_each_test_that_it_names_is_there(file: str, test: str) -> None:
    assert f"\ndef {test}(" in (REPOSITORY / "sticker_pipeline_tests" / file).read_text()


def test_the_page_of_metrics_is_that_of_the_rows() -> None:
    """Written anew by `python -m sticker_pipeline_tests.metrics_page`."""
    assert metrics_page.PAGE.read_text(encoding="utf-8") == metrics_page.page()
