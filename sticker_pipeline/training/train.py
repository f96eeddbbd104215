"""The training itself: set up → loop → save, read from top to bottom. Each part it names is a module beside this one.

Nothing here knows of Dagster or of the command line. On several GPUs every process runs this same story (torchrun or
`accelerate launch`); the first one writes.
"""

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pandas as pd
import psutil
import torch

from sticker_pipeline.storage import atomic_file
from sticker_pipeline.training.data import Batch, dropped_captions, plan, read_training_set, share_of_rank, step_rng
from sticker_pipeline.training.latents import Posterior, posteriors, prepared_pixels, redraw, vae_hash
from sticker_pipeline.training.lora_file import LoraFile, write_lora
from sticker_pipeline.training.metadata import lora_metadata
from sticker_pipeline.training.models import Models, adapters_of, add_adapters, load_models, token_ids
from sticker_pipeline.training.progress import Progress, State
from sticker_pipeline.training.samples import sample_pictures
from sticker_pipeline.training.schedule import recipe
from sticker_pipeline.training.spec import FILE_NAME, TrainingSpec, save_spec
from sticker_pipeline.training.stopping import Interrupted, StopRequest


class TrainingDiverged(RuntimeError):
    """The loss is no number any more; checkpoints of earlier epochs are whole."""


DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}  # of the frozen base model
STEPS_IN_PACE = 20  # the speed shown is the mean over this many last steps


@dataclass(frozen=True)
class LogRow:
    """One optimizer step as log.parquet keeps it; `step` and `epoch` count from 1."""

    step: int
    epoch: int
    loss: float
    lr_unet: float
    lr_text_encoder: float
    grad_norm: float
    samples_per_s: float
    memory_bytes: int


@dataclass(frozen=True)
class Run:
    """What a training consists of while it runs."""

    spec: TrainingSpec
    table: pd.DataFrame
    epochs: list[list[Batch]]
    accelerator: accelerate.Accelerator
    models: Models
    unet: Any  # models.unet and models.text_encoder as accelerate prepared them
    text_encoder: Any
    layers: dict[str, torch.nn.Module]
    optimizer: Any
    schedule: Callable[[int], float]
    latents: list[Posterior]
    tokens: torch.Tensor  # int64[n + 1, length]: the caption of each row, and the empty one last
    log: list[LogRow] = field(default_factory=list)

    @property
    def total_steps(self) -> int:
        return sum(len(epoch) for epoch in self.epochs)


def train(spec: TrainingSpec, progress: Progress, stop: StopRequest = lambda: None) -> Path:
    """Train the LoRA that `spec` describes; returns its last checkpoint, after the last epoch.

    Writes to spec.output: spec.json, log.parquet, checkpoints/epoch_NN.safetensors, samples/epoch_NN_k.png.
    Raises SpecError before any long work; TrainingDiverged when the loss is no number; Interrupted, having saved
    checkpoints/interrupted_step_NNNN.safetensors, when `stop` asks to end.
    """
    table = read_training_set(spec)
    run = set_up(spec, table, progress, stop)
    checkpoint = spec.output
    try:
        step = 0
        for epoch, batches in enumerate(run.epochs, start=1):
            for batch in batches:
                stop_if_asked(run, stop, epoch - 1, step)
                started = time.monotonic()
                loss, grad_norm = training_step(run, batch, step)
                step += 1
                note_step(run, progress, step, epoch, loss, grad_norm, len(batch), time.monotonic() - started)
            checkpoint = save(run, f"epoch_{epoch:02d}", epoch, step)
            end_epoch(run, progress, stop, epoch)
    finally:
        write_log(run)
    return checkpoint


def set_up(spec: TrainingSpec, table: pd.DataFrame, progress: Progress, stop: StopRequest) -> Run:
    """Everything before the first step: empty output folder, models, adapters, latents, captions."""
    accelerator = make_accelerator()
    if accelerator.is_main_process:
        empty_output(spec)
    progress.note(f"{spec.name}: {len(table)} pictures, base model {spec.base}, on {accelerator.device}")
    models = load_models(spec.base, accelerator.device, DTYPES[accelerator.mixed_precision])
    latents = load_latents(spec, table, models, progress, stop)
    layers = add_adapters(models, spec.settings, spec.family)
    optimizer = accelerator.prepare(make_optimizer(spec, layers))
    epochs = [share_of_rank(epoch, accelerator.process_index, accelerator.num_processes) for epoch in plan(table, spec)]
    total_steps = sum(len(epoch) for epoch in epochs)
    progress.note(f"{len(layers)} adapters of rank {spec.settings.rank}; {total_steps} steps in {len(epochs)} epochs")
    return Run(
        spec=spec,
        table=table,
        epochs=epochs,
        accelerator=accelerator,
        models=models,
        unet=accelerator.prepare(models.unet),
        text_encoder=accelerator.prepare(models.text_encoder)
        if spec.settings.learning_rate_text_encoder
        else models.text_encoder,
        layers=layers,
        optimizer=optimizer,
        schedule=recipe(total_steps, spec.settings.cycles, spec.settings.warmup_fraction),
        latents=latents,
        tokens=token_ids(models.tokenizer, [*table["caption"], ""]).to(accelerator.device),
    )


def make_accelerator() -> accelerate.Accelerator:
    """On a GPU half precision with float32 adapters, bfloat16 where the GPU has it; on the CPU float32 throughout."""
    if not torch.cuda.is_available():
        return accelerate.Accelerator(cpu=True, mixed_precision="no")
    return accelerate.Accelerator(mixed_precision="bf16" if torch.cuda.is_bf16_supported() else "fp16")


def empty_output(spec: TrainingSpec) -> None:
    """Remove what an earlier run left in the output folder, so that two runs never mix, and write the spec."""
    for name in ("checkpoints", "samples"):
        shutil.rmtree(spec.output / name, ignore_errors=True)
    (spec.output / "log.parquet").unlink(missing_ok=True)
    save_spec(spec, spec.output / FILE_NAME)


def load_latents(
    spec: TrainingSpec, table: pd.DataFrame, models: Models, progress: Progress, stop: StopRequest
) -> list[Posterior]:
    """The VAE posterior of every row of `table`, from the cache where it has it."""
    pictures = (
        prepared_pixels(spec.frames / row.file, row.bucket_width, row.bucket_height, spec.background)
        for row in table.itertuples()
    )

    def encoded(count: int) -> None:
        if (number := stop()) is not None:
            raise Interrupted(number, "nothing was learned yet")
        if count % 50 == 0 or count == len(table):
            progress.note(f"latents {count}/{len(table)}")

    return posteriors(pictures, models.vae, vae_hash(spec.base), spec.cache, encoded=encoded)


def make_optimizer(spec: TrainingSpec, layers: dict[str, torch.nn.Module]) -> torch.optim.Optimizer:
    """AdamW with a group for the U-Net and, where it is trained, one for the text encoder; `peak` is the group's own
    learning rate, which the schedule scales."""
    peaks = {"lora_unet": spec.settings.learning_rate_unet, "lora_te": spec.settings.learning_rate_text_encoder}
    groups: list[dict[str, Any]] = []
    for prefix, peak in peaks.items():
        parameters = [
            parameter
            for key, layer in layers.items()
            if key.startswith(prefix)
            for parameter in layer.parameters()
            if parameter.requires_grad
        ]
        if parameters:
            groups.append({"params": parameters, "peak": peak})
    return torch.optim.AdamW(groups, lr=0.0, weight_decay=spec.settings.weight_decay, fused=True)


def training_step(run: Run, batch: Batch, step: int) -> tuple[float, float]:
    """One optimizer step on the rows in `batch`; returns the loss and the norm of the gradient before clipping.

    A function of (seed, step) and the weights alone. Raises TrainingDiverged before the weights are touched.
    """
    for group in run.optimizer.param_groups:
        group["lr"] = group["peak"] * run.schedule(step)
    latents, noise, timesteps, tokens = draw_inputs(run, batch, step)
    scheduler = run.models.scheduler
    noisy = scheduler.add_noise(latents, noise, timesteps)
    target = noise if run.models.prediction_type == "epsilon" else scheduler.get_velocity(latents, noise, timesteps)
    hidden = run.text_encoder(tokens)[0]
    predicted = run.unet(noisy, timesteps, encoder_hidden_states=hidden, return_dict=False)[0]
    loss = torch.nn.functional.mse_loss(predicted.float(), target)
    value = check_finite(run, "loss", loss.item(), step)
    run.accelerator.backward(loss)
    trained = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
    norm = run.accelerator.clip_grad_norm_(trained, run.spec.settings.max_grad_norm).item()
    if (
        run.accelerator.scaler is None
    ):  # a gradient scaler meets infinities while it looks for its scale, and skips them
        check_finite(run, "gradient", norm, step)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    return value, norm


def draw_inputs(run: Run, batch: Batch, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents and noise float32[b, c, h, w], timesteps int64[b] and token ids int64[b, length] of one step, on the
    training's device. Drawn on the CPU, so that they are the same on every device."""
    rng = step_rng(run.spec.settings.seed, step, run.accelerator.process_index)
    dropped = dropped_captions(rng, len(batch), run.spec.settings.caption_dropout)
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    config = run.models.vae.config
    latents = redraw(
        [run.latents[row] for row in batch], config.scaling_factor, config.get("shift_factor") or 0.0, generator
    )
    noise = torch.randn(latents.shape, generator=generator)
    timesteps = torch.randint(run.models.scheduler.config.num_train_timesteps, (len(batch),), generator=generator)
    rows = torch.from_numpy(np.where(dropped, len(run.table), batch))
    device = run.accelerator.device
    return latents.to(device), noise.to(device), timesteps.to(device), run.tokens[rows.to(device)]


def check_finite(run: Run, name: str, value: float, step: int) -> float:
    if not math.isfinite(value):
        raise TrainingDiverged(
            f"The {name} is {value} at step {step + 1} of {run.total_steps}: the training has diverged. Lower "
            "training.learning_rate_unet and training.learning_rate_text_encoder in character.yaml. Checkpoints of "
            f"earlier epochs are in {run.spec.output / 'checkpoints'}."
        )
    return value


def note_step(
    run: Run, progress: Progress, step: int, epoch: int, loss: float, grad_norm: float, images: int, seconds: float
) -> None:
    """Add a row to the log and show the progress."""
    rates = {f"lr_{name}": 0.0 for name in ("unet", "text_encoder")}
    rates |= dict(zip(rates, (group["lr"] for group in run.optimizer.param_groups), strict=False))
    speed = images * run.accelerator.num_processes / seconds
    row = LogRow(step, epoch, loss, **rates, grad_norm=grad_norm, samples_per_s=speed, memory_bytes=memory_bytes())
    run.log.append(row)
    progress.show(state(run))


def state(run: Run) -> State:
    """Where the run is, by its log."""
    row, recent = run.log[-1], run.log[-STEPS_IN_PACE:]
    seconds_per_step = run.spec.settings.batch_size * float(np.mean([1 / row.samples_per_s for row in recent]))
    return State(
        step=row.step,
        total_steps=run.total_steps,
        epoch=row.epoch,
        epochs=len(run.epochs),
        loss=row.loss,
        learning_rate=row.lr_unet,
        samples_per_s=run.spec.settings.batch_size / seconds_per_step,
        eta_s=(run.total_steps - row.step) * seconds_per_step,
    )


def memory_bytes() -> int:
    """The peak of GPU memory where there is one, else this process's resident memory now."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return int(psutil.Process().memory_info().rss)


def end_epoch(run: Run, progress: Progress, stop: StopRequest, epoch: int) -> None:
    """What follows the epoch's checkpoint: the log so far, sample pictures, a line that is always shown."""
    write_log(run)
    progress.show(state(run), always=True)
    if run.accelerator.is_main_process:
        for number, picture in enumerate(sample_pictures(run.models, run.spec, stop)):
            with atomic_file(run.spec.output / "samples" / f"epoch_{epoch:02d}_{number}.png") as staging:
                picture.save(staging, "PNG")


def save(run: Run, name: str, epoch: int, step: int) -> Path:
    """Write checkpoints/<name>.safetensors: whole or not at all."""
    path = run.spec.output / "checkpoints" / f"{name}.safetensors"
    if run.accelerator.is_main_process:
        metadata = lora_metadata(
            run.spec,
            run.table,
            prediction_type=run.models.prediction_type,
            epoch=epoch,
            step=step,
            total_steps=run.total_steps,
            mixed_precision=run.accelerator.mixed_precision,
        )
        write_lora(path, LoraFile(adapters_of(run.layers), metadata), run.spec.save_precision)
    return path


def stop_if_asked(run: Run, stop: StopRequest, epochs_done: int, step: int) -> None:
    """Save and raise Interrupted when a signal asked to stop; several processes agree on the step they stop at."""
    number = stop() or 0
    if run.accelerator.num_processes > 1:
        number = int(run.accelerator.gather(torch.tensor([number], device=run.accelerator.device)).max())
    if not number:
        return
    if step == 0:
        raise Interrupted(number, "nothing was learned yet")
    path = save(run, f"interrupted_step_{step:04d}", epochs_done, step)
    raise Interrupted(number, f"{step} of {run.total_steps} steps are saved in {path}")


def write_log(run: Run) -> None:
    """Write log.parquet, whole or not at all."""
    if run.accelerator.is_main_process:
        with atomic_file(run.spec.output / "log.parquet") as staging:
            pd.DataFrame([asdict(row) for row in run.log], columns=[f.name for f in fields(LogRow)]).to_parquet(
                staging, index=False
            )
