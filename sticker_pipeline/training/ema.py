"""Exponential moving average of trained weights."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class MovingAverage:
    """Copies of parameters, averaged, and the number of updates."""

    decay: float
    values: list[Tensor] = field(default_factory=list)
    updates: int = 0


def moving_average(parameters: Sequence[Tensor], decay: float) -> MovingAverage:
    """Average with 0 < `decay` < 1 that begins as copies of `parameters`."""
    return MovingAverage(decay, [parameter.detach().clone() for parameter in parameters])


def decay_at(updates: int, decay: float) -> float:
    """Share kept at the update after n: 0, then min(decay, (1+n)/(10+n)).

    In short trainings, a constant share would keep mostly the untrained beginning (as in EMAModel of diffusers and
    TensorFlow's averages).
    """
    return 0.0 if updates == 0 else min(decay, (1 + updates) / (10 + updates))


@torch.no_grad()
def update(average: MovingAverage, parameters: Sequence[Tensor]) -> None:
    """Move `average` towards the `parameters`."""
    share = 1.0 - decay_at(average.updates, average.decay)
    torch._foreach_lerp_(average.values, [parameter.detach() for parameter in parameters], share)
    average.updates += 1


@contextmanager
def averaged(average: MovingAverage, parameters: Sequence[Tensor]) -> Iterator[None]:
    """Hold the average in `parameters` inside the block; restore them bit for bit."""
    before = [parameter.detach().clone() for parameter in parameters]
    _copy(average.values, parameters)
    try:
        yield
    finally:
        _copy(before, parameters)


@torch.no_grad()
def _copy(values: Sequence[Tensor], parameters: Sequence[Tensor]) -> None:
    for value, parameter in zip(values, parameters, strict=True):
        parameter.copy_(value)


def average_tensors(average: MovingAverage) -> dict[str, Tensor]:
    """Tensors of `average` for a file, without its decay.

    `updates` int64[] and each value by its place.
    """
    named = {str(place): value for place, value in enumerate(average.values)}
    return {**named, "updates": torch.tensor(average.updates)}


def load_average(average: MovingAverage, tensors: Mapping[str, Tensor]) -> None:
    """Restore the result of `average_tensors`. Raises ValueError for other parameters."""
    shapes = {str(place): value.shape for place, value in enumerate(average.values)}
    if {name: tensor.shape for name, tensor in tensors.items() if name != "updates"} != shapes:
        raise ValueError("The saved moving average (EMA) is one of other parameters than those that are trained now.")
    _copy([tensors[name] for name in shapes], average.values)
    average.updates = int(tensors["updates"])
