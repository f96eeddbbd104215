"""Runs a command of ours as a process that signals cannot leave half-dead.

The work is done in a process of its own, out of the terminal's reach. The first signal asks it to stop in good order;
a second one ends it and all that it started, at once. Whatever ends the guard ends the work too, by its lifeline.
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from sticker_pipeline import lifeline

if TYPE_CHECKING:
    import psutil

SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
MARK = "STICKER_GUARD"  # in the environment of all that a guard has started
TWICE_SECONDS = 1.0  # a closing terminal signals more than once
POLL_SECONDS = 0.1
ORPHAN_SECONDS = 60.0  # a training may take two graces of 20 s to save its state
GO_ON = "What was finished is kept: the same command goes on from there."


def run(command: Sequence[str]) -> int:
    """Run `command` to its end; returns its exit status, or 128 + n when signal n stopped or killed it."""
    mark = uuid.uuid4().hex
    with _received() as signals:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            env={**lifeline.environment(os.environ), MARK: mark},
            start_new_session=True,  # the terminal's Ctrl-C and hang-up reach the guard alone
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        try:
            _follow(process, signals, mark)
        finally:
            _close(process)
    if process.returncode >= 0:
        return process.returncode
    if signals:
        return 128 + signals[0][0]
    return _after_a_kill(-process.returncode, mark)  # nobody asked for it: a signal ends the wait for what is left


@contextmanager
def _received() -> Iterator[list[tuple[int, float]]]:
    """Collect stop signals, each with its time. One that is ignored already, as under nohup, stays so."""
    received: list[tuple[int, float]] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append((number, time.monotonic()))

    heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, note) for number in heard}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _follow(process: "subprocess.Popen[bytes]", signals: list[tuple[int, float]], mark: str) -> None:
    """Pass on the first signal, kill everything at the second, until the process ends."""
    assert process.stdin is not None
    told = False
    while process.poll() is None:
        if signals and not told:
            told = True
            say("Stopping: what is under way is saved first. Once more ends it at once.")
            try:
                process.stdin.write(bytes([signals[0][0]]))
                process.stdin.flush()
            except OSError:  # it has just ended
                continue
        if _asked_again(signals):
            kill_all(mark)
            process.wait()
            say(f"Ended at once. {GO_ON}")
            return
        time.sleep(POLL_SECONDS)


def _close(process: "subprocess.Popen[bytes]") -> None:
    """Close the lifeline of the process, in which a word may be left that it did not live to read."""
    assert process.stdin is not None
    try:
        process.stdin.close()
    except OSError:
        return


def _asked_again(signals: list[tuple[int, float]]) -> bool:
    first = signals[0][1] if signals else 0.0
    return any(
        number in (signal.SIGINT, signal.SIGTERM) and moment - first > TWICE_SECONDS for number, moment in signals[1:]
    )


def _after_a_kill(number: int, mark: str) -> int:
    """Wait until all that the killed process had started has ended, and say what happened."""
    name = signal.Signals(number).name
    why = ": the system may have run out of memory" if name == "SIGKILL" else ""
    deadline = time.monotonic() + ORPHAN_SECONDS
    if marked(mark):
        say(f"The work was killed by {name}; what it had started saves its state and ends.")
    with _received() as signals:
        while marked(mark) and time.monotonic() < deadline and not signals:
            time.sleep(POLL_SECONDS)
    kill_all(mark)
    say(f"The work was killed by {name}{why}. {GO_ON}")
    return 128 + number


def kill_all(mark: str) -> None:
    """Kill every process with `mark` in its environment, until there is none."""
    import psutil

    while found := marked(mark):
        for process in found:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        time.sleep(POLL_SECONDS / 10)


def marked(mark: str) -> "list[psutil.Process]":
    """Return the processes that a guard with `mark` has started, directly or not, and that still run."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue  # it is somebody else's, or has just ended
    return found


def say(text: str) -> None:
    """Write a line to standard error, if anybody is left to read it."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        return
