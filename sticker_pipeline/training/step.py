"""One optimizer step, without files: inputs, samples, change of the adapters."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import accelerate
import numpy as np
import pandas as pd
import torch

from sticker_pipeline.diffusion.text import Encoded
from sticker_pipeline.training import ema, objective
from sticker_pipeline.training.accel.cuda_graph import Recordings
from sticker_pipeline.training.adapters import adapters_of
from sticker_pipeline.training.backward import Backward, Inputs, Weights, in_use
from sticker_pipeline.training.cache.latents import LatentEntry, Latents, sample_posteriors
from sticker_pipeline.training.conditioning import TextSource, conditions
from sticker_pipeline.training.data import Batch, Plan, Step, step_rng
from sticker_pipeline.training.logs.log import LogRow, band_errors, has_exploded, memory_bytes
from sticker_pipeline.training.models import Models
from sticker_pipeline.training.optimizers import set_rates
from sticker_pipeline.training.spec import TrainingSpec
from sticker_pipeline.training.weight_norms import UNLIMITED, limit_norms


class TrainingDiverged(RuntimeError):
    """Loss that is not finite or has multiplied; earlier checkpoints are whole."""


@dataclass
class History:
    """Parts of a Run that change, beside weights and optimizer."""

    log: list[LogRow] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)  # rows of training/validation_loss.py
    epochs_done: int = 0


@dataclass(frozen=True)
class Run:
    """Parts of a running training."""

    spec: TrainingSpec
    fingerprint: str  # see training/state.py
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
    ahead: dict[int, list["SampledBatch"]] = field(default_factory=dict)  # batches sampled for later steps

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]


def training_step(run: Run, batches: Step, epoch: int, upcoming: Step | None = None) -> LogRow:
    """Run the next optimizer step on `batches`, whose gradients add up.

    Returns its row for the log: losses of this process, images of all. `upcoming`, the next step's batches, are sampled
    while a GPU computes. A function of (seed, step) and the weights. Raises TrainingDiverged before the weights change.
    """
    started, step, settings = time.monotonic(), len(run.history.log), run.spec.settings
    set_rates(run.optimizer, run.schedule(step))
    sampled = run.ahead.pop(step, None) or sample_step(run, batches, step)
    with in_use(*run.weights.values()):
        parts = [forward_backward(run, one, sum(map(len, batches))) for one in sampled]
    average_over_processes(run)
    # Also without clipping: the norm shows divergence first.
    norm_ahead = run.accelerator.clip_grad_norm_(run.parameters, settings.max_grad_norm or math.inf)
    if upcoming is not None:
        run.ahead[step + 1] = sample_step(run, upcoming, step + 1)
    errors, weighted, timesteps = (torch.cat(values).cpu() for values in zip(*parts, strict=True))
    loss = check_finite(run, "loss", float(weighted.sum()) / len(errors), step)
    norm = norm_ahead.item()
    if run.accelerator.scaler is None:  # a scaler finds its scale by infinities, and skips such steps
        check_finite(run, "gradient", norm, step)
    run.optimizer.step()
    norms = limit_norms(adapters_of(run.layers).values(), most) if (most := settings.max_weight_norm) else UNLIMITED
    for weights in run.weights.values():
        weights.gradient.zero_()
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
        weights_scaled=norms.scaled,
        weight_norm=norms.mean,
        samples=len(errors) * run.accelerator.num_processes,
        seconds=time.monotonic() - started,
        memory_bytes=memory_bytes(),
    )


def forward_backward(run: Run, sampled: "SampledBatch", images: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Add the gradient of one batch of a step of `images` images.

    Returns each image's squared error float32[b], weighted error, and timestep int64[b].
    """
    inputs = whole_inputs(run, sampled, images)
    errors, of_text = run.backward(inputs)
    if of_text:
        texts, weights = [tensor for tensor in inputs.values() if tensor.requires_grad], run.weights["text_encoder"]
        # SDXL, and clip_skip, read an inner layer: adapters behind it have no gradient.
        found = torch.autograd.grad(texts, weights.used, of_text, allow_unused=True, materialize_grads=True)
        weights.add(found)
    return errors, errors * sampled.weights, inputs["timesteps"]


def average_over_processes(run: Run) -> None:
    """Average the gradients over all processes, once per step."""
    if run.accelerator.num_processes > 1:
        for weights in run.weights.values():
            weights.gradient.copy_(run.accelerator.reduce(weights.gradient, "mean"))


@dataclass(frozen=True)
class SampledBatch:
    """b sampled images of a step, on the device.

    `inputs` of the U-Net without conditions, which come from `text` (encoded when needed) and `entries`; `weights` of
    the errors, float32[b].
    """

    inputs: Inputs
    text: Callable[[], Encoded]
    entries: list[LatentEntry]
    weights: torch.Tensor


def sample_step(run: Run, batches: Step, step: int) -> list[SampledBatch]:
    return [sample_batch(run, batch, step, number) for number, batch in enumerate(batches)]


def sample_batch(run: Run, batch: Batch, step: int, number: int) -> SampledBatch:
    """Sample batch `number`: views, captions, posteriors, noise, timesteps.

    On the CPU: the same for every device.
    """
    settings, device = run.spec.settings, run.accelerator.device
    # Numbered over all processes: two sample what one does with two accumulated batches.
    place = number * run.accelerator.num_processes + run.accelerator.process_index
    rng = step_rng(settings.seed, step, place)
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    entries = [run.latents.entry(row, int(rng.integers(run.latents.variants(row)))) for row in batch]
    text = run.text(run.table["caption"].to_numpy()[batch].tolist(), rng)

    config = run.models.vae.config
    latents = sample_posteriors(entries, config.scaling_factor, config.get("shift_factor") or 0.0, generator)
    noise = torch.randn(latents.shape, generator=generator)
    noise = objective.offset_noise(noise, latents, settings, generator)
    noise = objective.multires_noise(noise, settings, generator)
    levels = run.models.noise.config.num_train_timesteps
    timesteps = objective.sample_timesteps(len(batch), levels, settings, generator)
    snr = objective.signal_to_noise(run.models.noise.alphas_cumprod, timesteps)
    weights = objective.loss_weights(settings, run.models.prediction_type, snr) * image_weights(run, batch)
    inputs = {
        "noisy": run.models.noise.add_noise(latents, noise, timesteps).to(run.models.dtype),
        "timesteps": timesteps,
        "target": run.models.target(latents, noise, timesteps),
    }
    if settings.background_weight < 1:
        masks = torch.stack([entry.mask for entry in entries])
        inputs["pixel_weights"] = objective.pixel_weights(masks, settings.background_weight)
    sent = {name: send(tensor, device) for name, tensor in inputs.items()}
    return SampledBatch(sent, text, entries, send(weights, device))


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy `tensor` from pinned memory to `device`, without waiting for a GPU."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def whole_inputs(run: Run, sampled: SampledBatch, images: int) -> Inputs:
    """All inputs of the U-Net, for a step of `images` images."""
    conditioning = conditions(run.models, sampled.text(), sampled.entries, run.accelerator.device)
    return {**sampled.inputs, **conditioning, "share": sampled.weights / images}


def image_weights(run: Run, batch: Batch) -> torch.Tensor:
    """Factor of each row's loss in `batch`, float32[b]."""
    regular = run.table["regularisation"].to_numpy()[batch]
    return torch.from_numpy(np.where(regular, run.spec.settings.regularisation_weight, 1.0)).float()


def check_finite(run: Run, name: str, value: float, step: int) -> float:
    """Return `value`; raise TrainingDiverged where it is not finite."""
    if not math.isfinite(value):
        raise TrainingDiverged(_diverged(run, f"The {name} is {value} at step {step + 1}"))
    return value


def check_exploding(run: Run) -> None:
    """Raise TrainingDiverged when the error is far above its lowest mean."""
    log: Sequence[LogRow] = run.history.log
    if has_exploded(log):
        raise TrainingDiverged(_diverged(run, f"The error has multiplied by step {len(log)}"))


def _diverged(run: Run, what: str) -> str:
    return (
        f"{what} of {run.plan.total_steps}: the training has diverged. Lower training.learning_rate_unet and "
        f"training.learning_rate_text_encoder in character.yaml. Checkpoints of earlier epochs are in "
        f"{run.spec.output / 'checkpoints'}; the last weights that were kept are in {run.spec.output / 'state'}."
    )
