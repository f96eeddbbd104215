"""Adapters as peft makes them, for tests of their size, without key names or target sets."""

from collections.abc import Callable, Sequence
from typing import Any

import peft
import torch


def plain_adapters(rank: int, *, text_encoders: bool = False) -> Callable[[Any, Sequence[Any]], None]:
    """A function that puts float32 LoRA of `rank` into a U-Net.

    It goes into every linear layer and 1×1 convolution of the transformer blocks and, with `text_encoders`, into their
    attention and MLP.
    """

    def adapt(unet: Any, encoders: Sequence[Any]) -> None:
        _inject(unet, rank, lambda path, module: ".attentions." in path and _linear(module))
        for encoder in encoders if text_encoders else ():
            _inject(encoder, rank, lambda path, module: ("self_attn" in path or "mlp" in path) and _linear(module))

    return adapt


def _linear(module: Any) -> bool:
    return isinstance(module, torch.nn.Linear) or getattr(module, "kernel_size", None) == (1, 1)


def _inject(model: Any, rank: int, chosen: Callable[[str, Any], bool]) -> None:
    paths = [path for path, module in model.named_modules() if chosen(path, module)]
    peft.inject_adapter_in_model(peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=paths), model)
    model.eval()
    for module in model.modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            module.lora_A.float()
            module.lora_B.float()
