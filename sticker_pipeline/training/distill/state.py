"""State of a distillation to resume exactly: LoRA, optimizer and log.

Random choices are a function of (seed, step).
"""

from pathlib import Path

from sticker_pipeline.core.storage import content_hash
from sticker_pipeline.training.distill.spec import ConsistencySpec
from sticker_pipeline.training.distill.step import Distillation
from sticker_pipeline.training.saved_state import FOLDER, description_of, last_intact, read_state, write_state

VERSION = 1  # of the distillation as a function of its spec; raise it when equal specs learn differently


def fingerprint(spec: ConsistencySpec) -> str:
    """Hash of all that decides a distillation; it must match to resume."""
    places = {"output", "state_seconds", "base", "tuning", "settings"}
    tuning = spec.tuning.model_dump(mode="json", exclude={"start", "lora", "frames"}) if spec.tuning else None
    indifferent = {"tuning", "gradient_checkpointing", "measured_prompts", "measured_seeds"}
    settings = spec.settings.model_dump(mode="json", exclude=indifferent)
    return content_hash([VERSION, spec.model_dump(mode="json", exclude=places), tuning, settings])


def keep_state(run: Distillation) -> Path:
    """Write the state of `run`; return its folder."""
    final = run.spec.output / FOLDER / f"step_{len(run.log):07d}"
    return write_state(final, run.layers, run.optimizer, run.log, {"fingerprint": run.fingerprint}, {})


def find_state(spec: ConsistencySpec) -> Path | None:
    """Last state in the output folder, if of the same distillation."""
    folder = last_intact(spec.output / FOLDER)
    return folder if folder and description_of(folder)["fingerprint"] == fingerprint(spec) else None


def restore_state(run: Distillation, folder: Path) -> None:
    """Bring a new `run` to the state in `folder`."""
    run.log[:] = read_state(folder, run.spec.family, run.layers, run.optimizer)
