"""The training: set up → loop → save, without Dagster.

On several GPUs every process runs it (torchrun or `accelerate launch`); the first one writes.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from sticker_pipeline.core.files.space import writing
from sticker_pipeline.core.storage import atomic_file
from sticker_pipeline.core.texts import counted
from sticker_pipeline.diffusion.lora.file import LoraFile, with_one_alpha, write_lora
from sticker_pipeline.training import ema
from sticker_pipeline.training.accel.cuda_graph import forget
from sticker_pipeline.training.adapters import adapters_of
from sticker_pipeline.training.backward import in_use
from sticker_pipeline.training.data import Step
from sticker_pipeline.training.logs.log import state, write_log
from sticker_pipeline.training.logs.progress import Progress
from sticker_pipeline.training.logs.tables import LOG, VALIDATION_LOSS
from sticker_pipeline.training.logs.tensorboard import FOLDER as BOARD
from sticker_pipeline.training.logs.tensorboard import Board, open_board
from sticker_pipeline.training.lora_metadata import lora_metadata
from sticker_pipeline.training.samples import sample_images
from sticker_pipeline.training.saved_state import periodically
from sticker_pipeline.training.setup import Prepared, set_up
from sticker_pipeline.training.spec import TrainingSpec
from sticker_pipeline.training.state import keep_state
from sticker_pipeline.training.step import Run, check_exploding, training_step
from sticker_pipeline.training.stopping import NOTHING_LEARNED, Interrupted, StopRequest
from sticker_pipeline.training.validation_loss import validation_rows, write_validation_losses


def train(spec: TrainingSpec, progress: Progress, stop: StopRequest = lambda: None) -> Path:
    """Train the LoRA that `spec` describes; return its last epoch's checkpoint.

    Writes to spec.output: spec.json, memory.json, log.parquet, validation_loss.parquet,
    checkpoints/epoch_NN.safetensors, samples/epoch_NN_k.png, tensorboard/, state/. Resumes an unfinished training in
    state/ with the same spec and images, with the result of an uninterrupted one: bit for bit on a CPU.

    Raises SpecError or BaseModelError before any long work; TrainingDiverged when the loss is not finite or explodes;
    SpaceError when a file cannot be written; Interrupted when `stop` asks to end, after saving
    checkpoints/interrupted_step_NNNN.safetensors (nothing before the first step).
    """
    prepared = set_up(spec, progress, stop)
    run, history = prepared.run, prepared.run.history
    board_folder = spec.output / BOARD if run.accelerator.is_main_process else None
    keep_at_times = periodically(partial(keep, run), spec.state_seconds)
    checkpoint = checkpoint_path(run, f"epoch_{spec.settings.epochs:02d}")
    with open_board(board_folder, len(history.log)) as board:
        try:
            if not history.validation:
                with in_use(*run.weights.values()):
                    rows = validation_rows(run, prepared.probes, 0, prepared.memory.sample_batch)
                note_validation_losses(run, board, rows)
            for epoch in range(history.epochs_done + 1, spec.settings.epochs + 1):
                steps = steps_left(run, epoch)
                for batches, upcoming in zip_longest(steps, steps[1:]):
                    stop_if_asked(run, stop)
                    row = training_step(run, batches, epoch, upcoming)
                    history.log.append(row)
                    board.step(row)
                    check_exploding(run)
                    progress.show(state(history.log, run.plan.total_steps, spec.settings.epochs))
                    keep_at_times()
                end_epoch(prepared, board, progress, stop, epoch)
        finally:
            keep_logs(run)
    return checkpoint


def steps_left(run: Run, epoch: int) -> list[Step]:
    """Steps of `epoch` (from 1) not in the log yet."""
    done = len(run.history.log) - sum(run.plan.lengths[: epoch - 1])
    return run.plan.epoch(epoch - 1)[done:]


def end_epoch(prepared: Prepared, board: Board, progress: Progress, stop: StopRequest, epoch: int) -> None:
    """Write an epoch's checkpoint, fixed-image losses, samples, then a state.

    If stopped before the last sample, an epoch is ended again, whole.
    """
    run, history = prepared.run, prepared.run.history
    forget(run.recordings)
    with averaged(run):
        save(run, f"epoch_{epoch:02d}", epoch)
        with in_use(*run.weights.values()):
            rows = validation_rows(run, prepared.probes, epoch, prepared.memory.sample_batch)
            images = generate_samples(prepared, board, stop, epoch)
    stop_if_asked(run, stop)
    note_validation_losses(run, board, rows)
    progress.show(state(history.log, run.plan.total_steps, len(run.plan.lengths)), always=True)
    losses = {f"{row['split']}_loss": row["loss"] for row in rows}
    progress.report(epoch_done=epoch, step=len(history.log), images=[str(path) for path in images], **losses)
    history.epochs_done = epoch
    keep_logs(run)
    keep(run)


def averaged(run: Run) -> AbstractContextManager[None]:
    """Use the moving average, if settings.ema_decay is set, in the block."""
    return ema.averaged(run.average, run.parameters) if run.average else nullcontext()


def note_validation_losses(run: Run, board: Board, rows: list[dict[str, Any]]) -> None:
    """Add losses on fixed images to the history and the board."""
    run.history.validation += rows
    board.scalars({f"fixed/{row['split']}": row["loss"] for row in rows}, len(run.history.log))


def generate_samples(prepared: Prepared, board: Board, stop: StopRequest, epoch: int) -> list[Path]:
    """Write samples/epoch_NN_k.png for each sample prompt; return the paths."""
    run = prepared.run
    paths: list[Path] = []
    if not run.accelerator.is_main_process:
        return paths
    for number, image in enumerate(sample_images(run.models, run.spec, prepared.prompts, prepared.memory, stop)):
        path = run.spec.output / "samples" / f"epoch_{epoch:02d}_{number}.png"
        with writing(path), atomic_file(path) as staging:
            image.save(staging, "PNG")
        board.image(f"sample_{number}", image, len(run.history.log))
        paths.append(path)
    return paths


def checkpoint_path(run: Run, name: str) -> Path:
    return run.spec.output / "checkpoints" / f"{name}.safetensors"


def save(run: Run, name: str, epoch: int) -> Path:
    """Write checkpoints/<name>.safetensors, whole or not at all, after `epoch` epochs."""
    path = checkpoint_path(run, name)
    if run.accelerator.is_main_process:
        regular = run.table["regularisation"]
        metadata = lora_metadata(
            run.spec,
            run.table[~regular],
            prediction_type=run.models.prediction_type,
            epoch=epoch,
            step=len(run.history.log),
            total_steps=run.plan.total_steps,
            mixed_precision=run.accelerator.mixed_precision,
            regularisation_images=int(regular.sum()),
        )
        with writing(path):
            # One alpha for all modules: diffusers ignores those that differ.
            lora = with_one_alpha(LoraFile(adapters_of(run.layers), metadata), run.spec.settings.alpha)
            write_lora(path, lora, run.spec.save_precision)
    return path


def stop_if_asked(run: Run, stop: StopRequest) -> None:
    """Save and raise Interrupted when a signal asked to stop.

    Several processes agree on the step.
    """
    number = stop() or 0
    if run.accelerator.num_processes > 1:
        number = int(run.accelerator.gather(torch.tensor([number], device=run.accelerator.device)).max())
    if not number:
        return
    if not run.history.log:
        raise Interrupted(number, NOTHING_LEARNED)
    step = len(run.history.log)
    keep(run)
    with averaged(run):
        path = save(run, f"interrupted_step_{step:04d}", run.history.epochs_done)
    raise Interrupted(number, f"{step} of {counted(run.plan.total_steps, 'step')} saved in {path}; run again to go on")


def keep(run: Run) -> None:
    if run.accelerator.is_main_process:
        keep_state(run)


def keep_logs(run: Run) -> None:
    if run.accelerator.is_main_process:
        with writing(run.spec.output):
            write_log(run.history.log, run.spec.output / LOG.file)
            write_validation_losses(run.history.validation, run.spec.output / VALIDATION_LOSS.file)
