"""Ends of runs, in lines for a terminal."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
from sqlalchemy.exc import OperationalError

from sticker_pipeline.core.texts import listed, shortened
from sticker_pipeline.dagster_kit.compat import failed_by_checks
from sticker_pipeline.dagster_kit.dead_runs import PARTITION
from sticker_pipeline.dagster_kit.loggers import innermost_message

ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
OVERLAP = timedelta(minutes=1)  # of looks: a run's end may be stored late
MOST_LETTERS = 400


def run_news(instance: dg.DagsterInstance, address: str) -> Iterator[list[str]]:
    """Yield, at each step, lines about runs that have ended since.

    Runs of one kind share a line. A failure has its own, with the run's page at the UI's `address`.
    """
    begin = since = datetime.now(UTC)
    told = set[str]()
    while True:
        now = datetime.now(UTC)
        try:
            records = instance.get_run_records(dg.RunsFilter(statuses=ENDED, updated_after=since - OVERLAP))
        except OperationalError:  # the database is busy: the next step reads the same time
            yield []
            continue
        ended = [each.dagster_run for each in reversed(records) if (each.end_time or 0.0) >= begin.timestamp()]
        new = [run for run in ended if run.run_id not in told]
        yield [*_made(new), *(_not_made(instance, run, address) for run in new if not run.is_success)]
        since, told = now, {run.run_id for run in ended}


def _made(runs: Sequence[dg.DagsterRun]) -> list[str]:
    made: dict[str, list[str]] = {}
    for run in runs:
        if run.is_success:
            made.setdefault(_what(run), []).append(run.tags.get(PARTITION, ""))
    return [f"made: {what}{_of(names)}" for what, names in made.items()]


def _not_made(instance: dg.DagsterInstance, run: dg.DagsterRun, address: str) -> str:
    what = f"{_what(run)}{_of([run.tags.get('dagster/partition', '')])}"
    page = f"{address}/runs/{run.run_id}"
    if run.status == dg.DagsterRunStatus.CANCELED:
        return f"canceled: {what}"
    events = step_failures(instance, run)
    checks = [event for event in events if failed_by_checks(event.step_failure_data)]
    if checks and len(checks) == len(events):
        return f"refused by its checks: {what}. {page}"
    return f"failed: {what}{_why([event for event in events if event not in checks])} {page}"


def why_failed(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Return a colon and the first failed step's reason, or ""."""
    return _why(step_failures(instance, run))


def step_failures(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[dg.DagsterEvent]:
    """Return the events of the run's failed steps."""
    records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    return [event for record in records if (event := record.event_log_entry.dagster_event)]


def _why(failures: Sequence[dg.DagsterEvent]) -> str:
    return f": {shortened(innermost_message(failures[0]).splitlines()[0], MOST_LETTERS)}" if failures else ""


def _what(run: dg.DagsterRun) -> str:
    """Return the run's job, or its assets."""
    assets = sorted(key.to_user_string() for key in run.asset_selection or [])
    return run.job_name if not run.job_name.startswith("__") else listed(assets) or "assets"


def _of(partitions: Sequence[str]) -> str:
    names = [name for name in dict.fromkeys(partitions) if name]
    return f" of {listed(names)}" if names else ""
