"""The Dagster instance of this deployment: where its history lies, and its settings."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

SETTINGS = "dagster.yaml"


def make_home() -> Path:
    """Make sure of DAGSTER_HOME, by default `.dagster` of the working folder, and of its settings; returns it.

    `make ui` looks there too. Settings that are there stay.
    """
    home = Path(os.environ.get("DAGSTER_HOME", ".dagster")).absolute()
    home.mkdir(parents=True, exist_ok=True)
    settings = home / SETTINGS
    if not settings.exists():
        settings.write_bytes((Path(__file__).parents[1] / SETTINGS).read_bytes())
    os.environ["DAGSTER_HOME"] = str(home)
    return home


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    """Open the instance of DAGSTER_HOME."""
    make_home()
    with dg.DagsterInstance.get() as instance:
        yield instance
