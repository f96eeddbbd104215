"""The frozen layers of a model for training on a CPU: the same function of their input, and the same gradient, faster.

Their weights never change, so they are laid out once in the order in which oneDNN reads them, for the forward and for
the backward pass, where PyTorch sorts them anew in every call. Which layers are trained belongs to models.py.
"""

from typing import Any

import torch
from torch import nn

# PyTorch's own operators over oneDNN with weights laid out beforehand; torch.compile uses them for frozen models.
_onednn = torch.ops.mkldnn
_PLAIN: tuple[str, list[Any], str] = ("none", [], "")  # no operation fused behind


def speed_up(model: nn.Module) -> int:
    """Replace the frozen float32 Linear and Conv2d layers below `model`, which lies on the CPU; returns their number.

    Call it after adapters were added: what has a parameter to train is left alone, and what an adapter wraps is
    replaced. Outputs and gradients are the same but for rounding. The new layers hold their weights twice, once for
    each direction, in float32. They keep no `weight`: layers that adapters read it from (DoRA) stay as they are.
    Does nothing where PyTorch has no oneDNN.
    """
    if not torch.backends.mkldnn.is_available():
        return 0
    count = 0
    for parent in list(model.modules()):
        if getattr(parent, "lora_magnitude_vector", None):
            continue
        for name, child in list(parent.named_children()):
            if (layer := _fast(child)) is not None:
                setattr(parent, name, layer)
                count += 1
    return count


def _fast(layer: nn.Module) -> nn.Module | None:
    """A frozen stand-in for `layer`, or None where there is none."""
    if type(layer) not in (nn.Linear, nn.Conv2d):
        return None
    if layer.weight.requires_grad or layer.weight.dtype != torch.float32 or layer.weight.device.type != "cpu":
        return None
    if isinstance(layer, nn.Linear):
        return FrozenLinear(layer.weight, layer.bias)
    assert isinstance(layer, nn.Conv2d)
    if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return None
    if set(layer.kernel_size + layer.stride) == {1} and set(layer.padding) == {0}:
        return FrozenPointwise(layer.weight, layer.bias)
    return FrozenConv2d(layer)


class _Product(torch.autograd.Function):
    """x Wᵀ + b for the gradient of x alone; `there` and `back` are W and Wᵀ as oneDNN reads them."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, there: torch.Tensor, back: torch.Tensor, bias: torch.Tensor | None) -> Any:
        ctx.back = back
        return _onednn._linear_pointwise(x.contiguous(), there, bias, *_PLAIN)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return _onednn._linear_pointwise(gradient.contiguous(), ctx.back, None, *_PLAIN), None, None, None


class FrozenLinear(nn.Module):
    """A Linear of frozen weight float32[out, in] and bias float32[out]."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        weight = weight.detach()
        self.out_features, self.in_features = weight.shape
        self.there = _onednn._reorder_linear_weight(weight)
        self.back = _onednn._reorder_linear_weight(weight.t().contiguous())
        self.bias = None if bias is None else bias.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in] → [..., out]"""
        result: torch.Tensor = _Product.apply(x, self.there, self.back, self.bias)
        return result


class FrozenPointwise(FrozenLinear):
    """A 1×1 convolution of frozen weight float32[out, in, 1, 1]: a Linear over channels, many times faster as such."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__(weight[:, :, 0, 0], bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, in, h, w] → [n, out, h, w], channels last in memory"""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Convolution(torch.autograd.Function):
    """The convolution of `layer` for the gradient of x alone: that of a stride of 1 is a convolution as well, with the
    kernel turned around and its channels exchanged; that of others is a transposed one."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: "FrozenConv2d") -> Any:
        ctx.layer, ctx.size = layer, x.shape[2:]
        shape = (layer.padding, layer.stride, layer.dilation, 1)
        return _onednn._convolution_pointwise(x, layer.there, layer.bias, *shape, *_PLAIN)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        layer: FrozenConv2d = ctx.layer
        if layer.stride == [1, 1]:
            shape = (layer.padding_back, layer.stride, layer.dilation, 1)
            return _onednn._convolution_pointwise(gradient, layer.back, None, *shape, *_PLAIN), None
        rest = [
            size - ((out - 1) * stride - 2 * padding + span + 1)
            for size, out, stride, padding, span in zip(
                ctx.size, gradient.shape[2:], layer.stride, layer.padding, layer.span, strict=True
            )
        ]
        transposed = (layer.padding, rest, layer.stride, layer.dilation, 1)
        return _onednn._convolution_transpose_pointwise(gradient, layer.back, None, *transposed, *_PLAIN), None


class FrozenConv2d(nn.Module):
    """A Conv2d of one group, zero padding and frozen weight float32[out, in, kh, kw]."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        weight = conv.weight.detach()
        self.out_channels, self.in_channels = weight.shape[:2]
        self.padding, self.stride, self.dilation = (list(part) for part in (conv.padding, conv.stride, conv.dilation))
        self.span = [step * (side - 1) for step, side in zip(self.dilation, weight.shape[2:], strict=True)]
        self.padding_back = [span - int(padding) for span, padding in zip(self.span, self.padding, strict=True)]
        self.there = _onednn._reorder_convolution_weight(weight, self.padding, self.stride, self.dilation, 1)
        self.back = self._weight_back(weight)
        self.bias = None if conv.bias is None else conv.bias.detach()

    def _weight_back(self, weight: torch.Tensor) -> torch.Tensor:
        if self.stride == [1, 1]:
            turned = weight.flip(2, 3).transpose(0, 1).contiguous()
            return _onednn._reorder_convolution_weight(turned, self.padding_back, self.stride, self.dilation, 1)
        shape = (self.padding, [0, 0], self.stride, self.dilation, 1)
        return _onednn._reorder_convolution_transpose_weight(weight, *shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, in, h, w] → [n, out, h', w']"""
        result: torch.Tensor = _Convolution.apply(x, self)
        return result
