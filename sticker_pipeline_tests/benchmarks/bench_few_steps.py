"""Time of an LCM-LoRA's distillation, and time that its few steps save: `python -m …benchmarks.bench_few_steps`.

On a CUDA machine with bases of the true architectures and random weights, kept in `--work`: their images are noise, and
only seconds and memory count. Without one, the embedded base. The distillation has the profile's settings, except for
fewer images and steps: a few are enough to time one.
"""

import argparse
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

from sticker_pipeline.core.profile import Profile, load_profile
from sticker_pipeline.generation.few_steps import FEW, MANY, compared_configs
from sticker_pipeline.generation.generate import pipelines, with_loras
from sticker_pipeline.generation.prompts import Request
from sticker_pipeline.generation.timing import seconds_per_image
from sticker_pipeline.training.distill.spec import ConsistencySpec
from sticker_pipeline.training.distill.train import distil
from sticker_pipeline.training.logs.progress import Progress
from sticker_pipeline.training.memory.dry_run import GIB
from sticker_pipeline_tests.benchmarks.true_base import true_base

MODELS = Path(__file__).resolve().parents[2] / "data" / "models"
PROMPT = "1girl, solo, short hair, smile, white background"
STEPS, WARM_UP, IMAGES = 14, 4, 4
BATCH = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(".build/bench_training"), help="base models are kept here")
    parser.add_argument("--only", default="", help="the profile with this in its name")
    arguments = parser.parse_args()
    cuda = torch.cuda.is_available()
    print(f"PyTorch {torch.__version__} on {torch.cuda.get_device_name() if cuda else 'a CPU'}")
    for name in ("sd15", "sdxl") if cuda else ("embedded",):
        if arguments.only not in name:
            continue
        profile = load_profile(name, MODELS)
        if cuda:
            profile = profile.model_copy(update={"base": true_base(profile.family, arguments.work / profile.family)})
        with tempfile.TemporaryDirectory() as temporary:
            lora = _distillation(profile, Path(temporary))
            _generation(profile, lora)
    if not cuda:
        print("\nOpen: the figures of a GPU; there is no CUDA device here.")


def _distillation(profile: Profile, folder: Path) -> Path:
    settings = profile.lcm.model_copy(update={"steps": STEPS, "images": IMAGES})
    spec = ConsistencySpec(
        name="bench",
        family=profile.family,
        base=profile.base,
        base_sha="",
        output=folder,
        resolution=profile.resolution,
        prompts=[f"{PROMPT}, {number}" for number in range(IMAGES)],
        settings=settings,
        generation=profile.generation.model_copy(update={"steps": 2, "batch_size": IMAGES}),
    )
    began = time.perf_counter()
    lora = distil(spec, Progress(lambda line: None))
    took = time.perf_counter() - began
    log = pd.read_parquet(folder / "log.parquet")
    seconds, memory = log["seconds"][WARM_UP:].median(), log["memory_bytes"].max() / GIB
    print(f"\n{profile.name}, {profile.resolution} px, batch {settings.batch_size}, rank {settings.rank}:")
    print(
        f"  a step of the distillation {seconds:.3f} s, so {profile.lcm.steps} steps "
        f"{profile.lcm.steps * seconds:.0f} s"
    )
    print(f"  PyTorch's memory at most {memory:.2f} GiB; all of this took {took:.0f} s", flush=True)
    return lora


def _generation(profile: Profile, lora: Path) -> None:
    opened = pipelines(profile)
    requests = [Request("sticker", PROMPT, seed) for seed in range(BATCH)]
    configs = {each.name: each for each in compared_configs(profile.generation, "base", [], {"LCM-LoRA": lora})}
    seconds = {}
    for name in (f"base, steps: {MANY}", f"base, steps: {FEW}", f"LCM-LoRA, steps: {FEW}"):
        config = configs[name]
        settings = config.settings.model_copy(update={"batch_size": BATCH})
        with with_loras(opened(settings.scheduler), config.loras) as model:
            seconds[name] = seconds_per_image(model, requests, settings, profile.resolution)
    for name, taken in seconds.items():
        times = seconds[f"base, steps: {MANY}"] / taken
        print(f"  {name}, CFG {configs[name].settings.guidance_scale:g}: ", end="")
        print(f"{taken:.3f} s/image, {times:.1f} times as fast", flush=True)


if __name__ == "__main__":
    main()
