"""Runs of Dagster for the desk, and results of checks."""

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

import dagster as dg

from sticker_pipeline.benchmark.releases import FOLDER, releases_folder, roll_back
from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline.core.texts import shortened
from sticker_pipeline.dagster_kit.compat import failed_by_checks
from sticker_pipeline.dagster_kit.dead_runs import PARTITION, UNDER_WAY
from sticker_pipeline.dagster_kit.progress import under_way
from sticker_pipeline.desk.edits import EditError
from sticker_pipeline.publishing.report import Check

LOG = "output.log"
COMMAND = [sys.executable, "-P"]
SHOW_RELEASE = ("-c", "import sys\nfrom sticker_pipeline.cli.guarded import work\nwork('release', *sys.argv[1:])")
MOST_SHOWN = 300  # letters of a line


class DagsterRuns:
    """Runs of characters in a Dagster instance.

    Work is done by the commands of the terminal, as processes of this one: they end with it.
    """

    def __init__(
        self, instance: dg.DagsterInstance, store: ArtifactStore, specs: Callable[[], Sequence[dg.AssetCheckSpec]]
    ) -> None:
        self._instance, self._store, self._specs = instance, store, specs
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ended: dict[str, str] = {}  # character -> its newest run when its process was seen to have ended
        self._lock = Lock()

    def state(self, name: str) -> Mapping[str, Any] | None:
        """Return the newest run's id, text, progress and whether it is active.

        `share`: 0 to 1, or None for unknown.
        """
        runs = self._instance.get_runs(dg.RunsFilter(tags={PARTITION: name}), limit=1)
        newest = runs[0].run_id if runs else ""
        if runs and runs[0].status in UNDER_WAY:
            text, share = under_way(self._instance, runs[0])
            return {"id": newest, "active": True, "text": text, "share": share}
        if (process := self._process(name, newest)) is not None and process.poll() is None:
            return {"id": "", "active": True, "text": "starting", "share": None}
        if runs and runs[0].is_failure and self._is_refused(runs[0]):
            return {"id": newest, "active": False, "text": "last run: not released, see Gate"}
        if process is not None and process.returncode:
            return {"id": newest, "active": False, "text": f"it has ended: {self._last_line(name)}"}
        if not runs:
            return None
        return {"id": newest, "active": False, "text": f"last run: {runs[0].status.value.lower()}"}

    def _process(self, name: str, newest: str) -> "subprocess.Popen[bytes] | None":
        """Return the process started last, until another run follows its end."""
        process = self._processes.get(name)
        if process is None or process.poll() is None:
            return process
        if self._ended.setdefault(name, newest) == newest:
            return process
        del self._processes[name], self._ended[name]
        return None

    def update(self, name: str) -> None:
        """Start `update NAME`. Raises EditError while the character is worked on."""
        self._start(name, "-m", "sticker_pipeline", "update", name)

    def roll_back(self, name: str, number: int, reason: str) -> None:
        """Make release `number` current, and start to show it. Raises ReleaseError or EditError."""
        folder = releases_folder(self._store, name)
        if not folder.is_dir():
            raise EditError(f"{name} has no release.")
        self._store.change(name, FOLDER, lambda folder: roll_back(folder, number, reason, datetime.now(UTC)))
        self._start(name, *SHOW_RELEASE, name, str(number))

    def cancel(self, name: str) -> bool:
        process = self._processes.get(name)
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)
            return True
        runs = self._instance.get_runs(dg.RunsFilter(tags={PARTITION: name}, statuses=UNDER_WAY), limit=1)
        return bool(runs) and bool(self._instance.run_launcher.terminate(runs[0].run_id))

    def checks(self, name: str) -> Sequence[Check]:
        from sticker_pipeline.defs.release.report import latest_verdicts  # an error of a definition must not end the UI

        return latest_verdicts(self._instance, self._specs(), [name])[name]

    def _is_refused(self, run: dg.DagsterRun) -> bool:
        """Tell whether blocking checks alone have failed the run."""
        failures = self._instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        events = [entry.dagster_event for entry in failures if entry.dagster_event is not None]
        return bool(events) and all(failed_by_checks(event.step_failure_data) for event in events)

    def _start(self, name: str, *arguments: str) -> None:
        with self._lock:
            state = self.state(name)
            if state is not None and state["active"]:
                raise EditError(f"{name} is worked on: {state['text']}. Wait, or cancel it.")
            self._ended.pop(name, None)
            with self._log(name).open("wb") as log:
                self._processes[name] = subprocess.Popen(
                    [*COMMAND, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
                )

    def _last_line(self, name: str) -> str:
        lines = self._log(name).read_text(encoding="utf-8", errors="replace").split("\n")
        return shortened(next((line.strip() for line in reversed(lines) if line.strip()), ""), MOST_SHOWN)

    def _log(self, name: str) -> Path:
        return self._store.work(name, "desk") / LOG
