"""The run launcher of `dagster.yaml`: Dagster's own, which can also tell that a run has lost its process.

After a power cut, or a kill that nothing could answer, a run would be "started" for ever: it would hold the GPU, and
its character would wait for it. Run monitoring asks here, marks such a run as failed, and Dagster retries it.
"""

import psutil
from dagster import DagsterEventType, DagsterRun
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus


class LocalRunLauncher(DefaultRunLauncher):
    """For runs on this machine, those of the command line included."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the process that the run names first is there. A run that names none has only just begun."""
        for log in self._instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT):
            data = log.get_dagster_event().engine_event_data
            if "pid" in data.metadata:
                pid = int(str(data.metadata["pid"].value))
                if not _is_alive(pid, log.timestamp):
                    return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"its process {pid} is gone")
                break
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
