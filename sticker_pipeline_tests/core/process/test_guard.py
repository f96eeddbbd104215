"""Any end of a command: its exit status reports it, and no process remains."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from sticker_pipeline.core.process.guard import GO_ON, MARK, marked

GUARD = """
import sys
from sticker_pipeline.core.process import guard
sys.exit(guard.run([sys.executable, "-m", "sticker_pipeline_tests.core.process.guarded", *sys.argv[1:]]))
"""
OURS = "STICKER_TEST_GUARD"


@contextmanager
def started(
    log: Path, *arguments: str, ignored: bool = False, stderr: int | None = None
) -> Iterator[tuple[subprocess.Popen, str]]:
    """A guard whose worker is ready, in a session of its own; what marks its processes."""
    mark = uuid.uuid4().hex
    with log.open("w") as out:
        guard = subprocess.Popen(
            [*(["nohup"] if ignored else []), sys.executable, "-c", GUARD, *arguments],
            env={**os.environ, OURS: mark},
            stdout=out,
            stderr=stderr or out,
            start_new_session=True,
        )
        try:
            while "ready" not in log.read_text():
                assert guard.poll() is None, log.read_text()
                time.sleep(0.02)
            yield guard, mark
        finally:
            for process in family(mark):
                process.kill()
            guard.wait()


def family(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(OURS) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def kill_worker(mark: str, log: Path) -> None:
    """Kill the worker, and wait until the guard has said so."""
    next(
        process for process in family(mark) if "sticker_pipeline_tests.core.process.guarded" in process.cmdline()
    ).kill()
    while "was killed by SIGKILL; what it had started" not in log.read_text():
        time.sleep(0.05)


def assert_all_end(mark: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while left := family(mark):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


@pytest.mark.parametrize(("status", "shown"), [("0", 0), ("3", 3)])
def test_the_status_is_the_workers(status: str, shown: int) -> None:
    assert subprocess.run([sys.executable, "-c", GUARD, "end", status]).returncode == shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_asks_the_worker_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path / "log", "obey") as (guard, mark):
        guard.send_signal(number)
        assert guard.wait(20) == 128 + number
        assert_all_end(mark)
    assert f"asked {number.value}" in (tmp_path / "log").read_text()


def test_the_second_one_ends_everything_at_once(tmp_path: Path) -> None:
    with started(tmp_path / "log", "ignore") as (guard, mark):
        assert len(family(mark)) == 3  # guard, worker, and its child in another session
        guard.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert guard.poll() is None and len(family(mark)) == 3
        guard.send_signal(signal.SIGINT)
        assert guard.wait(20) == 130
        assert_all_end(mark)
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[1:] == [
        "Stopping: what is under way is saved first. Once more ends it at once.",
        f"Ended at once. {GO_ON}",
    ]


def test_a_terminal_that_hangs_up_twice_has_asked_once(tmp_path: Path) -> None:
    with started(tmp_path / "log", "ignore") as (guard, mark):
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
            guard.send_signal(number)
            time.sleep(0.05)
        time.sleep(1.5)
        guard.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert guard.poll() is None and len(family(mark)) == 3


def test_under_nohup_a_closed_terminal_ends_nothing(tmp_path: Path) -> None:
    with started(tmp_path / "log", "obey", ignored=True) as (guard, mark):
        guard.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert guard.poll() is None
        guard.send_signal(signal.SIGINT)
        assert guard.wait(20) == 130
        assert_all_end(mark)


def test_a_killed_guard_takes_the_worker_with_it(tmp_path: Path) -> None:
    with started(tmp_path / "log", "obey") as (guard, mark):
        guard.kill()
        assert_all_end(mark)
    assert "asked None" in (tmp_path / "log").read_text()


def test_a_killed_worker_is_reported_when_all_has_ended(tmp_path: Path) -> None:
    with started(tmp_path / "log", "ignore") as (guard, mark):
        kill_worker(mark, tmp_path / "log")
        assert guard.poll() is None  # it waits for the child, which a signal cuts short
        guard.send_signal(signal.SIGINT)
        assert guard.wait(20) == 128 + signal.SIGKILL
        assert_all_end(mark)
    assert (
        (tmp_path / "log")
        .read_text()
        .endswith(f"The work was killed by SIGKILL: the system may have run out of memory. {GO_ON}\n")
    )


def test_a_worker_that_is_killed_while_it_stops_leaves_nothing(tmp_path: Path) -> None:
    with started(tmp_path / "log", "ignore") as (guard, mark):
        guard.send_signal(signal.SIGINT)
        while "Stopping: " not in (tmp_path / "log").read_text():
            time.sleep(0.05)
        kill_worker(mark, tmp_path / "log")
        assert guard.poll() is None
        guard.send_signal(signal.SIGTERM)
        assert guard.wait(20) == 130
        assert_all_end(mark)


def test_a_reader_that_has_stalled_does_not_make_it_deaf(tmp_path: Path) -> None:
    unread, full = os.pipe()
    os.set_blocking(full, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(full, b"x" * 4096)
    os.set_blocking(full, True)
    with started(tmp_path / "log", "ignore", stderr=full) as (guard, mark):
        guard.send_signal(signal.SIGINT)
        time.sleep(0.5)
        guard.send_signal(signal.SIGINT)
        assert guard.wait(20) == 130
        assert_all_end(mark)
    os.close(unread)
    os.close(full)


def test_only_what_a_guard_has_started_bears_its_mark() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"],
        env={**os.environ, MARK: "mine"},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdout.readline()
    assert [one.pid for one in marked("mine")] == [process.pid]
    assert marked("another") == []
    process.kill()
    process.wait()
    assert marked("mine") == []
