"""Base models of the true architectures with random weights, for tests of speed and memory.

diffusion/architectures.py has the architectures.
"""

import json
from pathlib import Path
from typing import Any

from sticker_pipeline.core.storage import new_folder
from sticker_pipeline.diffusion.architectures import CONFIGS, build, write_config_folder

DIFFUSERS_FILE, TRANSFORMERS_FILE = "diffusion_pytorch_model.safetensors", "model.safetensors"


def true_base(family: str, folder: Path) -> Path:
    """Write a diffusers folder of `family` with float16 weights to `folder` (sd15: 2.1 GB, sdxl: 6.9 GB).

    Returns `folder`, which is left alone where it exists. On one kind of device, equal calls give equal weights.
    """
    if folder.is_dir():
        return folder
    with new_folder(folder) as staging:
        staging.rmdir()
        write_config_folder(family, staging)
        for seed, part in enumerate(part for part in CONFIGS[family] if part != "scheduler"):
            _write_weights(family, part, seed, staging / part)
        for tokenizer in staging.glob("tokenizer*"):
            _write_published_vocabulary(tokenizer)
    return folder


def _write_weights(family: str, part: str, seed: int, folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    with torch.random.fork_rng(), torch.device("cuda" if torch.cuda.is_available() else "cpu"):
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


def _write_published_vocabulary(folder: Path) -> None:
    """vocab.json and merges.txt beside tokenizer.json, as published: transformers before 5 (sd-scripts') needs them."""
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(pairs) + "\n", encoding="utf-8")
