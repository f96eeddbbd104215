"""State of a training to resume exactly: weights, optimizer, average, log.

Random choices are a function of (seed, step), the schedule of the step.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from sticker_pipeline.core.caching import file_checksum, remove_damaged
from sticker_pipeline.core.storage import content_hash
from sticker_pipeline.training import ema
from sticker_pipeline.training.saved_state import (
    FOLDER,
    description_of,
    last_intact,
    read_state,
    tensors_of,
    write_state,
)
from sticker_pipeline.training.spec import TrainingSpec
from sticker_pipeline.training.step import Run

AVERAGE = "average.safetensors"  # moving average of the weights
VERSION = 2  # of the training as a function of its spec and images; raise it when equal input trains differently
NOT_DECISIVE = {
    *("output", "cache", "frames", "training_set", "training_set_sha256"),
    *("state_seconds", "sample_prompts", "sample_seed"),
}


def fingerprint(spec: TrainingSpec, tables: Sequence[pd.DataFrame], images: list[str], processes: int) -> str:
    """Hash of all that decides a training; it must match to resume.

    The spec, the rows of all `tables` (one per split), the hashes of the trained `images`, the number of processes.
    """
    decisive = spec.model_dump(mode="json", exclude=NOT_DECISIVE)
    rows = [table.drop(columns="path").to_json(orient="split", double_precision=15) for table in tables]
    return content_hash([VERSION, decisive, rows, images, processes])


def keep_state(run: Run) -> Path:
    """Write the state of `run`; return its folder."""
    history, scaler = run.history, run.accelerator.scaler
    description = {
        "fingerprint": run.fingerprint,
        "epochs_done": history.epochs_done,
        "holdout": history.validation,
        "epochs": _epochs(run.spec.output),
        "scaler": scaler.state_dict() if scaler else None,
    }
    # Only an epoch's end lies between two states of the same step.
    final = run.spec.output / FOLDER / f"step_{len(history.log):07d}_epoch_{history.epochs_done:04d}"
    more = {AVERAGE: ema.average_tensors(run.average)} if run.average else {}
    return write_state(final, run.layers, run.optimizer.optimizer, history.log, description, more)


def find_state(spec: TrainingSpec, wanted: str) -> Path | None:
    """Last whole state in the output folder, if its fingerprint is `wanted`.

    None, and the state is removed, where an earlier epoch's checkpoint has changed.
    """
    folder = last_intact(spec.output / FOLDER)
    if folder is None or (found := description_of(folder))["fingerprint"] != wanted:
        return None
    if found["epochs"] != {name: value for name, value in _epochs(spec.output).items() if name in found["epochs"]}:
        remove_damaged(folder, "a checkpoint of an epoch before it is not what was written")
        return None
    return folder


def _epochs(output: Path) -> dict[str, int]:
    """Checksums of the epochs' checkpoints, which a resumed training keeps."""
    paths = [path for path in sorted(output.glob("checkpoints/epoch_*.safetensors")) if path.is_file()]
    return {path.name: file_checksum(path) for path in paths}


def restore_state(run: Run, folder: Path) -> None:
    """Bring a new `run` to the state in `folder`."""
    description, history = description_of(folder), run.history
    history.log[:] = read_state(folder, run.spec.family, run.layers, run.optimizer.optimizer)
    if run.average:
        ema.load_average(run.average, tensors_of(folder / AVERAGE))
    if run.accelerator.scaler:
        run.accelerator.scaler.load_state_dict(description["scaler"])
    history.validation[:] = description["holdout"]
    history.epochs_done = description["epochs_done"]
