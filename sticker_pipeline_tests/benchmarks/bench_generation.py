"""Images per second of the embedded base model, by batch size.

python sticker_pipeline_tests/benchmarks/bench_generation.py
"""

import os
import time
from pathlib import Path

from sticker_pipeline.core.profile import load_profile
from sticker_pipeline.generation.generate import generate, open_pipeline, without_loras
from sticker_pipeline.generation.prompts import Request

IMAGES = 16


def main() -> None:
    import torch

    profile = load_profile("embedded", Path(os.environ.get("STICKER_MODELS", "data/models")))
    start = time.perf_counter()
    pipeline = open_pipeline(profile)
    print(f"opened {profile.base.name} in {time.perf_counter() - start:.1f} s, {torch.get_num_threads()} threads")
    requests = [Request("sticker", "chibi, smile, sticker", seed) for seed in range(IMAGES)]
    for batch_size in (1, 4, 16):
        settings = profile.generation.model_copy(update={"batch_size": batch_size})
        start = time.perf_counter()
        for _ in generate(without_loras(pipeline), requests, settings, profile.resolution):
            pass
        speed = IMAGES / (time.perf_counter() - start)
        print(f"batch {batch_size:2}: {speed:6.2f} images/s ({settings.steps} steps, {profile.resolution} px)")


if __name__ == "__main__":
    main()
