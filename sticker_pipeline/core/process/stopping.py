"""The work of a command, and the wish of its guard that it stops (guard.py)."""

import _thread
import logging
import os
import signal
import threading
import time
from collections.abc import Callable

from sticker_pipeline.core.process import guard, lifeline


class Stopped(BaseException):
    """The work was asked to stop, and did so in good order. No code on the way may take it for an error."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Stopping:
    """Whether the work is to stop: `number` is that of the signal, None while it may go on.

    `first` is called, in another thread, before the main thread is interrupted.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.first: Callable[[], None] | None = None

    def ask(self, number: int) -> None:
        """Interrupt the main thread, as by SIGINT, after `first`."""
        self.number = number
        # It takes an interruption for an error of the connection that is just being closed, and prints a traceback.
        logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
        try:
            if self.first:
                self.first()
        except Exception as error:  # noqa: BLE001 - whatever it is, the work has to stop
            logging.getLogger(__name__).warning("The run could not be marked as to be cancelled: %s", error)
        finally:
            _interrupt_main_thread()

    def check(self) -> None:
        """Raises Stopped where the work is to stop."""
        if self.number is not None:
            raise Stopped(self.number)


def obey_the_guard(stopping: Stopping) -> None:
    """Ask the work to stop when the guard of this process wants it to, or is gone."""

    def handle(number: int | None) -> None:
        stopping.ask(number or signal.SIGTERM)
        if number is None:  # nobody is left who could end what does not stop
            time.sleep(guard.ORPHAN_SECONDS)
            guard.kill_all(os.environ[guard.MARK])

    lifeline.listen(handle)


def _interrupt_main_thread() -> None:
    """Deliver SIGINT to the main thread, so that it leaves a sleep too, where the system can do that."""
    main = threading.main_thread().ident
    if main is not None and hasattr(signal, "pthread_kill"):
        signal.pthread_kill(main, signal.SIGINT)
    else:
        _thread.interrupt_main()
