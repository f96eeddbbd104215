"""A standard-input pipe that carries stop requests and closes with the parent.

Works on every system and for every thread of the parent, unlike a parent-death signal. Standard library only.
"""

import os
import threading
from collections.abc import Callable, Mapping

VARIABLE = "STICKER_LIFELINE"  # set where standard input is a lifeline


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return `base` for a process with a lifeline."""
    return {**base, VARIABLE: "1"}


def listen(handle: Callable[[int | None], None]) -> bool:
    """Call `handle` in a thread with each number received, then None.

    Returns False without a lifeline, as in a process that a person started. Children have none unless given their own.
    """
    if os.environ.pop(VARIABLE, None) is None:
        return False
    threading.Thread(target=_listen, args=(handle,), daemon=True, name="lifeline").start()
    return True


def _listen(handle: Callable[[int | None], None]) -> None:
    while message := os.read(0, 1):
        handle(message[0])
    handle(None)
