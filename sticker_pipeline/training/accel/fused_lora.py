"""LoRA around a frozen linear layer in one operation, for GPUs.

It launches fewer kernels. fast_layers.py is its equivalent for CPUs.
"""

from typing import Any

import torch
from torch import Tensor, nn


def fuse(model: nn.Module) -> int:
    """Fuse peft's LoRA layers over frozen nn.Linear; return their number.

    Results are equal but for rounding; peft's layers keep parameters and scale. DoRA and other layers stay.
    """
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(getattr(child, "base_layer", None)) is nn.Linear and _is_plain(child)
    ]
    for parent, name, child in found:
        setattr(parent, name, FusedLinear(child))
    return len(found)


def _is_plain(layer: Any) -> bool:
    """True for one adapter that adds scale · up(down(x))."""
    names = list(layer.active_adapters)
    if len(names) != 1 or layer.lora_magnitude_vector:
        return False
    learns = any(parameter.requires_grad for parameter in layer.base_layer.parameters())
    return not learns and isinstance(layer.lora_dropout[names[0]], nn.Identity)


class FusedLinear(nn.Module):
    """peft's LoRA `layer` over an nn.Linear, in one operation."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer
        (self.adapter,) = layer.active_adapters

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in] to [..., out]."""
        base = self.layer.base_layer
        if self.layer.disable_adapters:
            plain: Tensor = base(x)
            return plain
        down, up = self.layer.lora_A[self.adapter].weight, self.layer.lora_B[self.adapter].weight
        adapted: Tensor = _Adapted.apply(x, down, up, base.weight, base.bias, self.layer.scaling[self.adapter])
        return adapted


class _Adapted(torch.autograd.Function):
    """Layer output `x Wᵀ + b + scale·x downᵀ upᵀ`, with gradients of x, down, up."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, down: Tensor, up: Tensor, weight: Tensor, bias: Tensor | None, scale: float
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        inner = rows @ down.t()
        result = nn.functional.linear(rows, weight, bias).addmm_(inner, up.t(), alpha=scale)
        ctx.save_for_backward(rows, inner, down, up, weight)
        ctx.scale = scale
        return result.view(*x.shape[:-1], len(up))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        rows, inner, down, up, weight = ctx.saved_tensors
        of_result = gradient.reshape(-1, len(up))
        of_inner = (of_result @ up).mul_(ctx.scale)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (of_result @ weight).addmm_(of_inner, down).view(*gradient.shape[:-1], down.shape[1])
        of_up = (of_result.t() @ inner).mul_(ctx.scale)
        return of_x, of_inner.t() @ rows, of_up, None, None, None
