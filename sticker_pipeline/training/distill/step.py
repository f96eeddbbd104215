"""One step of a distillation.

Teacher: the base model; student: the same U-Net with the LoRA. The target is the current student at the next point of
the path, without gradient (as in LCM-LoRA; no moving average).
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sticker_pipeline.diffusion.text import Encoded
from sticker_pipeline.training.backward import Weights, in_use, predict
from sticker_pipeline.training.cache.latents import LatentEntry
from sticker_pipeline.training.conditioning import conditions
from sticker_pipeline.training.data import step_rng
from sticker_pipeline.training.distill import objective
from sticker_pipeline.training.distill.spec import ConsistencySpec
from sticker_pipeline.training.logs.log import LogRow, band_errors, memory_bytes
from sticker_pipeline.training.models import Models
from sticker_pipeline.training.optimizers import set_rates
from sticker_pipeline.training.step import TrainingDiverged


@dataclass(frozen=True)
class Distillation:
    """Parts of a running distillation.

    `texts`: encodings of each prompt and, last, of the negative prompt.
    """

    spec: ConsistencySpec
    fingerprint: str  # see `training/distill/state.py`
    models: Models
    layers: dict[str, Any]  # peft LoRA layers by kohya name
    weights: Weights
    optimizer: torch.optim.Optimizer
    schedule: Callable[[int], float]
    latents: Tensor  # float32[n, c, h, w] on the CPU
    texts: Encoded
    alphas: Tensor  # float32[noise levels], on the device
    log: list[LogRow] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        return torch.device(self.models.unet.device)


@dataclass(frozen=True)
class SampledBatch:
    """b sampled images of a step, on the device.

    `noisy` float32[b, c, h, w] at `timesteps` int64[b]; `prompted` and `unprompted` conditions.
    """

    noisy: Tensor
    timesteps: Tensor
    prompted: dict[str, Tensor]
    unprompted: dict[str, Tensor]


def distillation_step(run: Distillation) -> LogRow:
    """Run the next optimizer step; return its row for the log.

    A function of (seed, step) and the weights. Raises TrainingDiverged before the weights change.
    """
    started, step, settings = time.monotonic(), len(run.log), run.spec.settings
    set_rates(run.optimizer, run.schedule(step))
    sampled = sample_batch(run, step)
    with in_use(run.weights):
        wanted = next_point(run, sampled)
        found = student(run, sampled.noisy, sampled.timesteps, sampled.prompted)
        losses = objective.huber(found, wanted, settings.huber)
        run.weights.add(torch.autograd.grad(losses.mean(), run.weights.used))
    norm = float(torch.nn.utils.clip_grad_norm_(run.weights.learned, settings.max_grad_norm))
    loss = float(losses.detach().mean())
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise TrainingDiverged(
            f"The loss is {loss}, the gradient {norm}, at step {step + 1} of {settings.steps}: the distillation has "
            "diverged. Lower learning_rate in the profile's section `lcm`."
        )
    run.optimizer.step()
    run.weights.gradient.zero_()
    errors = (found.detach() - wanted).square().mean(dim=(1, 2, 3)).cpu()
    return LogRow(
        step=step + 1,
        epoch=1,
        loss=loss,
        error=float(errors.mean()),
        bands=band_errors(errors, sampled.timesteps.cpu()),
        lr_unet=run.optimizer.param_groups[0]["lr"],
        lr_text_encoder=0.0,
        grad_norm=norm,
        samples=len(errors),
        seconds=time.monotonic() - started,
        memory_bytes=memory_bytes(),
    )


def sample_batch(run: Distillation, step: int) -> SampledBatch:
    """Sample the images of `step` at levels of the LCM sampler.

    On the CPU: the same for every device.
    """
    rng = step_rng(run.spec.settings.seed, step)
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    rows = rng.integers(len(run.latents), size=run.spec.settings.batch_size).tolist()
    levels = objective.grid(len(run.alphas))
    timesteps = levels[torch.randint(len(levels), (len(rows),), generator=generator)]
    latents = run.latents[rows]
    noisy = run.models.noise.add_noise(latents, torch.randn(latents.shape, generator=generator), timesteps)
    unprompted = [len(run.spec.prompts)] * len(rows)
    return SampledBatch(
        noisy.to(run.device), timesteps.to(run.device), conditioning_of(run, rows), conditioning_of(run, unprompted)
    )


def conditioning_of(run: Distillation, rows: list[int]) -> dict[str, Tensor]:
    """Conditions of the U-Net for the prompts `rows`."""
    texts, side = run.texts, run.spec.resolution
    encoded = texts.rows(rows)
    nothing = torch.empty(0)
    entries = [LatentEntry(run.latents[0], nothing, nothing, size=(side, side), crop=(0, 0))] * len(rows)
    return conditions(run.models, encoded, entries, run.device)


@torch.no_grad()
def next_point(run: Distillation, sampled: SampledBatch) -> Tensor:
    """Student's output after one guided teacher step: float32[b, c, h, w]."""
    kind, alphas = run.models.prediction_type, run.alphas[sampled.timesteps]
    with plain(run.layers):
        both = {name: torch.cat([sampled.prompted[name], sampled.unprompted[name]]) for name in sampled.prompted}
        twice = sampled.noisy.repeat(2, 1, 1, 1), sampled.timesteps.repeat(2)
        prompted, unprompted = unet_prediction(run, *twice, both).chunk(2)
    teacher = objective.guided(prompted, unprompted, run.spec.settings.guidance_scale)
    clean, noise = objective.clean_and_noise(teacher, sampled.noisy, alphas, kind)
    timesteps = objective.next_timesteps(sampled.timesteps, run.spec.settings.skip)
    latents = objective.solver_step(clean, noise, run.alphas[timesteps])
    return student(run, latents, timesteps, sampled.prompted)


def student(run: Distillation, noisy: Tensor, timesteps: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    """Consistency function of the U-Net with its LoRA, float32[b, c, h, w]."""
    prediction, alphas = unet_prediction(run, noisy, timesteps, inputs), run.alphas[timesteps]
    return objective.consistent(prediction, noisy, timesteps, alphas, run.models.prediction_type)


def unet_prediction(run: Distillation, noisy: Tensor, timesteps: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    """The U-Net's prediction, float32[b, c, h, w], computed in its precision."""
    return predict(run.models.unet, {"noisy": noisy.to(run.models.dtype), "timesteps": timesteps, **inputs}).float()


@contextmanager
def plain(layers: Mapping[str, Any]) -> Iterator[None]:
    """Disable the LoRA `layers` inside the block."""
    for layer in layers.values():
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers.values():
            layer.enable_adapters(True)
