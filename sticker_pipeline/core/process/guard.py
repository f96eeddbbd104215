"""Runs a command of ours as a process that signals cannot leave half-dead.

The work is done in a process of its own, out of the terminal's reach. The first signal asks it to stop in good order;
a second one ends it and all that it started, at once. Whatever ends the guard ends the work too, by its lifeline.
"""

import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sticker_pipeline.core.process import lifeline
from sticker_pipeline.core.process.signals import collected

if TYPE_CHECKING:
    import psutil

MARK = "STICKER_GUARD"  # in the environment of all that a guard has started
TWICE_SECONDS = 1.0  # a closing terminal signals more than once, and a service manager in more than one way
TWO_PRESSES_SECONDS = 0.2  # of Ctrl-C
POLL_SECONDS = 0.1
SAY_SECONDS = 0.5  # that a line may take
ORPHAN_SECONDS = 60.0  # a training may take two graces of 20 s to save its state
GO_ON = "What was finished is kept: the same command goes on from there."


def run(command: Sequence[str]) -> int:
    """Run `command` to its end; returns its exit status, or 128 + n when signal n stopped or killed it."""
    mark = uuid.uuid4().hex
    with collected() as signals:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            env={**lifeline.environment(os.environ), MARK: mark},
            start_new_session=True,  # the terminal's Ctrl-C and hang-up reach the guard alone
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        try:
            ended_here = _follow(process, signals, mark)
        finally:
            _close(process)
        if process.returncode >= 0:
            return process.returncode
        number = signals[0][0] if signals else -process.returncode
        if not ended_here:
            _interrupt_group(process.pid)
            _after_a_kill(-process.returncode, mark, signals)
        return 128 + number


def _follow(process: "subprocess.Popen[bytes]", signals: list[tuple[int, float]], mark: str) -> bool:
    """Pass on the first signal, kill everything at the second, until the process ends. Returns whether it was killed
    here."""
    assert process.stdin is not None
    told = False
    while process.poll() is None:
        if signals and not told:
            told = True
            try:
                process.stdin.write(bytes([signals[0][0]]))
                process.stdin.flush()
            except OSError:  # it has just ended
                continue
            say("Stopping: what is under way is saved first. Once more ends it at once.")
        if _asked_again(signals):
            kill_all(mark)
            process.wait()
            say(f"Ended at once. {GO_ON}")
            return True
        time.sleep(POLL_SECONDS)
    return False


def _close(process: "subprocess.Popen[bytes]") -> None:
    """Close the lifeline of the process, in which a word may be left that it did not live to read."""
    assert process.stdin is not None
    try:
        process.stdin.close()
    except OSError:
        return


def _interrupt_group(leader: int) -> None:
    """Interrupt what a killed process has left in its session, as Ctrl-C in a terminal does."""
    if hasattr(os, "killpg"):
        try:
            os.killpg(leader, signal.SIGINT)
        except OSError:  # there is nothing left
            return


def _asked_again(signals: list[tuple[int, float]]) -> bool:
    """Return True once a second signal is one of its own, and not the first one's echo."""
    return any(
        moment - signals[0][1] > (TWO_PRESSES_SECONDS if number == signals[0][0] == signal.SIGINT else TWICE_SECONDS)
        for number, moment in signals[1:]
        if number in (signal.SIGINT, signal.SIGTERM)
    )


def _after_a_kill(number: int, mark: str, signals: list[tuple[int, float]]) -> None:
    """Wait until all that the killed process had started has ended, or another signal comes, and say what happened."""
    asked, name = len(signals), signal.Signals(number).name
    why = ": the system may have run out of memory" if name == "SIGKILL" else ""
    deadline = time.monotonic() + ORPHAN_SECONDS
    if marked(mark):
        say(f"The work was killed by {name}; what it had started saves its state and ends.")
    while marked(mark) and time.monotonic() < deadline and len(signals) == asked:
        time.sleep(POLL_SECONDS)
    kill_all(mark)
    say(f"The work was killed by {name}{why}. {GO_ON}")


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
    """Write a line to standard error, if anybody is left to read it; never wait for a reader that has stalled."""

    def write() -> None:
        try:
            os.write(2, f"{text}\n".encode())
        except OSError:
            return

    writing = threading.Thread(target=write, daemon=True)
    writing.start()
    writing.join(SAY_SECONDS)
