"""No step outlives its run: what a killed run leaves behind would go on training beside the run's own retry."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess


def end_with_run() -> None:
    """Kill this process when that of its run ends, however it ends. The launcher's supervisor, whose pipe closes with
    it, then ends a training with a checkpoint. Nothing happens in a process that is the run itself."""
    run = multiprocessing.parent_process()
    if run is not None:
        threading.Thread(target=_end_after, args=(run,), daemon=True).start()


def _end_after(run: BaseProcess) -> None:
    run.join()
    os.kill(os.getpid(), signal.SIGKILL)
