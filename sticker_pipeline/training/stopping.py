"""Stop signals as requests, which the training loop checks between steps."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sticker_pipeline.core.process.signals import collected

StopRequest = Callable[[], int | None]  # signal that asked to stop, or None

NOTHING_LEARNED = "nothing was learned yet"


class Interrupted(Exception):
    """A run stopped in good order after a signal."""

    def __init__(self, number: int, saved: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; {saved}")
        self.exit_code = 128 + number  # as in a shell: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Collect stop signals in the block; the function yielded returns the first."""
    with collected() as signals:
        yield lambda: signals[0][0] if signals else None
