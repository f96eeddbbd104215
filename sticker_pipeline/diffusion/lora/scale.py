"""The scale of a LoRA whose alpha stands in no tensor: peft's configuration, wherever a file has it.

diffusers writes it as JSON into the file's header (`lora_adapter_metadata`), each key behind the model's name or, for a
model that was saved alone, without; peft writes adapter_config.json beside its file; scripts write its keys straight
into the header. What they state must agree.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sticker_pipeline.diffusion.lora.file import LoraError

PEFT_FILE, CONFIGURATION = "adapter_model.safetensors", "adapter_config.json"  # which peft writes beside each other
HEADER = "lora_adapter_metadata"  # diffusers' key in a safetensors header
MODELS = ("unet", "text_encoder", "text_encoder_2")

_SCALE = {"r", "lora_alpha", "alpha_pattern", "rank_pattern", "use_rslora", "use_dora"}  # peft's fields of a scale

# peft's fields that change what a LoRA does (peft 0.21, tuners/lora/config.py), beside alpha and rank, and the values
# with which it is a plain one. Dropout, VeLoRA and the choice of modules act in the training alone.
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
# Beginnings of `init_lora_weights` that change the base model too, which a LoRA file does not hold.
_CHANGED_BASES = ("pissa", "corda", "olora", "loftq", "lora_ga")
_NO_PLAIN = (
    "It is no plain LoRA and is not applied here. Merge it into its base model with peft (merge_and_unload) and "
    "extract a LoRA from the result, or name another file."
)
_MOST_NAMES = 10_000  # in a table: SDXL has about 1,900 modules with weights
_NAME = re.compile(r"\^?(?:[A-Za-z0-9_-]|\\?\.)+\$?")  # of a pattern that is the name of a module
_PARTS = re.compile(r"\\\.|.")


@dataclass(frozen=True)
class Name:
    """Modules that a key of a pattern table is for: `parts` are the characters of their path, or of its end."""

    whole: bool
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Configuration:
    """peft's configuration of the LoRA of one model: its values, where they stand, and its tables of names."""

    values: Mapping[str, Any]
    where: str
    patterns: Mapping[str, Sequence[tuple[Name, float]]]


def configurations(metadata: Mapping[str, str], path: Path, *, beside: bool) -> dict[str, list[Configuration]]:
    """The configurations of each model, "" for those that name none, in the file at `path` and, with `beside`, next to
    it. Raises LoraError for what cannot be read, and for a LoRA that is not a plain one."""
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
    """Whether the header of a file states a scale."""
    return HEADER in metadata or _is_flat(metadata)


def bare_text_encoder(found: Mapping[str, Sequence[Configuration]]) -> str | None:
    """The text encoder that a configuration without prefixes is of, by the class that peft notes; None for no note."""
    classes = {"CLIPTextModel": "text_encoder", "CLIPTextModelWithProjection": "text_encoder_2"}
    for configuration in found.get("", []):
        mapping = configuration.values.get("auto_mapping")
        name = mapping.get("base_model_class") if isinstance(mapping, dict) else None
        if isinstance(name, str) and name in classes:
            return classes[name]
    return None


def stated_alpha(found: Mapping[str, Sequence[Configuration]], model: str, path: str, rank: int) -> float | None:
    """The alpha of the module at `path` of `model` that has the scale alpha / `rank`; None where nothing states it.

    Raises LoraError where two places state different ones, for another rank than `rank`, and for alpha 0.
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
    """(where, values) of each place that states something; keys still have the models' names in front."""
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
    """peft's settings that stand in the header by themselves: texts, in which numbers and tables are JSON."""
    found = {}
    for key, text in metadata.items():
        if key.rpartition(".")[2] in _SCALE:
            found[key] = _json(text.lower() if text in ("True", "False") else text, f"{path}: the header's {key!r}")
    return found


def _of_model(values: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The values behind `model` and a dot, or in a table called so; for "" those that are of no model."""
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
    """Of one configuration: the module's entry in `alpha_pattern`, else `lora_alpha`.

    With rank-stabilised LoRA (`use_rslora`) the scale is alpha / √rank: the alpha that does the same is returned.
    """
    values, where = configuration.values, configuration.where
    stated_rank = _for_module(configuration, "rank_pattern", "r", model, path)
    if stated_rank is not None and stated_rank != rank:
        raise LoraError(
            f"{where} states the rank {stated_rank:g} for {model}'s {path!r}, and its matrices have {rank}."
        )
    alpha = _for_module(configuration, "alpha_pattern", "lora_alpha", model, path)
    if alpha is None:
        raise LoraError(
            f"{where} has settings of peft for {model}, but no lora_alpha: how strong it is stands nowhere."
        )
    if alpha == 0:
        raise LoraError(f"{where} states alpha 0 for {model}'s {path!r}, with which a LoRA does nothing: name another.")
    return alpha * (math.sqrt(rank) if _switch(values, "use_rslora", where) else 1.0)


def uses_dora(found: Mapping[str, Sequence[Configuration]], model: str) -> bool:
    """Whether a configuration says that the LoRA of `model` is a DoRA."""
    return any(
        _switch(configuration.values, "use_dora", configuration.where)
        for configuration in (*found.get(model, []), *found.get("", []))
    )


def _for_module(configuration: Configuration, pattern: str, general: str, model: str, path: str) -> float | None:
    """The number of the first name in the table `pattern` that is the module's, else that of `general`, if any.

    Names of a text encoder's modules may begin with `text_model.`, which transformers 5.6 dropped from one class.
    """
    spellings = [path] if model == "unet" else [path, f"text_model.{path}"]
    for name, number in configuration.patterns[pattern]:
        if any(is_named(spelling, name) for spelling in spellings):
            return number
    value = configuration.values.get(general)
    return None if value is None else _number(value, f"{configuration.where}: {general}")


def _patterns(values: Mapping[str, Any], name: str, where: str) -> list[tuple[Name, float]]:
    """A pattern table of peft's configuration. Raises LoraError where it has anything but names and numbers."""
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
    """The modules that a key of a pattern table is for; None for a regular expression that is more than a name.

    As peft reads it (`get_pattern_key`, utils/other.py): `.` is any character, `\\.` a dot, `^` in front allows whole
    paths only, and `$` changes nothing.
    """
    if _NAME.fullmatch(pattern) is None:
        return None
    return Name(pattern.startswith("^"), tuple(_PARTS.findall(pattern.removeprefix("^").removesuffix("$"))))


def is_named(path: str, name: Name) -> bool:
    """Tell whether `name` is for the module at `path`: its whole path, or the end of it behind a dot."""
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
    """What a value of JSON is, in at most 60 characters."""
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a table"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"
