"""Progress of a running training: throttled log lines and Dagster Pipes messages."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_MESSAGES = 2.0
PIPES_VARIABLE = "DAGSTER_PIPES_CONTEXT"


@dataclass(frozen=True)
class State:
    """Progress after `step` steps, in epoch `epoch` (from 1)."""

    step: int
    total_steps: int
    epoch: int
    epochs: int
    loss: float
    grad_norm: float
    learning_rate: float  # of the U-Net
    samples_per_s: float
    eta_s: float

    def message(self) -> dict[str, Any]:
        names = ("step", "total_steps", "epoch", "loss", "grad_norm", "samples_per_s", "eta_s")
        return {name: getattr(self, name) for name in names}

    def line(self) -> str:
        minutes, seconds = divmod(round(self.eta_s), 60)
        return (
            f"step {self.step}/{self.total_steps}  epoch {self.epoch}/{self.epochs}  loss {self.loss:.4f}  "
            f"lr {self.learning_rate:.2e}  {self.samples_per_s:.1f} img/s  eta {minutes}:{seconds:02d}"
        )


class Progress:
    """Forwards states to `write` (lines) and `send` (messages), each throttled."""

    def __init__(
        self,
        write: Callable[[str], None],
        send: Callable[[dict[str, Any]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        seconds_between_lines: float = SECONDS_BETWEEN_LINES,
    ) -> None:
        self._write, self._send, self._clock = write, send, clock
        self._seconds_between_lines = seconds_between_lines
        self._line_due = self._message_due = float("-inf")

    def note(self, text: str) -> None:
        """Write a line about a rare event."""
        self._write(text)

    def report(self, **message: Any) -> None:
        """Send a message about a rare event, such as an epoch's end."""
        if self._send:
            self._send(message)

    def show(self, state: State, *, always: bool = False) -> None:
        """Show `state` after an interval, or `always` (at an epoch's end)."""
        now = self._clock()
        if always or now >= self._line_due:
            self._line_due = now + self._seconds_between_lines
            self._write(state.line())
        if self._send and (always or now >= self._message_due):
            self._message_due = now + SECONDS_BETWEEN_MESSAGES
            self._send(state.message())


@contextmanager
def open_progress() -> Iterator[Progress]:
    """Open progress to standard output and, under Dagster, through Pipes.

    Of several processes (torchrun), only the first shows anything.
    """
    if os.environ.get("RANK", "0") != "0":
        yield Progress(lambda line: None)
    elif PIPES_VARIABLE in os.environ:
        from dagster_pipes import open_dagster_pipes

        with open_dagster_pipes() as pipes:
            yield Progress(_print, pipes.report_custom_message)
    else:
        yield Progress(_print)


def _print(line: str) -> None:
    print(line, flush=True)
