"""Training loop of all embedded models: steps, learning rate, moving average, checkpoints.

The loss is a function of the step alone, so a resumed run gives the same result.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sticker_pipeline.core.progress import time_left

if TYPE_CHECKING:
    import torch

CHECKPOINT_SECONDS = 60.0
SNAPSHOT_SECONDS = 300.0
SAY_SECONDS = 15.0


@dataclass(frozen=True)
class Plan:
    """Length and rates of a training.

    Peaks: `matrix_rate` of Muon for hidden matrices, `learning_rate` of AdamW for the rest. Both fall after a share
    `decay_from` of the steps.
    """

    steps: int
    batch: int
    matrix_rate: float
    learning_rate: float = 1.5e-3
    warmup: int = 60
    decay_from: float = 0.6
    ema: float = 0.995
    weight_decay: float = 0.01
    seed: int = 0


def multiplier(step: int, plan: Plan) -> float:
    """Learning-rate multiplier, 0–1: linear warm-up, flat, half cosine to 1 %."""
    rise = min(1.0, (step + 1) / max(1, plan.warmup))
    start = plan.decay_from * plan.steps
    if step < start:
        return rise
    done = min(1.0, (step - start) / max(1.0, plan.steps - start))
    return rise * (0.01 + 0.99 * 0.5 * (1.0 + np.cos(np.pi * done)))


def is_hidden_matrix(key: str, parameter: torch.Tensor) -> bool:
    """Return whether Muon trains this parameter.

    Matrices and convolutions with both sides at least 8, except embeddings and first and last layers.
    """
    ends = ("embedding", "conv_in", "conv_out", "quant_conv", "head", "visual.conv1", "body.0.", "text_projection")
    return parameter.ndim >= 2 and min(parameter.flatten(1).shape) >= 8 and not any(end in key for end in ends)


def device() -> torch.device:
    """The GPU, or the CPU without one."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def half_precision() -> bool:
    """Return whether bfloat16 autocast is faster.

    It is on GPUs, and on CPUs with AMX or AVX-512 BF16: products and convolutions take about half the time of float32.
    On other CPUs it is far slower.
    """
    import torch

    return device().type == "cuda" or torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


@contextmanager
def autocast() -> Iterator[None]:
    """bfloat16 autocast if `half_precision`, else float32."""
    import torch

    with torch.autocast(device().type, torch.bfloat16, enabled=half_precision()):
        yield


def compiled(module: torch.nn.Module) -> Callable[..., Any]:
    """Compile `module` for bfloat16 on a CPU with C++ compiler, else return it.

    Compiling fuses the many small steps between the products: a third faster, after a minute.
    """
    import torch

    if device().type == "cpu" and half_precision() and shutil.which(os.environ.get("CXX", "g++")):
        return torch.compile(module)
    return module


def torch_rng(seed: int, step: int) -> torch.Generator:
    """A CPU random generator for this seed and step."""
    import torch

    return torch.Generator().manual_seed(seed * 1_000_003 + step)


class Training:
    """Modules in training, with optimisers, moving average and progress."""

    def __init__(self, modules: Mapping[str, torch.nn.Module], rates: Mapping[str, float], plan: Plan) -> None:
        """`rates`: multiplier of the plan's learning rates by module."""
        import torch

        from sticker_pipeline.embedded.muon import Muon

        self.plan = plan
        self.modules = dict(modules)
        self.step = 0
        self.seconds = 0.0
        matrices, others = [], []
        for name, module in self.modules.items():
            module.to(device())
            for key, parameter in module.named_parameters():
                rate = rates[name]
                if is_hidden_matrix(key, parameter):
                    matrices.append({"params": [parameter], "peak": plan.matrix_rate * rate})
                else:
                    others.append({"params": [parameter], "peak": plan.learning_rate * rate})
        decay = plan.weight_decay
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(matrices, plan.matrix_rate, weight_decay=decay),
            torch.optim.AdamW(others, plan.learning_rate, betas=(0.9, 0.99), weight_decay=0.0),
        ]
        self.average = {key: value.detach().clone() for key, value in self._state().items()}

    def _state(self) -> dict[str, torch.Tensor]:
        return {
            f"{name}/{key}": value
            for name, module in self.modules.items()
            for key, value in module.state_dict().items()
        }

    def advance(self, loss: torch.Tensor) -> None:
        """Take one optimiser step; update the moving average, faster at first."""
        import torch

        from sticker_pipeline.training.ema import decay_at

        loss.backward()
        parameters = [parameter for module in self.modules.values() for parameter in module.parameters()]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * multiplier(self.step, self.plan)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        keep = decay_at(self.step, self.plan.ema)
        with torch.no_grad():
            for key, value in self._state().items():
                if value.is_floating_point():
                    self.average[key].lerp_(value, 1 - keep)
                else:
                    self.average[key].copy_(value)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the modules their averaged weights, in evaluation mode, inside the block."""
        current = {key: value.detach().clone() for key, value in self._state().items()}
        training = {name: module.training for name, module in self.modules.items()}
        self._load(self.average)
        for module in self.modules.values():
            module.eval()
        try:
            yield
        finally:
            self._load(current)
            for name, module in self.modules.items():
                module.train(training[name])

    def _load(self, state: Mapping[str, torch.Tensor]) -> None:
        for name, module in self.modules.items():
            prefix = f"{name}/"
            module.load_state_dict({k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)})

    def save(self, path: Path) -> None:
        """Write the state to `path` as safetensors, through a file beside it."""
        from safetensors.torch import save_file

        tensors = {f"now/{k}": v for k, v in self._state().items()} | {f"mean/{k}": v for k, v in self.average.items()}
        for which, optimizer in enumerate(self.optimizers):
            for number, moments in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer/{which}/{number}/{key}": value for key, value in moments.items()}
        tensors = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".partial")
        save_file(tensors, beside, metadata={"step": str(self.step), "seconds": f"{self.seconds:.3f}"})
        beside.replace(path)

    def resume(self, path: Path) -> None:
        """Resume from the checkpoint at `path`, if it exists."""
        from safetensors import safe_open

        if not path.exists():
            return
        with safe_open(path, "pt") as file:
            kept = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
            meta = file.metadata()
        self.step, self.seconds = int(meta["step"]), float(meta["seconds"])
        self._load({key[4:]: value for key, value in kept.items() if key.startswith("now/")})
        for key, value in kept.items():
            if key.startswith("mean/"):
                self.average[key[5:]].copy_(value)
        for which, optimizer in enumerate(self.optimizers):
            moments: dict[int, dict[str, Any]] = {}
            prefix = f"optimizer/{which}/"
            for key, value in kept.items():
                if key.startswith(prefix):
                    number, name = key[len(prefix) :].split("/")
                    moments.setdefault(int(number), {})[name] = value
            optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def run(
    training: Training,
    loss_at: Callable[[int], torch.Tensor],
    checkpoint: Path,
    *,
    label: str,
    say: Callable[[str], None],
    snapshot: Callable[[], None],
) -> None:
    """Train from `checkpoint` to the plan's end; `loss_at` depends on the step alone.

    Checkpoints every minute; `snapshot()`, an export of the averaged weights, every five and at the end. SIGTERM and
    SIGINT save a checkpoint, then raise KeyboardInterrupt.
    """
    training.resume(checkpoint)
    plan = training.plan
    if training.step:
        say(f"{label:9s} resumes at step {training.step} of {plan.steps}")
    saved = snapped = said = began = time.monotonic()
    first, losses = training.step, []
    before = training.seconds
    with _stoppable() as stopped:
        while training.step < plan.steps and not stopped:
            loss = loss_at(training.step)
            losses.append(float(loss.detach()))
            training.advance(loss)
            now = time.monotonic()
            training.seconds = before + now - began
            if now - said > SAY_SECONDS or training.step == plan.steps:
                left = (now - began) / (training.step - first) * (plan.steps - training.step)
                speed = (training.step - first) * plan.batch / (now - began)
                say(
                    f"{label:9s} step {training.step:6d}/{plan.steps}  loss {np.mean(losses[-200:]):.4f}  "
                    f"{speed:5.0f} img/s  {time_left(left)}"
                )
                said = now
            if now - saved > CHECKPOINT_SECONDS:
                training.save(checkpoint)
                saved = now
            if now - snapped > SNAPSHOT_SECONDS and training.step < plan.steps:
                with training.averaged():
                    snapshot()
                snapped = time.monotonic()
    training.save(checkpoint)
    if stopped:
        raise KeyboardInterrupt(f"{label}: stopped at step {training.step}; run the same command again to go on")
    with training.averaged():
        snapshot()


@contextmanager
def _stoppable() -> Iterator[list[int]]:
    """Yield a list of received SIGTERM and SIGINT; restore handlers at end."""
    seen: list[int] = []
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in former:
        signal.signal(number, lambda received, frame: seen.append(received))
    try:
        yield seen
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
