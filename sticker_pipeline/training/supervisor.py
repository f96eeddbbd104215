"""Run a command that cannot outlive its starter. Standard library only.

    python -m sticker_pipeline.training.supervisor COMMAND [ARG ...]   with a lifeline as standard input

The command has its own process group. When the lifeline closes, because the starter stops the command or ended, the
group gets SIGINT, then SIGTERM, each with a grace period to save a checkpoint, then SIGKILL. The command has a
lifeline too, in case the supervisor is killed.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from sticker_pipeline.core.process import lifeline
from sticker_pipeline.core.process.signals import STOP_SIGNALS

GRACE_VARIABLE = "STICKER_STOP_GRACE_SECONDS"
DEFAULT_GRACE_SECONDS = 20.0  # each for SIGINT and SIGTERM: one training step and a checkpoint on a slow disk


def run(command: Sequence[str], grace_seconds: float) -> int:
    """Run `command` until it ends or the lifeline closes; return its exit status.

    128 + n when ended by signal n. No process of its group survives.
    """
    # Signals to the supervisor (Ctrl-C, `kill`) end the command likewise.
    stop = threading.Event()
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: stop.set())
    # A group to signal, in the supervisor's session: the starter finds it by that if the supervisor is killed.
    lifeline.listen(lambda _: stop.set())
    environment = lifeline.environment(os.environ)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, process_group=0)
    while process.poll() is None:
        if stop.wait(0.1):
            _stop_group(process, grace_seconds)
    _signal_group(process.pid, signal.SIGKILL)  # children left behind
    code = process.returncode
    return code if code >= 0 else 128 - code


def _stop_group(process: subprocess.Popen[bytes], grace_seconds: float) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        _signal_group(process.pid, number)
        deadline = time.monotonic() + grace_seconds
        while time.monotonic() < deadline:
            if process.poll() is not None:
                return
            time.sleep(0.05)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return  # the whole group has ended


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], float(os.environ.get(GRACE_VARIABLE, DEFAULT_GRACE_SECONDS))))
