"""Frozen layers, and LoRA around them, made faster on a CPU.

Frozen weights are laid out once in oneDNN's order, for forward and backward; PyTorch reorders them in every call.
"""

import functools
import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

# Operators for weights laid out in advance, as torch.compile uses them.
_onednn = torch.ops.mkldnn
_PLAIN: tuple[str, list[Any], str] = ("none", [], "")  # no fused operation

log = logging.getLogger(__name__)

SMALL, LARGE = 6, 64  # usual range of a U-Net convolution's input side, in latent pixels


def speed_up(model: nn.Module) -> int:
    """Replace frozen float32 Linear and Conv2d layers; return their number.

    `model` is on the CPU, with adapters: trained layers and DoRA layers stay. peft's LoRA around a replaced layer runs
    in one call with it, on the same parameters. Results are equal but for rounding. New layers hold their weight twice,
    once per direction, and have no `weight`: merge, save or decompose first. Returns 0 without oneDNN.
    """
    if not operators_work():
        return 0
    count = 0
    for parent in list(model.modules()):
        if getattr(parent, "lora_magnitude_vector", None):
            continue
        for name, child in list(parent.named_children()):
            if (layer := _frozen(child)) is not None:
                setattr(parent, name, layer)
                count += 1
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if _has_plain_lora(child):
                setattr(parent, name, Adapted(child))
    return count


@functools.cache
def operators_work() -> bool:
    """Try the operators, which PyTorch does not document.

    False, and a warning, where they are gone or give other results.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        same = all(_equals(layer, x) for layer, x in _samples())
    except (AttributeError, RuntimeError, TypeError) as error:
        same = False
        log.debug("oneDNN's operators: %s", error)
    if not same:
        log.warning("PyTorch %s has other oneDNN operators: training uses its slower layers.", torch.__version__)
    return same


def _samples() -> list[tuple[nn.Module, torch.Tensor]]:
    rng = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):  # a training's random numbers stay as they are
        layers = [nn.Linear(8, 16), nn.Conv2d(8, 16, 3, padding=1)]
    for layer in layers:
        for parameter in layer.parameters():
            parameter.requires_grad_(False).copy_(torch.randn(parameter.shape, generator=rng))
    return list(zip(layers, (torch.randn(4, 8, generator=rng), torch.randn(2, 8, 6, 6, generator=rng)), strict=True))


def _equals(layer: nn.Module, x: torch.Tensor) -> bool:
    """Compare output and gradient of `layer` with those of its replacement."""
    replaced = _frozen(layer)
    if replaced is None:
        return True
    found = []
    for one in (layer, replaced):
        leaf = x.clone().requires_grad_()
        result = one(leaf)
        found.append((result.detach(), *torch.autograd.grad(result.square().sum(), leaf)))
    return all(torch.allclose(mine, usual, rtol=1e-4, atol=1e-4) for usual, mine in zip(*found, strict=True))


def _frozen(layer: nn.Module) -> nn.Module | None:
    if type(layer) not in (nn.Linear, nn.Conv2d):
        return None
    weight = layer.weight
    if weight.requires_grad or weight.dtype != torch.float32 or weight.device.type != "cpu":
        return None
    if isinstance(layer, nn.Linear):
        return FrozenLinear(layer)
    assert isinstance(layer, nn.Conv2d)
    if (layer.groups, layer.kernel_size, layer.stride, layer.padding) == (1, (1, 1), (1, 1), (0, 0)):
        return FrozenPointwise(layer)
    geometry = geometry_of(layer)
    return None if geometry is None else FrozenConv2d(layer, geometry)


def _has_plain_lora(layer: nn.Module) -> bool:
    """True for peft's `layer` over a FrozenLinear adding scale · up(down(x))."""
    if not isinstance(getattr(layer, "base_layer", None), FrozenLinear):
        return False
    adapters: Any = layer
    names = list(adapters.active_adapters)
    return len(names) == 1 and isinstance(adapters.lora_dropout[names[0]], nn.Identity)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: "FrozenLinear") -> Any:
        ctx.layer = layer
        return layer.product(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return ctx.layer.product_back(gradient), None


class FrozenLinear(nn.Module):
    """A frozen Linear: weight float32[out, in], bias float32[out]."""

    def __init__(self, linear: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        weight = linear.weight.detach().flatten(1)
        self.out_features, self.in_features = weight.shape
        self.there = _onednn._reorder_linear_weight(weight)
        self.back = _onednn._reorder_linear_weight(weight.t().contiguous())
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [..., in] to [..., out]."""
        result: torch.Tensor = _Product.apply(x, self)
        return result

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """Return x Wᵀ + b for x [..., in], without autograd."""
        result: torch.Tensor = _onednn._linear_pointwise(x.contiguous(), self.there, self.bias, *_PLAIN)
        return result

    def product_back(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return gradient · W for gradient [..., out], without autograd."""
        result: torch.Tensor = _onednn._linear_pointwise(gradient.contiguous(), self.back, None, *_PLAIN)
        return result


class FrozenPointwise(FrozenLinear):
    """A frozen 1×1 convolution as a Linear over channels: faster in oneDNN."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[n, in, h, w]` to `[n, out, h, w]`, channels last in memory."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _AdaptedProduct(torch.autograd.Function):
    """Layer output `x Wᵀ + b + scale·x downᵀ upᵀ`, with gradients of x, down, up."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, down: torch.Tensor, up: torch.Tensor, layer: FrozenLinear, scale: float
    ) -> Any:
        rows = x.reshape(-1, layer.in_features)
        inner = rows @ down.t()
        result = layer.product(x)
        result.view(-1, layer.out_features).addmm_(inner, up.t(), alpha=scale)
        ctx.save_for_backward(rows, inner, down, up)
        ctx.layer, ctx.scale = layer, scale
        return result

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        rows, inner, down, up = ctx.saved_tensors
        gradient_rows = gradient.reshape(-1, ctx.layer.out_features)
        of_inner = (gradient_rows @ up).mul_(ctx.scale)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = ctx.layer.product_back(gradient)
            of_x.view(-1, ctx.layer.in_features).addmm_(of_inner, down)
        return of_x, of_inner.t() @ rows, (gradient_rows.t() @ inner).mul_(ctx.scale), None, None


class Adapted(nn.Module):
    """peft's LoRA `layer` over a FrozenLinear, in one call on its parameters."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer
        (self.adapter,) = layer.active_adapters
        self.pointwise = isinstance(layer.base_layer, FrozenPointwise)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[..., in]` to `[..., out]`; for a 1×1 convolution, `[n, in, h, w]`."""
        if self.layer.disable_adapters:
            return self.layer.base_layer(x)
        down, up = self.layer.lora_A[self.adapter].weight, self.layer.lora_B[self.adapter].weight
        frozen, scale = self.layer.base_layer, self.layer.scaling[self.adapter]
        result: torch.Tensor
        if self.pointwise:
            result = _AdaptedProduct.apply(x.permute(0, 2, 3, 1), down.flatten(1), up.flatten(1), frozen, scale)
            return result.permute(0, 3, 1, 2)
        result = _AdaptedProduct.apply(x, down, up, frozen, scale)
        return result


@dataclass(frozen=True)
class Geometry:
    """A convolution with one group and zero padding; pairs are (height, width)."""

    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    padding: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]

    def ordered(self, weight: torch.Tensor, side: int = LARGE) -> torch.Tensor:
        """`weight` float32[out, in, kh, kw] in oneDNN's order for `side` × `side` images."""
        image = [1, self.in_channels, side, side]
        result: torch.Tensor = _onednn._reorder_convolution_weight(
            weight, self.padding, self.stride, self.dilation, 1, image
        )
        return result

    def ordered_back(self, weight: torch.Tensor, side: int = LARGE) -> torch.Tensor:
        """`weight` in oneDNN's order for the gradient, a transposed convolution."""
        gradient = [1, self.out_channels, side, side]
        result: torch.Tensor = _onednn._reorder_convolution_transpose_weight(
            weight, self.padding, (0, 0), self.stride, self.dilation, 1, gradient
        )
        return result

    def left_over(self, size: torch.Size, out: torch.Size) -> list[int]:
        """Trailing rows and columns of the input `size` that the stride never reached."""
        sides = zip(size, out, self.kernel, self.padding, self.stride, self.dilation, strict=True)
        return [
            side - ((steps - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1)
            for side, steps, kernel, padding, stride, dilation in sides
        ]


def geometry_of(conv: nn.Conv2d) -> Geometry | None:
    """Geometry of `conv`, or None if FrozenConv2d cannot replace it."""
    if conv.groups != 1 or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return None
    pairs: Any = (conv.kernel_size, conv.padding, conv.stride, conv.dilation)
    geometry = Geometry(conv.in_channels, conv.out_channels, *pairs)
    return geometry if one_order_for_all_sizes(geometry) else None


@functools.cache
def one_order_for_all_sizes(geometry: Geometry) -> bool:
    """True if oneDNN orders such weights alike for all image sizes.

    Some channel numbers (240, say) have two orders, and the wrong one takes thirty times as long: PyTorch computes
    those.
    """
    weight = torch.zeros(geometry.out_channels, geometry.in_channels, *geometry.kernel)
    return all(
        len({_order(ordered(weight, side)) for side in (SMALL, LARGE)}) == 1
        for ordered in (geometry.ordered, geometry.ordered_back)
    )


def _order(weight: torch.Tensor) -> bytes:
    return bytes(_onednn._get_mkldnn_serialized_md(weight).tolist())


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: "FrozenConv2d") -> Any:
        ctx.layer, ctx.size = layer, x.shape[2:]
        shape = layer.geometry
        return _onednn._convolution_pointwise(
            x, layer.there, layer.bias, shape.padding, shape.stride, shape.dilation, 1, *_PLAIN
        )

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        shape, back = ctx.layer.geometry, ctx.layer.back
        left_over = shape.left_over(ctx.size, gradient.shape[2:])
        of_x = _onednn._convolution_transpose_pointwise(
            gradient, back, None, shape.padding, left_over, shape.stride, shape.dilation, 1, *_PLAIN
        )
        return of_x, None


class FrozenConv2d(nn.Module):
    """A frozen convolution of `geometry`."""

    def __init__(self, conv: nn.Conv2d, geometry: Geometry) -> None:
        super().__init__()
        self.geometry = geometry
        self.there = geometry.ordered(conv.weight.detach())
        self.back = geometry.ordered_back(conv.weight.detach())
        self.bias = None if conv.bias is None else conv.bias.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [n, in, h, w] to [n, out, h', w']."""
        result: torch.Tensor = _Convolution.apply(x, self)
        return result
