"""Run launcher of `dagster.yaml`: Dagster's own, which detects lost processes.

Run monitoring then fails such a run, and Dagster retries it.
"""

import signal

import psutil
from dagster import DagsterRun, DefaultRunLauncher

from sticker_pipeline.dagster_kit.compat import CheckRunHealthResult, LaunchRunContext, WorkerStatus, free_places
from sticker_pipeline.dagster_kit.dead_runs import launch_tags, lost_processes, own_process


class LocalRunLauncher(DefaultRunLauncher):
    """Launcher of runs on this machine; it handles the command line's too."""

    def launch_run(self, context: LaunchRunContext) -> None:
        """Launch a run and tag it with this machine.

        The run tags its own process (`dagster_kit/patience.py`).
        """
        run = context.dagster_run
        self._instance.add_run_tags(run.run_id, launch_tags(run.tags))
        super().launch_run(context)

    def terminate(self, run_id: str) -> bool:
        """Ask a run to stop, also one of the command line."""
        run = self._instance.get_run_by_id(run_id)
        process = own_process(run) if run else None
        if run is None or process is None:
            return bool(super().terminate(run_id))
        self._instance.report_run_canceling(run)
        try:
            process.send_signal(signal.SIGINT)
        except (psutil.NoSuchProcess, ValueError):  # just ended; or Windows, which lacks this signal
            return False
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return RUNNING unless all processes of run and steps have ended.

        Without a known process, the run has just begun. A lost run's places are freed at once.
        """
        lost = lost_processes(self._instance, run)
        if not lost:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        free_places(self._instance, run.run_id)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"its processes are gone: {', '.join(map(str, lost))}")
