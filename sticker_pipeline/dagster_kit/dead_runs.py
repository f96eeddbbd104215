"""Runs of this machine that have lost their process: found, ended as failed, and their places in a pool given back.

After a power cut, or a kill that nothing could answer, such a run would be "started" for ever: it would hold the GPU,
and its character would wait for it. Whatever starts work here looks for them first; so does whoever waits for a pool.
"""

import os
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import dagster as dg
import psutil
from dagster import DagsterEventType, DagsterRun

from sticker_pipeline.dagster_kit.compat import free_places, runs_with_places

UPDATE_TAG = "sticker/update"  # of the runs of the command line, which makes what is stale
HOST_TAG = "sticker/host"  # the machine that a run is on
PROCESS_TAG = "sticker/process"  # its number and start time, where the run names itself
NAMING = {DagsterEventType.ENGINE_EVENT, DagsterEventType.STEP_WORKER_STARTED}  # these may name a process
UNDER_WAY = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
CLOCK_SECONDS = 60.0  # by which a clock may have been set between a process's start and the event that names it


def host_tags() -> dict[str, str]:
    """Return the tag of a run that will be on this machine."""
    return {HOST_TAG: platform.node()}


def process_tags() -> dict[str, str]:
    """Return the tags of a run that this process does."""
    return {**host_tags(), PROCESS_TAG: f"{os.getpid()} {started(os.getpid())}"}


def unnamed_process_tags() -> dict[str, str]:
    """Return the tags of a run that will name its process: a retry has those of the run before."""
    return {**host_tags(), PROCESS_TAG: "", "progress": ""}


def own_process(run: DagsterRun) -> psutil.Process | None:
    """Return the process of this machine that the run names as its own, if it still runs."""
    named = run.tags.get(PROCESS_TAG)
    if not named or other_machine(run):
        return None
    pid, _ = named.split()
    return psutil.Process(int(pid)) if is_the_same(named) else None


def lost_processes(instance: dg.DagsterInstance, run: DagsterRun) -> list[int]:
    """Return the numbers of the processes that the run had, if all are gone; else an empty list.

    Empty too for a run that is on another machine, or names no process yet.
    """
    if other_machine(run):
        return []
    if named := run.tags.get(PROCESS_TAG):  # its steps end with it
        return [] if is_the_same(named) else [int(named.split()[0])]
    told = _told(instance, run)
    return [] if any(is_alive(pid, since) for pid, since in told.items()) else list(told)


def dead_runs(instance: dg.DagsterInstance, gone: str | None = None) -> Iterator[tuple[DagsterRun, str]]:
    """Yield each run that is under way but has lost its processes, and what has become of these.

    `gone` is another machine, such as a container that was made anew, which is known to be no more.
    """
    for run in instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY)):
        if lost := lost_processes(instance, run):
            yield run, f"its process {', '.join(map(str, lost))} is gone"
        elif gone is not None and run.tags.get(HOST_TAG) == gone:
            yield run, f"its machine {gone} is gone"


def elsewhere(instance: dg.DagsterInstance) -> list[DagsterRun]:
    """Return the runs that are under way on other machines, of which nothing can be told here."""
    return [run for run in instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY)) if other_machine(run)]


def end_dead_runs(instance: dg.DagsterInstance, gone: str | None = None) -> list[str]:
    """End the runs that have lost their processes, and free every place that no run holds; returns a sentence each.

    `gone` as in `dead_runs`.
    """
    sentences = []
    for run, why in dead_runs(instance, gone):
        found = instance.get_run_by_id(run.run_id)
        if found is None or found.is_finished:
            continue  # somebody else was faster
        sentence = f"{why}: killed, or the machine was restarted. What it had finished is kept."
        if found.status == dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(found, f"The run was stopped, and {sentence}")
        else:
            instance.report_run_failed(found, sentence[0].upper() + sentence[1:])
        sentences.append(f"{described(found)} was ended, for {sentence}")
    for run_id in unheld_claims(instance):
        free_places(instance, run_id)
    return sentences


def unheld_claims(instance: dg.DagsterInstance) -> list[str]:
    """Return the runs that have ended, or were deleted, and still hold or wait for a place in a pool."""
    claiming = runs_with_places(instance)
    runs = {run_id: instance.get_run_by_id(run_id) for run_id in sorted(claiming)}
    return [run_id for run_id, run in runs.items() if run is None or run.is_finished]


def described(run: DagsterRun) -> str:
    """Name the run as people see it: number, job or assets, and partition."""
    assets = sorted(key.path[-1] for key in run.asset_selection or [])
    what = run.job_name
    if len(assets) == 1 or what.startswith("__"):  # a job that Dagster has made up for a choice of assets
        what = ", ".join(assets) or "assets"
    partition = run.tags.get("dagster/partition")
    return f"run {run.run_id[:8]} ({what} of {partition})" if partition else f"run {run.run_id[:8]} ({what})"


def started(pid: int) -> str:
    """Return the start of the process as text that setting the clock does not change.

    Linux counts from the boot, which has an identity of its own; elsewhere the time was noted when it was started.
    Raises psutil.NoSuchProcess.
    """
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.is_file():
        return f"{psutil.Process(pid).create_time():.2f}"
    try:
        ticks = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError) as error:
        raise psutil.NoSuchProcess(pid) from error
    return f"{boot.read_text(encoding='utf-8').strip()}:{ticks}"


def is_the_same(named: str) -> bool:
    """Return True while the process runs that a run has `named` by number and start (see `process_tags`)."""
    pid, start = named.split()
    try:
        return started(int(pid)) == start and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def is_alive(pid: int, since: float) -> bool:
    """Return True while the process with the number `pid` runs, unless it was made after the time `since` (seconds).

    A later process has only been given the same number.
    """
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= since + CLOCK_SECONDS
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def other_machine(run: DagsterRun) -> str | None:
    """Return the machine that the run is on, unless it is this one."""
    host = run.tags.get(HOST_TAG, platform.node())
    return host if host != platform.node() else None


def _told(instance: dg.DagsterInstance, run: DagsterRun) -> Mapping[int, float]:
    """The processes that events of the run, its steps included, tell of -> a time at which each was there."""
    named: dict[int, float] = {}
    for log in instance.all_logs(run.run_id, of_type=NAMING):
        told = log.get_dagster_event().engine_event_data.metadata.get("pid")
        if told is not None:
            named.setdefault(int(str(told.value)), log.timestamp)
    return named


def steps_under_way(instance: dg.DagsterInstance) -> str | None:
    """Name the steps of this process's runs that are under way, with seconds; None where there is none."""
    told = []
    for run in instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY, tags=process_tags())):
        for step in instance.get_run_step_stats(run.run_id):
            if step.start_time and not step.end_time:
                told.append(f"{step.step_key} ({time.time() - step.start_time:.0f} s)")
    return f"      still at work: {', '.join(told)}" if told else None
