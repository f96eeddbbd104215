"""A LoRA as part of a model's weights, and how to take it out again.

Reading files belongs to file.py and formats.py; adapters that are being trained to models.py.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sticker_pipeline.diffusion.lora.file import Adapter, LoraError, LoraFile
from sticker_pipeline.diffusion.lora.key_map import adaptable_modules

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class AppliedLora:
    """A LoRA that is part of the models' weights now. `remove` puts the original weights back, bit for bit."""

    originals: "dict[torch.nn.Parameter, torch.Tensor]"

    def remove(self) -> None:
        """Restore the original weights. Of several LoRAs, the last applied must be removed first."""
        import torch

        with torch.no_grad():
            for weight, original in self.originals.items():
                weight.copy_(original)
        self.originals.clear()

    def __enter__(self) -> "AppliedLora":
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


def apply_lora(
    unet: "torch.nn.Module",
    text_encoders: "tuple[torch.nn.Module | None, ...]",
    lora: LoraFile,
    strength: float = 1.0,
    *,
    family: str = "sd15",
) -> AppliedLora:
    """Change the weight of each module that `lora` names, by `strength` times what the LoRA says.

    `text_encoders`: those of the family in its order. Returns a handle to `remove` it again, also usable as a context
    manager. Nothing is changed when LoraError is raised: for a module that these models do not have, or whose shape
    differs, and for a weight that would not be finite in the model's precision.
    """
    import torch

    modules = adaptable_modules(unet, text_encoders, family=family, targets="others")
    weights = {}
    for key, adapter in lora.adapters.items():
        if key not in modules:
            raise LoraError(f"The LoRA changes {key!r}, which this base model does not have.")
        weight = modules[key].weight
        if kernel_stated(adapter.shape) != kernel_stated(tuple(weight.shape)):
            raise LoraError(
                f"The LoRA's {key!r} is for a module of {adapter.shape}, the base model's is {tuple(weight.shape)}."
            )
        weights[key] = weight
    applied = AppliedLora({})
    with torch.no_grad():
        for key, adapter in lora.adapters.items():
            weight = weights[key]
            applied.originals[weight] = weight.detach().clone()
            weight.copy_(_changed(weight.float(), adapter, strength))
            if not weight.isfinite().all():
                applied.remove()
                raise LoraError(
                    f"The LoRA makes {key!r} larger than {weight.dtype} can hold, or no number: use a lower strength, "
                    "or another file."
                )
    return applied


def kernel_stated(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A linear layer is a 1×1 convolution, and files write either for the same module."""
    return shape if len(shape) == 4 else (*shape, 1, 1)


def _changed(weight: "torch.Tensor", adapter: Adapter, strength: float) -> "torch.Tensor":
    """The changed weight, float32, in the shape of `weight`. A DoRA's strength is a share of the way to its weight, as
    in ComfyUI and A1111."""
    up = adapter.up.to(weight.device).float().flatten(1)
    down = adapter.down.to(weight.device).float().flatten(1)
    delta = (adapter.alpha / adapter.rank * (up @ down)).reshape(weight.shape)
    if adapter.magnitude is not None:
        delta = _with_magnitude(weight + delta, adapter.magnitude.to(weight.device).float()) - weight
    return weight + strength * delta


def _with_magnitude(weight: "torch.Tensor", magnitude: "torch.Tensor") -> "torch.Tensor":
    """`weight` [out, in, …] with its rows scaled to the norms `magnitude` [out, 1, …], or its columns to [1, in, …]."""
    import torch

    kept = 0 if magnitude.shape[0] == weight.shape[0] else 1
    others = [axis for axis in range(weight.ndim) if axis != kept]
    norm = torch.linalg.vector_norm(weight, dim=others, keepdim=True)
    scale = magnitude.reshape(norm.shape) / norm.clamp_min(torch.finfo(torch.float32).tiny)
    return weight * scale
