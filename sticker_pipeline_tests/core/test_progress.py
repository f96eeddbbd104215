"""Words for the time left, the pace of counts, and the intervals of reports."""

from dataclasses import dataclass

import pytest

from sticker_pipeline.core.progress import COUNTS_IN_PACE, Progress, counter, in_all, throttled, time_left

MINUTE, HOUR = 60, 3600


@dataclass
class Clock:
    """A clock that a test sets."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "a few seconds left"),
        (9.9, "a few seconds left"),
        (10, "about 10 s left"),
        (44, "about 40 s left"),
        (55, "about 1 min left"),
        (4 * MINUTE, "about 4 min left"),
        (59.4 * MINUTE, "about 59 min left"),
        (59.6 * MINUTE, "about 1 h left"),
        (HOUR + 14 * MINUTE, "about 1 h 10 min left"),
        (23 * HOUR + 54 * MINUTE, "about 23 h 50 min left"),
        (23 * HOUR + 56 * MINUTE, "about 1 day left"),
        (25 * HOUR, "about 1 day 1 h left"),
        (50 * HOUR, "about 2 days 2 h left"),
    ],
)
def test_a_time_left_has_no_digits_that_are_guessed(seconds: float, words: str) -> None:
    assert time_left(seconds) == words


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Progress("epoch 3 of 10", 0.419, 240), "epoch 3 of 10, 41 %, about 4 min left"),
        (Progress("1 of 9 files decoded", 1 / 9), "1 of 9 files decoded, 11 %"),
        (Progress("epoch 10 of 10", 1.0, 0.0), "epoch 10 of 10, 100 %"),
        (Progress("epoch 10 of 10", 0.9999, 0.4), "epoch 10 of 10, 99 %, a few seconds left"),
    ],
)
def test_text(progress: Progress, text: str) -> None:
    assert progress.text == text


def shown_at(times: list[float], left: float | None, seconds: float, most: int = 50) -> list[float]:
    """The times of `times` at which `throttled` shows unfinished work."""
    clock = Clock()
    found: list[float] = []
    report = throttled(lambda progress: found.append(clock.now), seconds, clock, most)
    for clock.now in times:
        report(Progress("x", 0.5, left))
    return found


def test_reports_come_at_intervals_and_not_of_short_work() -> None:
    assert shown_at([1.0, 5.0, 9.9], None, 10) == []
    assert shown_at([float(second) for second in range(35)], None, 10) == [10, 20, 30]


def test_long_work_has_no_more_reports_than_short_work() -> None:
    day = [float(second) for second in range(0, 86400, 20)]
    clock = Clock()
    shown: list[Progress] = []
    report = throttled(shown.append, 30, clock)
    for clock.now in day:
        report(Progress("x", clock.now / 86400, 86400 - clock.now))
    assert 45 <= len(shown) <= 50


def test_an_end_is_shown_once_after_reports() -> None:
    clock = Clock()
    found: list[str] = []
    report = throttled(lambda progress: found.append(progress.text), 10, clock)
    report(Progress("short", 1.0))
    for clock.now, share in ((12.0, 0.5), (13.0, 0.9), (14.0, 1.0), (15.0, 1.0)):
        report(Progress("long", share))
    assert found == ["long, 50 %", "long, 100 %"]


def test_a_count_knows_its_pace() -> None:
    clock = Clock()
    texts: list[str] = []
    count = counter(lambda progress: texts.append(progress.text), clock)
    for clock.now, done in ((0.0, 1), (10.0, 2), (20.0, 3)):
        count("images", done, 2003)
    assert texts == [
        "1 of 2,003 images, 0 %",
        "2 of 2,003 images, 0 %, about 5 h 30 min left",  # 2,001 images at 10 s
        "3 of 2,003 images, 0 %, about 5 h 30 min left",
    ]


def test_the_pace_is_of_the_last_counts_of_the_same_work() -> None:
    clock = Clock()
    found: list[float | None] = []
    count = counter(lambda progress: found.append(progress.seconds_left), clock)
    count("images", 60, 100)  # from the cache: at once
    for number in range(COUNTS_IN_PACE + 1):
        clock.now += 2.0
        count("images", 61 + number, 100)
    assert found[-1] == pytest.approx(2.0 * (100 - 61 - COUNTS_IN_PACE))
    count("files", 5, 10)
    assert found[-1] is None
    clock.now += 3.0
    count("files", 6, 10)
    assert found[-1] == pytest.approx(3.0 * 4)
    count("files", 1, 10)
    assert found[-1] is None, "another part began"


def test_an_empty_count_is_over() -> None:
    found: list[Progress] = []
    counter(found.append)("images", 0, 0)
    assert found == [Progress("0 of 0 images", 1.0)]


def test_parts_are_counted_in_all() -> None:
    found: list[tuple[str, int, int]] = []
    count = in_all(lambda *each: found.append(each), 6)
    for done, of in ((1, 2), (2, 2), (3, 3), (1, 1)):
        count("images", done, of)
    assert found == [("images", 1, 6), ("images", 2, 6), ("images", 5, 6), ("images", 6, 6)]
