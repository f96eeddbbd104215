"""Faster layers for a device."""

from typing import Any

import torch

from sticker_pipeline.training.accel.fast_layers import speed_up
from sticker_pipeline.training.accel.fused_lora import fuse


def accelerate_layers(model: Any, device: torch.device) -> None:
    """Replace frozen and LoRA layers by faster ones, equal up to rounding."""
    speed_up(model) if device.type == "cpu" else fuse(model)
