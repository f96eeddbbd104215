"""A run that is killed in its only step, which holds the GPU.

Its events end there.
"""

import os
import signal

import dagster as dg


@dg.asset(pool="gpu")
def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    with dg.DagsterInstance.get() as history:
        dg.materialize([killed], instance=history)
