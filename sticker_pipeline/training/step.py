"""One optimizer step: what it acts on, what it draws, and how it changes the adapters.

No files here; the story around it stands in train.py.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import accelerate
import numpy as np
import pandas as pd
import torch

from sticker_pipeline.training.captions import Tokens
from sticker_pipeline.training.data import Batch, dropped_captions, step_rng
from sticker_pipeline.training.latents import Latents, redraw
from sticker_pipeline.training.log import LogRow, memory_bytes
from sticker_pipeline.training.models import Models
from sticker_pipeline.training.spec import TrainingSpec


class TrainingDiverged(RuntimeError):
    """The loss is no number any more; checkpoints of earlier epochs are whole."""


DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}  # of the frozen base model


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
    layers: dict[str, Any]  # peft LoRA layers by kohya name
    optimizer: Any
    schedule: Callable[[int], float]
    latents: Latents
    tokens: Tokens  # the caption of each row of the table, and the empty caption last
    log: list[LogRow] = field(default_factory=list)

    @property
    def total_steps(self) -> int:
        return sum(len(epoch) for epoch in self.epochs)


def make_accelerator() -> accelerate.Accelerator:
    """On a GPU half precision with float32 adapters, bfloat16 where the GPU has it; on the CPU float32 throughout."""
    if not torch.cuda.is_available():
        return accelerate.Accelerator(cpu=True, mixed_precision="no")
    return accelerate.Accelerator(mixed_precision="bf16" if torch.cuda.is_bf16_supported() else "fp16")


def make_optimizer(spec: TrainingSpec, layers: dict[str, torch.nn.Module]) -> torch.optim.Optimizer:
    """AdamW with a group for the U-Net and, where it is trained, one for the text encoder; `peak` is the group's own
    learning rate, which the schedule scales."""
    wanted = [
        ("unet", "lora_unet_", spec.settings.learning_rate_unet),
        ("text_encoder", "lora_te_", spec.settings.learning_rate_text_encoder),
    ]
    groups: list[dict[str, Any]] = []
    for name, prefix, peak in wanted:
        chosen = [layer for key, layer in layers.items() if key.startswith(prefix)]
        parameters = [parameter for layer in chosen for parameter in layer.parameters() if parameter.requires_grad]
        if parameters:
            groups.append({"name": name, "params": parameters, "peak": peak})
    return torch.optim.AdamW(groups, lr=0.0, weight_decay=spec.settings.weight_decay, fused=True)


def training_step(run: Run, batch: Batch, epoch: int) -> LogRow:
    """One optimizer step on the rows in `batch`; the log says which step it is. Returns its row for the log.

    A function of (seed, step) and the weights alone. Raises TrainingDiverged before the weights are touched.
    """
    started, step = time.monotonic(), len(run.log)
    for group in run.optimizer.param_groups:
        group["lr"] = group["peak"] * run.schedule(step)
    loss = check_finite(run, "loss", forward_backward(run, batch, step), step)
    trained = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
    norm = run.accelerator.clip_grad_norm_(trained, run.spec.settings.max_grad_norm).item()
    if run.accelerator.scaler is None:  # a scaler meets infinities while it looks for its scale, and skips them
        check_finite(run, "gradient", norm, step)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    rates = {group["name"]: group["lr"] for group in run.optimizer.param_groups}
    return LogRow(
        step=step + 1,
        epoch=epoch,
        loss=loss,
        lr_unet=rates["unet"],
        lr_text_encoder=rates.get("text_encoder", 0.0),
        grad_norm=norm,
        samples=len(batch) * run.accelerator.num_processes,
        seconds=time.monotonic() - started,
        memory_bytes=memory_bytes(),
    )


def forward_backward(run: Run, batch: Batch, step: int) -> float:
    """The gradient of the mean squared error of what the U-Net predicts (noise, or v), all noise levels weighing alike;
    returns that error."""
    latents, noise, timesteps, captions = draw_inputs(run, batch, step)
    scheduler = run.models.scheduler
    noisy = scheduler.add_noise(latents, noise, timesteps)
    target = noise if run.models.prediction_type == "epsilon" else scheduler.get_velocity(latents, noise, timesteps)
    hidden = run.tokens.hidden_states(run.text_encoder, captions)
    predicted = run.unet(noisy, timesteps, encoder_hidden_states=hidden, return_dict=False)[0]
    loss = torch.nn.functional.mse_loss(predicted.float(), target)
    run.accelerator.backward(loss)
    return loss.item()


def draw_inputs(run: Run, batch: Batch, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents and noise float32[b, c, h, w], timesteps int64[b] and rows of run.tokens int64[b] of one step, on the
    training's device. Drawn on the CPU, so that they are the same on every device."""
    rng = step_rng(run.spec.settings.seed, step, run.accelerator.process_index)
    dropped = dropped_captions(rng, len(batch), run.spec.settings.caption_dropout)
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    config = run.models.vae.config
    latents = redraw(
        [run.latents.entry(row, 0) for row in batch],
        config.scaling_factor,
        config.get("shift_factor") or 0.0,
        generator,
    )
    noise = torch.randn(latents.shape, generator=generator)
    timesteps = torch.randint(run.models.scheduler.config.num_train_timesteps, (len(batch),), generator=generator)
    rows = torch.from_numpy(np.where(dropped, len(run.table), batch))
    device = run.accelerator.device
    return latents.to(device), noise.to(device), timesteps.to(device), rows.to(device)


def check_finite(run: Run, name: str, value: float, step: int) -> float:
    """`value`. Raises TrainingDiverged where it is infinite or no number."""
    if not math.isfinite(value):
        raise TrainingDiverged(
            f"The {name} is {value} at step {step + 1} of {run.total_steps}: the training has diverged. Lower "
            "training.learning_rate_unet and training.learning_rate_text_encoder in character.yaml. Checkpoints of "
            f"earlier epochs are in {run.spec.output / 'checkpoints'}."
        )
    return value
