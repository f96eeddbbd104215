"""LoRA files of others, in the layouts that are in use: kohya's with its variants, and diffusers' (peft's).

They become what lora_file.py reads, or are refused in one sentence: a LoRA is applied exactly, or not at all. Our own
files are read more strictly, by lora_file.read_lora.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sticker_pipeline.training.families import FAMILIES
from sticker_pipeline.training.keys import TABLE, key_of, numbered, path_of
from sticker_pipeline.training.lora_file import (
    ALPHA,
    DOWN,
    MAGNITUDE,
    UP,
    LoraError,
    LoraFile,
    joined,
    read_tensors,
)

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

# A part of a key by which another method than LoRA is known, and its name. LyCORIS (github.com/KohakuBlueleaf/LyCORIS)
# calls them so; ComfyUI's weight_adapter folder lists the same.
OTHER_METHODS: tuple[tuple[str, str], ...] = (
    (r"\.hada_\w+$", "a LyCORIS LoHa"),
    (r"\.lokr_\w+$", "a LyCORIS LoKr"),
    (r"\.diff(_b)?$", "a LyCORIS full difference"),
    (r"\.on_input$", "a LyCORIS (IA)³"),
    (r"\.oft_\w+$|\.oft_diag$", "an OFT"),
    (r"\.[ab][12]\.weight$", "a LyCORIS GLoRA"),
    (r"\.(w|b)_norm$", "a LyCORIS file with trained norms"),
    (r"\.lora_mid\.weight$", "a LyCORIS LoCon with a Tucker core (`use_tucker`)"),
    (r"\.scalar$", "a LyCORIS file with trained scalars (`use_scalar`)"),
    (r"^bundle_emb\.", "a LoRA with embeddings of its own (pivotal tuning)"),
)

# Width of the text that the U-Net attends to, in base models that people use.
CROSS_ATTENTION_WIDTHS = {768: "sd15", 1024: "sd20", 2048: "sdxl"}
# How `ss_base_model_version` and `modelspec.architecture` begin: kohya's names, and those of other trainers.
VERSION_STARTS = {"sd_v1": "sd15", "sd_1": "sd15", "sd_v2": "sd20", "sd_2": "sd20", "sdxl": "sdxl"}
ARCHITECTURE_STARTS = {"stable-diffusion-v1": "sd15", "stable-diffusion-v2": "sd20", "stable-diffusion-xl": "sdxl"}
FAMILY_NAMES = {"sd15": "SD1.5", "sd20": "SD2", "sdxl": "SDXL"}

# Endings of keys in diffusers' files since 2023, oldest last, and the part of a module that they are.
_PEFT_PARTS: tuple[tuple[str, str], ...] = (
    (r"\.lora_A(\.\w+)?\.weight", DOWN),
    (r"\.lora_B(\.\w+)?\.weight", UP),
    (r"\.lora_magnitude_vector(\.\w+)?(\.weight)?", MAGNITUDE),
    (r"\.alpha", ALPHA),
    (r"[._]lora(_linear_layer)?\.down\.weight", DOWN),
    (r"[._]lora(_linear_layer)?\.up\.weight", UP),
)
_ADAPTER_METADATA = "lora_adapter_metadata"  # diffusers: peft's configuration of each model, as JSON


def read_any_lora(path: Path, family: str = "sd15") -> LoraFile:
    """Read a LoRA file of any trainer for `family`: kohya's layout (also of LyCORIS' plain LoCon), or diffusers'.

    A module without alpha has alpha = rank. Raises LoraError for a pickle (by content), for another family (by what the
    file says, else by the width of its cross-attention), for another method than LoRA and DoRA, and for a module that
    the table in keys.py does not have.
    """
    tensors, metadata = read_tensors(path)
    _refuse_other_methods(tensors, path)
    _refuse_other_family(tensors, metadata, family, path)
    renamed: dict[str, torch.Tensor] = {}
    for key, tensor in tensors.items():
        name = _kohya_name(key, family) or _peft_name(key, family)
        if name is None:
            raise LoraError(f"{path}: key {key!r} is of no module that a LoRA for {FAMILY_NAMES[family]} changes here.")
        if name in renamed:
            raise LoraError(f"{path}: key {key!r} says the same as another one ({name}): only one can be meant.")
        renamed[name] = _as_column(key, tensor)
    alphas = _stated_alphas(renamed, _configurations(metadata, path), family)
    return LoraFile(joined({**alphas, **renamed}, family, path), metadata)


def _refuse_other_methods(tensors: "Tensors", path: Path) -> None:
    for key in tensors:
        for pattern, name in OTHER_METHODS:
            if re.search(pattern, key):
                raise LoraError(
                    f"{path} is {name} ({key!r}), which is no plain LoRA and is not applied here. Merge it into its "
                    "base model with the tool that made it and extract a LoRA from the result (sd-scripts: "
                    "networks/extract_lora_from_models.py), or name another file."
                )


def _refuse_other_family(tensors: "Tensors", metadata: Mapping[str, str], family: str, path: Path) -> None:
    for found, reason in _families(tensors, metadata):
        if found != family:
            name, own = FAMILY_NAMES[found], FAMILY_NAMES[family]
            raise LoraError(f"{path} is a LoRA for {name} ({reason}), and this base model is {own}: name another file.")


def _families(tensors: "Tensors", metadata: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(family, where it is told) for each thing in the file that tells one. Names that are not known tell nothing."""
    for key, starts in (("ss_base_model_version", VERSION_STARTS), ("modelspec.architecture", ARCHITECTURE_STARTS)):
        value = metadata.get(key, "")
        for start, family in starts.items():
            if value.lower().startswith(start):
                yield family, f"{key} is {value!r}"
    for key, tensor in tensors.items():
        if tensor.ndim > 1 and re.search(r"attn2[._](processor\.)?to_k[._]?.*(lora_down|lora_A|down)\b", key):
            width = int(tensor.shape[1])
            if width in CROSS_ATTENTION_WIDTHS:  # that of a small model made for tests, or so, tells nothing
                yield CROSS_ATTENTION_WIDTHS[width], f"its cross-attention reads {width} values"
            return


def _kohya_name(key: str, family: str) -> str | None:
    """Our own key for one in kohya's layout: `<module>.<part>`, with a module's name in any of its spellings."""
    module, _, part = key.partition(".")
    if part not in (DOWN, UP, ALPHA, MAGNITUDE):
        return None
    if path_of(module, family) is not None:
        return key
    for pattern, canonical in _spellings(family):
        if match := pattern.fullmatch(module):
            return f"{canonical.format(*match.groups())}.{part}"
    return None


@cache
def _spellings(family: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    """Other names of modules in kohya's layout, with the canonical one.

    SDXL's U-Net in diffusers' names (diffusers' own export, OneTrainer); text encoders without `text_model` (diffusers'
    export with transformers ≥ 5.6); `lora_te1` for the only text encoder of SD1.5.
    """
    prefixes = {encoder.folder: {encoder.prefix} for encoder in FAMILIES[family].text_encoders}
    prefixes |= {"unet": {"lora_unet"}, "text_encoder": prefixes["text_encoder"] | {"lora_te1"}}
    found = []
    for row in TABLE[family]:
        paths = [row.path] if row.model == "unet" else [row.path, f"text_model.{row.path}"]
        for prefix in sorted(prefixes[row.model]):
            for path in paths:
                name = f"{prefix}.{path}".replace(".", "_")
                found.append((numbered(name), row.key))
    return tuple(found)


def _peft_name(key: str, family: str) -> str | None:
    """Our own key for one in diffusers' layout: `unet.<path>.<part>`, `text_encoder.<path>.<part>`, …"""
    for pattern, part in _PEFT_PARTS:
        if match := re.fullmatch(rf"(.+?){pattern}", key):
            module = _peft_module(match[1], family)
            return module and f"{module}.{part}"
    return None


def _peft_module(name: str, family: str) -> str | None:
    """The kohya name of a module that diffusers calls so: `<model>.<path>`, or a path in the U-Net alone."""
    model, _, path = name.partition(".")
    if re.match(r"(down_blocks|mid_block|up_blocks)\.", name):
        model, path = "unet", name
    path = path.removeprefix("base_model.model.").replace(".processor.", ".")
    if model == "unet":
        path = re.sub(r"\.to_out$", ".to_out.0", path)
    else:  # names of attention processors, until diffusers 0.22
        path = re.sub(r"self_attn\.to_(q|k|v|out)$", r"self_attn.\1_proj", path)
    return key_of(path, model, family)


def _as_column(key: str, tensor: "torch.Tensor") -> "torch.Tensor":
    """A magnitude as peft stores it, [out] or (convolutions) [1, out, 1, 1], as a column; anything else as it is."""
    if ".lora_magnitude_vector" not in key:
        return tensor
    return tensor[:, None] if tensor.ndim == 1 else tensor.transpose(0, 1)


def _configurations(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    """peft's configurations of all models in one dictionary (`unet.lora_alpha`, …); empty where there are none."""
    try:
        return dict(json.loads(metadata.get(_ADAPTER_METADATA, "{}")))
    except (TypeError, ValueError) as error:
        raise LoraError(f"{path}: the metadata {_ADAPTER_METADATA!r} cannot be read: {error}.") from error


def _stated_alphas(tensors: "Tensors", configurations: Mapping[str, Any], family: str) -> "dict[str, torch.Tensor]":
    """Alphas by key, as peft's configurations state them."""
    import torch

    alphas = {}
    for key, tensor in tensors.items():
        module, _, part = key.partition(".")
        if part == DOWN and (located := path_of(module, family)):
            model, path = located
            alpha = _stated_alpha(configurations, model, path, int(tensor.shape[0]))
            if alpha is not None:
                alphas[f"{module}.{ALPHA}"] = torch.tensor(alpha)
    return alphas


def _stated_alpha(configurations: Mapping[str, Any], model: str, path: str, rank: int) -> float | None:
    """`lora_alpha` of the module, or what `alpha_pattern` has for it: a whole path, or its end (peft: get_pattern_key).

    With rank-stabilised LoRA (`use_rslora`) the scale is alpha / √rank; as files scale by alpha / rank, the alpha that
    does the same is returned.
    """
    alpha = configurations.get(f"{model}.lora_alpha")
    for pattern, value in (configurations.get(f"{model}.alpha_pattern") or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", path):
            alpha = value
            break
    if alpha is None:
        return None
    return float(alpha) * (math.sqrt(rank) if configurations.get(f"{model}.use_rslora") else 1.0)
