"""The run launcher of `dagster.yaml`: Dagster's own, which can also tell that a run has lost its process.

After a power cut, or a kill that nothing could answer, a run would be "started" for ever: it would hold the GPU, and
its character would wait for it. Run monitoring asks here, marks such a run as failed, and Dagster retries it.
"""

import psutil
from dagster import DagsterEventType, DagsterRun
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus

NAMING = {DagsterEventType.ENGINE_EVENT, DagsterEventType.STEP_WORKER_STARTED}  # these may name a process


class LocalRunLauncher(DefaultRunLauncher):
    """For runs on this machine, those of the command line included."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether a process that the run has named is there, be it of a step. A run that names none has only just
        begun."""
        named = {}
        for log in self._instance.all_logs(run.run_id, of_type=NAMING):
            pid = log.get_dagster_event().engine_event_data.metadata.get("pid")
            if pid is not None:
                named[int(str(pid.value))] = log.timestamp
        if named and not any(_is_alive(pid, since) for pid, since in named.items()):
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"its processes are gone: {', '.join(map(str, named))}")
        return CheckRunHealthResult(WorkerStatus.RUNNING)


def _is_alive(pid: int, since: float) -> bool:
    """Whether the process that had the number `pid` at the time `since` (seconds) still runs; one that was made later
    has only got its number."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= since + 1
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
