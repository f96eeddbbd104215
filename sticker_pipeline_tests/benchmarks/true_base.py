"""Base models of the true architectures with random weights, where only size and shape count: speed and memory.

Written once per folder, as diffusers reads them. The architectures stand in training/architectures.py.
"""

from pathlib import Path
from typing import Any

from sticker_pipeline.storage import new_folder
from sticker_pipeline.training.architectures import CONFIGS, build, write_config_folder

WEIGHT_FILES = {"unet": "diffusion_pytorch_model.safetensors", "vae": "diffusion_pytorch_model.safetensors"}


def true_base(family: str, folder: Path) -> Path:
    """Write a diffusers folder of `family` ("sd15": 2.1 GB, "sdxl": 6.9 GB) with float16 weights to `folder`.

    Returns `folder`, which is left alone where it exists. Equal calls give equal weights.
    """
    if folder.is_dir():
        return folder
    with new_folder(folder) as staging:
        write_config_folder(family, staging / "whole")
        for path in (staging / "whole").iterdir():
            path.rename(staging / path.name)
        (staging / "whole").rmdir()
        for number, part in enumerate(part for part in CONFIGS[family] if part != "scheduler"):
            _write_weights(family, part, number, staging)
    return folder


def _write_weights(family: str, part: str, seed: int, folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build(family, part)
    state = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    if part not in WEIGHT_FILES:
        state = _with_prefix(state)
    save_file(state, folder / part / WEIGHT_FILES.get(part, "model.safetensors"), {"format": "pt"})


def _with_prefix(state: dict[str, Any]) -> dict[str, Any]:
    """The text encoder's tensors under their published names: transformers before 5.6 (sd-scripts) knows no others."""
    known = ("text_model.", "text_projection.")
    return {name if name.startswith(known) else f"text_model.{name}": tensor for name, tensor in state.items()}
