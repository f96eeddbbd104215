"""A step ends with its run, however that ends."""

import signal
import subprocess
import sys

import psutil

from sticker_pipeline.dagster_kit.orphans import end_with_run


def test_a_step_whose_run_is_killed_ends() -> None:
    run = subprocess.Popen(
        [sys.executable, "-m", "sticker_pipeline_tests.dagster_kit.forked_step"], stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    step = psutil.Process(int(run.stdout.readline()))
    assert step.is_running()
    run.send_signal(signal.SIGKILL)
    run.wait()
    gone, alive = psutil.wait_procs([step], timeout=20)
    assert gone == [step] and not alive


def test_a_run_in_this_process_is_left_alone() -> None:
    end_with_run()
    started = subprocess.run([sys.executable, "-c", "print('alive')"], capture_output=True, text=True, check=True)
    assert started.stdout == "alive\n"
