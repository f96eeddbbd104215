"""Measured seconds per image; a grid's images are mostly cached, untimed.

Time depends on machine, steps, guidance (it doubles U-Net calls) and sampler; LoRAs are merged into the weights and
cost nothing. So a few batches are timed per combination and kept.
"""

import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sticker_pipeline.core.caching import read_memo, write_memo
from sticker_pipeline.core.settings import GenerationSettings
from sticker_pipeline.core.storage import content_hash
from sticker_pipeline.generation.generate import Model, generate
from sticker_pipeline.generation.prompts import Request

BATCHES = 3


def machine() -> dict[str, Any]:
    """The machine's name, GPU, threads and PyTorch version."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"name": platform.node(), "gpu": gpu, "threads": torch.get_num_threads(), "torch": torch.__version__}


def seconds_per_image(
    model: Model, requests: Sequence[Request], settings: GenerationSettings, resolution: int
) -> float:
    """Wall-clock seconds per image of a batch, from prompts to pixels.

    `requests` are repeated to fill a batch. One image warms up. The fastest of BATCHES counts: other work on the
    machine only slows a batch down.
    """
    batch = [requests[number % len(requests)] for number in range(settings.batch_size)]
    list(generate(model, batch[:1], settings, resolution))
    seconds = []
    for _ in range(BATCHES):
        start = time.perf_counter()
        list(generate(model, batch, settings, resolution))
        seconds.append(time.perf_counter() - start)
    return min(seconds) / len(batch)


def kept_seconds(
    base: str, settings: GenerationSettings, resolution: int, cache: Path, measure: Callable[[], float]
) -> float:
    """Seconds per image from `cache`, which may be deleted, or from `measure`.

    `base`: hash of the base model's files.
    """
    decided = {
        "base": base,
        "machine": machine(),
        "steps": settings.steps,
        "guided": settings.guidance_scale > 1,
        "scheduler": settings.scheduler,
        "batch_size": settings.batch_size,
        "resolution": resolution,
    }
    path = cache / f"{content_hash(decided)}.json"
    known = read_memo(path)
    if known is not None:
        return float(known["seconds"])
    seconds = measure()
    write_memo(path, {**decided, "seconds": seconds})
    return seconds
