"""Limit on the change of each LoRA module's weight, after each step.

As `scale_weight_norms` of sd-scripts 48d368f (networks/lora.py, apply_max_norm_regularization).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from sticker_pipeline.diffusion.lora.file import Adapter


@dataclass(frozen=True)
class Norms:
    """Number of modules scaled down, and the mean norm of all afterwards."""

    scaled: int
    mean: float


UNLIMITED = Norms(0, math.nan)
"""Without a limit: nothing is scaled, and no norm computed."""


@torch.no_grad()
def limit_norms(adapters: Iterable[Adapter], most: float) -> Norms:
    """Scale `adapters` in place to a change of Frobenius norm at most `most`.

    Where n = ‖alpha/rank · up·down‖ > most, up and down are each multiplied by √(most/n). Others stay, bit for bit, as
    does a DoRA's magnitude.
    """
    found = []
    for adapter in adapters:
        norm = change_norm(adapter)
        factor = torch.where(norm > most, (most / norm).sqrt(), torch.ones_like(norm))  # 1 exactly where it is kept
        adapter.up.mul_(factor)
        adapter.down.mul_(factor)
        found.append(norm)
    norms = torch.stack(found)
    return Norms(int((norms > most).sum()), float(norms.clamp(max=most).mean()))


def change_norm(adapter: Adapter) -> Tensor:
    """‖alpha/rank · up·down‖, the Frobenius norm of a module's change: float32[].

    From rank × rank matrices, far smaller than the product: ‖up·down‖² = Σ (upᵀ·up) ∘ (down·downᵀ). A convolution
    counts as its matrix of kernels, [rank, in·n·n].
    """
    up, down = adapter.up.flatten(1), adapter.down.flatten(1)
    squared = ((up.T @ up).double() * (down @ down.T).double()).sum()
    return (squared.clamp(min=0.0).sqrt() * abs(adapter.alpha) / adapter.rank).float()
