"""Progress of long work: text, time left, intervals between reports."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

MOST_REPORTS = 50  # of one piece of work, about
COUNTS_IN_PACE = 20  # averaged for the time left
MINUTE, HOUR, DAY = 60, 3600, 86400

Count = Callable[[str, int, int], None]
"""Takes the counted things ("files decoded"), the number done, and the total."""


@dataclass(frozen=True)
class Progress:
    """Progress of one piece of work.

    `place`: such as "epoch 3 of 10". `share`: done, 0 to 1. `seconds_left`: None if unknown.
    """

    place: str
    share: float
    seconds_left: float | None = None

    @property
    def text(self) -> str:
        """Place, percent and time left: `epoch 3 of 10, 41 %, about 4 min left`."""
        parts = [self.place, f"{int(100 * self.share)} %"]
        if self.seconds_left is not None and self.share < 1:
            parts.append(time_left(self.seconds_left))
        return ", ".join(parts)


def time_left(seconds: float) -> str:
    """Return a remaining time in words, rounded."""
    if seconds < 10:
        return "a few seconds left"
    if seconds < 55:
        return f"about {10 * round(seconds / 10)} s left"
    minutes = round(seconds / MINUTE)
    if minutes < 60:
        return f"about {minutes} min left"
    minutes = 10 * round(seconds / MINUTE / 10)
    if minutes < 24 * 60:
        hours, rest = divmod(minutes, 60)
        return f"about {hours} h {rest} min left" if rest else f"about {hours} h left"
    days, hours = divmod(round(seconds / HOUR), 24)
    named = "1 day" if days == 1 else f"{days} days"
    return f"about {named} {hours} h left" if hours else f"about {named} left"


def throttled(
    show: Callable[[Progress], object],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    most: int = MOST_REPORTS,
) -> Callable[[Progress], None]:
    """Return `show`, called every `seconds` at most, and about `most` times in long work.

    Work shorter than `seconds` shows nothing. The end is shown if something was shown before.
    """
    began = last = clock()
    was_shown = False

    def report(progress: Progress) -> None:
        nonlocal last, was_shown
        now, ends = clock(), progress.share >= 1
        whole = now - began + (progress.seconds_left or 0.0)
        if (ends and was_shown) or now - last >= max(seconds, whole / most):
            last, was_shown = now, not ends
            show(progress)

    return report


def counter(show: Callable[[Progress], object], clock: Callable[[], float] = time.monotonic) -> Count:
    """Return a function that shows counts as progress.

    The last COUNTS_IN_PACE give the time left.
    """
    recent: deque[tuple[str, int, float]] = deque(maxlen=COUNTS_IN_PACE + 1)

    def count(what: str, done: int, total: int) -> None:
        if recent and (what != recent[-1][0] or done < recent[-1][1]):
            recent.clear()  # other work begins
        recent.append((what, done, clock()))
        _, before, began = recent[0]
        left = (recent[-1][2] - began) / (done - before) * (total - done) if done > before else None
        show(Progress(f"{done:,} of {total:,} {what}", done / total if total else 1.0, left))

    return count


def in_all(count: Count, total: int) -> Count:
    """Return a counter of parts of `total` things, one part after another."""
    before = 0

    def part(what: str, done: int, of: int) -> None:
        nonlocal before
        count(what, before + done, total)
        before += of if done == of else 0

    return part
