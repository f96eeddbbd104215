"""A run that is killed in its only step, which holds the GPU.

Its events end there.
"""

import os
import signal

import dagster as dg

from sticker_pipeline.dagster_kit.dead_runs import host_tags


@dg.asset(pool="gpu")
def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    with dg.DagsterInstance.get() as history:
        dg.materialize([killed], instance=history, tags=host_tags())
