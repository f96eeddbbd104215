"""Text and noise settings that LoRA metadata requires for sampling.

Keys are of sd-scripts (`ss_*`) and Stability's ModelSpec. Strengths and samplers are the user's choice.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from sticker_pipeline.diffusion.families import FAMILIES
from sticker_pipeline.diffusion.lora.file import LoraError

Prediction = Literal["epsilon", "v_prediction"]
Value = TypeVar("Value")
PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v": "v_prediction"}  # ModelSpec's name -> diffusers'


@dataclass(frozen=True)
class TrainedFor:
    """Text and noise settings that LoRAs were trained with.

    `clip_skip`: the text encoder's layer from the end. `prediction`: None for the base model's. `zero_terminal_snr`:
    rescale noise levels so that the last is pure noise, whatever the base model states.
    """

    clip_skip: int = 1
    prediction: Prediction | None = None
    zero_terminal_snr: bool = False

    def differing(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults."""
        default = asdict(TrainedFor())
        return {name: value for name, value in asdict(self).items() if value != default[name]}


def trained_for(
    loras: Sequence[tuple[Path, Mapping[str, str]]],
    family: str,
    base_prediction: str | None = None,
) -> TrainedFor:
    """Return the common settings of the `loras` (file, metadata).

    `base_prediction`: the base model's, if known; equal statements are omitted. Raises LoraError, naming both files,
    for two that cannot be sampled together.
    """
    layer = None if FAMILIES[family].penultimate else _agreed(loras, _clip_skip, "clip skip")
    prediction: Prediction | None = _agreed(loras, _prediction, "prediction")
    return TrainedFor(
        clip_skip=layer or 1,
        prediction=None if prediction == base_prediction else prediction,
        zero_terminal_snr=any(metadata.get("ss_zero_terminal_snr") == "True" for _, metadata in loras),
    )


def _agreed(
    loras: Sequence[tuple[Path, Mapping[str, str]]], read: Callable[[Mapping[str, str]], Value | None], name: str
) -> Value | None:
    stated = {value: path for path, metadata in loras if (value := read(metadata)) is not None}
    if len(stated) > 1:
        (one, first), (other, second), *_ = stated.items()
        raise LoraError(f"{first} was trained for {name} {one}, {second} for {other}: they cannot be sampled together.")
    return next(iter(stated), None)


def _clip_skip(metadata: Mapping[str, str]) -> int | None:
    value = metadata.get("ss_clip_skip") or metadata.get("modelspec.encoder_layer") or ""
    return int(value) if re.fullmatch(r"[1-9]\d?", value) else None


def _prediction(metadata: Mapping[str, str]) -> Prediction | None:
    return PREDICTIONS.get(metadata.get("modelspec.prediction_type", ""))


def check_clip_skip(clip_skip: int, text_encoder: Any) -> None:
    """Raise LoraError where `text_encoder` has fewer layers than `clip_skip`."""
    layers = text_encoder.config.num_hidden_layers
    if clip_skip > layers:
        raise LoraError(f"It was trained for clip skip {clip_skip}, and the text encoder has {layers} layers.")
