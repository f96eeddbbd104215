"""Base models of the true architectures with random weights, for where only size and shape count: speed and memory.

The architectures stand in training/architectures.py.
"""

from pathlib import Path
from typing import Any

from sticker_pipeline.storage import new_folder
from sticker_pipeline.training.architectures import CONFIGS, build, write_config_folder

DIFFUSERS_FILE, TRANSFORMERS_FILE = "diffusion_pytorch_model.safetensors", "model.safetensors"


def true_base(family: str, folder: Path) -> Path:
    """Write a diffusers folder of `family` with float16 weights to `folder` (sd15: 2.1 GB, sdxl: 6.9 GB).

    Returns `folder`, which is left alone where it exists. Equal calls give equal weights.
    """
    if folder.is_dir():
        return folder
    with new_folder(folder) as staging:
        staging.rmdir()
        write_config_folder(family, staging)
        for seed, part in enumerate(part for part in CONFIGS[family] if part != "scheduler"):
            _write_weights(family, part, seed, staging / part)
    return folder


def _write_weights(family: str, part: str, seed: int, folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build(family, part)
    state = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    if part.startswith("text_encoder"):
        save_file(_with_prefix(state), folder / TRANSFORMERS_FILE, {"format": "pt"})
    else:
        save_file(state, folder / DIFFUSERS_FILE, {"format": "pt"})


def _with_prefix(state: dict[str, Any]) -> dict[str, Any]:
    """A text encoder's tensors under their published names: transformers before 5.6 (sd-scripts') knows no others."""
    known = ("text_model.", "text_projection.")
    return {name if name.startswith(known) else f"text_model.{name}": tensor for name, tensor in state.items()}
