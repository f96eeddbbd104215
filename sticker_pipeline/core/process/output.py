"""Console of all commands, safe against markup and control sequences in text."""

import io
import os
import sys
import threading
import time
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import TextIO

import click
from rich.console import Console
from rich.text import Text

from sticker_pipeline.core.texts import visible

CONSOLE = Console(highlight=False, soft_wrap=True, emoji=False, markup=False)
QUIET_SECONDS = 30.0


def tell(*parts: str | tuple[str, str], console: Console = CONSOLE, style: str = "") -> None:
    """Print a line, hidden letters escaped; a pair is (text, style)."""
    styled = [(visible(part), "") if isinstance(part, str) else (visible(part[0]), part[1]) for part in parts]
    console.print(Text.assemble(*styled, style=style))


def tell_error(error: click.ClickException) -> None:
    """Print an error with hidden letters escaped."""
    shown = copy(error)
    vars(shown)["message"] = visible(error.message)
    shown.show()


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
