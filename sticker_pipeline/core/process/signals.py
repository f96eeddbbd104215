"""Collection of stop signals. Standard library only."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


@contextmanager
def collected() -> Iterator[list[tuple[int, float]]]:
    """Collect stop signals in the block: number and monotonic time in seconds.

    Main thread only, as Python requires. Ignored signals (nohup) stay ignored.
    """
    received: list[tuple[int, float]] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append((number, time.monotonic()))

    heard = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, note) for number in heard}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
