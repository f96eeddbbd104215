"""Stopping politely: a stop signal becomes a request that the training loop looks at between two steps.

What is saved then is the loop's business.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

StopRequest = Callable[[], int | None]  # the number of the signal that asked to stop, or None

NOTHING_LEARNED = "nothing was learned yet"

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


class Interrupted(Exception):
    """The run was asked to stop by a signal, and did so in good order."""

    def __init__(self, number: int, saved: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; {saved}")
        self.exit_code = 128 + number  # as a shell reports it: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Within the block, stop signals do nothing but show in the function that this yields (the first one counts).

    Only in the main thread: Python delivers signals nowhere else. One that is ignored, as under nohup, stays so.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    heard = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, note) for number in heard}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
