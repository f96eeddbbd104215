"""How long an image takes to draw, measured: images of a sweep mostly come from the cache, and say nothing of it.

What decides the time is the machine, the number of steps, whether there is guidance (it runs the U-Net twice) and the
sampler; weights of LoRAs are added to the model's, and cost nothing while it draws. So a few batches are drawn
for each combination of these, and the time is kept beside them.
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
    """What draws: which machine, with its GPU or with how many threads."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"name": platform.node(), "gpu": gpu, "threads": torch.get_num_threads(), "torch": torch.__version__}


def seconds_per_image(
    model: Model, requests: Sequence[Request], settings: GenerationSettings, resolution: int
) -> float:
    """Wall-clock seconds of a batch of `settings.batch_size` images over their number, from prompts to pixels.

    `requests` are repeated to fill the batch. One image is drawn before the clock starts; of BATCHES the fastest
    counts, since whatever else the machine does makes a batch slower and never faster.
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
    """The seconds of an image with `settings`: measured once on each machine, then from the folder `cache`, which may
    be deleted. `base`: hash of the base model's files."""
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
