"""Safety checks of third-party configurations: no code, network or absurd sizes.

Checks of the model: `base_model.py`.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sticker_pipeline.models.content import parse_json

LIBRARIES = ("diffusers", "transformers", "stable_diffusion", None)  # allowed in model_index.json
ATTENTION = ("eager", "sdpa", "flash_attention_2", "flex_attention", None)  # others are code from the hub
SIDES = (
    *("block_out_channels", "hidden_size", "intermediate_size", "vocab_size", "max_position_embeddings"),
    "cross_attention_dim",
)
COUNTS = ("num_hidden_layers", "layers_per_block", "transformer_layers_per_block", "num_attention_heads")
MOST_LAYERS = 1000
MOST_TIMESTEPS = 100_000
ADAPTER = "adapter_config.json"  # makes transformers load a LoRA of another model
_DAMAGED = "Download it again."


def read_config(path: Path) -> dict[str, Any]:
    """Return the JSON object in the file `path`.

    Raises ValueError, with a sentence, for anything else, NaN and infinity.
    """
    try:
        found = parse_json(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}). {_DAMAGED}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no JSON object. {_DAMAGED}")
    if not all(math.isfinite(number) for number in _numbers(found)):
        raise ValueError(f"{path} has an invalid number (NaN or infinity). {_DAMAGED}")
    return found


def why_not_index(path: Path, index: dict[str, Any]) -> str | None:
    """Return a sentence about parts from unusual libraries, or None."""
    if not isinstance(index.get("_class_name", ""), str):
        return f"{path} names a pipeline of its own, and code of a model's folder is never run. Use another model."
    for part, entry in index.items():
        if not isinstance(entry, list):
            continue
        if len(entry) != 2 or not all(isinstance(name, str | None) for name in entry):
            return f"{path} names no library and class for {part!r}. {_DAMAGED}"
        if entry[0] not in LIBRARIES:
            return (
                f"{path} takes {part!r} from {entry[0]!r}, and code of a model's folder is never run. Use a model of "
                "diffusers and transformers alone."
            )
    return None


def why_not_part(path: Path, config: dict[str, Any]) -> str | None:
    """Return a sentence about an unusable part or scheduler configuration, or None."""
    for key in ("attn_implementation", "_attn_implementation"):
        if config.get(key) not in ATTENTION:
            return f"{path} says {key} {config[key]!r}, which is code from the hub. Remove that line."
    if (path.parent / ADAPTER).exists():
        return f"{path.parent / ADAPTER} would load a LoRA of another model with this one. Move it away."
    for key in COUNTS:
        if any(number > MOST_LAYERS for number in _numbers(config.get(key))):
            return f"{path} says {key} {config[key]!r}: no such model has so many. {_DAMAGED}"
    scale = config.get("scaling_factor", 1.0)
    if not isinstance(scale, int | float) or scale <= 0:
        return f"{path} says scaling_factor {scale!r}, which is no number above 0. {_DAMAGED}"
    steps = config.get("num_train_timesteps", 1000)
    if not isinstance(steps, int) or not 0 < steps <= MOST_TIMESTEPS:
        return f"{path} says num_train_timesteps {steps!r}, which is no number from 1 to {MOST_TIMESTEPS}. {_DAMAGED}"
    return None


def why_not_sides(path: Path, config: dict[str, Any], header: dict[str, Any]) -> str | None:
    """Return a sentence about configured sizes beyond the weights', or None.

    Tensors of any configured size would be allocated.
    """
    longest = max((side for tensor in header.values() for side in tensor["shape"]), default=0)
    for key in SIDES:
        if any(number > longest for number in _numbers(config.get(key))):
            return (
                f"{path} says {key} {config[key]!r}, and its weights have no such side: they are of different models."
            )
    return None


def _numbers(value: Any) -> Iterator[float]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, int | float):
            yield one
        elif isinstance(one, list | dict):
            waiting += one.values() if isinstance(one, dict) else one
