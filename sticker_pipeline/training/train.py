"""The training itself: set up → loop → save, read from top to bottom. Each part it names is a module beside this one.

Nothing here knows of Dagster or of the command line. On several GPUs every process runs this same story (torchrun or
`accelerate launch`); the first one writes.
"""

import shutil
from pathlib import Path

import pandas as pd
import torch

from sticker_pipeline.storage import atomic_file
from sticker_pipeline.training.captions import tokenize
from sticker_pipeline.training.data import plan, read_training_set
from sticker_pipeline.training.latents import Latents, vae_hash, views_of
from sticker_pipeline.training.log import state, write_log
from sticker_pipeline.training.lora_file import LoraFile, write_lora
from sticker_pipeline.training.metadata import lora_metadata
from sticker_pipeline.training.models import Models, adapters_of, add_adapters, load_models
from sticker_pipeline.training.progress import Progress
from sticker_pipeline.training.samples import sample_pictures
from sticker_pipeline.training.schedule import SCHEDULES
from sticker_pipeline.training.spec import FILE_NAME, TrainingSpec, save_spec
from sticker_pipeline.training.step import DTYPES, Run, make_accelerator, make_optimizer, training_step
from sticker_pipeline.training.stopping import Interrupted, StopRequest

LOG_NAME = "log.parquet"
NOTHING_LEARNED = "nothing was learned yet"


def train(spec: TrainingSpec, progress: Progress, stop: StopRequest = lambda: None) -> Path:
    """Train the LoRA that `spec` describes; returns its last checkpoint, after the last epoch.

    Writes to spec.output: spec.json, log.parquet, checkpoints/epoch_NN.safetensors, samples/epoch_NN_k.png.
    Raises SpecError before any long work; TrainingDiverged when the loss is no number; Interrupted, having saved
    checkpoints/interrupted_step_NNNN.safetensors, when `stop` asks to end.
    """
    table = read_training_set(spec, progress.note)
    run = set_up(spec, table, progress, stop)
    try:
        for epoch, batches in enumerate(run.epochs, start=1):
            for batch in batches:
                stop_if_asked(run, stop, epoch - 1)
                run.log.append(training_step(run, batch, epoch))
                progress.show(state(run.log, run.total_steps, len(run.epochs)))
            checkpoint = save(run, f"epoch_{epoch:02d}", epoch)
            end_epoch(run, progress, stop, epoch)
    finally:
        keep_log(run)
    return checkpoint


def set_up(spec: TrainingSpec, table: pd.DataFrame, progress: Progress, stop: StopRequest) -> Run:
    """Everything before the first step: empty output folder, models, adapters, latents, captions."""
    accelerator = make_accelerator()
    if accelerator.is_main_process:
        empty_output(spec)
    progress.note(f"{spec.name}: {len(table)} pictures, base model {spec.base}, on {accelerator.device}")
    models = load_models(spec.base, accelerator.device, DTYPES[accelerator.mixed_precision])
    latents = load_latents(spec, table, models, progress, stop)
    trains_text = spec.settings.learning_rate_text_encoder > 0
    layers = add_adapters(models, spec.settings, spec.family)
    optimizer = accelerator.prepare(make_optimizer(spec, layers))
    planned = plan(table, spec, accelerator.process_index, accelerator.num_processes)
    epochs = [[batch for step in planned.epoch(number) for batch in step] for number in range(spec.settings.epochs)]
    total_steps = sum(len(epoch) for epoch in epochs)
    progress.note(f"{len(layers)} adapters of rank {spec.settings.rank}; {total_steps} steps in {len(epochs)} epochs")
    return Run(
        spec=spec,
        table=table,
        epochs=epochs,
        accelerator=accelerator,
        models=models,
        unet=accelerator.prepare(models.unet),
        text_encoder=accelerator.prepare(models.text_encoder) if trains_text else models.text_encoder,
        layers=layers,
        optimizer=optimizer,
        schedule=SCHEDULES[spec.settings.schedule](total_steps, spec.settings.cycles, spec.settings.warmup_fraction),
        latents=latents,
        tokens=tokenize(models.tokenizer, [*table["caption"], ""], accelerator.device),
    )


def empty_output(spec: TrainingSpec) -> None:
    """Remove what an earlier run left in the output folder, so that two runs never mix, and write the spec."""
    for name in ("checkpoints", "samples"):
        shutil.rmtree(spec.output / name, ignore_errors=True)
    (spec.output / LOG_NAME).unlink(missing_ok=True)
    save_spec(spec, spec.output / FILE_NAME)


def load_latents(
    spec: TrainingSpec, table: pd.DataFrame, models: Models, progress: Progress, stop: StopRequest
) -> Latents:
    """The latents of every row of `table`, from the cache where it has them."""
    latents = Latents(views_of(table, spec), vae_hash(spec.base), spec.cache, dtype=models.vae.dtype)
    missing = latents.missing()

    def encoded(count: int) -> None:
        if (number := stop()) is not None:
            raise Interrupted(number, NOTHING_LEARNED)
        if count % 50 == 0 or count == len(missing):
            progress.note(f"latents {count}/{len(missing)}")

    latents.encode(missing, models.vae, encoded=encoded)
    return latents


def end_epoch(run: Run, progress: Progress, stop: StopRequest, epoch: int) -> None:
    """What follows the epoch's checkpoint: the log so far, a line that is always shown, sample pictures."""
    keep_log(run)
    progress.show(state(run.log, run.total_steps, len(run.epochs)), always=True)
    if run.accelerator.is_main_process:
        for number, picture in enumerate(sample_pictures(run.models, run.spec, stop)):
            with atomic_file(run.spec.output / "samples" / f"epoch_{epoch:02d}_{number}.png") as staging:
                picture.save(staging, "PNG")


def save(run: Run, name: str, epoch: int) -> Path:
    """Write checkpoints/<name>.safetensors, after `epoch` whole epochs: a whole file or none."""
    path = run.spec.output / "checkpoints" / f"{name}.safetensors"
    if run.accelerator.is_main_process:
        metadata = lora_metadata(
            run.spec,
            run.table,
            prediction_type=run.models.prediction_type,
            epoch=epoch,
            step=len(run.log),
            total_steps=run.total_steps,
            mixed_precision=run.accelerator.mixed_precision,
        )
        write_lora(path, LoraFile(adapters_of(run.layers), metadata), run.spec.save_precision)
    return path


def stop_if_asked(run: Run, stop: StopRequest, epochs_done: int) -> None:
    """Save and raise Interrupted when a signal asked to stop; several processes agree on the step they stop at."""
    number = stop() or 0
    if run.accelerator.num_processes > 1:
        number = int(run.accelerator.gather(torch.tensor([number], device=run.accelerator.device)).max())
    if not number:
        return
    if not run.log:
        raise Interrupted(number, NOTHING_LEARNED)
    step = len(run.log)
    path = save(run, f"interrupted_step_{step:04d}", epochs_done)
    raise Interrupted(number, f"{step} of {run.total_steps} steps are saved in {path}")


def keep_log(run: Run) -> None:
    if run.accelerator.is_main_process:
        write_log(run.log, run.spec.output / LOG_NAME)
