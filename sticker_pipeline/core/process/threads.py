"""CPU threads on a machine that others use too: how many cores they leave, and how PyTorch's threads wait meanwhile.

PyTorch's threads (OpenMP's) meet after every operation. Who is there first spins for some milliseconds: the fastest way
on an idle machine. Beside a busy process it takes the core that the thread waited for should have, in each of thousands
of operations. Then it is better to sleep.

The number of threads stays as it is: PyTorch rounds otherwise with another (it chooses other kernels for one thread,
and cuts arrays elsewhere), and equal inputs must give equal bytes.
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

FIRST_LOOK, NEXT_LOOKS = 0.25, 2.0  # seconds before a look at what others use
ENOUGH, PLENTY = 0.5, 0.25  # of a core may be missing to go on spinning, and to spin again: no change at each look
LARGE = 2**17  # elements: more than PyTorch leaves to one thread

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Usage:
    """Seconds, each from a start of its own: on the clock, of work on our processors, and of that in this process."""

    clock: float
    busy: float
    own: float


def usage() -> Usage:
    """What has been used until now."""
    of_each = psutil.cpu_times(percpu=True)
    busy = sum(_busy(of_each[number]) for number in processors() if number < len(of_each))
    return Usage(time.monotonic(), busy, time.process_time())


def _busy(times: object) -> float:
    """Seconds of one processor that it was not free: also what other virtual machines took."""
    # a guest's time is part of `user`, and of `nice`
    return sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))


def processors() -> list[int]:
    """The numbers of the processors that this process may run on."""
    affinity = getattr(psutil.Process(), "cpu_affinity", None)  # macOS has none
    return list(affinity()) if affinity else list(range(psutil.cpu_count() or 1))


def cpu_quota(membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """How many cores' time the control groups of Linux leave this process; infinite without them, or a limit."""
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
    """The limit of one control group, in cores: of version 2 in one file, of version 1 in two."""
    files = [folder / "cpu.max"] if (folder / "cpu.max").is_file() else []
    files = files or [folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"]
    if not all(file.is_file() for file in files):
        return math.inf
    quota, period = " ".join(file.read_text() for file in files).split()
    return math.inf if quota in ("max", "-1") else int(quota) / int(period)


def cores(count: int, quota: float) -> int:
    """How many of `count` processors a process with this `quota` can keep busy: at least one."""
    return min(count, max(1, math.floor(min(quota, count) + 0.5)))


def used_by_others(before: Usage, after: Usage) -> float:
    """How many cores others kept busy between two looks."""
    return max(0.0, (after.busy - before.busy - (after.own - before.own)) / (after.clock - before.clock))


def is_shared(threads: int, free: float, was: bool) -> bool:
    """Whether `threads` want more cores than are `free`. Where they did at the look before (`was`), more must be."""
    return free + (PLENTY if was else ENOUGH) < threads


@contextmanager
def sharing(note: Callable[[str], None] = _LOG.info) -> Iterator[None]:
    """Inside, PyTorch's threads sleep while they wait for each other as long as others need the cores.

    `note` is told in a line whenever that changes, from another thread. PyTorch takes no more threads than a control
    group leaves cores, and the process keeps what memory it frees. With one thread, no other sleeps; with a GPU,
    nothing is done.
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
    """`_watch` in a thread of its own for as long as the block lasts."""
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(threads, count, quota, note, ended), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _watch(threads: int, count: int, quota: float, note: Callable[[str], None], ended: threading.Event) -> None:
    """Look at what others use until `ended`, and have the threads of others sleep accordingly."""
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
    """Inside, PyTorch's `threads` on `count` processors sleep where they would spin.

    OpenMP's runtimes spin only where they have at most as many threads as processors (GCC's: GOMP_SPINCOUNT in its
    manual). Each thread that computes has a team of its own: teams that have nothing to do make them too many.
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
    """How many teams make more than `count` threads beside the one that works: each has `threads` − 1 of its own."""
    return -(-count // (threads - 1)) - 1


def _hold_team(ready: threading.Barrier, ended: threading.Event) -> None:
    import torch

    torch.zeros(LARGE).exp_()  # whatever all threads take part in
    ready.wait()
    ended.wait()
