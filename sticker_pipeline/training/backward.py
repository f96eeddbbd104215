"""The gradient of a batch: forward and backward through the U-Net, in the precision of the base model.

Where that is half precision, the models compute with copies of the trained weights in it; the weights that learn, their
gradients and the optimizer stay float32 (Micikevicius et al. 2018, Mixed precision training). On a GPU all of this is
recorded once and replayed: see cuda_graph.py. What is drawn for a batch stands in step.py.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sticker_pipeline.training.adapters import ADAPTER
from sticker_pipeline.training.objective import picture_losses

Inputs = dict[str, Tensor]
"""What a batch of b pictures is, on the device: `noisy` [b, c, h, w] and what `conditions` gives, in the dtype of the
U-Net; `timesteps` int64[b]; `target` float32[b, c, h, w]; `share` float32[b], of each picture's error in the step's
loss; where transparent pixels count less, `pixel_weights` float32[b, 1, h, w]. Text that is being trained has a
gradient."""

Backward = Callable[[Inputs], tuple[Tensor, tuple[Tensor, ...]]]
"""Adds the gradient of a batch to the trained weights of the U-Net. Returns the error of each picture, float32[b], and
the gradients of those inputs that have one, in their order."""

CONDITIONS = ("text_embeds", "time_ids")  # further arguments of SDXL's U-Net


@dataclass(frozen=True)
class Weights:
    """Trained weights: `learned` are float32 parameters that always have a `grad`, `used` what the models compute with.

    Where these are half-precision copies, `places` says where each stands in for its original: (a module's parameters,
    name). Otherwise they are the same tensors, and there are no places.
    """

    learned: list[torch.nn.Parameter]
    used: list[Tensor]
    places: list[tuple[dict[str, Any], str]]

    @property
    def gradients(self) -> list[Tensor]:
        """Those of the `learned`, in memory that stays where it is: a recorded step adds to it."""
        return [parameter.grad for parameter in self.learned if parameter.grad is not None]

    def add(self, gradients: Iterable[Tensor]) -> None:
        """Add `gradients` of the `used` to those of the `learned`."""
        torch._foreach_add_(self.gradients, list(gradients))

    def clear(self) -> None:
        """Set the gradients to 0."""
        torch._foreach_zero_(self.gradients)


def weights_of(layers: Iterable[Any], dtype: torch.dtype) -> Weights:
    """The trained weights in peft's LoRA `layers`, used in `dtype`; gradients begin at 0.

    DoRA's magnitudes are used in float32: in half precision, a magnitude and the norm that it is divided by would each
    be rounded, by more than a training changes them.
    """
    weights = Weights([], [], [])
    for layer in layers:
        matrices = [layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]]
        for module in layer.modules():
            for name, parameter in module._parameters.items():
                if parameter is None or not parameter.requires_grad:
                    continue
                parameter.grad = torch.zeros_like(parameter)
                weights.learned.append(parameter)
                if module in matrices and dtype != parameter.dtype:
                    weights.used.append(parameter.detach().to(dtype).requires_grad_())
                    weights.places.append((module._parameters, name))
                else:
                    weights.used.append(parameter)
    return weights


@contextmanager
def in_use(*weights: Weights) -> Iterator[None]:
    """Inside, models compute with the `used` weights, which are brought up to date first."""
    with ExitStack() as stack:
        for one in weights:
            stack.enter_context(_in_use(one))
        yield


@contextmanager
def _in_use(weights: Weights) -> Iterator[None]:
    copies = [pair for pair in zip(weights.used, weights.learned, strict=True) if pair[0] is not pair[1]]
    if copies:
        with torch.no_grad():
            torch._foreach_copy_([copy for copy, _ in copies], [original for _, original in copies])
    for (parameters, name), (copy, _) in zip(weights.places, copies, strict=True):
        parameters[name] = copy
    try:
        yield
    finally:
        for (parameters, name), (_, original) in zip(weights.places, copies, strict=True):
            parameters[name] = original


def predict(unet: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    """What the U-Net says to a batch, [b, c, h, w] in its dtype."""
    added = {name: inputs[name] for name in CONDITIONS if name in inputs}
    arguments = (inputs["noisy"], inputs["timesteps"], inputs["encoder_hidden_states"])
    predicted: Tensor = unet(*arguments, added_cond_kwargs=added or None, return_dict=False)[0]
    return predicted


def unet_backward(unet: Any, weights: Weights, scale: Callable[[Tensor], Tensor]) -> Backward:
    """The Backward of `unet`, whose trained `weights` must be in use when it is called. `scale`: a loss -> the same or,
    against gradients too small for float16, a multiple of it."""

    def backward(inputs: Inputs) -> tuple[Tensor, tuple[Tensor, ...]]:
        leaves = {name: tensor.detach().requires_grad_(tensor.requires_grad) for name, tensor in inputs.items()}
        errors = picture_losses(predict(unet, leaves), leaves["target"], leaves.get("pixel_weights"))
        of = [leaf for leaf in leaves.values() if leaf.requires_grad]
        found = torch.autograd.grad(scale((errors * leaves["share"]).sum()), [*weights.used, *of])
        count = len(weights.used)
        weights.add(found[:count])
        return errors.detach(), found[count:]

    return backward
