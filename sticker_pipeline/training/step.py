"""One optimizer step: what it acts on, what it draws, and how it changes the adapters.

No files here; the story around it stands in train.py, what is minimised in objective.py.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import accelerate
import numpy as np
import pandas as pd
import torch

from sticker_pipeline.training import ema, objective
from sticker_pipeline.training.conditions import TextSource, conditions
from sticker_pipeline.training.data import Batch, Plan, Step, step_rng
from sticker_pipeline.training.latents import Latents, redraw
from sticker_pipeline.training.log import LogRow, band_errors, has_exploded, memory_bytes
from sticker_pipeline.training.models import Models
from sticker_pipeline.training.spec import TrainingSpec


class TrainingDiverged(RuntimeError):
    """The loss is no number any more, or many times what it was; checkpoints of earlier epochs are whole."""


@dataclass
class History:
    """What a training has done so far: the only part of a Run that changes beside weights and optimizer."""

    log: list[LogRow] = field(default_factory=list)
    held_out: list[dict[str, Any]] = field(default_factory=list)  # rows as held_out.py makes them
    epochs_done: int = 0


@dataclass(frozen=True)
class Run:
    """What a training consists of while it runs."""

    spec: TrainingSpec
    fingerprint: str  # see state.py
    table: pd.DataFrame
    plan: Plan
    accelerator: accelerate.Accelerator
    models: Models
    unet: Any  # models.unet as accelerate prepared it
    trained: list[Any]  # all models with adapters, as accelerate prepared them
    layers: dict[str, Any]  # peft LoRA layers by kohya name
    optimizer: Any
    schedule: Callable[[int], float]
    latents: Latents
    text: TextSource
    average: ema.MovingAverage | None
    history: History = field(default_factory=History)

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]


def training_step(run: Run, batches: Step, epoch: int) -> LogRow:
    """One optimizer step on the rows in `batches`, whose gradients add up; the log says which step it is. Returns its
    row for the log: losses of this process, pictures of all of them.

    A function of (seed, step) and the weights alone. Raises TrainingDiverged before the weights are touched.
    """
    started, step, settings = time.monotonic(), len(run.history.log), run.spec.settings
    for group in run.optimizer.param_groups:
        group["lr"] = group["peak"] * run.schedule(step)
    parts = [forward_backward(run, batches, number, step) for number in range(len(batches))]
    errors, weighted, timesteps = (torch.cat(values).cpu() for values in zip(*parts, strict=True))
    loss = check_finite(run, "loss", float(weighted.sum()) / len(errors), step)
    # Where nothing is clipped the norm is still looked at: it is what shows a training going wrong first.
    norm = run.accelerator.clip_grad_norm_(run.parameters, settings.max_grad_norm or math.inf).item()
    if run.accelerator.scaler is None:  # a scaler meets infinities while it looks for its scale, and skips them
        check_finite(run, "gradient", norm, step)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    if run.average:
        ema.update(run.average, run.parameters)
    rates = {group["name"]: group["lr"] * group.get("d", 1.0) for group in run.optimizer.param_groups}
    return LogRow(
        step=step + 1,
        epoch=epoch,
        loss=loss,
        error=float(errors.mean()),
        bands=band_errors(errors, timesteps),
        lr_unet=rates["unet"],
        lr_text_encoder=rates.get("text_encoder", 0.0),
        grad_norm=norm,
        samples=len(errors) * run.accelerator.num_processes,
        seconds=time.monotonic() - started,
        memory_bytes=memory_bytes(),
    )


def forward_backward(
    run: Run, batches: Step, number: int, step: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradient of batch `number` of a step. Returns of each picture the squared error float32[b], the same times
    its weight, and the timestep int64[b]."""
    batch, pictures = batches[number], sum(len(batch) for batch in batches)
    with ExitStack() as stack:
        if number < len(batches) - 1:  # several processes exchange gradients once in a step
            for model in run.trained:
                stack.enter_context(run.accelerator.no_sync(model))
        drawn = draw(run, batch, step, number)
        predicted = run.unet(drawn.noisy, drawn.timesteps, **drawn.conditions, return_dict=False)[0]
        errors = objective.picture_losses(predicted, drawn.target, drawn.pixel_weights)
        weighted = errors * drawn.weights
        run.accelerator.backward(weighted.sum() / pictures)
    return errors.detach(), weighted.detach(), drawn.timesteps


@dataclass(frozen=True)
class Drawn:
    """The inputs of the U-Net for b pictures, and what it should say; on the training's device."""

    noisy: torch.Tensor  # float32[b, c, h, w], as are targets
    timesteps: torch.Tensor  # int64[b]
    target: torch.Tensor
    conditions: dict[str, Any]  # further arguments of the U-Net
    pixel_weights: torch.Tensor | None  # float32[b, 1, h, w]
    weights: torch.Tensor  # float32[b]: of each picture's loss


def draw(run: Run, batch: Batch, step: int, number: int) -> Drawn:
    """Batch `number` of a step as the U-Net sees it: views, captions, posteriors, noise and timesteps drawn anew.

    Drawn on the CPU, so that they are the same on every device.
    """
    settings, device = run.spec.settings, run.accelerator.device
    # Numbered over all processes: two of them draw what one draws that accumulates two batches.
    place = number * run.accelerator.num_processes + run.accelerator.process_index
    rng = step_rng(settings.seed, step, place)
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    entries = [run.latents.entry(row, int(rng.integers(run.latents.variants(row)))) for row in batch]
    encoded = run.text(run.table["caption"].to_numpy()[batch].tolist(), rng)

    config = run.models.vae.config
    latents = redraw(entries, config.scaling_factor, config.get("shift_factor") or 0.0, generator)
    noise = objective.offset_noise(torch.randn(latents.shape, generator=generator), settings.noise_offset, generator)
    timesteps = torch.randint(run.models.noise.config.num_train_timesteps, (len(batch),), generator=generator)
    snr = objective.signal_to_noise(run.models.noise.alphas_cumprod, timesteps)
    weights = objective.loss_weights(settings, run.models.prediction_type, snr) * picture_weights(run, batch)
    transparent = settings.background_weight < 1
    masks = objective.pixel_weights(torch.stack([entry.mask for entry in entries]), settings.background_weight)
    return Drawn(
        noisy=run.models.noise.add_noise(latents, noise, timesteps).to(device),
        timesteps=timesteps.to(device),
        target=run.models.target(latents, noise, timesteps).to(device),
        conditions=conditions(run.models, encoded, entries, device),
        pixel_weights=masks.to(device) if transparent else None,
        weights=weights.to(device),
    )


def picture_weights(run: Run, batch: Batch) -> torch.Tensor:
    """What the loss of each row of `batch` is multiplied by, float32[b]."""
    regular = run.table["regularisation"].to_numpy()[batch]
    return torch.from_numpy(np.where(regular, run.spec.settings.regularisation_weight, 1.0)).float()


def check_finite(run: Run, name: str, value: float, step: int) -> float:
    """`value`. Raises TrainingDiverged where it is infinite or no number."""
    if not math.isfinite(value):
        raise TrainingDiverged(_diverged(run, f"The {name} is {value} at step {step + 1}"))
    return value


def check_exploding(run: Run) -> None:
    """Raise TrainingDiverged when the error has grown far beyond what it was, before any more is spent on it."""
    log: Sequence[LogRow] = run.history.log
    if has_exploded(log):
        raise TrainingDiverged(_diverged(run, f"The error has multiplied by step {len(log)}"))


def _diverged(run: Run, what: str) -> str:
    return (
        f"{what} of {run.plan.total_steps}: the training has diverged. Lower training.learning_rate_unet and "
        f"training.learning_rate_text_encoder in character.yaml. Checkpoints of earlier epochs are in "
        f"{run.spec.output / 'checkpoints'}; the last weights that were kept are in {run.spec.output / 'state'}."
    )
