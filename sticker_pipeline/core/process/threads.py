"""CPU threads on a shared machine: their number, and PyTorch's waiting policy.

PyTorch's (OpenMP's) threads meet after every operation, and early ones spin for milliseconds: fastest on an idle
machine. Beside a busy process, spinning takes the core that the late thread needs, and sleeping is faster.

The number is fixed: with another, PyTorch rounds differently (other kernels for one thread, other cuts of arrays), and
equal inputs must give equal bytes.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import psutil

from sticker_pipeline.core.process.heap import freed_memory_kept

FIRST_LOOK, NEXT_LOOKS = 0.25, 2.0  # seconds before a measurement
ENOUGH, PLENTY = 0.5, 0.25  # missing cores, at most, to go on spinning and to spin again (hysteresis)
LARGE = 2**17  # elements: more than PyTorch gives to one thread

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Usage:
    """Seconds, each from its own start: clock, our processors' work, this process's."""

    clock: float
    busy: float
    own: float


def usage() -> Usage:
    of_each = psutil.cpu_times(percpu=True)
    busy = sum(_busy(of_each[number]) for number in processors() if number < len(of_each))
    return Usage(time.monotonic(), busy, time.process_time())


def _busy(times: object) -> float:
    """Return a processor's busy seconds, other virtual machines' included."""
    # a guest's time is part of `user` and `nice`
    return sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))


def processors() -> list[int]:
    affinity = getattr(psutil.Process(), "cpu_affinity", None)  # macOS has none
    return list(affinity()) if affinity else list(range(psutil.cpu_count() or 1))


def cpu_quota(membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the cores that Linux control groups allow; infinite without a limit."""
    if not membership.is_file():
        return math.inf
    quotas = [math.inf]
    for line in membership.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / controllers  # version 2 names none: one tree for all
        own = base / path.strip("/")
        quotas += [_quota(folder) for folder in (own, *own.parents) if folder.is_relative_to(base)]
    return min(quotas)


def _quota(folder: Path) -> float:
    """Return a control group's limit in cores; version 1 has two files."""
    files = [folder / "cpu.max"] if (folder / "cpu.max").is_file() else []
    files = files or [folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"]
    if not all(file.is_file() for file in files):
        return math.inf
    quota, period = " ".join(file.read_text() for file in files).split()
    return math.inf if quota in ("max", "-1") else int(quota) / int(period)


def cores(count: int, quota: float) -> int:
    """Return how many of `count` processors `quota` keeps busy, at least one."""
    return min(count, max(1, math.floor(min(quota, count) + 0.5)))


def used_by_others(before: Usage, after: Usage) -> float:
    """Return the cores that others kept busy between two measurements."""
    return max(0.0, (after.busy - before.busy - (after.own - before.own)) / (after.clock - before.clock))


def is_shared(threads: int, free: float, was: bool) -> bool:
    """Tell whether `threads` want more cores than are `free`.

    If they did before (`was`), more free cores are required.
    """
    return free + (PLENTY if was else ENOUGH) < threads


@contextmanager
def sharing(note: Callable[[str], None] = _LOG.info) -> Iterator[None]:
    """Let PyTorch's threads sleep instead of spin while others need the cores.

    `note` receives a line at each change, from another thread. Threads are limited to the control group's cores, and
    freed memory is kept (`core/process/heap.py`). One thread waits as before; with a GPU nothing is done.
    """
    import torch

    if torch.cuda.is_available():
        yield
        return
    count, quota = len(processors()), cpu_quota()
    threads = min(torch.get_num_threads(), cores(count, quota))
    torch.set_num_threads(threads)
    with freed_memory_kept(), _watched(threads, count, quota, note) if threads > 1 else nullcontext():
        yield


@contextmanager
def _watched(threads: int, count: int, quota: float, note: Callable[[str], None]) -> Iterator[None]:
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(threads, count, quota, note, ended), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _watch(threads: int, count: int, quota: float, note: Callable[[str], None], ended: threading.Event) -> None:
    """Measure others' use until `ended`; switch our threads between sleeping and spinning."""
    before, shared, wait = usage(), False, FIRST_LOOK
    with ExitStack() as asleep:
        while not ended.wait(wait):
            after, was, wait = usage(), shared, NEXT_LOOKS
            others, before = used_by_others(before, after), after
            shared = is_shared(threads, min(count - others, quota), was)
            if shared == was:
                continue
            asleep.enter_context(waiting_asleep(threads, count)) if shared else asleep.close()
            how = "sleep while they wait for each other" if shared else "have the machine to themselves again"
            note(f"others use {others:.1f} of {count} cores: our {threads} threads {how}")


@contextmanager
def waiting_asleep(threads: int, count: int) -> Iterator[None]:
    """Let PyTorch's `threads` on `count` processors sleep instead of spin.

    OpenMP spins only with at most as many threads as processors (GCC: GOMP_SPINCOUNT in its manual). Each computing
    thread has its own team, so idle teams exceed that.
    """
    ended, teams = threading.Event(), idle_teams(threads, count)
    ready = threading.Barrier(teams + 1)
    holders = [threading.Thread(target=_hold_team, args=(ready, ended), daemon=True) for _ in range(teams)]
    for holder in holders:
        holder.start()
    ready.wait()
    try:
        yield
    finally:
        ended.set()
        for holder in holders:
            holder.join()


def idle_teams(threads: int, count: int) -> int:
    """Return the number of idle teams that make more than `count` threads.

    Each adds `threads` − 1.
    """
    return -(-count // (threads - 1)) - 1


def _hold_team(ready: threading.Barrier, ended: threading.Event) -> None:
    import torch

    torch.zeros(LARGE).exp_()  # any operation that uses all threads
    ready.wait()
    ended.wait()
