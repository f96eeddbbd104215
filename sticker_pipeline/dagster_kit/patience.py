"""Waiting for a place in a pool: asleep, with a message, interruptible.

Dagster's executors ask in a loop without a pause (a whole core), do not report the holder and, in one process, hide the
signals that would stop them. `wait_in_peace` gives them the classes below.
"""

import logging
import time
from datetime import datetime

import dagster as dg

from sticker_pipeline.core.files.claims import now_and_then
from sticker_pipeline.dagster_kit.compat import ConcurrencyContext, places, pools, replace_claims, was_interrupted
from sticker_pipeline.dagster_kit.dead_runs import PARTITION, end_dead_runs, other_machine, process_tags
from sticker_pipeline.dagster_kit.pools import GPU
from sticker_pipeline.dagster_kit.progress import newest_progress

LOGGER = logging.getLogger(__name__)  # for the terminal; in the UI, an event of the run
SECONDS_BETWEEN_CLAIMS = 1.0
SECONDS_BETWEEN_LOOKS = 5.0  # for dead runs, which never free their places
NAP_SECONDS = 0.05  # between claims; short, as events of the run's other steps wait meanwhile


class PatientClaims(ConcurrencyContext):
    """Claims of places in pools; after a refusal, they report and pause."""

    def __init__(self, instance: dg.DagsterInstance, dagster_run: dg.DagsterRun) -> None:
        super().__init__(instance, dagster_run)
        self._run = dagster_run
        instance.add_run_tags(dagster_run.run_id, process_tags())  # the process that claims is the run's
        self._say = now_and_then(self._tell)
        self._look = now_and_then(lambda _: self._end_dead_runs(), SECONDS_BETWEEN_LOOKS)

    def claim(self, concurrency_key: str, step_key: str, step_priority: int = 0) -> bool:
        """Claim a place in the pool for the step.

        If none is free, report the holders, pause, and return False.
        """
        if super().claim(concurrency_key, step_key, step_priority):
            return True
        self._look(concurrency_key)
        self._say(f"{step_key}: waiting for {holders(self._instance, concurrency_key)}")
        self._pending_timeouts[step_key] = min(self._pending_timeouts[step_key], time.time() + SECONDS_BETWEEN_CLAIMS)
        self.pause()
        return False

    def pause(self) -> None:
        time.sleep(NAP_SECONDS)

    def _tell(self, text: str) -> None:
        LOGGER.info(text)
        self._instance.report_engine_event(text, self._run)

    def _end_dead_runs(self) -> None:
        for sentence in end_dead_runs(self._instance):
            self._tell(sentence)


class InterruptibleClaims(PatientClaims):
    """Claims for steps in the run's process, where nothing else checks signals."""

    def pause(self) -> None:
        """Sleep; raise DagsterExecutionInterruptedError after an interrupt."""
        super().pause()
        if was_interrupted():
            raise dg.DagsterExecutionInterruptedError("stopped while it waited")


def wait_in_peace() -> None:
    """Make this process's executors use this module's classes."""
    replace_claims(in_own_process=InterruptibleClaims, in_processes=PatientClaims)


def holders(instance: dg.DagsterInstance, pool: str) -> str:
    """Return the pool's holders: run, step, progress, since when."""
    found = places(instance, pool)
    taken = {(step.run_id, step.step_key): step.assigned_timestamp for step in found.pending_steps}
    who = [
        _holder(instance, slot.run_id, slot.step_key, taken.get((slot.run_id, slot.step_key)))
        for slot in found.claimed_slots
    ]
    name = "the GPU" if pool == GPU else f"the pool {pool!r}"
    ahead = found.pending_step_count - 1  # without the asking step
    queue = f" ({ahead} more wait for it)" if ahead > 0 else ""
    return f"{name}: {'; '.join(who)}{queue}" if who else f"{name}, which is about to be free{queue}"


def pools_in_use(instance: dg.DagsterInstance) -> list[str]:
    """Return a line per pool in use and per waiting step."""
    lines = []
    for pool in sorted(pools(instance)):
        found = places(instance, pool)
        if found.claimed_slots:
            lines.append(holders(instance, pool))
        for step in found.pending_steps:
            if step.assigned_timestamp is None:
                waits = f"waits for the pool {pool!r} since {step.enqueued_timestamp.astimezone():%H:%M:%S}"
                lines.append(f"run {step.run_id[:8]}, {step.step_key} {waits}")
    return lines


def _holder(instance: dg.DagsterInstance, run_id: str, step: str, since: datetime | None) -> str:
    run, name = instance.get_run_by_id(run_id), f"run {run_id[:8]}, {step}"
    if run is None:
        return f"{name}, which was deleted"
    if partition := run.tags.get(PARTITION):
        name += f" of {partition}"
    if not_here := other_machine(run):
        name += f" on {not_here}"
    if (shown := newest_progress(run.tags)) and shown.step == step.replace("__", "/"):
        name += f", {shown.text}"
    return f"{name}, since {since.astimezone():%H:%M:%S}" if since else name
