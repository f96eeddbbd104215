"""A run with one forked step, which test_orphans.py kills.

Dagster forks it; it prints the step's process number.
"""

import multiprocessing
import os
import time

from sticker_pipeline.dagster_kit.orphans import end_with_run


def step() -> None:
    end_with_run()
    print(os.getpid(), flush=True)
    time.sleep(600)


if __name__ == "__main__":
    process = multiprocessing.get_context("forkserver").Process(target=step)
    process.start()
    process.join()
