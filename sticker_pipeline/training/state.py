"""State of a training to resume exactly: weights, optimizer, average, log.

Random choices are a function of (seed, step), the schedule of the step.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load, save_file

from sticker_pipeline.core.caching import file_checksum, intact_folder, remove_damaged, seal_folder
from sticker_pipeline.core.storage import content_hash, discard, durable_folder
from sticker_pipeline.diffusion.lora.file import LoraFile, read_lora, write_lora
from sticker_pipeline.training import ema
from sticker_pipeline.training.adapters import adapters_of, load_adapters
from sticker_pipeline.training.logs.log import LogRow, log_rows, raw_table
from sticker_pipeline.training.optimizers import load_optimizer_state, optimizer_state
from sticker_pipeline.training.spec import TrainingSpec
from sticker_pipeline.training.step import History, Run

FOLDER = "state"
VERSION = 2  # of the training as a function of its spec and images; raise it when equal input trains differently
NOT_DECISIVE = {"output", "cache", "frames", "training_set", "state_seconds", "sample_prompts", "sample_seed"}


def fingerprint(spec: TrainingSpec, tables: Sequence[pd.DataFrame], images: list[str], processes: int) -> str:
    """Hash of all that decides a training; it must match to resume.

    The spec, the rows of all `tables` (one per split), the hashes of the trained `images`, the number of processes.
    """
    decisive = spec.model_dump(mode="json", exclude=NOT_DECISIVE)
    rows = [table.drop(columns="path").to_json(orient="split", double_precision=15) for table in tables]
    return content_hash([VERSION, decisive, rows, images, processes])


def keep_state(run: Run) -> Path:
    """Write the state of `run`, then remove the previous: one is always whole."""
    folder = run.spec.output / FOLDER
    # Only an epoch's end lies between two states of the same step.
    final = folder / f"step_{len(run.history.log):07d}_epoch_{run.history.epochs_done:04d}"
    if final.is_dir():
        return final
    tensors, rest = optimizer_state(run.optimizer.optimizer)
    scaler = run.accelerator.scaler
    description = {
        "fingerprint": run.fingerprint,
        "epochs_done": run.history.epochs_done,
        "holdout": run.history.validation,
        "epochs": _epochs(run.spec.output),
        "threads": torch.get_num_threads(),
        "optimizer": rest,
        "scaler": scaler.state_dict() if scaler else None,
    }
    with durable_folder(final) as staging:
        write_lora(staging / "lora.safetensors", LoraFile(adapters_of(run.layers)), "float32")
        save_file(tensors, staging / "optimizer.safetensors")
        if run.average:
            save_file(ema.average_tensors(run.average), staging / "average.safetensors")
        raw_table(run.history.log).to_parquet(staging / "log.parquet", index=False)
        (staging / "state.json").write_text(json.dumps(description), encoding="utf-8")
        seal_folder(staging)
    for other in folder.iterdir():
        if other != final:
            discard(other)
    return final


def find_state(spec: TrainingSpec, wanted: str) -> Path | None:
    """Last whole state in the output folder, if its fingerprint is `wanted`.

    None, and the state is removed, where an earlier epoch's checkpoint has changed.
    """
    folder = last_intact(spec.output / FOLDER)
    if folder is None or (found := _description(folder))["fingerprint"] != wanted:
        return None
    if found["epochs"] != {name: value for name, value in _epochs(spec.output).items() if name in found["epochs"]}:
        remove_damaged(folder, "a checkpoint of an epoch before it is not what was written")
        return None
    return folder


def _epochs(output: Path) -> dict[str, int]:
    """Checksums of the epochs' checkpoints, which a resumed training keeps."""
    paths = [path for path in sorted(output.glob("checkpoints/epoch_*.safetensors")) if path.is_file()]
    return {path.name: file_checksum(path) for path in paths}


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
        torch.set_num_threads(_description(folder).get("threads", torch.get_num_threads()))


def restore_state(run: Run, folder: Path) -> None:
    """Bring a new `run` to the state in `folder`."""
    description = _description(folder)
    load_adapters(run.layers, read_lora(folder / "lora.safetensors", run.spec.family).adapters)
    load_optimizer_state(run.optimizer.optimizer, _tensors(folder / "optimizer.safetensors"), description["optimizer"])
    if run.average:
        ema.load_average(run.average, _tensors(folder / "average.safetensors"))
    if run.accelerator.scaler:
        run.accelerator.scaler.load_state_dict(description["scaler"])
    history: History = run.history
    log: list[LogRow] = log_rows(pd.read_parquet(folder / "log.parquet"))
    history.log[:] = log
    history.validation[:] = description["holdout"]
    history.epochs_done = description["epochs_done"]


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a file, in own memory: the next state removes the file."""
    return load(path.read_bytes())


def _description(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "state.json").read_text(encoding="utf-8")))
