"""Measures that keep a training within a budget of GPU memory.

dry_run.py counts the bytes; `training/setup.py` and `training/samples.py` apply the plan.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from sticker_pipeline.core.caching import read_memo, write_memo
from sticker_pipeline.core.optimizer_table import LEAN
from sticker_pipeline.core.storage import atomic_file
from sticker_pipeline.training.memory.dry_run import CONTEXT, GIB, Workload, dry_run
from sticker_pipeline.training.spec import SpecError

Count = Callable[..., Any]
"""(phase, its arguments) -> result of DryRun's method of that name."""


@dataclass(frozen=True)
class MemoryPlan:
    """Memory-saving measures of a training, and each phase's bytes, RESERVE included.

    - phasing: only models in use are on the GPU: the VAE while images are encoded and decoded, an untrained text
      encoder while captions are encoded. The U-Net stays while samples are decoded.
    - tiles: per side of a decoded sample (`tile_vae`), 1 for none; training images are encoded whole.
    """

    phasing: bool
    gradient_checkpointing: bool
    tiles: int
    sample_batch: int
    peak_bytes: dict[str, int]

    @property
    def most(self) -> int:
        return max(self.peak_bytes.values())

    def line(self) -> str:
        """The plan as a line of the log."""
        measures = [
            name
            for name, taken in (
                ("only what is needed on the GPU", self.phasing),
                ("gradient checkpointing", self.gradient_checkpointing),
                ("VAE tiles", self.tiles > 1),
            )
            if taken
        ]
        counted = ", ".join(f"{phase} {size / GIB:.2f}" for phase, size in self.peak_bytes.items())
        return f"memory saved by: {', '.join(measures) or 'nothing'}" + (f"; GiB to {counted}" if counted else "")


def no_limit(sample_batch: int) -> MemoryPlan:
    """Plan without a limit: nothing is moved or computed twice."""
    return MemoryPlan(False, False, 1, sample_batch, {})


def write_plan(plan: MemoryPlan, path: Path) -> None:
    with atomic_file(path) as staging:
        staging.write_text(json.dumps(asdict(plan), indent=1) + "\n", encoding="utf-8")


def decide(budget: int, work: Workload, kept: Path | None = None) -> MemoryPlan:
    """Fastest plan within `budget` bytes of GPU memory.

    In order: nothing; fewer samples at once and VAE tiles, almost free; phasing, which moves models between phases;
    gradient checkpointing, which computes the forward pass twice. Takes seconds, no GPU and little memory; `kept`
    caches counts. Raises SpecError, with the least memory needed and what to lower, where none fits.
    """
    plans = []
    for plan in _plans(counting(work, kept), work, budget):
        if plan.most <= budget:
            return plan
        plans.append(plan)
    least = min(plans, key=lambda plan: plan.most)
    phase = max(least.peak_bytes, key=lambda name: least.peak_bytes[name])
    raise SpecError(
        f"settings.memory_budget: {budget / GIB:.2f} GiB are too little; with all that saves memory, this training "
        f"needs {math.ceil(least.most / GIB * 100) / 100:.2f} GiB (to {phase}). "
        f"Allow that much, or lower {what_to_lower(work, phase)}."
    )


def what_to_lower(work: Workload, phase: str) -> str:
    """Settings that would make `phase` smaller, with their values."""
    settings = work.settings
    choices = {
        f"batch_size ({settings.batch_size})": phase == "train" and settings.batch_size > 1,
        f"the resolution ({work.width} × {work.height})": True,
        f"rank ({settings.rank})": phase != "encode" and settings.rank > 1,
        "learning_rate_text_encoder, to 0": phase != "encode" and settings.learning_rate_text_encoder > 0,
        f"what the optimizer keeps (`optimizer: {'` or `'.join(LEAN)}`)": phase != "encode"
        and settings.optimizer not in LEAN,
    }
    return "; or ".join(name for name, helps in choices.items() if helps)


def counting(work: Workload, kept: Path | None) -> Count:
    """Counts from a dry run, made only when the file `kept` lacks one."""
    known: dict[str, Any] = (read_memo(kept) if kept else None) or {}
    made = cache(lambda: dry_run(work))

    def count(phase: str, *arguments: int) -> Any:
        name = json.dumps([phase, *arguments])
        if name not in known:
            known[name] = getattr(made(), phase)(*arguments)
            if kept:
                write_memo(kept, known)
        return known[name]

    return count


TILES = (1, 2, 4)


def _plans(count: Count, work: Workload, budget: int) -> Iterator[MemoryPlan]:
    """Yield the plans of `decide`: largest sample batch, fewest tiles that fit."""
    for phasing, checkpointing in ((False, False), (True, False), (True, True)):
        idle = {} if phasing else count("idle")
        room = {phase: budget - idle.get(phase, 0) for phase in ("encode", "train", "sample", "decode")}
        batches = list(_halved(work.sample_batch))
        batch = next((batch for batch in batches if count("sample", batch) <= room["sample"]), batches[-1])
        tiles = next((tiles for tiles in TILES if count("decode", tiles) <= room["decode"]), TILES[-1])
        peaks = {
            "encode": count("encode"),
            "train": count("train", checkpointing),
            "sample": count("sample", batch),
            "decode": count("decode", tiles),
        }
        yield MemoryPlan(
            phasing, checkpointing, tiles, batch, {phase: peak + idle.get(phase, 0) for phase, peak in peaks.items()}
        )


def _halved(number: int) -> Iterator[int]:
    while number > 1:
        yield number
        number //= 2
    yield 1


def stay_within(budget: int) -> None:
    """Limit PyTorch to `budget` bytes of the current GPU, less CONTEXT.

    Before torch.OutOfMemoryError, unused memory is freed, and convolutions use less.
    """
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(min(1.0, max(budget - CONTEXT, 0) / total))
