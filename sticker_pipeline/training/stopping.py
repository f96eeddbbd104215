"""Stopping politely: a stop signal becomes a request that the training loop looks at between two steps.

What is saved then is the loop's business.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sticker_pipeline.core.process.signals import collected

StopRequest = Callable[[], int | None]  # the number of the signal that asked to stop, or None

NOTHING_LEARNED = "nothing was learned yet"


class Interrupted(Exception):
    """The run was asked to stop by a signal, and did so in good order."""

    def __init__(self, number: int, saved: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; {saved}")
        self.exit_code = 128 + number  # as a shell reports it: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Within the block, stop signals do nothing but show in the function that this yields (the first one counts)."""
    with collected() as signals:
        yield lambda: signals[0][0] if signals else None
