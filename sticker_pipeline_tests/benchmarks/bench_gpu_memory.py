"""GPU memory of LoRA training within a budget: what the dry run predicts and, on a CUDA machine, what a training of the
true architecture with random weights takes under its plan. Fails where a measured peak exceeds its budget.

Run: python -m sticker_pipeline_tests.benchmarks.bench_gpu_memory
"""

import time
from collections.abc import Callable
from typing import Any

import torch

from sticker_pipeline.settings import TrainingSettings
from sticker_pipeline.training.memory import (
    GIB,
    RESERVE,
    DryRun,
    MemoryPlan,
    Workload,
    decide,
    meta_models,
    tile_vae,
    true_parts,
)
from sticker_pipeline.training.optimizers import make_optimizer
from sticker_pipeline_tests.training.plain_adapters import plain_adapters

CASES = [  # family, side in pixels, rank, budget in GiB
    ("sd15", 512, 16, 4.0),
    ("sd15", 512, 32, 4.0),
    ("sdxl", 1024, 16, 8.0),
    ("sdxl", 1024, 32, 8.0),
]
STEPS = 3  # the second and later ones have the optimizer's state beside them


def main() -> int:
    cuda = torch.cuda.is_available()
    print(f"on {torch.cuda.get_device_name() if cuda else 'no GPU'}; GiB; a prediction includes a reserve of", end=" ")
    print(f"{sum(RESERVE.values()) / GIB:.2f} for the CUDA context and workspaces. Batch 1, text encoders not trained.")
    missed = 0
    for family, side, rank, budget in CASES:
        work = workload(family, side, rank)
        began = time.perf_counter()
        plan = decide(int(budget * GIB), work)
        print(f"\n{family} {side} px, rank {rank}, budget {budget}: decided in {time.perf_counter() - began:.0f} s:")
        print(f"  phasing {plan.phasing}, gradient checkpointing {plan.gradient_checkpointing}, ", end="")
        print(f"VAE tiles {plan.vae_tiling}, {plan.sample_batch} samples at once")
        measured = measure(work, plan) if cuda else {}
        for phase, predicted in plan.peak_bytes.items():
            line = f"  {phase:8} predicted {predicted / GIB:5.2f}"
            if phase in measured:
                allocated, reserved, used = measured[phase]
                missed += reserved > budget * GIB
                line += f"   allocated {allocated / GIB:5.2f}   reserved {reserved / GIB:5.2f}"
                line += f"   in use on the GPU, context included {used / GIB:5.2f}"
            print(line)
    if not cuda:
        print("\nNo CUDA device here: these are predictions; the figures of a GPU are open.")
    return int(missed > 0)


def workload(family: str, side: int, rank: int) -> Workload:
    return Workload(
        parts=true_parts(family),
        family=family,
        settings=TrainingSettings(rank=rank, learning_rate_text_encoder=0.0),
        adapt=plain_adapters(rank),
        width=side,
        height=side,
        dtype=torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float16,
        autocast=True,
        sample_batch=4,
    )


def measure(work: Workload, plan: MemoryPlan) -> dict[str, tuple[int, int, int]]:
    """Each phase for real, under `plan`: the most that was allocated and reserved, and what is in use on the GPU."""
    unet, vae, *encoders = (with_weights(model) for model in meta_models(work))
    run = DryRun(work, torch.device("cuda"), unet, vae, tuple(encoders))
    found = {}
    with torch.device("cuda"):
        place(vae, [unet, *encoders], plan)
        with torch.no_grad():
            found["encode"] = taken(run.encoding_step)
        place(unet, [vae, *encoders], plan)
        if plan.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        group = {"name": "unet", "params": run.trained, "peak": work.settings.learning_rate_unet}
        optimizer = make_optimizer(work.settings, [group])

        def train() -> None:
            for _ in range(STEPS):
                run.training_step()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

        found["train"] = taken(train)
        with torch.no_grad():
            found["sample"] = taken(lambda: run.sampling_step(plan.sample_batch))
            vae.to("cuda")
            if plan.vae_tiling:
                tile_vae(vae, work.width, work.height)
            found["decode"] = taken(run.decoding_step)
    return found


def with_weights(model: Any) -> Any:
    """`model` from the meta device with random weights, in the CPU's memory."""
    model.to_empty(device="cpu")
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.02)
    return model


def place(needed: Any, others: list[Any], plan: MemoryPlan) -> None:
    for model in others:
        model.to("cpu" if plan.phasing else "cuda")
    needed.to("cuda")


def taken(step: Callable[[], object]) -> tuple[int, int, int]:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()  # what nvidia-smi shows, other processes included
    return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved(), total - free


if __name__ == "__main__":
    raise SystemExit(main())
