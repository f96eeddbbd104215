"""Alpha of LoRAs without alpha tensors, from peft's configuration.

Places, which must agree: the header's `lora_adapter_metadata` (JSON by diffusers, prefixed by models unless one was
saved alone), adapter_config.json beside the file (peft), the header's own keys (scripts).
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sticker_pipeline.diffusion.lora.file import LoraError

PEFT_FILE, CONFIGURATION = "adapter_model.safetensors", "adapter_config.json"  # peft writes both
HEADER = "lora_adapter_metadata"  # diffusers' key in a safetensors header
MODELS = ("unet", "text_encoder", "text_encoder_2")

_SCALE = {"r", "lora_alpha", "alpha_pattern", "rank_pattern", "use_rslora", "use_dora"}  # peft's fields of a scale

# peft's fields, beside alpha and rank, that change a LoRA's effect (peft 0.21, tuners/lora/config.py), and their values
# in a plain LoRA. Dropout, VeLoRA and the choice of modules affect training only.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    **dict.fromkeys(
        (
            "alora_invocation_tokens",
            "arrow_config",
            "kasa_config",
            "layer_replication",
            "lora_bias",
            "modules_to_save",
            "monteclora_config",
            "target_parameters",
            "trainable_token_indices",
            "use_bdlora",
            "use_qalora",
        ),
        (False, [], {}),
    ),
}
# Starts of `init_lora_weights` values that change the base model, which is not in the file.
_CHANGED_BASES = ("pissa", "corda", "olora", "loftq", "lora_ga")
_NO_PLAIN = (
    "It is no plain LoRA and is not applied here. Merge it into its base model with peft (merge_and_unload) and "
    "extract a LoRA from the result, or name another file."
)
_MOST_NAMES = 10_000  # per table: SDXL has about 1,900 modules with weights
_NAME = re.compile(r"\^?(?:[A-Za-z0-9_-]|\\?\.)+\$?")  # a pattern that is a module name
_PARTS = re.compile(r"\\\.|.")


@dataclass(frozen=True)
class Name:
    """A module name in a pattern table: the characters of a path.

    `whole`: of a whole path, else of its end.
    """

    whole: bool
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Configuration:
    """peft's configuration of one model's LoRA: values, source, pattern tables."""

    values: Mapping[str, Any]
    where: str
    patterns: Mapping[str, Sequence[tuple[Name, float]]]


def configurations(metadata: Mapping[str, str], path: Path, *, beside: bool) -> dict[str, list[Configuration]]:
    """Return the configurations of each model; "" for those without a model.

    From the header of `path` and, with `beside`, the file next to it. Raises LoraError for unreadable configurations
    and LoRAs that are not plain.
    """
    found: dict[str, list[Configuration]] = {}
    for where, values in _tables(metadata, path, beside=beside):
        for model in ("", *MODELS):
            own = _of_model(values, model)
            if own.keys() & _SCALE:
                _refuse_others(own, where)
                patterns = {name: _patterns(own, name, where) for name in ("alpha_pattern", "rank_pattern")}
                found.setdefault(model, []).append(Configuration(own, where, patterns))
    return found


def states_scale(metadata: Mapping[str, str]) -> bool:
    """Tell whether the metadata state a scale."""
    return HEADER in metadata or _is_flat(metadata)


def bare_text_encoder(found: Mapping[str, Sequence[Configuration]]) -> str | None:
    """Return unprefixed configurations' text encoder, from peft's class note, or None."""
    classes = {"CLIPTextModel": "text_encoder", "CLIPTextModelWithProjection": "text_encoder_2"}
    for configuration in found.get("", []):
        mapping = configuration.values.get("auto_mapping")
        name = mapping.get("base_model_class") if isinstance(mapping, dict) else None
        if isinstance(name, str) and name in classes:
            return classes[name]
    return None


def stated_alpha(found: Mapping[str, Sequence[Configuration]], model: str, path: str, rank: int) -> float | None:
    """Return the alpha stated for a module, or None.

    Its scale is alpha / `rank`. Raises LoraError where two places differ, for another rank, and for alpha 0.
    """
    stated = [
        (configuration.where, _alpha(configuration, model, path, rank))
        for configuration in (*found.get(model, []), *found.get("", []))
    ]
    if len({alpha for _, alpha in stated}) > 1:
        both = " and ".join(f"{where} says {alpha:g}" for where, alpha in stated)
        raise LoraError(f"alpha of {model}'s {path!r} is stated twice, and differently: {both}. Only one can be meant.")
    return stated[0][1] if stated else None


def _tables(metadata: Mapping[str, str], path: Path, *, beside: bool) -> list[tuple[str, Mapping[str, Any]]]:
    """Return (source, values) of each configuration, with model prefixes."""
    tables: list[tuple[str, Mapping[str, Any]]] = []
    if HEADER in metadata:
        where = f"{path}: the header's {HEADER!r}"
        tables.append((where, _table(metadata[HEADER], where)))
    if _is_flat(metadata):
        tables.append((f"{path}: the header", _flat(metadata, path)))
    configuration = path.with_name(CONFIGURATION)
    if beside and configuration.is_file():
        try:
            text = configuration.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LoraError(f"{configuration} cannot be read: {error}.") from error
        tables.append((str(configuration), _table(text, str(configuration))))
    return tables


def _is_flat(metadata: Mapping[str, str]) -> bool:
    return any(key.rpartition(".")[2] == "lora_alpha" for key in metadata)


def _table(text: str, where: str) -> dict[str, Any]:
    values = _json(text, where)
    if not isinstance(values, dict):
        raise LoraError(f"{where} must be a table of peft's settings, not {_kind(values)}.")
    return values


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise LoraError(f"{where} cannot be read: its values lie too deep in one another.") from error
    except ValueError as error:
        raise LoraError(f"{where} cannot be read as JSON: {error}.") from error


def _flat(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    """Return peft's settings among the header's keys; values are JSON."""
    found = {}
    for key, text in metadata.items():
        if key.rpartition(".")[2] in _SCALE:
            found[key] = _json(text.lower() if text in ("True", "False") else text, f"{path}: the header's {key!r}")
    return found


def _of_model(values: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Return values prefixed by `model`, or in its table.

    For "", those of no model.
    """
    if not model:
        return {key: value for key, value in values.items() if key.partition(".")[0] not in MODELS}
    table = values.get(model)
    nested = table if isinstance(table, dict) else {}
    return {
        **nested,
        **{key.removeprefix(f"{model}."): value for key, value in values.items() if key.startswith(f"{model}.")},
    }


def _refuse_others(values: Mapping[str, Any], where: str) -> None:
    for name, plain in _PLAIN.items():
        value = values.get(name)
        if value is not None and value not in plain:
            raise LoraError(f"{where} says {name}: {_kind(value)}. {_NO_PLAIN}")
    begun = values.get("init_lora_weights")
    if isinstance(begun, str) and begun.lower().startswith(_CHANGED_BASES):
        raise LoraError(
            f"{where} says init_lora_weights: {begun[:60]}, which changes the base model as well. Save it again with "
            "peft's `path_initial_model_for_weight_conversion`, which makes a plain LoRA of it, or name another file."
        )


def _alpha(configuration: Configuration, model: str, path: str, rank: int) -> float:
    """Return the module's entry in `alpha_pattern`, else `lora_alpha`.

    Rank-stabilised LoRA (`use_rslora`, scale alpha / √rank) gives the equivalent alpha.
    """
    values, where = configuration.values, configuration.where
    stated_rank = _for_module(configuration, "rank_pattern", "r", model, path)
    if stated_rank is not None and stated_rank != rank:
        raise LoraError(
            f"{where} states the rank {stated_rank:g} for {model}'s {path!r}, and its matrices have {rank}."
        )
    alpha = _for_module(configuration, "alpha_pattern", "lora_alpha", model, path)
    if alpha is None:
        raise LoraError(f"{where} has settings of peft for {model}, but no lora_alpha: its strength is unknown.")
    if alpha == 0:
        raise LoraError(f"{where} states alpha 0 for {model}'s {path!r}, with which a LoRA does nothing: name another.")
    return alpha * (math.sqrt(rank) if _switch(values, "use_rslora", where) else 1.0)


def uses_dora(found: Mapping[str, Sequence[Configuration]], model: str) -> bool:
    """Tell whether a configuration declares the LoRA of `model` a DoRA."""
    return any(
        _switch(configuration.values, "use_dora", configuration.where)
        for configuration in (*found.get(model, []), *found.get("", []))
    )


def _for_module(configuration: Configuration, pattern: str, general: str, model: str, path: str) -> float | None:
    """Return the module's first entry in `pattern`, else `general`, or None.

    In text encoders, names may begin with `text_model.`, which transformers 5.6 dropped from one class.
    """
    spellings = [path] if model == "unet" else [path, f"text_model.{path}"]
    for name, number in configuration.patterns[pattern]:
        if any(is_named(spelling, name) for spelling in spellings):
            return number
    value = configuration.values.get(general)
    return None if value is None else _number(value, f"{configuration.where}: {general}")


def _patterns(values: Mapping[str, Any], name: str, where: str) -> list[tuple[Name, float]]:
    """Return peft's pattern table. Raises LoraError for other than names and numbers."""
    table = values.get(name)
    if table is None:
        return []
    if not isinstance(table, dict):
        raise LoraError(f"{where}: {name} must be a table of numbers by module, not {_kind(table)}.")
    if len(table) > _MOST_NAMES:
        raise LoraError(f"{where}: {name} has {len(table)} names, more than a model has modules: name another file.")
    found = []
    for key, value in table.items():
        parsed = parsed_name(key)
        if parsed is None:
            raise LoraError(
                f"{where}: {name} has the regular expression {_kind(key)}. Only names of modules, or their ends, are "
                "read here: write the name of each module, or name another file."
            )
        found.append((parsed, _number(value, f"{where}: {name} of {_kind(key)}")))
    return found


def parsed_name(pattern: str) -> Name | None:
    """Return the modules of a pattern-table key; None for other regular expressions.

    As in peft (`get_pattern_key`, utils/other.py): `.` is any character, `\\.` a dot, leading `^` allows whole paths
    only, `$` changes nothing.
    """
    if _NAME.fullmatch(pattern) is None:
        return None
    return Name(pattern.startswith("^"), tuple(_PARTS.findall(pattern.removeprefix("^").removesuffix("$"))))


def is_named(path: str, name: Name) -> bool:
    """Tell whether `name` is `path`, or its end behind a dot."""
    start = len(path) - len(name.parts)
    if start < 0 or (start and (name.whole or path[start - 1] != ".")):
        return False
    return all(part in (".", one) or part == f"\\{one}" for part, one in zip(name.parts, path[start:], strict=True))


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise LoraError(f"{where} must be a number, not {_kind(value)}.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise LoraError(f"{where} must be a finite number.")
    return number


def _switch(values: Mapping[str, Any], name: str, where: str) -> bool:
    value = values.get(name)
    if value is not None and not isinstance(value, bool):
        raise LoraError(f"{where}: {name} must be true or false, not {_kind(value)}.")
    return bool(value)


def _kind(value: Any) -> str:
    """Describe a JSON value in at most 60 characters."""
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a table"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"
