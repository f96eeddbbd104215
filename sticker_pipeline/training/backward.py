"""Gradient of a batch: forward and backward through the U-Net.

In half precision, models compute with copies of the trained weights; learned weights, gradients and optimizer stay
float32 (Micikevicius et al. 2018, Mixed precision training).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sticker_pipeline.training.adapters import ADAPTER
from sticker_pipeline.training.objective import image_losses

Inputs = dict[str, Tensor]
"""A batch of b images on the device.

`noisy` [b, c, h, w] and the result of `conditions`, in the dtype of the U-Net; `timesteps` int64[b]; `target`
float32[b, c, h, w]; `share` float32[b], of each image's error in the step's loss; where transparent pixels count less,
`pixel_weights` float32[b, 1, h, w]. Text that is trained has a gradient.
"""

Backward = Callable[[Inputs], tuple[Tensor, tuple[Tensor, ...]]]
"""Adds the gradient of a batch to the U-Net's trained weights.

Returns the error of each image, float32[b], and the gradients of the inputs that require one, in order.
"""

CONDITIONS = ("text_embeds", "time_ids")  # further arguments of SDXL's U-Net


@dataclass(frozen=True)
class Weights:
    """Trained weights: `learned` float32 parameters, and those `used` to compute.

    Where `used` are half-precision copies, `places` are the originals' (module parameters, name), and `copy` updates
    the copies. Otherwise both are the same tensors, without places. `gradient` float32[all] contains each learned
    parameter's `grad`, at a fixed address.
    """

    learned: list[torch.nn.Parameter]
    used: list[Tensor]
    places: list[tuple[dict[str, Any], str]]
    copy: Callable[[], object]
    gradient: Tensor

    def add(self, gradients: Iterable[Tensor]) -> None:
        """Add `gradients` of `used` to those of `learned`."""
        self.gradient.add_(torch.cat([gradient.flatten() for gradient in gradients]))


def weights_of(layers: Iterable[Any], dtype: torch.dtype) -> Weights:
    """Trained weights in peft's LoRA `layers`, used in `dtype`; gradients 0.

    Weights and copies are contiguous, to be copied in one call. DoRA's magnitudes are used in float32: rounding a
    magnitude and the norm that divides it would exceed the change by training.
    """
    matrices, magnitudes = [], []
    for layer in layers:
        for module in (layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]):
            matrices.append((module._parameters, "weight"))
        magnitudes += list(layer.lora_magnitude_vector.parameters())
    learned = [parameters[name] for parameters, name in matrices]
    everything = [*learned, *magnitudes]
    gradient = _gradient(everything)
    if dtype == learned[0].dtype:
        return Weights(everything, list(everything), [], lambda: None, gradient)
    originals = _side_by_side(learned, torch.float32)
    copies = originals.to(dtype)
    for parameter, part in zip(learned, _parts(originals, learned), strict=True):
        parameter.data = part
    used = [part.requires_grad_() for part in _parts(copies, learned)]
    return Weights(everything, [*used, *magnitudes], matrices, lambda: copies.detach().copy_(originals), gradient)


def _side_by_side(tensors: list[torch.nn.Parameter], dtype: torch.dtype) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors]).to(dtype)


def _parts(whole: Tensor, like: list[torch.nn.Parameter]) -> list[Tensor]:
    pieces = whole.split([one.numel() for one in like])
    return [piece.view(one.shape) for piece, one in zip(pieces, like, strict=True)]


def _gradient(parameters: list[torch.nn.Parameter]) -> Tensor:
    """Zeros that contain each parameter's `grad` from now on."""
    gradient = torch.zeros_like(_side_by_side(parameters, torch.float32))
    for parameter, part in zip(parameters, _parts(gradient, parameters), strict=True):
        parameter.grad = part
    return gradient


@contextmanager
def in_use(*weights: Weights) -> Iterator[None]:
    """Update the `used` weights, and compute with them in the block."""
    for one in weights:
        one.copy()
        for (parameters, name), used in zip(one.places, one.used, strict=False):
            parameters[name] = used
    try:
        yield
    finally:
        for one in weights:
            for (parameters, name), learned in zip(one.places, one.learned, strict=False):
                parameters[name] = learned


def predict(unet: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    """Prediction of the U-Net for a batch, `[b, c, h, w]` in its dtype."""
    added = {name: inputs[name] for name in CONDITIONS if name in inputs}
    arguments = (inputs["noisy"], inputs["timesteps"], inputs["encoder_hidden_states"])
    predicted: Tensor = unet(*arguments, added_cond_kwargs=added or None, return_dict=False)[0]
    return predicted


def unet_backward(unet: Any, weights: Weights, scale: Callable[[Tensor], Tensor]) -> Backward:
    """Backward of `unet`, to be called with `weights` in use.

    `scale` maps a loss to itself or, against gradients too small for float16, to a multiple of it.
    """

    def backward(inputs: Inputs) -> tuple[Tensor, tuple[Tensor, ...]]:
        leaves = {name: tensor.detach().requires_grad_(tensor.requires_grad) for name, tensor in inputs.items()}
        errors = image_losses(predict(unet, leaves), leaves["target"], leaves.get("pixel_weights"))
        of = [leaf for leaf in leaves.values() if leaf.requires_grad]
        found = torch.autograd.grad(scale((errors * leaves["share"]).sum()), [*weights.used, *of])
        count = len(weights.used)
        weights.add(found[:count])
        return errors.detach(), found[count:]

    return backward
