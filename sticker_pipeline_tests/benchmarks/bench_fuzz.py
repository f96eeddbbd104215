"""Decodes thousands of damaged files of every format, each in a worker process with a time limit.

So a hang or a crash of native code is found too, and is a failure. Linux only (/proc).

Run: python -m sticker_pipeline_tests.benchmarks.bench_fuzz [CASES]        (default 5000)
     python -m sticker_pipeline_tests.benchmarks.bench_fuzz FIRST LAST     (other cases)
     python -m sticker_pipeline_tests.benchmarks.bench_fuzz case NUMBER    (one case, in this process)
"""

import multiprocessing
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from sticker_pipeline.media.frame import MediaError
from sticker_pipeline_tests.media.fuzz import KINDS, LIMITS, Damage, check, damaged, seeds

CASES, WORKERS = 5_000, 2
HARD_LIMIT_S = 30.0  # then the worker is killed
SOFT_LIMIT_S = 10.0  # slower is a fault
MOST_GROWTH_MB = 100.0  # over what the worker takes before the case; a canvas of the largest size is 2 MB
MOST_FFMPEG_MB = 450.0
MOST_ADDRESS_SPACE = 4 << 30  # bytes, of a worker and of each ffmpeg


@dataclass
class Row:
    """Sums over the cases of one format; a file that is refused in the middle counts as rejected."""

    cases: int = 0
    accepted: int = 0
    rejected: int = 0
    slowest_ms: float = 0.0
    growth_mb: float = 0.0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """`fault` is empty for a case that went as it must."""

    frames: int = 0
    milliseconds: float = 0.0
    growth_mb: float = 0.0
    ffmpeg_mb: float = 0.0
    fault: str = ""


def main() -> int:
    if sys.argv[1:2] == ["case"]:
        print(check(damaged_case(int(sys.argv[2])), LIMITS), "frames")
        return 0
    numbers = range(*(int(number) for number in sys.argv[1:])) if sys.argv[1:] else range(CASES)
    rows: defaultdict[str, Row] = defaultdict(Row)
    ffmpeg_mb = 0.0
    seeds()
    start = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        shares = [numbers[first::WORKERS] for first in range(WORKERS)]
        for number, result in (item for share in pool.map(run_share, shares) for item in share):
            add(rows[seed_name(number).partition(" ")[0]], number, result)
            ffmpeg_mb = max(ffmpeg_mb, result.ffmpeg_mb)
    print("format    cases  accepted  rejected  slowest ms  most growth MB  faults")
    for kind, row in sorted(rows.items()):
        print(
            f"{kind:8}{row.cases:7}{row.accepted:10}{row.rejected:10}{row.slowest_ms:12.0f}{row.growth_mb:16.1f}"
            f"{len(row.faults):8}"
        )
    faults = [fault for row in rows.values() for fault in row.faults]
    print(f"{len(numbers)} cases in {time.perf_counter() - start:.0f} s; an ffmpeg took at most {ffmpeg_mb:.0f} MB")
    print("\n".join(faults))
    return int(bool(faults))


def add(row: Row, number: int, result: Result) -> None:
    row.cases += 1
    row.accepted += result.frames > 0
    row.rejected += result.frames == 0 and not result.fault
    row.slowest_ms = max(row.slowest_ms, result.milliseconds)
    row.growth_mb = max(row.growth_mb, result.growth_mb)
    if result.fault:
        row.faults.append(f"case {number} ({seed_name(number)}): {result.fault}")


def seed_name(number: int) -> str:
    return list(seeds())[number % len(seeds())]


def damaged_case(number: int) -> bytes:
    """The file of a case: everything about it follows from its number."""
    chance = random.Random(number)
    count = chance.choice((1, 1, 2, 3, 6))
    damages = [_damage(chance) for _ in range(count)]
    other = chance.choice(list(seeds().values()))
    return damaged(seeds()[seed_name(number)], damages, other, repair=chance.random() < 0.7)


def _damage(chance: random.Random) -> Damage:
    """Half of the damage is near the beginning, where the headers are."""
    where = chance.random() ** chance.choice((1, 4))
    return Damage(chance.choice(KINDS), where, chance.randint(1, 64), chance.getrandbits(32))


def run_share(numbers: range) -> list[tuple[int, Result]]:
    """The results of these cases, from one worker process after another: a new one after each that dies or hangs."""
    results: list[tuple[int, Result]] = []
    while len(results) < len(numbers):
        results += worker_results(numbers[len(results) :])
    return results


def worker_results(numbers: range) -> Iterator[tuple[int, Result]]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    worker = context.Process(target=work, args=(theirs, numbers), daemon=True)
    worker.start()
    theirs.close()
    for number in numbers:
        try:
            answered = ours.poll(HARD_LIMIT_S * (3 if number == numbers[0] else 1))
            result = ours.recv() if answered else Result(fault=f"hangs: nothing in {HARD_LIMIT_S:g} s")
        except EOFError:
            worker.join()
            result = Result(fault=f"the process died: {signal.strsignal(-(worker.exitcode or 0)) or worker.exitcode}")
        yield number, result
        if result.fault and not result.milliseconds:
            break
    for process in psutil.Process(worker.pid).children(recursive=True) if worker.is_alive() else []:
        process.kill()
    worker.kill()
    worker.join()


def work(results: Connection, numbers: range) -> None:
    """Runs the cases one by one and sends each one's Result; in a process of its own."""
    warnings.simplefilter("ignore")  # Pillow's, about damaged EXIF
    resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESS_SPACE, MOST_ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seeds()
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        for number in numbers:
            results.send(one_case(number, Path(folder)))


def one_case(number: int, temporary: Path) -> Result:
    data = damaged_case(number)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again, from what is in use now
    before = peak_mb()
    children_before = children_mb()
    frames, fault = 0, ""
    start = time.perf_counter()
    try:
        frames = check(data, LIMITS)
    except MediaError:
        pass
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        fault = f"{type(error).__name__}: {error}"
    milliseconds = 1000 * (time.perf_counter() - start)
    growth = peak_mb() - before
    if milliseconds > 1000 * SOFT_LIMIT_S:
        fault = fault or f"takes {milliseconds / 1000:.1f} s"
    if growth > MOST_GROWTH_MB:
        fault = fault or f"takes {growth:.0f} MB"
    if children_mb() > max(MOST_FFMPEG_MB, children_before):
        fault = fault or f"its ffmpeg takes {children_mb():.0f} MB"
    if psutil.Process().children() or list(temporary.iterdir()):
        fault = fault or "leaves a process or a file behind"
    return Result(frames, milliseconds, growth, children_mb(), fault)


def peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6


def children_mb() -> float:
    """The peak of all children so far; at least what this process takes, with whose memory a child begins."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    sys.exit(main())
