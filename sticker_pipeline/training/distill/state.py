"""State of a distillation to resume exactly: LoRA, optimizer and log.

Random choices are a function of (seed, step).
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load, save_file

from sticker_pipeline.core.caching import seal_folder
from sticker_pipeline.core.storage import content_hash, discard, durable_folder
from sticker_pipeline.diffusion.lora.file import LoraFile, read_lora, write_lora
from sticker_pipeline.training.adapters import adapters_of, load_adapters
from sticker_pipeline.training.distill.spec import ConsistencySpec
from sticker_pipeline.training.distill.step import Distillation
from sticker_pipeline.training.logs.log import log_rows, raw_table
from sticker_pipeline.training.optimizers import load_optimizer_state, optimizer_state
from sticker_pipeline.training.state import FOLDER, last_intact

VERSION = 1  # of the distillation as a function of its spec; raise it when equal specs learn differently


def fingerprint(spec: ConsistencySpec) -> str:
    """Hash of all that decides a distillation; it must match to resume."""
    places = {"output", "state_seconds", "base", "tuning", "settings"}
    tuning = spec.tuning.model_dump(mode="json", exclude={"start", "lora", "frames"}) if spec.tuning else None
    indifferent = {"tuning", "gradient_checkpointing", "measured_prompts", "measured_seeds"}
    settings = spec.settings.model_dump(mode="json", exclude=indifferent)
    return content_hash([VERSION, spec.model_dump(mode="json", exclude=places), tuning, settings])


def keep_state(run: Distillation) -> Path:
    """Write the state of `run`, then remove the previous: one is always whole."""
    folder = run.spec.output / FOLDER
    final = folder / f"step_{len(run.log):07d}"
    if final.is_dir():
        return final  # equal: nothing happens between two states of the same step
    tensors, rest = optimizer_state(run.optimizer)
    with durable_folder(final) as staging:
        write_lora(staging / "lora.safetensors", LoraFile(adapters_of(run.layers)), "float32")
        save_file(tensors, staging / "optimizer.safetensors")
        raw_table(run.log).to_parquet(staging / "log.parquet", index=False)
        description = {"fingerprint": run.fingerprint, "optimizer": rest, "threads": torch.get_num_threads()}
        (staging / "state.json").write_text(json.dumps(description), encoding="utf-8")
        seal_folder(staging)
    for other in folder.iterdir():
        if other != final:
            discard(other)
    return final


def find_state(spec: ConsistencySpec) -> Path | None:
    """Last state in the output folder, if of the same distillation."""
    folder = last_intact(spec.output / FOLDER)
    return folder if folder and _description(folder)["fingerprint"] == fingerprint(spec) else None


def restore_state(run: Distillation, folder: Path) -> None:
    """Bring a new `run` to the state in `folder`."""
    load_adapters(run.layers, read_lora(folder / "lora.safetensors", run.spec.family).adapters)
    # In own memory: the next state removes the file.
    tensors = load((folder / "optimizer.safetensors").read_bytes())
    load_optimizer_state(run.optimizer, tensors, _description(folder)["optimizer"])
    run.log[:] = log_rows(pd.read_parquet(folder / "log.parquet"))


def _description(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "state.json").read_text(encoding="utf-8")))
