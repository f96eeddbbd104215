"""Progress of a step on its run's page: log lines, and PROGRESS_TAG.

`newest_progress` reads the tag, which is one row per run, written anew. A log line is a row each.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import dagster as dg

from sticker_pipeline.core.progress import Count, Progress, counter, in_all, throttled

PROGRESS_TAG = "progress"
SECONDS_BETWEEN_LINES = 30.0
SECONDS_BETWEEN_TAGS = 10.0
_TAG = re.compile(r"(?P<step>[^:]+): (?P<text>.*?(?P<percent>\d+) %.*)")


@dataclass(frozen=True)
class Shown:
    """Newest progress of a run: asset, percent, text with time left."""

    step: str
    percent: int
    text: str


def newest_progress(tags: Mapping[str, str]) -> Shown | None:
    """Return the progress in a run's `tags`, or None.

    Its time is the run record's `update_timestamp`. A step that is over leaves its last one.
    """
    found = _TAG.fullmatch(tags.get(PROGRESS_TAG, ""))
    return Shown(found["step"], int(found["percent"]), found["text"]) if found else None


def under_way(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[str, float | None]:
    """Return an unfinished run's activity, and its share done.

    0 to 1, or None for unknown.
    """
    stats = instance.get_run_step_stats(run.run_id)
    steps = [step.step_key.replace("__", "/") for step in stats if step.start_time and not step.end_time]
    shown = newest_progress(run.tags)
    if shown is None or shown.step not in steps:
        return ", ".join(steps) or run.status.value.lower(), None
    return f"{shown.step}: {shown.text}", shown.percent / 100


def step_progress(
    context: dg.AssetExecutionContext, clock: Callable[[], float] = time.monotonic
) -> Callable[[Progress], None]:
    """Return a function that shows progress of this step, throttled."""
    step = context.asset_key.to_user_string()

    def note(progress: Progress) -> None:
        context.instance.add_run_tags(context.run_id, {PROGRESS_TAG: f"{step}: {progress.text}"})

    line = throttled(lambda progress: context.log.info(progress.text), SECONDS_BETWEEN_LINES, clock)
    tag = throttled(note, SECONDS_BETWEEN_TAGS, clock)

    def show(progress: Progress) -> None:
        line(progress)
        tag(progress)

    return show


def step_count(context: dg.AssetExecutionContext, total: int | None = None) -> Count:
    """Return a counter for this step.

    `total`: of its parts together, if they are counted one after another.
    """
    count = counter(step_progress(context))
    return count if total is None else in_all(count, total)
