"""Application of a LoRA to a model's weights, and its removal.

Files: `file.py`, `formats.py`. Trained adapters: `training/adapters.py`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sticker_pipeline.diffusion.lora.file import Adapter, LoraError, LoraFile
from sticker_pipeline.diffusion.lora.key_map import adaptable_modules

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class AppliedLora:
    """A LoRA applied to weights; `remove` restores them bit for bit."""

    originals: "dict[torch.nn.Parameter, torch.Tensor]"

    def remove(self) -> None:
        """Restore the original weights, in reverse order of application."""
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
    """Add `strength` times the LoRA's change to the modules' weights.

    `text_encoders`: in the family's order. Returns a handle with `remove`, also a context manager. Raises LoraError,
    without changes, for modules that the models lack or that have another shape, and for weights not finite in the
    model's precision.
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
    """Return a linear layer's shape as a 1×1 convolution's: files write either."""
    return shape if len(shape) == 4 else (*shape, 1, 1)


def _changed(weight: "torch.Tensor", adapter: Adapter, strength: float) -> "torch.Tensor":
    """Return the changed weight in float32, in the shape of `weight`.

    A DoRA's strength interpolates to its weight, as in ComfyUI and A1111.
    """
    up = adapter.up.to(weight.device).float().flatten(1)
    down = adapter.down.to(weight.device).float().flatten(1)
    delta = (adapter.alpha / adapter.rank * (up @ down)).reshape(weight.shape)
    if adapter.magnitude is not None:
        delta = _with_magnitude(weight + delta, adapter.magnitude.to(weight.device).float()) - weight
    return weight + strength * delta


def _with_magnitude(weight: "torch.Tensor", magnitude: "torch.Tensor") -> "torch.Tensor":
    """Scale `weight` to norms of rows `[out, 1, …]` or columns `[1, in, …]`."""
    import torch

    kept = 0 if magnitude.shape[0] == weight.shape[0] else 1
    others = [axis for axis in range(weight.ndim) if axis != kept]
    norm = torch.linalg.vector_norm(weight, dim=others, keepdim=True)
    scale = magnitude.reshape(norm.shape) / norm.clamp_min(torch.finfo(torch.float32).tiny)
    return weight * scale
