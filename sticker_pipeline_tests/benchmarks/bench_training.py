"""How many pictures a second our training loop learns from on the embedded base model, and what accelerate costs.

python sticker_pipeline_tests/benchmarks/bench_training.py
"""

import dataclasses
import os
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from sticker_pipeline.profile import load_profile
from sticker_pipeline.training.spec import TrainingSpec
from sticker_pipeline_tests.training.conftest import write_training_set

STEPS = 12
BATCH_SIZES = (1, 4, 8, 16)


def main() -> None:
    import torch

    from sticker_pipeline.training.data import read_training_set
    from sticker_pipeline.training.progress import Progress
    from sticker_pipeline.training.train import set_up

    profile = load_profile("embedded", Path(os.environ.get("STICKER_MODELS", "data/models")))
    with tempfile.TemporaryDirectory() as name:
        spec = make_spec(Path(name), profile)
        start = time.perf_counter()
        run = set_up(spec, read_training_set(spec), Progress(lambda line: None), lambda: None)
        print(f"set up in {time.perf_counter() - start:.1f} s, {torch.get_num_threads()} threads, {spec.resolution} px")
        for batch_size in BATCH_SIZES:
            ours, plain = step_seconds(run, batch_size)
            print(
                f"batch {batch_size:2}: {batch_size / ours:6.1f} img/s; without accelerate {batch_size / plain:6.1f} "
                f"({ours / plain - 1:+.1%} time)"
            )


def make_spec(folder: Path, profile: Any) -> TrainingSpec:
    """The embedded profile's own settings over forty random pictures."""
    write_training_set(folder / "set", pictures=50, side=profile.resolution)
    return TrainingSpec(
        name="bench",
        trigger="bench",
        base=profile.base,
        base_sha="",
        training_set=folder / "set",
        frames=folder / "set" / "frames",
        output=folder / "out",
        cache=folder / "cache",
        resolution=profile.resolution,
        settings=profile.training.model_copy(update={"draws_per_epoch": 40}),
    )


def step_seconds(run: Any, batch_size: int) -> tuple[float, float]:
    """Median seconds of a step, through accelerate and with what accelerate does written by hand, taken in turns."""
    import torch

    from sticker_pipeline.training.step import training_step

    by_hand = SimpleNamespace(
        process_index=0,
        num_processes=1,
        scaler=None,
        device=run.accelerator.device,
        backward=lambda loss: loss.backward(),
        clip_grad_norm_=torch.nn.utils.clip_grad_norm_,
    )
    variants = (run, dataclasses.replace(run, accelerator=by_hand, optimizer=run.optimizer.optimizer))
    batch = np.arange(batch_size) % len(run.table)
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(STEPS):
        for variant, found in zip(variants, seconds, strict=True):
            found.append(training_step(variant, batch, 1).seconds)
    return statistics.median(seconds[0][1:]), statistics.median(seconds[1][1:])


if __name__ == "__main__":
    main()
