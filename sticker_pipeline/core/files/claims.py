"""Claims: file locks that keep processes from doing the same work.

The system releases a lock with its process, however that ends.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from sticker_pipeline.core.files.space import Say, writing

POLL_SECONDS = 0.2
SECONDS_BETWEEN_WORDS = 30.0  # between messages of a waiting process


def silent(text: str) -> None:
    """Say nothing."""


def go_on() -> None:
    """Go on waiting."""


@contextmanager
def claimed(path: Path, what: str, say: Say, check: Callable[[], None] = go_on, **more: Any) -> Iterator[None]:
    """Hold the claim `path` in the block; while waiting, `say` who holds it.

    `what` and `more`, such as the run, describe this work to others. An exception of `check`, called while waiting,
    ends the wait.
    """
    from filelock import FileLock, Timeout

    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    lock, since, say = FileLock(path), time.time(), now_and_then(say)
    while True:
        try:
            with writing(path):
                lock.acquire(timeout=0)
            break
        except Timeout:
            say(f"waiting for {holder(path)}; {time.time() - since:.0f} s so far")
            check()
            time.sleep(POLL_SECONDS)
    try:
        with suppress(OSError):  # on a full disk work goes on, and `holder` names only the path
            note = {"what": what, "pid": os.getpid(), "host": platform.node(), "since": time.time(), **more}
            _note(path).write_text(json.dumps(note), encoding="utf-8")
        yield
    finally:
        _note(path).unlink(missing_ok=True)
        lock.release()


def is_claimed(path: Path) -> bool:
    from filelock import FileLock, Timeout

    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def holder(path: Path) -> str:
    """Describe the holder of the claim `path`: work, process, start."""
    try:
        note = json.loads(_note(path).read_text(encoding="utf-8"))
        since = datetime.fromtimestamp(note["since"]).strftime("%H:%M:%S")
        run = f"run {note['run'][:8]}, " if note.get("run") else ""
        where = "" if note["host"] == platform.node() else f" on {note['host']}"
        return f"{note['what']}: {run}process {note['pid']}{where}, since {since}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):  # missing or damaged
        return f"whoever holds {path}"


def now_and_then(say: Say, seconds: float = SECONDS_BETWEEN_WORDS, clock: Callable[[], float] = time.monotonic) -> Say:
    """Return `say`, limited to one call in `seconds`."""
    due = float("-inf")

    def seldom(text: str) -> None:
        nonlocal due
        if clock() >= due:
            due = clock() + seconds
            say(text)

    return seldom


def _note(path: Path) -> Path:
    return path.with_suffix(".json")
