"""Optimizer of the settings; its state as tensors and JSON, without pickle."""

import contextlib
import importlib
import importlib.util
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sticker_pipeline.core.optimizer_table import OPTIMIZERS, Optimizer
from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.training.spec import SpecError


def check_optimizer(settings: TrainingSettings) -> None:
    """Raise SpecError where `make_optimizer` would fail, before models are loaded."""
    row = OPTIMIZERS[settings.optimizer]
    if row.extra and importlib.util.find_spec(row.package) is None:
        raise SpecError(
            f"settings.optimizer: {row.name} needs the package {row.package}, which is not installed. "
            f"Run `pip install 'sticker_pipeline[{row.extra}]'`, or choose adamw."
        )
    rates = {settings.learning_rate_unet, settings.learning_rate_text_encoder} - {0.0}
    if row.one_rate and len(rates) > 1:
        raise SpecError(
            f"settings.learning_rate_text_encoder: {row.name} finds one step size for all weights. Set it to "
            "the value of learning_rate_unet, or to 0, which leaves the text encoder as it is."
        )


def make_optimizer(settings: TrainingSettings, groups: Sequence[Mapping[str, Any]]) -> torch.optim.Optimizer:
    """Construct settings.optimizer over `groups`.

    Each is {"name": …, "params": [float32 tensors], "peak": its peak learning rate}; the optimizer's groups keep `name`
    and `peak`. "lr" begins at the peak; set it to peak · schedule(step) before each step. Weight decay is decoupled: lr
    · weight_decay. A step at rate 0 changes nothing. Adafactor's relative step is the schedule `relative`. Raises
    SpecError as check_optimizer.
    """
    check_optimizer(settings)
    row = OPTIMIZERS[settings.optimizer]
    module, _, name = row.constructor.rpartition(".")
    constructor = getattr(importlib.import_module(module), name)
    with contextlib.redirect_stdout(io.StringIO()):  # some print their arguments
        made: torch.optim.Optimizer = constructor(
            [{**group, "lr": group["peak"]} for group in groups], **_arguments(row, settings)
        )
    return made


def _arguments(row: Optimizer, settings: TrainingSettings) -> dict[str, Any]:
    given = {argument.name: getattr(settings, setting) for setting, argument in row.arguments.items()}
    fixed = {name: ours for name, (default, ours) in row.fixed.items() if ours != default}
    return {name: value for name, value in given.items() if value is not None} | fixed | dict(row.passed)


def set_rates(optimizer: Any, share: float) -> None:
    """Set each group's learning rate to this share (0–1) of its "peak"."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], Any]:
    """State of `optimizer`: CPU tensors by name, and JSON that names them.

    Raises TypeError for a value that is neither tensor nor number, string, list, tuple or dict of such.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _to_json(optimizer.state_dict(), "", tensors)


def load_optimizer_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], state: Any) -> None:
    """Resume a new `optimizer` over parameters of the same shapes.

    `state` may have been JSON text. Raises ValueError where groups or their lengths differ.
    """
    optimizer.load_state_dict(_from_json(state, tensors))


def _to_json(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` in JSON types; others become an object keyed by type."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[key, _to_json(item, f"{name}.{key}".lstrip("."), tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        items = [_to_json(item, f"{name}.{place}", tensors) for place, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"The optimizer's {name} is a {type(value).__name__}, which its saved state cannot contain.")


def _from_json(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_from_json(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _from_json(item, tensors) for key, item in content}
    return tuple(_from_json(content, tensors)) if kind == "tuple" else float(content)
