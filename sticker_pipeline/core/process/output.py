"""Console of all commands, safe against markup and control sequences in text."""

import io
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import click
from rich.console import Console
from rich.text import Text

from sticker_pipeline.core.texts import visible

CONSOLE = Console(highlight=False, soft_wrap=True, emoji=False, markup=False)
NAME = "sticker-pipeline"
PROGRAM = "STICKER_PROGRAM"  # environment variable: the program as it was called, for this and its own processes
NAMED = re.compile(rf"(?<![\w./-]){NAME}(?= [a-z])")  # a command in a message
QUIET_SECONDS = 30.0


def as_typed(text: str) -> str:
    """Return `text` with this program called as the person called it."""
    program = os.environ.get(PROGRAM)
    return NAMED.sub(program.replace("\\", r"\\"), text) if program else text


def note_program(called: str) -> None:
    """Note how the person called this program, unless by plain name."""
    if Path(called).name == NAME and shutil.which(NAME) is None:
        os.environ[PROGRAM] = called


def tell(*parts: str | tuple[str, str], console: Console = CONSOLE, style: str = "") -> None:
    """Print a line, hidden letters escaped; a pair is (text, style)."""
    pairs = [(part, "") if isinstance(part, str) else part for part in parts]
    styled = [(visible(as_typed(text)), look) for text, look in pairs]
    console.print(Text.assemble(*styled, style=style))


def tell_error(error: click.ClickException) -> None:
    """Print an error with hidden letters escaped."""
    vars(error)["message"] = visible(as_typed(error.message))
    error.show()


class Output(io.TextIOBase):
    """Text output with its last write's time, unaffected by a closed reader.

    A closed terminal or broken pipe must not abort work that should stop in order.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.written = time.monotonic()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.stream.encoding

    def write(self, text: str) -> int:
        """Write `text`; returns its length."""
        self.written = time.monotonic()
        try:
            self.stream.write(text)
        except OSError:
            _write_nowhere(self.stream)
        return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except OSError:
            _write_nowhere(self.stream)

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()


def watch_over() -> Output:
    """Wrap both standard outputs; returns standard output's."""
    sys.stdout, sys.stderr = output, _ = Output(_open(sys.stdout)), Output(_open(sys.stderr))
    return output


def _open(stream: TextIO | None) -> TextIO:
    return stream or Path(os.devnull).open("w", encoding="utf-8")


def speak_when_quiet(output: Output, under_way: Callable[[], str | None]) -> None:
    """Print `under_way`'s text, from a thread, after QUIET_SECONDS of silence."""
    threading.Thread(target=_speak, args=(output, under_way), daemon=True, name="quiet").start()


def _speak(output: Output, under_way: Callable[[], str | None]) -> None:
    while True:
        time.sleep(max(1.0, output.written + QUIET_SECONDS - time.monotonic()))
        if time.monotonic() - output.written >= QUIET_SECONDS and (text := under_way()):
            print(visible(text), file=output, flush=True)


def _write_nowhere(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
