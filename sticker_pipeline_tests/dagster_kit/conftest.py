"""A Dagster instance with the settings that ship."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from sticker_pipeline.defs.instance import open_instance


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance with the settings that ship, in a DAGSTER_HOME of its own."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    with open_instance() as instance:
        yield instance
