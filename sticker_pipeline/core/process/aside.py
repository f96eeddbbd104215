"""Output of frameworks set aside, in a file of bounded size."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sticker_pipeline.core.process.guard import say

MOST_BYTES = 10_000_000  # of the file, and of the one before it


@contextmanager
def set_aside(path: Path) -> Iterator[Callable[[str], None]]:
    """Append both standard outputs of this process and its children to `path`.

    Yields a function that writes a line to the terminal. The file of an earlier process is kept as `earlier(path)`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.replace(earlier(path))
    terminal = [os.dup(number) for number in (1, 2)]
    try:
        _redirect([os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)] * 2)
        yield partial(say, descriptor=terminal[1])
    finally:
        _redirect(terminal)


def _redirect(sources: list[int]) -> None:
    """Let both standard outputs write to these descriptors; close them."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for number, source in zip((1, 2), sources, strict=True):
        os.dup2(source, number)
    for source in {*sources}:
        os.close(source)


def earlier(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def shorten(path: Path, most: int = MOST_BYTES) -> None:
    """Copy a file of more than `most` bytes to `earlier`; empty it."""
    if path.stat().st_size > most:
        shutil.copyfile(path, earlier(path))
        os.truncate(path, 0)
