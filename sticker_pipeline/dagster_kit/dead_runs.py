"""Runs of this machine without a process: find, fail, free their places.

After a power cut or SIGKILL, such a run would stay "started", hold the GPU and block its character. Commands look for
them before they start work, steps while they wait for a pool.
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
from sticker_pipeline.dagster_kit.progress import PROGRESS_TAG

UPDATE_TAG = "sticker/update"  # marks runs of the command `update`
HOST_TAG = "sticker/host"  # the machine of a run
PARTITION = "dagster/partition"  # Dagster's tag: the character, style or profile of a run
PROCESS_TAG = "sticker/process"  # process number and start time, set by the run
NAMING = {DagsterEventType.ENGINE_EVENT, DagsterEventType.STEP_WORKER_STARTED}  # may contain a process number
UNDER_WAY = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
CLOCK_SECONDS = 60.0  # tolerated clock change between a process's start and its event


def host_tags() -> dict[str, str]:
    """Return the tag of a run on this machine."""
    return {HOST_TAG: platform.node()}


def process_tags() -> dict[str, str]:
    """Return the tags of a run in this process."""
    return {**host_tags(), PROCESS_TAG: f"{os.getpid()} {started(os.getpid())}"}


def launch_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a run before it sets its process.

    They empty those in its `tags` that a retry has copied from another run.
    """
    return {**host_tags(), **{tag: "" for tag in (PROCESS_TAG, PROGRESS_TAG, UPDATE_TAG) if tag in tags}}


def own_process(run: DagsterRun) -> psutil.Process | None:
    """Return the run's process on this machine, or None."""
    named = run.tags.get(PROCESS_TAG)
    if not named or other_machine(run):
        return None
    pid, _ = named.split()
    return psutil.Process(int(pid)) if is_the_same(named) else None


def lost_processes(instance: dg.DagsterInstance, run: DagsterRun) -> list[int]:
    """Return the ids of the run's processes if all ended, else [].

    Also [] on another machine, or before it has a process. A run that names no machine has another launcher, as on a
    fleet: its processes have ids of other machines, and Dagster's run monitoring asks that launcher.
    """
    if run.tags.get(HOST_TAG) != platform.node():
        return []
    if named := run.tags.get(PROCESS_TAG):  # its steps end with this process
        return [] if is_the_same(named) else [int(named.split()[0])]
    noted = _noted_processes(instance, run)
    return [] if any(is_alive(pid, since) for pid, since in noted.items()) else list(noted)


def dead_runs(instance: dg.DagsterInstance, gone: str | None = None) -> Iterator[tuple[DagsterRun, str]]:
    """Yield each unfinished run without processes, and the reason.

    `gone`: another machine that no longer exists, such as a replaced container.
    """
    for run in instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY)):
        if lost := lost_processes(instance, run):
            yield run, f"its process {', '.join(map(str, lost))} is gone"
        elif gone is not None and run.tags.get(HOST_TAG) == gone:
            yield run, f"its machine {gone} is gone"


def elsewhere(instance: dg.DagsterInstance) -> list[DagsterRun]:
    """Return the unfinished runs on other machines, which are not checked."""
    return [run for run in instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY)) if other_machine(run)]


def end_dead_runs(instance: dg.DagsterInstance, gone: str | None = None) -> list[str]:
    """End the runs without processes and free unheld places in pools.

    Returns a sentence per run. `gone`: see `dead_runs`.
    """
    sentences = []
    for run, why in dead_runs(instance, gone):
        found = instance.get_run_by_id(run.run_id)
        if found is None or found.is_finished:
            continue  # ended meanwhile
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
    """Return ended or deleted runs that still claim a place."""
    claiming = runs_with_places(instance)
    runs = {run_id: instance.get_run_by_id(run_id) for run_id in sorted(claiming)}
    return [run_id for run_id, run in runs.items() if run is None or run.is_finished]


def described(run: DagsterRun) -> str:
    """Return the run's number, job or assets, and partition."""
    assets = sorted(key.path[-1] for key in run.asset_selection or [])
    what = run.job_name
    if len(assets) == 1 or what.startswith("__"):  # Dagster's implicit job for an asset selection
        what = ", ".join(assets) or "assets"
    partition = run.tags.get(PARTITION)
    return f"run {run.run_id[:8]} ({what} of {partition})" if partition else f"run {run.run_id[:8]} ({what})"


def started(pid: int) -> str:
    """Return the process's start as text independent of the clock.

    Linux: boot id and ticks since boot; elsewhere: creation time. Raises psutil.NoSuchProcess.
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
    """Return True while the process `named` by `process_tags` runs."""
    pid, start = named.split()
    try:
        return started(int(pid)) == start and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def is_alive(pid: int, since: float) -> bool:
    """Return True while the process runs, unless it began after `since` (seconds).

    A later process only reuses the number.
    """
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= since + CLOCK_SECONDS
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def other_machine(run: DagsterRun) -> str | None:
    """Return the run's machine, or None for this one."""
    host = run.tags.get(HOST_TAG, platform.node())
    return host if host != platform.node() else None


def _noted_processes(instance: dg.DagsterInstance, run: DagsterRun) -> Mapping[int, float]:
    """Return process number -> event time, from the run's events."""
    named: dict[int, float] = {}
    for log in instance.all_logs(run.run_id, of_type=NAMING):
        noted = log.get_dagster_event().engine_event_data.metadata.get("pid")
        if noted is not None:
            named.setdefault(int(str(noted.value)), log.timestamp)
    return named


def steps_under_way(instance: dg.DagsterInstance) -> str | None:
    """Return this process's running steps with seconds, or None."""
    steps = []
    for run in instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY, tags=process_tags())):
        for step in instance.get_run_step_stats(run.run_id):
            if step.start_time and not step.end_time:
                steps.append(f"{step.step_key} ({time.time() - step.start_time:.0f} s)")
    return f"      still at work: {', '.join(steps)}" if steps else None
