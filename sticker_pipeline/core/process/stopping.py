"""Requests of `core/process/guard.py` to stop a command's work."""

import _thread
import logging
import os
import signal
import threading
import time
from collections.abc import Callable

from sticker_pipeline.core.process import guard, lifeline


class Stopped(BaseException):
    """The work stopped on request. `except Exception` does not catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Stopping:
    """A request to stop: `number` is the signal's, None without one.

    `first` is called, in another thread, before the main thread is interrupted.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.first: Callable[[], None] | None = None

    def ask(self, number: int) -> None:
        """Call `first`, then interrupt the main thread as by SIGINT."""
        self.number = number
        # It logs an interruption of a closing connection with a traceback.
        logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
        try:
            if self.first:
                self.first()
        except Exception as error:  # noqa: BLE001 - the work must stop in any case
            logging.getLogger(__name__).warning("The run could not be marked for cancellation: %s", error)
        finally:
            _interrupt_main_thread()

    def check(self) -> None:
        """Raise Stopped after a request."""
        if self.number is not None:
            raise Stopped(self.number)


def obey_the_guard(stopping: Stopping) -> None:
    """Ask the work to stop when the guard asks or is gone."""

    def handle(number: int | None) -> None:
        stopping.ask(number or signal.SIGTERM)
        if number is None:  # without a guard, nobody else kills work that goes on
            time.sleep(guard.ORPHAN_SECONDS)
            guard.kill_all(os.environ[guard.MARK])

    lifeline.listen(handle)


def _interrupt_main_thread() -> None:
    """Deliver SIGINT to the main thread, which ends a sleep where supported."""
    main = threading.main_thread().ident
    if main is not None and hasattr(signal, "pthread_kill"):
        signal.pthread_kill(main, signal.SIGINT)
    else:
        _thread.interrupt_main()
