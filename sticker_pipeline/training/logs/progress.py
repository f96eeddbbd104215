"""Progress of a running training: throttled log lines and Dagster Pipes messages."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sticker_pipeline.core import progress as core
from sticker_pipeline.core.progress import time_left

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
        names = ("step", "total_steps", "epoch", "epochs", "loss", "grad_norm", "samples_per_s", "eta_s")
        return {name: getattr(self, name) for name in names}

    def line(self) -> str:
        line = (
            f"step {self.step}/{self.total_steps}  epoch {self.epoch}/{self.epochs}  loss {self.loss:.4f}  "
            f"lr {self.learning_rate:.2e}  {self.samples_per_s:.1f} img/s"
        )
        return line if self.step == self.total_steps else f"{line}  {time_left(self.eta_s)}"


def work_done(message: Mapping[str, Any]) -> core.Progress:
    """Return the progress that a message of State tells."""
    step, total, epochs = int(message["step"]), int(message["total_steps"]), int(message["epochs"])
    place = f"epoch {message['epoch']} of {epochs}" if epochs > 1 else f"step {step:,} of {total:,}"
    return core.Progress(place, step / total, float(message["eta_s"]))


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
        self._due: dict[str, float] = {}

    def note(self, text: str) -> None:
        """Write a line about a rare event."""
        self._write(text)

    def count(self, what: str, done: int, total: int) -> None:
        """Show a count after an interval, or at the end."""
        if self._is_due(f"line of {what}", self._seconds_between_lines, always=done == total):
            self._write(f"{what} {done}/{total}")
        if self._send and self._is_due(f"message of {what}", SECONDS_BETWEEN_MESSAGES, always=done == total):
            self._send({"counted": what, "done": done, "total": total})

    def report(self, **message: Any) -> None:
        """Send a message about a rare event, such as an epoch's end."""
        if self._send:
            self._send(message)

    def show(self, state: State, *, always: bool = False) -> None:
        """Show `state` after an interval, or `always` (at an epoch's end)."""
        if self._is_due("line", self._seconds_between_lines, always=always):
            self._write(state.line())
        if self._send and self._is_due("message", SECONDS_BETWEEN_MESSAGES, always=always):
            self._send(state.message())

    def _is_due(self, kind: str, seconds: float, *, always: bool) -> bool:
        now = self._clock()
        if not always and now < self._due.get(kind, now):
            return False
        self._due[kind] = now + seconds
        return True


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
