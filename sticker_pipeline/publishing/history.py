"""Release history for the report; `benchmark/releases.py` defines and publishes releases."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from sticker_pipeline.benchmark.measure import BASE, LORA, OVERALL
from sticker_pipeline.benchmark.metrics import SIMILARITY
from sticker_pipeline.benchmark.releases import POINTER, Event, Record, events, read
from sticker_pipeline.publishing.report import Check, Release

GATED = "benchmark"  # asset with the gate's blocking checks
CANDIDATE = "candidate"


def release_history(folder: Path) -> tuple[tuple[Release, ...], list[str]]:
    """Return releases in `folder` that were ever current, latest first, and problems.

    Problems are sentences about unreadable releases; removed ones are left out. Both are empty without a folder.
    """
    try:
        log = events(folder)
    except (OSError, ValueError) as error:
        return (), [_problem(POINTER, error)]
    current = log[-1].number if log else None
    rows, problems = [], []
    for number in sorted({event.number for event in log}, reverse=True):
        try:
            record = read(folder, number).record
        except (OSError, ValueError) as error:
            if number == current or (folder / f"{number:04d}").exists():
                problems.append(_problem(_name(number), error))
            continue
        reason = " ".join([*_events(log, number), *_metrics(record)])
        rows.append(Release(_name(number), True, number == current, reason, record.epoch, record.sha256))
    return tuple(rows), problems


def refused_candidate(epoch: int, sha256: str, checks: Iterable[Check], releases: Sequence[Release]) -> Release | None:
    """Return the LoRA that the gate refuses now.

    None without a failed blocking check, or if the file was released before.
    """
    failed = [check for check in checks if check.asset == GATED and check.blocking and check.verdict is False]
    if not failed or sha256 in {release.version for release in releases}:
        return None
    reason = " ".join(f"{check.name.replace('_', ' ')}: {check.summary}" for check in failed)
    return Release(CANDIDATE, False, False, reason, epoch, sha256)


def _events(log: Sequence[Event], number: int) -> list[str]:
    lines = []
    published = False
    for event in log:
        day, because = event.time.date().isoformat(), f": {event.reason}" if event.reason else "."
        if event.number == number and event.action == "roll back":
            lines.append(f"Rolled back to on {day}{_from(event)}{because}")
        elif event.number == number:
            lines.append(f"Released {'again ' if published else ''}on {day}{_from(event)}.")
        elif event.before == number and event.action == "roll back":
            lines.append(f"Withdrawn on {day}{because}")
        published = published or event.number == number
    return lines


def _from(event: Event) -> str:
    return ", the first" if event.before is None else f" in place of {_name(event.before)}"


def _metrics(record: Record) -> list[str]:
    means = {
        figure.model: figure.mean
        for figure in record.metrics
        if (figure.medium, figure.metric) == (OVERALL, SIMILARITY) and figure.mean is not None
    }
    if LORA not in means:
        return []
    beside = f", the base model's {means[BASE]:.3f}" if BASE in means else ""
    return [f"Its similarity was {means[LORA]:.3f}{beside}."]


def _name(number: int) -> str:
    return f"release {number}"


def _problem(what: str, error: Exception) -> str:
    return f"{what}: {str(error).splitlines()[0].rstrip('.')}. Bring it back from a copy; until then it is not shown."
