"""Exponential moving average of trained weights: updates, and temporary use.

`training/setup.py` selects the weights, `training/train.py` the time of use.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class MovingAverage:
    """The exponential moving average of a list of parameters: a copy of each, and how often it was updated."""

    decay: float
    values: list[Tensor] = field(default_factory=list)
    updates: int = 0


def moving_average(parameters: Sequence[Tensor], decay: float) -> MovingAverage:
    """Return an average with 0 < `decay` < 1 that begins as copies of `parameters`."""
    return MovingAverage(decay, [parameter.detach().clone() for parameter in parameters])


def decay_at(updates: int, decay: float) -> float:
    """Return the share kept at the next update: 0, then min(decay, (1 + n)/(10 + n)).

    n: `updates` so far. Otherwise the average of a short training would be mostly its untrained beginning (as EMAModel
    of diffusers and the averages of TensorFlow).
    """
    return 0.0 if updates == 0 else min(decay, (1 + updates) / (10 + updates))


@torch.no_grad()
def update(average: MovingAverage, parameters: Sequence[Tensor]) -> None:
    """Move `average` towards the `parameters` after an optimizer step."""
    share = 1.0 - decay_at(average.updates, average.decay)
    torch._foreach_lerp_(average.values, [parameter.detach() for parameter in parameters], share)
    average.updates += 1


@contextmanager
def averaged(average: MovingAverage, parameters: Sequence[Tensor]) -> Iterator[None]:
    """Copy the average into `parameters` inside the block; restore them bit for bit."""
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
    """Return `average` without its decay as tensors for a file.

    `updates` int64[] and each value by its place in the list.
    """
    named = {str(place): value for place, value in enumerate(average.values)}
    return {**named, "updates": torch.tensor(average.updates)}


def load_average(average: MovingAverage, tensors: Mapping[str, Tensor]) -> None:
    """Restore what `average_tensors` returned.

    Raises ValueError where it was the average of other parameters.
    """
    shapes = {str(place): value.shape for place, value in enumerate(average.values)}
    if {name: tensor.shape for name, tensor in tensors.items() if name != "updates"} != shapes:
        raise ValueError("The saved moving average (EMA) is one of other parameters than those that are trained now.")
    _copy([tensors[name] for name in shapes], average.values)
    average.updates = int(tensors["updates"])
