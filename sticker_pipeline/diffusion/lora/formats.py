"""LoRA files of other trainers, in kohya's and diffusers' (peft's) layouts.

They are converted to the layout of `file.py` or refused in one sentence, never approximated. `file.py::read_lora` reads
our own files more strictly.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sticker_pipeline.core.storage import content_hash
from sticker_pipeline.core.texts import are, counted
from sticker_pipeline.diffusion.families import FAMILIES
from sticker_pipeline.diffusion.lora.file import (
    ALPHA,
    DOWN,
    MAGNITUDE,
    UP,
    Adapter,
    LoraError,
    LoraFile,
    joined,
    read_metadata,
    read_tensors,
    refuse_scales,
)
from sticker_pipeline.diffusion.lora.key_map import TABLE, key_of, numbered, path_of
from sticker_pipeline.diffusion.lora.other_kinds import ORIGINAL_NAMES, refuse_kinds
from sticker_pipeline.diffusion.lora.scale import (
    CONFIGURATION,
    PEFT_FILE,
    Configuration,
    bare_text_encoder,
    configurations,
    stated_alpha,
    states_scale,
    uses_dora,
)

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

# Width of the U-Net's cross-attention.
CROSS_ATTENTION_WIDTHS = {768: "sd15", 1024: "sd20", 2048: "sdxl"}
# Width of the text encoders: SD2 has OpenCLIP's ViT-H, SDXL ViT-bigG as its second.
_TEXT_WIDTHS = {1024: "sd20", 1280: "sdxl"}
_DISTINGUISHED_BY_WIDTH: tuple[tuple[str, dict[int, str], str], ...] = (
    (r"attn2[._](processor\.)?to_k[._]?.*(lora_down|lora_A|down)\b", CROSS_ATTENTION_WIDTHS, "cross-attention"),
    (r"self_attn[._](to_)?q(_proj)?[._]?.*(lora_down|lora_A|down)\b", _TEXT_WIDTHS, "text encoder"),
)
# Starts of `ss_base_model_version` and `modelspec.architecture`, of kohya and other trainers.
VERSION_STARTS = {"sd_v1": "sd15", "sd_1": "sd15", "sd_v2": "sd20", "sd_2": "sd20", "sdxl": "sdxl"}
ARCHITECTURE_STARTS = {"stable-diffusion-v1": "sd15", "stable-diffusion-v2": "sd20", "stable-diffusion-xl": "sdxl"}
FAMILY_NAMES = {"sd15": "SD1.5", "sd20": "SD2", "sdxl": "SDXL"}

# Endings of keys in diffusers' files since 2023, oldest last -> part of a module.
_PEFT_PARTS: tuple[tuple[str, str], ...] = (
    (r"\.lora_A(\.\w+)?\.weight", DOWN),
    (r"\.lora_B(\.\w+)?\.weight", UP),
    (r"\.lora_magnitude_vector(\.\w+)?(\.weight)?", MAGNITUDE),
    (r"\.alpha", ALPHA),
    (r"[._]lora(_linear_layer)?\.down\.weight", DOWN),
    (r"[._]lora(_linear_layer)?\.up\.weight", UP),
)
SCALE_VERSION = 2  # raise it when scale.py reads another scale from the same file
_PEFT_PREFIX = "base_model.model."  # in peft's own files
_UNET_PATH = re.compile(r"(down_blocks|mid_block|up_blocks|conv_in|conv_out|time_embedding|add_embedding)\.")
_TEXT_PATH = re.compile(r"(text_model\.)?encoder\.layers\.|text_projection\.")
_AGREE = 0.01  # relative difference of equal alphas: one may be rounded to bfloat16


def lora_hash(path: Path, sha256: Callable[[Path], str]) -> str:
    """Return a hash over everything that decides a LoRA file's effect.

    The file's `sha256`; where its scale is outside its tensors, a hash of that, peft's configuration beside it and
    SCALE_VERSION.
    """
    own, configuration = sha256(path), path.with_name(CONFIGURATION)
    beside = sha256(configuration) if configuration.is_file() else None
    return content_hash([own, beside, SCALE_VERSION]) if beside or states_scale(_metadata(path)) else own


def _metadata(path: Path) -> dict[str, str]:
    """Return the file's metadata, empty if unreadable: `read_any_lora` gives the reason."""
    try:
        return read_metadata(path)
    except LoraError:
        return {}


def read_any_lora(path: Path, family: str = "sd15") -> LoraFile:
    """Read a LoRA file of any trainer for `family`.

    Layouts: kohya's (with LyCORIS' plain LoCon), diffusers', peft's. An alpha missing in tensors, header and peft's
    configuration is the rank. Raises LoraError for pickles (by content), another family (stated, else by widths),
    methods other than LoRA and DoRA and other kinds of files, each by name; modules outside the table in `key_map.py`,
    contradictory or zero alphas, and values that are not finite.
    """
    tensors, metadata = read_tensors(path)
    refuse_kinds(tensors, path)
    _refuse_other_family(tensors, metadata, family, path)
    own = any(key.startswith(_PEFT_PREFIX) for key in tensors)
    stated = configurations(metadata, path, beside=own or path.name == PEFT_FILE)
    if own and not stated:
        raise LoraError(
            f"{path} is peft's own file ({counted(len(tensors), 'key')}), and {path.with_name(CONFIGURATION)}, which "
            "says how strong it is, is not beside it: copy it there."
        )
    renamed = _renamed(tensors, stated, family, path)
    adapters = joined(renamed, family, path)
    held = {key.partition(".")[0] for key in renamed if key.endswith(f".{ALPHA}")}
    if not stated and not held:
        _refuse_lost_alpha(adapters, metadata, path)
    scaled = {key: _scaled(key, adapter, stated, family, path, key in held) for key, adapter in adapters.items()}
    refuse_scales(scaled, path)
    return LoraFile(scaled, metadata)


def _renamed(
    tensors: "Tensors", stated: Mapping[str, Sequence[Configuration]], family: str, path: Path
) -> "dict[str, torch.Tensor]":
    """Return tensors by our keys. Raises LoraError for unknown and duplicate keys."""
    encoder = "text_encoder" if len(FAMILIES[family].text_encoders) == 1 else bare_text_encoder(stated)
    renamed: dict[str, torch.Tensor] = {}
    unknown = []
    for key, tensor in tensors.items():
        name = _kohya_name(key, family) or _peft_name(key, family, encoder)
        if name is None:
            unknown.append(key)
            continue
        if name in renamed:
            raise LoraError(f"{path}: key {key!r} says the same as another one ({name}): only one can be meant.")
        renamed[name] = _as_column(key, tensor)
    if unknown:
        _refuse_unknown(unknown, len(tensors), encoder, family, path)
    return renamed


def _refuse_unknown(unknown: Sequence[str], keys: int, encoder: str | None, family: str, path: Path) -> None:
    refuse_kinds(unknown, path, [ORIGINAL_NAMES])
    bare = [key for key in unknown if _TEXT_PATH.match(key.removeprefix(_PEFT_PREFIX))]
    if bare and encoder is None:
        raise LoraError(
            f"{path}: {len(bare)} of {counted(keys, 'key')} {are(len(bare))} of a text encoder, as {bare[0]!r}, and "
            "it is unknown of which: put `text_encoder.` or `text_encoder_2.` in front of them."
        )
    raise LoraError(
        f"{path}: {len(unknown)} of {counted(keys, 'key')} {are(len(unknown))} of no module that a LoRA for "
        f"{FAMILY_NAMES[family]} changes, as {unknown[0]!r}: name a file that was trained for this base model."
    )


def _refuse_other_family(tensors: "Tensors", metadata: Mapping[str, str], family: str, path: Path) -> None:
    for found, reason in _families(tensors, metadata):
        if found != family:
            name, own = FAMILY_NAMES[found], FAMILY_NAMES[family]
            raise LoraError(
                f"{path} is a LoRA for {name} ({reason}; {counted(len(tensors), 'key')}), and this base model is "
                f"{own}: name another file."
            )


def _families(tensors: "Tensors", metadata: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (family, evidence) for each statement in the file; others are skipped."""
    for key, starts in (("ss_base_model_version", VERSION_STARTS), ("modelspec.architecture", ARCHITECTURE_STARTS)):
        value = metadata.get(key, "")
        for start, family in starts.items():
            if value.lower().startswith(start):
                yield family, f"{key} is {value!r}"
    for pattern, widths, who in _DISTINGUISHED_BY_WIDTH:
        for key, tensor in tensors.items():
            if tensor.ndim > 1 and re.search(pattern, key):
                width = int(tensor.shape[1])
                if width in widths:  # not that of a small test model
                    yield widths[width], f"its {who} reads {width} values"
                break


def _kohya_name(key: str, family: str) -> str | None:
    """Return our key for one in any spelling of kohya's layout, `<module>.<part>`."""
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
    """Return patterns of other module names in kohya's layout, with canonical ones.

    SDXL's U-Net in diffusers' names (diffusers' export, OneTrainer); text encoders without `text_model` (diffusers'
    export with transformers ≥ 5.6); `lora_te1` for SD1.5.
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


def _peft_name(key: str, family: str, encoder: str | None) -> str | None:
    """Return our key for one in diffusers' layout, such as `unet.<path>.<part>`."""
    for pattern, part in _PEFT_PARTS:
        if match := re.fullmatch(rf"(.+?){pattern}", key):
            module = _peft_module(match[1], family, encoder)
            return module and f"{module}.{part}"
    return None


def _peft_module(name: str, family: str, encoder: str | None) -> str | None:
    """Return the kohya name of diffusers' `<model>.<path>` or U-Net path.

    `encoder`: that of paths without a model, if known.
    """
    name = name.removeprefix(_PEFT_PREFIX)
    model, _, path = name.partition(".")
    if _UNET_PATH.match(f"{name}."):
        model, path = "unet", name
    elif encoder and _TEXT_PATH.match(f"{name}."):
        model, path = encoder, name
    path = path.removeprefix(_PEFT_PREFIX).replace(".processor.", ".")
    if model == "unet":
        path = re.sub(r"\.to_out$", ".to_out.0", path)
    else:  # attention processors, until diffusers 0.22
        path = re.sub(r"self_attn\.to_(q|k|v|out)$", r"self_attn.\1_proj", path)
    return key_of(path, model, family)


def _as_column(key: str, tensor: "torch.Tensor") -> "torch.Tensor":
    """Return peft's magnitudes as columns, other tensors unchanged.

    Magnitudes are [out] or, for convolutions, [1, out, 1, 1].
    """
    if ".lora_magnitude_vector" not in key or not tensor.ndim:
        return tensor
    return tensor[:, None] if tensor.ndim == 1 else tensor.transpose(0, 1)


def _scaled(
    key: str,
    adapter: Adapter,
    stated: Mapping[str, Sequence[Configuration]],
    family: str,
    path: Path,
    held: bool,
) -> Adapter:
    """Return the adapter with the alpha of peft's configurations, if any.

    `held`: its own alpha is from a tensor. Raises LoraError where both differ, and for a DoRA without magnitudes.
    """
    located = path_of(key, family)
    assert located is not None  # keys are from the same table
    if adapter.magnitude is None and uses_dora(stated, located[0]):
        raise LoraError(
            f"{path} is half a DoRA: its configuration says use_dora, and {key!r} has no magnitudes. Save it again "
            "with them, or name another file."
        )
    alpha = stated_alpha(stated, *located, adapter.rank)
    if alpha is None:
        return adapter
    if not held:
        return replace(adapter, alpha=alpha)
    if not math.isclose(adapter.alpha, alpha, rel_tol=_AGREE):
        raise LoraError(
            f"{path}: alpha of {key!r} is {adapter.alpha:g} in a tensor and {alpha:g} in peft's configuration: only "
            "one can be meant. Name another file."
        )
    return adapter


def _refuse_lost_alpha(adapters: Mapping[str, Adapter], metadata: Mapping[str, str], path: Path) -> None:
    """Raise LoraError where only kohya's header states an alpha, unlike the rank.

    sd-scripts writes tensors too; programs would use the rank.
    """
    text = metadata.get("ss_network_alpha", "")
    try:
        alpha = float(text)
    except ValueError:
        return
    if {adapter.rank for adapter in adapters.values()} != {alpha}:
        raise LoraError(
            f"{path}: the header's 'ss_network_alpha' is {text[:60]}, and none of {counted(len(adapters), 'module')} "
            "has an alpha: it is unknown whether the matrices contain it already. Name the file that its trainer "
            "wrote."
        )
