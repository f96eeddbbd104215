"""Cost of a shared machine: training, generating, CLIP and the tagger, alone and beside busy processes.

Before: threads spin while they wait for each other, even if others need the cores. After: as in threads.py and wd14.py.
Nobody else: the machine is idle. Busy: a process computes on each core but one. All are ratios to today's speed on an
idle machine, medians of rounds in which the cases take turns. They are valid only if nobody else used the machine
meanwhile, which is measured too. Then two trainings side by side.

Run: python -m sticker_pipeline_tests.benchmarks.bench_threads [--only training] [--rounds 3]
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import psutil
import torch
from PIL import Image

from sticker_pipeline.benchmark.embed import embed, open_embedder
from sticker_pipeline.core.process.threads import processors, sharing, usage, used_by_others
from sticker_pipeline.core.profile import load_profile
from sticker_pipeline.generation.generate import generate, open_pipeline, without_loras
from sticker_pipeline.generation.prompts import Request
from sticker_pipeline.tagging.wd14 import CPU, MODEL_FILE, open_tagger
from sticker_pipeline.training.logs.progress import Progress
from sticker_pipeline.training.setup import set_up
from sticker_pipeline.training.step import training_step
from sticker_pipeline_tests.benchmarks.bench_training import EMBEDDED
from sticker_pipeline_tests.benchmarks.trainers import Work, our_spec, write_images

PROFILE = load_profile("embedded", EMBEDDED.parents[1])
WARM_UP, TIMED = 1.0, 2.0  # seconds
STEPS = 5  # of an image drawn
WANTED = {"idle": 0.95, "busy": 0.5}
Once = Callable[[], int]
"""Does some of the work; returns of how many images."""


@dataclass(frozen=True)
class Way:
    """The work as it is done before or after: `once`, again and again inside `around`."""

    once: Once
    around: Callable[[], AbstractContextManager[None]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[*KINDS, "side by side"])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    count = len(processors())
    print(f"{count} cores, {torch.get_num_threads()} threads, PyTorch {torch.__version__}")
    for name, ways in KINDS.items():
        if arguments.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                compare(name, *ways(Path(folder)), rounds=arguments.rounds, busy=count - 1)
    if arguments.only in (None, "side by side"):
        side_by_side()


def compare(name: str, before: Way, after: Way, *, rounds: int, busy: int) -> None:
    """Print the four cases."""
    cases = [(kind, label, way) for kind in WANTED for label, way in (("before", before), ("after", after))]
    rates: dict[tuple[str, str], list[float]] = {(kind, label): [] for kind, label, _ in cases}
    disturbed = 0.0
    for _ in range(rounds):
        for kind, label, way in cases:
            found, others = beside(way, busy if kind == "busy" else 0)
            rates[kind, label].append(found)
            disturbed = max(disturbed, others)
    medians = {case: statistics.median(values) for case, values in rates.items()}
    reference = medians["idle", "before"]
    print(f"{name}: {reference:.1f} images/s; somebody else used up to {disturbed:.1f} cores meanwhile")
    for (kind, label), value in medians.items():
        wanted = f"   wanted {WANTED[kind]}" if label == "after" else ""
        low, high = (limit(rates[kind, label]) / reference for limit in (min, max))
        print(f"  {kind} {label:7}{value / reference:6.2f} ({low:.2f} to {high:.2f}){wanted}", flush=True)


def beside(way: Way, busy: int) -> tuple[float, float]:
    """Images a second beside so many `busy` processes, and the cores that anybody else used meanwhile."""
    with busy_processes(busy) as used:
        before = usage()
        found = rate(way)
        after = usage()
        return found, used_by_others(before, after) - used() / (after.clock - before.clock)


def rate(way: Way) -> float:
    """Images a second."""
    with way.around():
        repeat(way.once, WARM_UP)
        return repeat(way.once, TIMED)


def repeat(once: Once, seconds: float) -> float:
    done, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        done += once()
    return done / spent


@contextmanager
def busy_processes(count: int) -> Iterator[Callable[[], float]]:
    """Inside, `count` processes compute without end; gives the seconds of a core that they have had."""
    with ExitStack() as running:
        processes = []
        for _ in range(count):
            process = psutil.Popen([sys.executable, "-c", "while True: pass"])
            running.callback(process.wait)
            running.callback(process.kill)
            processes.append(process)
        yield lambda: sum(sum(process.cpu_times()[:2]) for process in processes)


def side_by_side() -> None:
    """Print how fast two trainings of ours are at the same time, beside one alone."""
    context = multiprocessing.get_context("spawn")
    for label, around in (("before", nullcontext), ("after", sharing)):
        for together in (1, 2):
            with context.Manager() as manager, context.Pool(together) as pool:
                ready = manager.Barrier(together)
                found = pool.starmap(_train_at_once, [(around, ready)] * together, chunksize=1)
            print(f"{label}, {together} at a time: {', '.join(f'{one:.1f}' for one in found)} images/s", flush=True)


def _train_at_once(around: Callable[[], AbstractContextManager[None]], ready: threading.Barrier) -> float:
    with tempfile.TemporaryDirectory() as folder, around():
        before, _ = training(Path(folder))
        ready.wait()
        return rate(Way(before.once, nullcontext))


def alike(once: Once) -> tuple[Way, Way]:
    return Way(once, nullcontext), Way(once, sharing)


def training(folder: Path) -> tuple[Way, Way]:
    write_images(folder / "images", 96)
    (folder / "out").mkdir()
    spec = our_spec(Work("sd15", EMBEDDED, 96, 8, "attention", "float32"), folder / "images", folder / "out", 10)
    run = set_up(spec, Progress(lambda line: None), lambda: None).run
    batches = run.plan.epoch(0)[0]
    return alike(lambda: training_step(run, batches, 1).samples)


def drawing(folder: Path) -> tuple[Way, Way]:
    pipeline = open_pipeline(PROFILE)
    settings = PROFILE.generation.model_copy(update={"steps": STEPS})
    requests = [Request("sticker", "chibi, smile", seed) for seed in range(settings.batch_size)]
    return alike(lambda: len(list(generate(without_loras(pipeline), requests, settings, PROFILE.resolution))))


def clip(folder: Path) -> tuple[Way, Way]:
    embedder = open_embedder(PROFILE.clip, resolution=PROFILE.resolution, background="white")
    return alike(lambda: len(embed(embedder, images(32))))


def tagging(folder: Path) -> tuple[Way, Way]:
    tagger = open_tagger(PROFILE.tagger, "cpu")
    spinning = onnxruntime.InferenceSession(str(PROFILE.tagger / MODEL_FILE), providers=[CPU])
    batch = np.stack([np.asarray(image) for image in images(PROFILE.tagging.batch_size)]).astype(np.float32)

    def of(session: onnxruntime.InferenceSession) -> Way:
        return Way(lambda: len(session.run(None, {tagger.input_name: batch})[0]), nullcontext)

    return of(spinning), of(tagger.session)


def images(count: int) -> list[Image.Image]:
    noise = np.random.default_rng(0).integers(0, 256, (count, 96, 96, 3), dtype=np.uint8)
    return [Image.fromarray(one) for one in noise]


KINDS = {"training": training, "drawing": drawing, "CLIP": clip, "tagging": tagging}

if __name__ == "__main__":
    main()
