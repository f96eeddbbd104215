"""Ends steps with their run: orphans would train beside the run's retry."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess


def end_with_run() -> None:
    """Kill this process when its run's process ends.

    The launcher's supervisor, whose pipe closes, then ends a training with a checkpoint. It has no effect in the run's
    own process.
    """
    run = multiprocessing.parent_process()
    if run is not None:
        threading.Thread(target=_end_after, args=(run,), daemon=True).start()


def _end_after(run: BaseProcess) -> None:
    run.join()
    os.kill(os.getpid(), signal.SIGKILL)
