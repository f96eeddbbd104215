"""Runs without a process are ended with a sentence and free their places; all others stay."""

import os
import platform
import re
import signal
import subprocess
import sys

import dagster as dg
import psutil
import pytest
from dagster._core.events import EngineEventData
from dagster._core.utils import make_new_run_id

from sticker_pipeline.dagster_kit.dead_runs import (
    HOST_TAG,
    PROCESS_TAG,
    UPDATE_TAG,
    dead_runs,
    elsewhere,
    end_dead_runs,
    is_alive,
    is_the_same,
    launch_tags,
    own_process,
    process_tags,
    started,
    steps_under_way,
    unheld_claims,
)
from sticker_pipeline.dagster_kit.run_launcher import LocalRunLauncher


def kill_a_run() -> None:
    command = [sys.executable, "-m", "sticker_pipeline_tests.dagster_kit.killed_step"]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL


def slots(instance: dg.DagsterInstance) -> int:
    return instance.event_log_storage.get_concurrency_info("gpu").active_slot_count


def begun(instance: dg.DagsterInstance, tags: dict[str, str], status: dg.DagsterRunStatus) -> dg.DagsterRun:
    return instance.add_run(dg.DagsterRun(job_name="line", run_id=make_new_run_id(), tags=tags, status=status))


def test_a_dead_run_is_failed_and_its_place_is_free(instance: dg.DagsterInstance) -> None:
    kill_a_run()
    ((run, why),) = dead_runs(instance)
    assert slots(instance) == 1
    assert re.fullmatch(r"its process \d+ is gone", why)
    (sentence,) = end_dead_runs(instance)
    assert sentence == (
        f"run {run.run_id[:8]} (assets) was ended, for {why}: killed, or the machine was "
        "restarted. What it had finished is kept."
    )
    found = instance.get_run_by_id(run.run_id)
    assert found is not None and found.status == dg.DagsterRunStatus.FAILURE
    assert slots(instance) == 0 and unheld_claims(instance) == []
    assert end_dead_runs(instance) == []


def test_a_dead_run_that_was_asked_to_stop_is_cancelled(instance: dg.DagsterInstance) -> None:
    kill_a_run()
    ((run, _),) = dead_runs(instance)
    instance.report_run_canceling(run)
    end_dead_runs(instance)
    found = instance.get_run_by_id(run.run_id)
    assert found is not None and found.status == dg.DagsterRunStatus.CANCELED
    assert slots(instance) == 0


def test_a_run_that_has_ended_holds_nothing(instance: dg.DagsterInstance) -> None:
    kill_a_run()
    (run,) = instance.get_runs()
    instance.report_run_failed(run)  # as a person marks it in the UI
    assert slots(instance) == 1 and unheld_claims(instance) == [run.run_id]
    end_dead_runs(instance)
    assert slots(instance) == 0


def test_only_runs_of_this_machine_that_named_a_lost_process_are_dead(instance: dg.DagsterInstance) -> None:
    here, gone = process_tags(), f"{2**22 + 1} boot:1"
    started = dg.DagsterRunStatus.STARTED
    begun(instance, here, started)
    begun(instance, {}, started)  # has only just begun
    begun(instance, {HOST_TAG: "elsewhere", PROCESS_TAG: gone}, started)
    begun(instance, {**here, PROCESS_TAG: gone}, dg.DagsterRunStatus.SUCCESS)
    dead = begun(instance, {**here, PROCESS_TAG: gone}, dg.DagsterRunStatus.NOT_STARTED)
    assert [run.run_id for run, _ in dead_runs(instance)] == [dead.run_id]
    (far,) = elsewhere(instance)
    assert far.tags[HOST_TAG] == "elsewhere"
    assert [why for _, why in dead_runs(instance, "elsewhere")] == [
        "its process 4194305 is gone",
        "its machine elsewhere is gone",
    ]


def test_a_run_of_another_launcher_is_left_to_it(instance: dg.DagsterInstance) -> None:
    """A fleet's runs name a process in their events, which this machine does not have."""
    gone = EngineEventData({"pid": dg.MetadataValue.text(str(2**22 + 1))})
    for tags in ({}, launch_tags({})):
        run = begun(instance, tags, dg.DagsterRunStatus.STARTED)
        instance.report_engine_event("Started process for run", run, gone)
    assert [found.run_id for found, _ in dead_runs(instance)] == [run.run_id]


def test_a_number_that_was_given_again_is_another_process() -> None:
    created = psutil.Process().create_time()
    assert is_alive(os.getpid(), created)
    assert not is_alive(os.getpid(), created - 100)  # named before this process was made
    assert not is_alive(2**22 + 1, created)


def test_setting_the_clock_ends_no_run(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    """As time services, and machines that wake up, do: what is computed of a clock moves with it."""
    begun(instance, process_tags(), dg.DagsterRunStatus.STARTED)
    real = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: real(process) + 3600)
    assert list(dead_runs(instance)) == []
    assert not is_the_same(f"{os.getpid()} another-boot:1")


def test_a_retry_does_not_die_of_the_process_of_the_run_before(instance: dg.DagsterInstance) -> None:
    """Dagster copies the tags."""
    before = {**process_tags(), PROCESS_TAG: f"{2**22 + 1} boot:1", "progress": "7/9", UPDATE_TAG: "1"}
    retry = begun(instance, {**before, **launch_tags(before)}, dg.DagsterRunStatus.STARTING)
    assert list(dead_runs(instance)) == []
    assert not retry.tags["progress"] and not retry.tags[UPDATE_TAG]


def test_a_new_run_has_no_empty_tags() -> None:
    assert launch_tags({"partition": "luma"}) == {HOST_TAG: platform.node()}


def test_a_run_of_the_command_line_is_stopped_from_the_ui(instance: dg.DagsterInstance) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"], stdout=-1)
    assert process.stdout is not None and process.stdout.readline()
    named = f"{process.pid} {started(process.pid)}"
    run = begun(instance, {HOST_TAG: platform.node(), PROCESS_TAG: named}, dg.DagsterRunStatus.STARTED)
    launcher = instance.run_launcher
    assert isinstance(launcher, LocalRunLauncher)
    assert launcher.terminate(run.run_id)
    assert process.wait(20) == -signal.SIGINT
    found = instance.get_run_by_id(run.run_id)
    assert found is not None and found.status == dg.DagsterRunStatus.CANCELING
    assert own_process(found) is None


def test_a_quiet_command_can_say_what_it_does(instance: dg.DagsterInstance) -> None:
    told: list[str | None] = []

    @dg.asset
    def slow(context: dg.AssetExecutionContext) -> None:
        told.append(steps_under_way(context.instance))

    dg.materialize([slow], instance=instance, tags=process_tags())
    assert told == ["      still at work: slow (0 s)"]
    assert steps_under_way(instance) is None
