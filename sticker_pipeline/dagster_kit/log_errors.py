"""Errors in the log of Dagster's processes, for a terminal."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from sticker_pipeline.core.texts import shortened
from sticker_pipeline.dagster_kit.loggers import OWN_ERROR

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
ENTRY = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+ - ([\w.]+) - ([A-Z]+) - (.*)", re.MULTILINE)
LEVELS = ("ERROR", "CRITICAL")
OF_RUNS = "dagster"  # logger of runs and sensors
OF_A_SENSOR = "__repository__ - "  # begins what a sensor logs, where a run has its job's name
MOST_LETTERS = 400
REMEMBERED = 500  # messages


def errors(path: Path) -> Iterator[list[str]]:
    """Yield, at each step, the new errors in the growing log `path`.

    Each is told once. The newest is told a step later: its traceback may not be whole. Errors of runs are left out; the
    run's page has them.
    """
    told: dict[str, None] = {}
    start, rest = 0, ""
    while True:
        start, text = _grown(path, start)
        *whole, last = _entries(rest + text)
        rest = last if text else ""
        new = [message for entry in (whole if text else [*whole, last]) if (message := message_of(entry))]
        yield [message for message in dict.fromkeys(new) if message not in told]
        told = dict.fromkeys([*told, *new][-REMEMBERED:])


def message_of(entry: str) -> str | None:
    """Return an entry's error; None for other entries.

    This package's error in the traceback is preferred to the entry's own words.
    """
    found = ENTRY.match(entry)
    if found is None or found[2] not in LEVELS:
        return None
    text = found[3]
    if found[1] == OF_RUNS:
        if not text.startswith(OF_A_SENSOR):
            return None
        text = ": ".join(text.removeprefix(OF_A_SENSOR).split(" - ", 1))
    own = [line for line in entry.splitlines()[1:] if OWN_ERROR.match(line)]
    return shortened(OWN_ERROR.sub("", own[0]) if own else text, MOST_LETTERS)


def _grown(path: Path, start: int) -> tuple[int, str]:
    """Return the whole lines from `start` on, and where they end."""
    start = start if path.stat().st_size >= start else 0  # emptied meanwhile
    with path.open("rb") as file:
        file.seek(start)
        content = file.read()
    end = content.rfind(b"\n") + 1
    return start + end, COLOUR.sub("", content[:end].decode("utf-8", "replace"))


def _entries(text: str) -> list[str]:
    """Split at the beginnings of entries."""
    starts = [0, *(found.start() for found in ENTRY.finditer(text) if found.start()), len(text)]
    return [text[start:end] for start, end in pairwise(starts)]
