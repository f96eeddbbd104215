"""Effect of `training.accelerate`: steps of one training with it and without it, in turns.

Run: python -m sticker_pipeline_tests.benchmarks.bench_accelerate [--rounds 5]

The embedded base, batches of 8, LoRA on its attention and on all layers. Medians of seconds per step, and their ratio.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from sticker_pipeline.training.logs.progress import Progress
from sticker_pipeline.training.setup import set_up
from sticker_pipeline.training.step import Run, training_step
from sticker_pipeline_tests.benchmarks.bench_training import EMBEDDED
from sticker_pipeline_tests.benchmarks.trainers import Work, our_spec, write_images

STEPS = 4  # of a round, after one that is not timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds: int = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder) / "images", 96)
        for targets in ("attention", "all"):
            runs = {switch: prepared(Path(folder), targets, switch) for switch in ("off", "auto")}
            seconds: dict[str, list[float]] = {switch: [] for switch in runs}
            for _ in range(rounds):
                for switch, run in runs.items():
                    seconds[switch].append(seconds_per_step(run))
            off, auto = (statistics.median(seconds[switch]) for switch in ("off", "auto"))
            print(f"{targets}: off {off:.3f} s a step, auto {auto:.3f}: {off / auto:.2f} times as fast", flush=True)


def prepared(folder: Path, targets: str, switch: str) -> Run:
    """Return a training of the embedded base, set up."""
    output = folder / f"{targets}_{switch}"
    output.mkdir()
    work = Work("sd15", EMBEDDED, 96, 8, targets, "float32")
    spec = our_spec(work, folder / "images", output, STEPS + 1, accelerate=switch)
    return set_up(spec, Progress(lambda line: None), lambda: None).run


def seconds_per_step(run: Run) -> float:
    batches = run.plan.epoch(0)[0]
    training_step(run, batches, 1)
    started = time.perf_counter()
    for _ in range(STEPS):
        training_step(run, batches, 1)
    return (time.perf_counter() - started) / STEPS


if __name__ == "__main__":
    main()
