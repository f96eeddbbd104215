"""The optimizers that settings name, and their state as plain tensors and JSON, lossless and without pickle.

How the learning rate moves stands in schedule.py; where the state is kept, in train.py.
"""

import contextlib
import importlib.util
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sticker_pipeline.settings import TrainingSettings
from sticker_pipeline.training.spec import SpecError

# Optimizers of packages that need not be there: the package, and the extra that installs it.
OPTIONAL = {"adamw8bit": ("bitsandbytes", "gpu"), "dadaptadam": ("dadaptation", "dadaptation")}
ONE_RATE = ("prodigy", "dadaptadam")


def check_optimizer(settings: TrainingSettings) -> None:
    """Raise SpecError where `make_optimizer` could not make what `settings` name: cheap, before models are loaded."""
    package, extra = OPTIONAL.get(settings.optimizer, ("", ""))
    if package and importlib.util.find_spec(package) is None:
        raise SpecError(
            f"settings.optimizer: {settings.optimizer} needs the package {package}, which is not installed. "
            f"Run `pip install 'sticker_pipeline[{extra}]'`, or choose adamw."
        )
    rates = {settings.learning_rate_unet, settings.learning_rate_text_encoder} - {0.0}
    if settings.optimizer in ONE_RATE and len(rates) > 1:
        raise SpecError(
            f"settings.learning_rate_text_encoder: {settings.optimizer} finds one step size for all weights. Set it to "
            "the value of learning_rate_unet, or to 0, which leaves the text encoder as it is."
        )


def make_optimizer(settings: TrainingSettings, groups: Sequence[Mapping[str, Any]]) -> torch.optim.Optimizer:
    """settings.optimizer over `groups`, each {"name": …, "params": [float32 tensors], "peak": its peak learning rate}.

    `name` and `peak` stay keys of the optimizer's groups; a group's "lr" begins at its peak, and whoever steps sets it
    to peak · schedule(step) before each step. Weights decay apart from the gradient, by lr · weight_decay.
    Raises SpecError as check_optimizer does.

    adamw: torch's, fused. adamw8bit: that of bitsandbytes, on a CPU as well, where it is slow. adafactor: that of
    transformers with the external rate, and scaling by the size of a parameter only where adafactor_scale_parameter
    asks for it (torch's own always scales, and LoRA's up matrices, which begin at 0, would hardly move); its relative
    step is the schedule `relative`. prodigy: its authors' package, with the bias correction and the safeguard for
    warm-ups that they advise for diffusion models, unless the settings say otherwise; a step at rate 0 is none.
    dadaptadam: Adam by D-Adaptation (Defazio and Mishchenko 2023), its authors' package as well.
    """
    check_optimizer(settings)
    chosen = [{**group, "lr": group["peak"], "weight_decay": settings.weight_decay} for group in groups]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(chosen, betas=settings.betas, fused=True)
    if settings.optimizer == "adamw8bit":
        import bitsandbytes

        return bitsandbytes.optim.AdamW8bit(chosen, betas=settings.betas)
    if settings.optimizer == "adafactor":
        from transformers import Adafactor

        return Adafactor(
            chosen,
            lr=settings.learning_rate_unet,
            scale_parameter=settings.adafactor_scale_parameter,
            relative_step=False,
        )
    if settings.optimizer == "dadaptadam":
        from dadaptation import DAdaptAdam

        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it was told
            return DAdaptAdam(
                chosen, betas=settings.betas, decouple=True, growth_rate=settings.dadapt_growth_rate or math.inf
            )
    from prodigyopt import Prodigy

    return Prodigy(
        chosen,
        betas=settings.betas,
        d0=settings.prodigy_d0,
        d_coef=settings.prodigy_d_coef,
        decouple=True,
        use_bias_correction=settings.prodigy_bias_correction,
        safeguard_warmup=settings.prodigy_safeguard_warmup,
    )


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], Any]:
    """All that `optimizer` remembers: tensors by name, copied to the CPU, and the rest as JSON with their names in it.

    Raises TypeError for a value that is neither a tensor nor a number, string, list, tuple or dict of such.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _to_json(optimizer.state_dict(), "", tensors)


def load_optimizer_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], state: Any) -> None:
    """Make `optimizer`, freshly made over parameters of the same shapes, go on where `optimizer_state` was taken.

    `state` may have been JSON text in between. Raises ValueError where groups or their lengths are others.
    """
    optimizer.load_state_dict(_from_json(state, tensors))


def _to_json(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` in what JSON has: what it lacks becomes an object with the type as its only key."""
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
    raise TypeError(f"The optimizer's {name} is a {type(value).__name__}, which its saved state has no form for.")


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
