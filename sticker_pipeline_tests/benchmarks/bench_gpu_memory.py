"""GPU memory of LoRA training with `preset: low_memory`: what the dry run predicts and, on a CUDA machine, what our
trainer takes under its plan, on a base of the true architecture with random weights, sample pictures included.

`--work` keeps the base models. What is taken is read from nvidia-smi while the trainer runs, less what was taken before
it: nothing else may use the GPU. Fails where that exceeds the budget.

Run: python -m sticker_pipeline_tests.benchmarks.bench_gpu_memory
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

from sticker_pipeline.profile import PRESETS
from sticker_pipeline.settings import TrainingSettings
from sticker_pipeline.training.adapters import add_adapters
from sticker_pipeline.training.memory import GIB, RESERVE, MemoryPlan, Workload, decide, true_parts
from sticker_pipeline.training.spec import save_spec
from sticker_pipeline_tests.benchmarks.trainers import Work, our_spec, write_pictures
from sticker_pipeline_tests.benchmarks.true_base import true_base

CASES = [  # family, side in pixels, rank
    ("sd15", 512, 16),
    ("sd15", 512, 32),
    ("sdxl", 1024, 16),
    ("sdxl", 1024, 32),
]
STEPS, EPOCHS, SAMPLES = 8, 2, 4
SMI = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]  # in MiB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(".build/bench_training"), help="base models are kept here")
    parser.add_argument("--only", default="", help="the case with this in its name")
    arguments = parser.parse_args()
    cuda = torch.cuda.is_available()
    print(f"on {torch.cuda.get_device_name() if cuda else 'no GPU'}; GiB; a prediction includes a reserve of", end=" ")
    print(f"{RESERVE / GIB:.2f} for the CUDA context and workspaces. preset: low_memory, {SAMPLES} samples.")
    missed = 0
    for family, side, rank in CASES:
        name = f"{family} {side} px, rank {rank}"
        if arguments.only not in name:
            continue
        began = time.perf_counter()
        work = workload(family, side, rank)
        budget = int(work.settings.memory_budget or 0)
        plan = decide(budget, work)
        print(f"\n{name}, budget {budget / GIB:.2f}: decided in {time.perf_counter() - began:.0f} s:")
        print(f"  {plan.line()}; {plan.sample_batch} samples at once")
        print(f"  predicted {plan.most / GIB:.2f}", flush=True)
        if cuda:
            missed += measure(family, side, work, arguments.work) > budget
    if not cuda:
        print("\nNo CUDA device here: these are predictions; the figures of a GPU are open.")
    return int(missed > 0)


def workload(family: str, side: int, rank: int) -> Workload:
    preset = PRESETS["low_memory"][family]  # type: ignore[index]
    settings = TrainingSettings.model_validate({"rank": rank, "alpha": rank, **preset})
    return Workload(
        parts=true_parts(family),
        family=family,
        settings=settings,
        adapt=lambda unet, encoders: add_adapters(unet, encoders, family, settings),
        width=side,
        height=side,
        dtype=torch.bfloat16,
        sample_batch=SAMPLES,
    )


def measure(family: str, side: int, work: Workload, bases: Path) -> int:
    """Print what a training takes; returns the bytes of the GPU that were in use at its worst moment."""
    settings = work.settings.model_dump(include={"rank", "alpha", "targets", "batch_size", "memory_budget"})
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_pictures(folder / "pictures", side)
        done = Work(family, true_base(family, bases / family), side, 1, settings.pop("targets"), "bfloat16")  # type: ignore[arg-type]
        spec = our_spec(done, folder / "pictures", folder / "out", STEPS, **settings, epochs=EPOCHS)
        spec = spec.model_copy(update={"sample_prompts": ["bench"] * SAMPLES})
        save_spec(spec, folder / "bench.json")
        before = int(subprocess.run(SMI, capture_output=True, text=True, check=True).stdout)
        watch = subprocess.Popen([*SMI, "--loop-ms=50"], stdout=subprocess.PIPE, text=True)
        subprocess.run([sys.executable, "-m", "sticker_pipeline.training", folder / "bench.json"], check=True)
        watch.terminate()
        used = (max(map(int, watch.communicate()[0].split())) - before) * 2**20
        reserved = pd.read_parquet(spec.output / "log.parquet")["memory_bytes"]
        plan = MemoryPlan(**json.loads((spec.output / "memory.json").read_text(encoding="utf-8")))
    print(f"  {plan.line()}")
    by_epoch = reserved.to_numpy().reshape(EPOCHS, -1).max(axis=1) / GIB
    print(f"  measured {used / GIB:.2f} in use on the GPU; PyTorch's share while training", end=" ")
    print(f"{by_epoch[0]:.2f}, with samples {by_epoch[-1]:.2f}", flush=True)
    return used


if __name__ == "__main__":
    raise SystemExit(main())
