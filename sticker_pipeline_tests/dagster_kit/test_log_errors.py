"""Errors in a log that grows: each once, this package's own words first."""

from pathlib import Path

import pytest

from sticker_pipeline.dagster_kit import log_errors
from sticker_pipeline.dagster_kit.log_errors import errors, message_of

AT = "2026-12-01 01:17:04 +0000"
OWN = "sticker_pipeline.defs.automation.ScheduleError: STICKER_RETRAIN is 'bad'."
TRACEBACK = f"Traceback (most recent call last):\n  File x, line 1\n{OWN}\n\nDuring handling of it\nKeyError: 1\n"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (f"{AT} - dagster.daemon.SensorDaemon - ERROR - Another daemon runs.\n", "Another daemon runs."),
        (f"{AT} - dagster.code_server - ERROR - Error while importing code\n{TRACEBACK}", "STICKER_RETRAIN is 'bad'."),
        (f"{AT} - dagster.code_server - CRITICAL - It ends.\nKeyError: 1\n", "It ends."),
        (f"{AT} - dagster - ERROR - __repository__ - character_folders - a/b - c\n", "character_folders: a/b - c"),
        (f"{AT} - dagster - ERROR - __ASSET_JOB - 6be96f4b - lora - STEP_FAILURE\n{TRACEBACK}", None),
        (f"{AT} - dagster.daemon - INFO - fine\n", None),
        (f"{AT} - dagster.daemon - WARNING - No cursor for event type\n", None),
        ("step 1/24  epoch 1/2  loss 0.4464 ERROR\n", None),
        (TRACEBACK, None),
    ],
)
def test_message_of_an_entry(entry: str, message: str | None) -> None:
    assert message_of(entry) == message


def test_a_message_is_one_short_visible_line() -> None:
    (message,) = {message_of(f"{AT} - dagster.daemon - ERROR - \x1b]0;{'x' * 1000}\n")}
    assert message is not None and message.isprintable() and len(message) < log_errors.MOST_LETTERS + 50


def test_errors_are_told_once_and_when_they_are_whole(tmp_path: Path) -> None:
    log = tmp_path / "ui.log"
    log.write_text("")
    found = errors(log)

    def grown(text: str) -> list[str]:
        with log.open("a") as file:
            file.write(text)
        return next(found)

    assert grown("") == []
    first = f"\x1b[32m{AT}\x1b[0m - dagster.code_server - \x1b[34mERROR\x1b[0m - \x1b[31mError\x1b[0m\n"
    assert grown(first + "Traceback (most recent call last):\n  File x") == [], "its traceback may go on"
    assert grown(f", line 1\n{OWN}\n") == []
    assert grown("") == ["STICKER_RETRAIN is 'bad'."]
    two = f"{AT} - dagster.daemon.A - ERROR - one\n{AT} - dagster.daemon.A - INFO - fine\n"
    assert grown(two) == ["one"]
    assert grown(two.replace("one", "two") + two) == ["two"]
    assert grown("") == []
    log.write_text("")  # as aside.shorten does
    assert grown(two.replace("one", "three")) == ["three"]


def test_what_is_remembered_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_errors, "REMEMBERED", 2)
    log, said = tmp_path / "ui.log", []
    found = errors(log)
    for text in ("a", "b", "a", "c", "a", "b"):
        log.open("a").write(f"{AT} - dagster.daemon.A - ERROR - {text}\n{AT} - dagster.daemon.A - INFO - fine\n")
        said += next(found)
    assert said == ["a", "b", "c", "b"], "what goes on is told once, and what came long ago again"
