"""A LoRA of the true architecture: trained for two steps on random weights; its file is matched key by key.

The expected keys and shapes are those of sd-scripts (../diffusion/lora/expected_keys.py).
../diffusion/lora/test_clients.py tests that ComfyUI, A1111 and diffusers find each of them. Fails if a key or a shape
differs.

Run: python -m sticker_pipeline_tests.benchmarks.bench_true_lora [sd15 or sdxl; SDXL takes 12 GB of memory]
"""

import sys
import tempfile
import time
from pathlib import Path

from safetensors import safe_open

from sticker_pipeline.training.logs.progress import Progress
from sticker_pipeline.training.train import train
from sticker_pipeline_tests.benchmarks.trainers import RANK, Work, our_spec, write_images
from sticker_pipeline_tests.benchmarks.true_base import true_base
from sticker_pipeline_tests.diffusion.lora.expected_keys import Expected, read

BASES = Path(".build/bench_training")
SIDE = 64  # pixels


def main(family: str) -> int:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_images(folder / "images", SIDE)
        work = Work(family, true_base(family, BASES / family), SIDE, 1, "all", "bfloat16")  # type: ignore[arg-type]
        spec = our_spec(work, folder / "images", folder / "out", steps=2, learning_rate_text_encoder=1e-5)
        with safe_open(train(spec, Progress(print)), "pt") as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    wanted = {name: shape for one in read(family) if one.targets != "all+conv" for name, shape in tensors(one).items()}
    wrong = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    print(
        f"{family}: {len(found)} tensors of {len(found) // 3} modules, {len(wanted)} expected, {len(wrong)} differ",
        end="",
    )
    print(f"; {time.perf_counter() - began:.0f} s\n" + "\n".join(wrong))
    return int(bool(wrong))


def tensors(module: Expected) -> dict[str, tuple[int, ...]]:
    """The tensors of a LoRA of rank RANK for `module`, by name."""
    out, into, *kernel = module.shape
    return {
        f"{module.key}.lora_down.weight": (RANK, into, *kernel),
        f"{module.key}.lora_up.weight": (out, RANK, *[1 for _ in kernel]),
        f"{module.key}.alpha": (),
    }


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:] or ["sd15"]))
