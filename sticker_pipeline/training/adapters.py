"""LoRA or DoRA adapters in the base model (modules: `diffusion/lora/key_map.py`)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import peft
import torch

from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.diffusion.lora.file import Adapter
from sticker_pipeline.diffusion.lora.key_map import adaptable_modules, row_of

ADAPTER = "default"  # peft's name in each module


def add_adapters(unet: Any, text_encoders: Sequence[Any], family: str, settings: TrainingSettings) -> dict[str, Any]:
    """Add a float32 adapter to each module that `settings` name.

    Returns peft's LoRA layers by kohya name. Adapters begin as no change: up = 0; down uniform, seeded by
    settings.seed. Text encoders with learning rate 0 get none.
    """
    trained = tuple(text_encoders) if settings.learning_rate_text_encoder > 0 else ()
    modules = adaptable_modules(unet, trained, family=family, targets=settings.targets)
    names = {module: key for key, module in modules.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        for model in (unet, *trained):
            paths = {path: names[module] for path, module in model.named_modules() if module in names}
            _inject(model, paths, family, settings)
    layers = adaptable_modules(unet, trained, family=family, targets=settings.targets)
    for layer in layers.values():
        for part in (layer.lora_A, layer.lora_B, layer.lora_magnitude_vector):
            if ADAPTER in part:
                part[ADAPTER].float()
    return layers


def rank_and_alpha(kind: str, settings: TrainingSettings) -> tuple[int, float]:
    """Rank and alpha of a `kind`: "attention", "feed_forward" or "conv".

    Its own values, else the general ones.
    """
    own = {
        "attention": (None, None),
        "feed_forward": (settings.feed_forward_rank, settings.feed_forward_alpha),
        "conv": (settings.conv_rank, settings.conv_alpha),
    }
    rank, alpha = own[kind]
    return rank or settings.rank, alpha or settings.alpha


def _kind(key: str, family: str) -> str:
    row = row_of(key, family)
    assert row is not None  # keys come from the same table
    return row.kind


def _inject(model: Any, paths: Mapping[str, str], family: str, settings: TrainingSettings) -> None:
    sizes = {path: rank_and_alpha(_kind(key, family), settings) for path, key in paths.items()}
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        rank_pattern={f"^{path}": rank for path, (rank, _) in sizes.items() if rank != settings.rank},
        alpha_pattern={f"^{path}": alpha for path, (_, alpha) in sizes.items() if alpha != settings.alpha},
        lora_dropout=0.0,
        init_lora_weights=True,
        use_dora=settings.dora,
        target_modules=list(paths),
    )
    peft.inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    model.eval()


def adapters_of(layers: Mapping[str, Any]) -> dict[str, Adapter]:
    """Adapters of peft's `layers` in a LoRA file's form, sharing memory."""
    found = {}
    for key, layer in layers.items():
        down, up = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
        magnitude = layer.lora_magnitude_vector[ADAPTER].weight if ADAPTER in layer.lora_magnitude_vector else None
        adapter = Adapter(
            down.detach(),
            up.detach(),
            float(layer.lora_alpha[ADAPTER]),
            None if magnitude is None else magnitude.detach().reshape(-1, *[1] * (down.ndim - 1)),
        )
        if not math.isclose(layer.scaling[ADAPTER], adapter.alpha / adapter.rank):
            raise RuntimeError(f"{key}: peft scales by {layer.scaling[ADAPTER]}, a LoRA file would not.")
        found[key] = adapter
    return found


@torch.no_grad()
def load_adapters(layers: Mapping[str, Any], adapters: Mapping[str, Adapter]) -> None:
    """Copy `adapters` into peft's LoRA `layers`.

    Raises ValueError for those of other modules.
    """
    if layers.keys() != adapters.keys():
        raise ValueError("The saved adapters are of other modules than those that are trained now.")
    for key, adapter in adapters_of(layers).items():
        saved = adapters[key]
        adapter.down.copy_(saved.down)
        adapter.up.copy_(saved.up)
        if adapter.magnitude is not None:
            assert saved.magnitude is not None
            adapter.magnitude.copy_(saved.magnitude)


def by_model(layers: Mapping[str, Any]) -> dict[str, list[Any]]:
    """peft's LoRA `layers` by model: "unet", "text_encoder" (all together)."""
    found: dict[str, list[Any]] = {"unet": [], "text_encoder": []}
    for key, layer in layers.items():
        found["unet" if key.startswith("lora_unet_") else "text_encoder"].append(layer)
    return {name: group for name, group in found.items() if group}
