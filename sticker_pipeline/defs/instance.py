"""The Dagster instance of this deployment: where its history lies, and its settings."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import yaml

from sticker_pipeline.claims import claimed
from sticker_pipeline.space import HISTORY_BYTES, enough, writing
from sticker_pipeline.storage import atomic_file

SETTINGS = "dagster.yaml"
STORAGES = {"storage", "run_storage", "event_log_storage", "schedule_storage"}  # settings of a history elsewhere
HISTORY = ("history", "schedules")  # the folders of one that lies in DAGSTER_HOME


def home() -> Path:
    """Return DAGSTER_HOME, by default `.dagster` of the working folder."""
    return Path(os.environ.get("DAGSTER_HOME", ".dagster")).absolute()


def make_home() -> Path:
    """Make sure of DAGSTER_HOME, its settings and its history; returns it.

    `make ui` looks there too. Settings that are there stay. Raises SpaceError where its disk is full.
    """
    found = home()
    enough(found, HISTORY_BYTES, "the run history", print)
    settings = found / SETTINGS
    if not settings.exists():
        with atomic_file(settings) as staging:
            staging.write_bytes((Path(__file__).parents[1] / SETTINGS).read_bytes())
    os.environ["DAGSTER_HOME"] = str(found)
    if not STORAGES & (yaml.safe_load(settings.read_text(encoding="utf-8")) or {}).keys():
        with writing(found):
            _make_history(found)
    return found


def _make_history(home: Path) -> None:
    """Make an empty history, whole or not at all, and by one process at a time.

    Two that make its tables at once, and one that is killed while it does, would leave a broken one for ever.
    """
    if all((home / name).exists() for name in HISTORY):
        return
    with (
        claimed(home / ".claims" / "history.lock", "a new run history", print),
        tempfile.TemporaryDirectory(dir=home) as new,
    ):
        (Path(new) / SETTINGS).touch()  # Dagster warns where there are none
        with dg.DagsterInstance.local_temp(new):
            pass
        for name in HISTORY:
            if not (home / name).exists():
                (Path(new) / name).rename(home / name)


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    """Open the instance of DAGSTER_HOME."""
    make_home()
    with dg.DagsterInstance.get() as instance:
        yield instance
