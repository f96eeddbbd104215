"""A pipe as standard input: a process hears through it what its starter wants, and that its starter is gone.

The system closes the pipe with the starter, however that ends. It works for every thread of the starter, and on every
system, unlike a parent-death signal. Standard library only.
"""

import os
import threading
from collections.abc import Callable, Mapping

VARIABLE = "STICKER_LIFELINE"  # set for a process whose standard input is one


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return `base` for a process that is started with a lifeline."""
    return {**base, VARIABLE: "1"}


def listen(handle: Callable[[int | None], None]) -> bool:
    """Call `handle`, in a thread, with each number that the starter sends, and with None once it is gone.

    Does nothing in a process that has no lifeline, such as one that a person started. Returns whether it has one.
    Processes that this one starts have none, unless it gives them their own.
    """
    if os.environ.pop(VARIABLE, None) is None:
        return False
    threading.Thread(target=_listen, args=(handle,), daemon=True, name="lifeline").start()
    return True


def _listen(handle: Callable[[int | None], None]) -> None:
    while message := os.read(0, 1):
        handle(message[0])
    handle(None)
