"""A step waiting for a pool sleeps, names the holder, can be stopped, and skips dead holders."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import psutil
import pytest

from sticker_pipeline.dagster_kit.dead_runs import process_tags
from sticker_pipeline.dagster_kit.patience import holders, pools_in_use

STEP = "sticker_pipeline_tests.dagster_kit.waiting_step"
EXECUTORS = ["in_process", "multiprocess"]


@contextmanager
def taken(instance: dg.DagsterInstance, tags: dict[str, str]) -> Iterator[dg.DagsterRun]:
    """The GPU is taken by a run that trains `lora` of anki."""
    run = instance.add_run(
        dg.DagsterRun(
            job_name="character_line",
            run_id="cea1f37c-0000-0000-0000-000000000000",
            tags={"dagster/partition": "anki", "progress": "lora: epoch 3 of 28, 10 %, about 4 min left", **tags},
            status=dg.DagsterRunStatus.STARTED,
        )
    )
    storage = instance.event_log_storage
    storage.initialize_concurrency_limit_to_default("gpu")
    assert storage.claim_concurrency_slot("gpu", run.run_id, "lora").is_claimed
    try:
        yield run
    finally:
        storage.free_concurrency_slots_for_run(run.run_id)


@contextmanager
def waiting(instance: dg.DagsterInstance, executor: str) -> Iterator[psutil.Process]:
    """A run in a process of its own, from when it says that it waits."""
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-m", STEP, executor], stdout=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while not any("waiting for" in text for text in said(instance)):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def said(instance: dg.DagsterInstance) -> list[str]:
    """The words of the run that waits, as the UI shows them."""
    runs = [run for run in instance.get_runs() if run.run_id[:8] != "cea1f37c"]
    return [log.message for run in runs for log in instance.all_logs(run.run_id) if log.message]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_it_sleeps_and_says_for_whom_and_goes_on(instance: dg.DagsterInstance, executor: str) -> None:
    with taken(instance, process_tags()), waiting(instance, executor) as process:
        before = process.cpu_times()
        time.sleep(4)
        after = process.cpu_times()
        spent = after.user + after.system - before.user - before.system
        assert spent < 1.2  # of 4 s; Dagster's own loop takes all of them
        (words,) = [text for text in said(instance) if "waiting for" in text]
        assert words.startswith(
            "waits: waiting for the GPU: run cea1f37c, lora of anki, epoch 3 of 28, 10 %, about 4 min left, since "
        )
        lines = pools_in_use(instance)
        assert lines[0].startswith("the GPU: run cea1f37c, lora of anki, epoch 3 of 28, 10 %, about 4 min left, since ")
        assert ", waits waits for the pool 'gpu' since " in lines[1]
        instance.event_log_storage.free_concurrency_slots_for_run("cea1f37c-0000-0000-0000-000000000000")
        assert process.wait(60) in (0, None)
    assert instance.get_runs(limit=1)[0].status == dg.DagsterRunStatus.SUCCESS


@pytest.mark.parametrize("executor", EXECUTORS)
def test_it_can_be_stopped(instance: dg.DagsterInstance, executor: str) -> None:
    with taken(instance, process_tags()), waiting(instance, executor) as process:
        (run,) = [run for run in instance.get_runs() if run.run_id[:8] != "cea1f37c"]
        instance.report_run_canceling(run)
        started = time.monotonic()
        os.kill(process.pid, signal.SIGINT)
        process.wait(60)
        assert time.monotonic() - started < 30
        found = instance.get_run_by_id(run.run_id)
        assert found is not None and found.status == dg.DagsterRunStatus.CANCELED
        info = instance.event_log_storage.get_concurrency_info("gpu")
        assert [slot.run_id[:8] for slot in info.claimed_slots] == ["cea1f37c"] and info.pending_step_count == 0


def test_it_does_not_wait_for_the_dead(instance: dg.DagsterInstance) -> None:
    dead = {**process_tags(), "sticker/process": f"{2**22 + 1} boot:1"}
    with taken(instance, dead) as run:
        subprocess.run([sys.executable, "-W", "ignore", "-m", STEP, "in_process"], check=True, timeout=120)
        found = instance.get_run_by_id(run.run_id)
        assert found is not None and found.status == dg.DagsterRunStatus.FAILURE


def test_a_pool_that_is_about_to_be_free_has_words(instance: dg.DagsterInstance) -> None:
    instance.event_log_storage.initialize_concurrency_limit_to_default("gpu")
    assert holders(instance, "gpu") == "the GPU, which is about to be free"
    assert pools_in_use(instance) == []
