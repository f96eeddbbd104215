"""The deployment's Dagster instance: folder and settings of its history."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from sticker_pipeline.core.files.claims import claimed
from sticker_pipeline.core.files.space import HISTORY_BYTES, enough, writing
from sticker_pipeline.core.process.output import tell
from sticker_pipeline.core.storage import atomic_file
from sticker_pipeline.core.texts import UserError, shortened

SETTINGS = "dagster.yaml"
STORAGES = {"storage", "run_storage", "event_log_storage", "schedule_storage"}  # they place the history elsewhere
HISTORY = ("history", "schedules")  # its folders in DAGSTER_HOME


class SettingsError(UserError):
    """An unreadable dagster.yaml; the message gives the remedy."""


def home() -> Path:
    """Return DAGSTER_HOME, by default `.dagster`."""
    return Path(os.environ.get("DAGSTER_HOME", ".dagster")).absolute()


def make_home() -> Path:
    """Return DAGSTER_HOME, with settings and history created where missing.

    Sets the environment variable. Existing settings stay. Raises SpaceError for a full disk, SettingsError for an
    unreadable dagster.yaml.
    """
    found = home()
    enough(found, HISTORY_BYTES, "the run history", tell)
    settings = found / SETTINGS
    if not settings.exists():
        with atomic_file(settings) as staging:
            staging.write_bytes((Path(__file__).parents[1] / SETTINGS).read_bytes())
    os.environ["DAGSTER_HOME"] = str(found)
    if not STORAGES & _settings(settings).keys():
        with writing(found):
            _make_history(found)
    return found


def _settings(path: Path) -> dict[str, Any]:
    """Return the settings; raises SettingsError unless a YAML mapping."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path} is no YAML: {shortened(str(error), 300)}. Mend it, or remove it for the default settings."
        ) from error
    if not isinstance(found, dict):
        raise SettingsError(f"{path} is no mapping of settings. Mend it, or remove it for the default settings.")
    return found


def _make_history(home: Path) -> None:
    """Make an empty history, atomically and by one process at a time.

    Two processes creating its tables, or one killed meanwhile, would leave it broken.
    """
    if all((home / name).exists() for name in HISTORY):
        return
    new = home / ".new_history"
    with claimed(home / ".claims" / "history.lock", "a new run history", tell):
        shutil.rmtree(new, ignore_errors=True)  # left by a killed process
        new.mkdir()
        (new / SETTINGS).touch()  # without it Dagster warns
        with dg.DagsterInstance.local_temp(str(new)):
            pass
        for name in HISTORY:
            if not (home / name).exists():
                (new / name).rename(home / name)
        shutil.rmtree(new, ignore_errors=True)


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    make_home()
    with dg.DagsterInstance.get() as instance:
        yield instance
