"""Cores used by others, and PyTorch's threads: they sleep when others need the cores, and compute the same."""

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch

import sticker_pipeline.core.process.threads as module
from sticker_pipeline.core.process.threads import (
    Usage,
    cores,
    cpu_quota,
    idle_teams,
    is_shared,
    processors,
    sharing,
    usage,
    used_by_others,
    waiting_asleep,
)

START = Usage(clock=100.0, busy=1000.0, own=50.0)


@pytest.mark.parametrize(
    ("seconds", "busy", "own", "others"),
    [
        (2.0, 3.0, 1.0, 1.0),  # three seconds of work in two, one of them ours: others had one core
        (2.0, 4.0, 4.0, 0.0),
        (0.5, 0.25, 0.0, 0.5),
        (2.0, 0.9, 1.0, 0.0),  # clocks are coarse: never less than nothing
    ],
)
def test_others_use_what_we_do_not(seconds: float, busy: float, own: float, others: float) -> None:
    after = Usage(START.clock + seconds, START.busy + busy, START.own + own)
    assert used_by_others(START, after) == others


def test_our_own_work_is_not_that_of_others() -> None:
    before = usage()
    while time.process_time() - before.own < 0.3:
        pass
    after = usage()
    assert after.own - before.own >= 0.3
    assert after.busy - before.busy >= 0.2  # in hundredths of a second, and some are counted later


def test_usage_is_of_our_processors_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def times(user: float, idle: float) -> object:
        fields = {"user": user, "nice": 1.0, "system": 2.0, "idle": idle, "iowait": 9.0, "guest": 3.0, "steal": 4.0}
        return type("Times", (), fields)()

    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [times(10.0, 5.0), times(20.0, 5.0), times(40.0, 5.0)])
    monkeypatch.setattr(module, "processors", lambda: [0, 2])
    assert usage().busy == (10 + 1 + 2 + 4) + (40 + 1 + 2 + 4)


@pytest.mark.parametrize(
    ("count", "quota", "expected"),
    [(2, math.inf, 2), (64, 1.4, 1), (64, 1.5, 2), (64, 0.1, 1), (2, 16.0, 2), (1, math.inf, 1)],
)
def test_cores(count: int, quota: float, expected: int) -> None:
    assert cores(count, quota) == expected


@pytest.mark.parametrize(
    ("threads", "free", "was", "shared"),
    [
        (2, 2.0, False, False),
        (2, 1.5, False, False),  # floor(1.5 + 0.5) = 2 threads have a core each
        (2, 1.49, False, True),
        (2, 1.5, True, True),  # not enough to change back
        (2, 1.75, True, False),
        (4, 8.0, False, False),  # half a machine of 16 is busy: a user's own four threads do not mind
        (16, 15.0, False, True),
    ],
)
def test_when_threads_sleep(threads: int, free: float, was: bool, shared: bool) -> None:
    assert is_shared(threads, free, was) == shared


def test_two_trainings_settle() -> None:
    """On two cores each has about one, whichever way its threads wait: from the first look on, nothing changes."""
    shared = False
    for others in (1.0, 0.8, 1.2, 0.6, 1.0, 0.9, 0.5):
        shared = is_shared(2, 2 - others, shared)
        assert shared


@pytest.mark.parametrize(
    ("files", "groups", "expected"),
    [
        ({"cpu.max": "max 100000\n"}, "0::/\n", math.inf),
        ({"cpu.max": "150000 100000\n"}, "0::/\n", 1.5),
        ({"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "max 100000\n"}, "0::/a/b\n", 2.0),
        ({"a/cpu.max": "50000 100000\n"}, "0::/other\n", math.inf),
        ({"cpu/a/cpu.cfs_quota_us": "300000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, "7:pids:/\n3:cpu:/a\n", 3.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "3:cpu:/\n", math.inf),
        ({}, "0::/\n", math.inf),
    ],
)
def test_control_groups(tmp_path: Path, files: dict[str, str], groups: str, expected: float) -> None:
    for name, text in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text)
    (tmp_path / "membership").write_text(groups)
    assert cpu_quota(tmp_path / "membership", tmp_path / "root") == expected


def test_without_control_groups(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "none") == math.inf


def test_this_machine() -> None:
    assert 1 <= len(processors()) <= (psutil.cpu_count() or 1)


@pytest.mark.parametrize(("threads", "count"), [(t, c) for c in (2, 3, 8, 64) for t in (2, 3, 5, 64) if t <= c])
def test_idle_teams_are_just_enough(threads: int, count: int) -> None:
    """Every team adds threads − 1 to the one thread that there is; more than the processors are wanted."""
    teams = idle_teams(threads, count)
    assert 1 + (1 + teams) * (threads - 1) > count
    assert 1 + teams * (threads - 1) <= count


def test_idle_threads_are_there_and_go(two_threads: None) -> None:
    torch.zeros(module.LARGE).exp_()  # our own team
    before = psutil.Process().num_threads()
    with waiting_asleep(2, 2):
        assert psutil.Process().num_threads() >= before + 1 + 1  # who holds the team, and its other thread
    assert any(psutil.Process().num_threads() <= before for _ in waited())


def waited(seconds: float = 20.0) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.01)


def scripted(*others: float) -> Callable[[], Usage]:
    """Looks between which others use so many cores each time, and then as many as at last."""
    looks = itertools.chain(others, itertools.repeat(others[-1]))
    state = {"clock": 0.0, "busy": 0.0}

    def look() -> Usage:
        found = Usage(state["clock"], state["busy"], 0.0)
        state["clock"] += 1.0
        state["busy"] += next(looks)
        return found

    return look


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_LOOK", 0.001)
    monkeypatch.setattr(module, "NEXT_LOOKS", 0.001)
    monkeypatch.setattr(module, "processors", lambda: [0, 1])


def test_a_line_for_each_change(two_threads: None, at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "usage", scripted(0.0, 0.2, 1.0, 1.0, 0.4, 0.1, 0.2))
    lines: list[str] = []
    seen = threading.Event()

    def note(line: str) -> None:
        lines.append(line)
        if len(lines) == 2:
            seen.set()

    with sharing(note):
        assert seen.wait(60)
    assert lines == [
        "others use 1.0 of 2 cores: our 2 threads sleep while they wait for each other",
        "others use 0.1 of 2 cores: our 2 threads have the machine to themselves again",
    ]


def test_nothing_is_left_where_it_ends_beside_others(
    two_threads: None, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "usage", scripted(1.0))
    before, seen = set(threading.enumerate()), threading.Event()
    with sharing(lambda line: seen.set()):
        assert seen.wait(60)
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("alone", ["one thread", "gpu"])
def test_where_nothing_is_to_be_done(alone: str, two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    if alone == "gpu":
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(module, "cpu_quota", lambda: 1.0)  # nor is any number changed
    else:
        torch.set_num_threads(1)
    before, threads = threading.active_count(), torch.get_num_threads()
    with sharing(lambda line: None):
        assert threading.active_count() == before
        assert torch.get_num_threads() == threads


def test_no_more_threads_than_a_control_group_leaves(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cpu_quota", lambda: 1.2)
    with sharing(lambda line: None):
        assert torch.get_num_threads() == 1
