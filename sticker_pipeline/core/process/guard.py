"""A guard process that runs a command and handles its stop signals.

The command runs in its own session. The first signal asks it to stop; the second kills it and its children. If the
guard dies, `core/process/lifeline.py` stops the command.
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

MARK = "STICKER_GUARD"  # environment variable of a guard's processes
TWICE_SECONDS = 1.0  # closing terminals and service managers repeat signals
TWO_PRESSES_SECONDS = 0.2  # of Ctrl-C
POLL_SECONDS = 0.1
SAY_SECONDS = 0.5  # for writing a line
ORPHAN_SECONDS = 60.0  # a training may take twice 20 s to save its state
GO_ON = "What was finished is kept: the same command goes on from there."


def run(command: Sequence[str]) -> int:
    """Run `command`; return its exit status, 128 + n for signal n."""
    mark = uuid.uuid4().hex
    with collected() as signals:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            env={**lifeline.environment(os.environ), MARK: mark},
            start_new_session=True,  # Ctrl-C and hang-up reach only the guard
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
    """Pass on the first signal and kill all at the second.

    Returns whether it killed.
    """
    assert process.stdin is not None
    warned = False
    while process.poll() is None:
        if signals and not warned:
            warned = True
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
    """Close the lifeline, which may hold an unread byte."""
    assert process.stdin is not None
    try:
        process.stdin.close()
    except OSError:
        return


def _interrupt_group(leader: int) -> None:
    """Send SIGINT to a killed process's session, as Ctrl-C does."""
    if hasattr(os, "killpg"):
        try:
            os.killpg(leader, signal.SIGINT)
        except OSError:  # no process is left
            return


def _asked_again(signals: list[tuple[int, float]]) -> bool:
    """Tell whether a second signal is no echo of the first."""
    return any(
        moment - signals[0][1] > (TWO_PRESSES_SECONDS if number == signals[0][0] == signal.SIGINT else TWICE_SECONDS)
        for number, moment in signals[1:]
        if number in (signal.SIGINT, signal.SIGTERM)
    )


def _after_a_kill(number: int, mark: str, signals: list[tuple[int, float]]) -> None:
    """Wait for the killed process's children or a signal; report."""
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
    """Kill processes with `mark` in their environment until none is left."""
    import psutil

    while found := marked(mark):
        for process in found:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        time.sleep(POLL_SECONDS / 10)


def marked(mark: str) -> "list[psutil.Process]":
    """Return the running processes, direct or indirect, of the guard with `mark`."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue  # another user's, or just ended
    return found


def say(text: str, descriptor: int = 2) -> None:
    """Write to standard error, or `descriptor`, without waiting for a stalled reader."""

    def write() -> None:
        try:
            os.write(descriptor, f"{text}\n".encode())
        except OSError:
            return

    writing = threading.Thread(target=write, daemon=True)
    writing.start()
    writing.join(SAY_SECONDS)
