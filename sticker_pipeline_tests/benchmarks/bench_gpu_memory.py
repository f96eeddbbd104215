"""GPU memory of LoRA training with `preset: low_memory`: predicted by the dry run, and measured.

Measured on a CUDA machine only: our trainer under its plan, on a base of the true architecture with random weights,
sample images included. `--work` keeps the base models and the dry run's counts. The trainer's memory is read from
nvidia-smi while it runs: its own share where nvidia-smi knows it, else all use beyond that of before. Fails if it
exceeds the budget.

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

from sticker_pipeline.core.profile import PRESETS
from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.training.adapters import add_adapters
from sticker_pipeline.training.memory.dry_run import GIB, MIB, RESERVE, Workload, true_parts
from sticker_pipeline.training.memory.plan import MemoryPlan, decide
from sticker_pipeline.training.spec import save_spec
from sticker_pipeline_tests.benchmarks.trainers import Work, our_spec, write_images
from sticker_pipeline_tests.benchmarks.true_base import true_base

CASES = [  # family, side in pixels, rank
    ("sd15", 512, 16),
    ("sd15", 512, 32),
    ("sdxl", 1024, 16),
    ("sdxl", 1024, 32),
]
STEPS, EPOCHS, SAMPLES = 8, 2, 4
FORMAT = "--format=csv,noheader,nounits"  # in MiB
IN_ALL = ["nvidia-smi", "--query-gpu=memory.used", FORMAT, "--id=0"]
OF_EACH = ["nvidia-smi", "--query-compute-apps=pid,used_memory", FORMAT, "--id=0"]


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
        print(f"\n{name}, budget {budget / GIB:.2f}")
        if cuda:
            missed += measure(family, side, work, arguments.work) > budget
            continue
        plan = decide(budget, work)
        print(f"  {plan.line()}; {plan.sample_batch} samples at once")
        print(f"  predicted {plan.most / GIB:.2f}; decided in {time.perf_counter() - began:.0f} s", flush=True)
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
        write_images(folder / "images", side)
        done = Work(family, true_base(family, bases / family), side, 1, settings.pop("targets"), "bfloat16")  # type: ignore[arg-type]
        spec = our_spec(done, folder / "images", folder / "out", STEPS, **settings, epochs=EPOCHS)
        changes = {"sample_prompts": ["bench"] * SAMPLES, "cache": bases / "cache"}
        spec = spec.model_copy(update={**changes, "generation": spec.generation.model_copy(update={"steps": 2})})
        save_spec(spec, folder / "bench.json")
        used = watched([sys.executable, "-m", "sticker_pipeline.training", str(folder / "bench.json")])
        reserved = pd.read_parquet(spec.output / "log.parquet")["memory_bytes"]
        plan = MemoryPlan(**json.loads((spec.output / "memory.json").read_text(encoding="utf-8")))
    print(f"  {plan.line()}; {plan.sample_batch} samples at once; predicted {plan.most / GIB:.2f}")
    by_epoch = reserved.to_numpy().reshape(EPOCHS, -1).max(axis=1) / GIB
    print(f"  measured {used / GIB:.2f} in use on the GPU; PyTorch's share while training", end=" ")
    print(f"{by_epoch[0]:.2f}, with samples {by_epoch[-1]:.2f}", flush=True)
    return used


def watched(command: list[str]) -> int:
    """Run `command`; returns the bytes of the GPU that it had at its worst moment."""
    ((before,),) = _numbers(subprocess.run(IN_ALL, capture_output=True, text=True, check=True).stdout)
    watchers = [
        subprocess.Popen([*query, "--loop-ms=100"], stdout=subprocess.PIPE, text=True) for query in (OF_EACH, IN_ALL)
    ]
    process = subprocess.Popen(command)
    process.wait()
    for watcher in watchers:
        watcher.terminate()
    each, in_all = (_numbers(watcher.communicate()[0]) for watcher in watchers)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: see above")
    own = max((row[1] for row in each if row[0] == process.pid and len(row) == 2), default=0)
    more = max(row[0] for row in in_all) - before
    print(f"  nvidia-smi: of the process {own / 1024:.2f}, in all {more / 1024:.2f} more")
    return (own or more) * MIB


def _numbers(said: str) -> list[list[int]]:
    """The whole numbers in each line that has any."""
    rows = [[int(word) for word in line.replace(",", " ").split() if word.isdigit()] for line in said.splitlines()]
    return [row for row in rows if row]


if __name__ == "__main__":
    raise SystemExit(main())
