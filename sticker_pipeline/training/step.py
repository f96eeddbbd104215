"""One optimizer step: what it acts on, what it draws, and how it changes the adapters.

No files here; the story around it stands in train.py, what is minimised in objective.py.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import accelerate
import numpy as np
import pandas as pd
import torch

from sticker_pipeline.training import ema, objective
from sticker_pipeline.training.backward import Backward, Inputs, Weights, in_use
from sticker_pipeline.training.conditions import TextSource, conditions
from sticker_pipeline.training.cuda_graph import Recordings
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
    layers: dict[str, Any]  # peft LoRA layers by kohya name
    weights: dict[str, Weights]  # "unet" and, where text encoders are trained, "text_encoder"
    backward: Backward
    recordings: Recordings  # of `backward`, on a GPU
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
    with in_use(*run.weights.values()):
        parts = [forward_backward(run, batches, number, step) for number in range(len(batches))]
    average_over_processes(run)
    # Where nothing is clipped the norm is still looked at: it is what shows a training going wrong first.
    norm_ahead = run.accelerator.clip_grad_norm_(run.parameters, settings.max_grad_norm or math.inf)
    errors, weighted, timesteps = (torch.cat(values).cpu() for values in zip(*parts, strict=True))
    loss = check_finite(run, "loss", float(weighted.sum()) / len(errors), step)
    norm = norm_ahead.item()
    if run.accelerator.scaler is None:  # a scaler meets infinities while it looks for its scale, and skips them
        check_finite(run, "gradient", norm, step)
    run.optimizer.step()
    for weights in run.weights.values():
        weights.clear()
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
    """Adds the gradient of batch `number` of a step. Returns of each picture the squared error float32[b], the same
    times its weight, and the timestep int64[b]."""
    batch, pictures = batches[number], sum(len(batch) for batch in batches)
    drawn = draw(run, batch, step, number)
    inputs = {**drawn.inputs, "share": drawn.weights / pictures}
    errors, of_text = run.backward(inputs)
    if of_text:
        texts, weights = [tensor for tensor in inputs.values() if tensor.requires_grad], run.weights["text_encoder"]
        # SDXL, and clip_skip, read an inner layer: adapters behind it have no gradient.
        found = torch.autograd.grad(texts, weights.used, of_text, allow_unused=True, materialize_grads=True)
        weights.add(found)
    return errors, errors * drawn.weights, inputs["timesteps"]


def average_over_processes(run: Run) -> None:
    """Gradients become their mean over the processes that train together: exchanged once in a step."""
    if run.accelerator.num_processes > 1:
        gradients = [gradient for weights in run.weights.values() for gradient in weights.gradients]
        mean = run.accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
        parts = mean.split([gradient.numel() for gradient in gradients])
        torch._foreach_copy_(gradients, [part.view_as(one) for part, one in zip(parts, gradients, strict=True)])


@dataclass(frozen=True)
class Drawn:
    """The `inputs` of the U-Net for b pictures but their share in the loss, and the weight of each picture's error,
    float32[b]; on the training's device."""

    inputs: Inputs
    weights: torch.Tensor


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
    inputs = {
        "noisy": run.models.noise.add_noise(latents, noise, timesteps).to(device, run.models.dtype),
        "timesteps": timesteps.to(device),
        "target": run.models.target(latents, noise, timesteps).to(device),
        **conditions(run.models, encoded, entries, device),
    }
    if settings.background_weight < 1:
        masks = torch.stack([entry.mask for entry in entries])
        inputs["pixel_weights"] = objective.pixel_weights(masks, settings.background_weight).to(device)
    return Drawn(inputs, weights.to(device))


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
