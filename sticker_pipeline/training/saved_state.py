"""States that resume a training or distillation exactly: LoRA, optimizer, log, description."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load, save_file

from sticker_pipeline.core.caching import intact_folder, seal_folder
from sticker_pipeline.core.storage import discard, durable_folder
from sticker_pipeline.diffusion.lora.file import LoraFile, read_lora, write_lora
from sticker_pipeline.training.adapters import adapters_of, load_adapters
from sticker_pipeline.training.logs.log import LogRow, log_rows, raw_table
from sticker_pipeline.training.optimizers import load_optimizer_state, optimizer_state

FOLDER = "state"  # in the output folder


def write_state(
    final: Path,
    layers: dict[str, Any],
    optimizer: torch.optim.Optimizer,
    log: Sequence[LogRow],
    description: Mapping[str, Any],
    more: Mapping[str, dict[str, torch.Tensor]],
) -> Path:
    """Write state `final`, then remove those beside it: one is always whole.

    A state that is there is equal, and stays. `description`: content of state.json, plus the optimizer's values and the
    number of CPU threads. `more`: file name -> tensors.
    """
    if final.is_dir():
        return final
    tensors, rest = optimizer_state(optimizer)
    with durable_folder(final) as staging:
        write_lora(staging / "lora.safetensors", LoraFile(adapters_of(layers)), "float32")
        for name, values in {"optimizer.safetensors": tensors, **more}.items():
            save_file(values, staging / name)
        raw_table(list(log)).to_parquet(staging / "log.parquet", index=False)
        content = {**description, "optimizer": rest, "threads": torch.get_num_threads()}
        (staging / "state.json").write_text(json.dumps(content), encoding="utf-8")
        seal_folder(staging)
    for other in final.parent.iterdir():
        if other != final:
            discard(other)
    return final


def read_state(folder: Path, family: str, layers: dict[str, Any], optimizer: torch.optim.Optimizer) -> list[LogRow]:
    """Bring LoRA and optimizer to the state in `folder`; return its log."""
    load_adapters(layers, read_lora(folder / "lora.safetensors", family).adapters)
    load_optimizer_state(optimizer, tensors_of(folder / "optimizer.safetensors"), description_of(folder)["optimizer"])
    return log_rows(pd.read_parquet(folder / "log.parquet"))


def last_intact(states: Path) -> Path | None:
    """Last state in the folder whose files match their checksums.

    Damaged ones after it are logged and removed.
    """
    return next((folder for folder in sorted(states.glob("step_*"), reverse=True) if intact_folder(folder)), None)


def take_threads(folder: Path) -> None:
    """Set the CPU threads to those of the state, before any computation.

    Other numbers change PyTorch's rounding.
    """
    if not torch.cuda.is_available():
        torch.set_num_threads(description_of(folder).get("threads", torch.get_num_threads()))


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    """Copies of a file's tensors: the next state removes the file."""
    return load(path.read_bytes())


def description_of(folder: Path) -> dict[str, Any]:
    """Content of a state's state.json."""
    return dict(json.loads((folder / "state.json").read_text(encoding="utf-8")))


def periodically(action: Callable[[], object], seconds: float) -> Callable[[], None]:
    """Return a function that calls `action` if `seconds` have passed since it last ended."""
    due = time.monotonic() + seconds

    def act() -> None:
        nonlocal due
        if time.monotonic() >= due:
            action()
            due = time.monotonic() + seconds

    return act
