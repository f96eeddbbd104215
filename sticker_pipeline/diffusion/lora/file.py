"""LoRA files in kohya's layout: alpha, metadata, safetensors only.

Names of modules: `key_map.py`. Other layouts: `formats.py`. Application: `apply.py`. Metadata of our files:
`training/lora_metadata.py`.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sticker_pipeline.core.storage import atomic_file
from sticker_pipeline.core.texts import UserError, are, counted
from sticker_pipeline.diffusion.families import FAMILIES
from sticker_pipeline.diffusion.lora.key_map import path_of
from sticker_pipeline.models.content import why_not_safetensors

if TYPE_CHECKING:
    import torch

Precision = Literal["float16", "float32"]

DOWN, UP, ALPHA, MAGNITUDE = "lora_down.weight", "lora_up.weight", "alpha", "dora_scale"  # of a module

# PyTorch types of plain numbers; packed types need separate scales.
_MATRIX_TYPES = ("float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e5m2")
_ALPHA_TYPES = (*_MATRIX_TYPES, "int8", "uint8", "int16", "int32", "int64")


SCALES = (1e-6, 1e6)  # plausible alpha / rank


class LoraError(UserError):
    """An unusable LoRA file; the message names file, key and defect."""


@dataclass(frozen=True)
class Adapter:
    """Change of a module: `weight += alpha / rank · up @ down`.

    down: [rank, in], or [rank, in, n, n] for convolutions; up: [out, rank] or [out, rank, 1, 1].

    `magnitude` makes it a DoRA (arXiv 2402.09353): the changed weight is scaled to these norms. Shapes as in LyCORIS:
    [out, 1] or [out, 1, 1, 1] for rows (outputs), which peft trains; [1, in] or [1, in, 1, 1] for columns (inputs).
    ComfyUI and A1111 apply columns exactly, rows not: ComfyUI divides by the unchanged weight's norms, A1111 takes them
    for columns. diffusers drops both.
    """

    down: "torch.Tensor"
    up: "torch.Tensor"
    alpha: float
    magnitude: "torch.Tensor | None" = None

    @property
    def rank(self) -> int:
        return int(self.down.shape[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the weight's shape: [out, in] or [out, in, n, n]."""
        return (int(self.up.shape[0]), *map(int, self.down.shape[1:]))


@dataclass(frozen=True)
class LoraFile:
    """Adapters by kohya module name, and the metadata of the file's header."""

    adapters: dict[str, Adapter]
    metadata: dict[str, str] = field(default_factory=dict)


def with_one_alpha(lora: LoraFile, alpha: float) -> LoraFile:
    """Return the same LoRA with one alpha; differences move into `up`.

    diffusers 0.42 uses a kohya file's most frequent alpha for all attention layers; ComfyUI, A1111 and sd-scripts read
    each. Apply this to files with several alphas.
    """
    adapters = {
        key: adapter
        if adapter.alpha == alpha
        else replace(adapter, up=adapter.up * (adapter.alpha / alpha), alpha=alpha)
        for key, adapter in lora.adapters.items()
    }
    return replace(lora, adapters=adapters)


def write_lora(path: Path, lora: LoraFile, precision: Precision) -> None:
    """Write a LoRA file atomically, matrices in `precision`.

    Alphas and DoRA magnitudes stay float32: they scale whole weights. Adds `sshs_model_hash`, `sshs_legacy_hash` and
    `modelspec.hash_sha256` to the metadata. Equal input gives equal bytes: no time, no path. Raises LoraError for
    values not finite in this precision.
    """
    import torch

    tensors: dict[str, torch.Tensor] = {}
    for key, adapter in lora.adapters.items():
        parts = {
            DOWN: adapter.down.detach().to("cpu", getattr(torch, precision), copy=True).contiguous(),
            UP: adapter.up.detach().to("cpu", getattr(torch, precision), copy=True).contiguous(),
            ALPHA: torch.tensor(adapter.alpha, dtype=torch.float32),
        }
        if adapter.magnitude is not None:
            parts[MAGNITUDE] = adapter.magnitude.detach().to("cpu", torch.float32).contiguous()
        if not all(value.isfinite().all() for value in parts.values()):
            raise LoraError(f"{path}: not written: {key} holds infinities or no numbers in {precision}.")
        tensors |= {f"{key}.{part}": value for part, value in parts.items()}
    hashes = _hashes(tensors, lora.metadata)
    with atomic_file(path) as staging:
        staging.write_bytes(_serialised(tensors, {**lora.metadata, **hashes}))


def _serialised(tensors: "Mapping[str, torch.Tensor]", metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file with sorted metadata; the library's order is random."""
    from safetensors.torch import save

    plain = save(dict(tensors))
    size = int.from_bytes(plain[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(plain[8 : 8 + size])}
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    encoded += b" " * (-len(encoded) % 8)  # tensors begin at a multiple of 8 bytes
    return len(encoded).to_bytes(8, "little") + encoded + plain[8 + size :]


def _hashes(tensors: "Mapping[str, torch.Tensor]", metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the hashes by which A1111 recognises a LoRA.

    Defined by sd-webui-additional-networks: SHA-256 of all bytes behind the header, and (legacy) 8 digits of that of 64
    KiB from offset 1 MiB of the file with its `ss_` metadata.
    """
    data = _serialised(tensors, {key: value for key, value in metadata.items() if key.startswith("ss_")})
    body = hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()
    legacy = hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8]
    return {"sshs_model_hash": body, "sshs_legacy_hash": legacy, "modelspec.hash_sha256": f"0x{body}"}


def read_lora(path: Path, family: str = "sd15") -> LoraFile:
    """Read a kohya LoRA file for `family`, strictly by the key table.

    Other layouts: `formats.py`. A missing alpha is the rank, as in kohya. Without `ss_base_model_version`, keys decide.
    Raises LoraError for other files than safetensors (pickles are recognised by content), another stated family,
    unknown keys, incomplete modules and values that cannot be applied.
    """
    tensors, metadata = read_tensors(path)
    version, expected = metadata.get("ss_base_model_version"), FAMILIES[family].base_version
    if version is not None and version != expected:
        raise LoraError(f"{path} was made for base models of {version!r}, not for {expected!r}.")
    return LoraFile(joined(tensors, family, path), metadata)


def read_tensors(path: Path) -> "tuple[dict[str, torch.Tensor], dict[str, str]]":
    """Return a safetensors file's tensors and metadata. Raises LoraError for other content."""
    with _opened(path) as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118 (not a dict)


def read_metadata(path: Path) -> dict[str, str]:
    """Return a safetensors file's metadata, from the header alone. Raises as `read_tensors`."""
    with _opened(path) as file:
        return dict(file.metadata() or {})


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file for single tensors. Raises LoraError for other content."""
    from safetensors import SafetensorError, safe_open

    if path.is_dir():
        raise LoraError(f"{path} is a folder: name the .safetensors file in it.")
    if not path.is_file():
        raise LoraError(f"{path}: there is no such file.")
    why = why_not_safetensors(path)
    if why:
        raise LoraError(f"{path} {why}")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise LoraError(_why_unreadable(path, error)) from error


def _why_unreadable(path: Path, error: Exception) -> str:
    """Return a sentence about a file that the library refuses.

    Non-text metadata are named: the file is undamaged.
    """
    with path.open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
    try:
        metadata = json.loads(header).get("__metadata__", {})
    except (ValueError, RecursionError):
        metadata = {}
    wrong = [key for key, value in metadata.items() if not isinstance(value, str)] if isinstance(metadata, dict) else []
    if wrong or not isinstance(metadata, dict):
        named = f"{len(wrong)} of its values are not, as {wrong[0]!r}" if wrong else "it is no table"
        return (
            f"{path}: the header's __metadata__ may hold nothing but texts, and {named}: no program that uses the "
            "safetensors library reads this file. Write it again with texts."
        )
    return f"{path} is not a whole safetensors file: {error}."


def joined(tensors: "Mapping[str, torch.Tensor]", family: str, path: Path) -> dict[str, Adapter]:
    """Return adapters by module from tensors by kohya key.

    Raises LoraError as `read_lora`.
    """
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        module, _, part = key.partition(".")
        if part not in (DOWN, UP, ALPHA, MAGNITUDE) or path_of(module, family) is None:
            raise LoraError(f"{path}: key {key!r} is not one of a {family} LoRA (U-Net blocks and text encoders).")
        parts.setdefault(module, {})[part] = tensor
    if not parts:
        raise LoraError(f"{path} holds no LoRA at all.")
    _refuse_incomplete(parts, path)
    _refuse_values(tensors, path)
    adapters = {module: _adapter(found, module, path) for module, found in parts.items()}
    refuse_scales(adapters, path)
    return adapters


def refuse_scales(adapters: Mapping[str, Adapter], path: Path) -> None:
    """Raise LoraError for a scale, alpha / rank, outside SCALES."""
    for module, adapter in adapters.items():
        if not SCALES[0] <= abs(adapter.alpha) / adapter.rank <= SCALES[1]:
            raise LoraError(
                f"{path}: alpha of {module!r} is {adapter.alpha:g} at rank {adapter.rank}: no LoRA is applied so "
                "strongly, or so weakly. Name another file."
            )


def _refuse_incomplete(parts: "Mapping[str, Mapping[str, torch.Tensor]]", path: Path) -> None:
    lacking = [f"{module}.{part}" for module, found in parts.items() for part in (DOWN, UP) if part not in found]
    if not lacking:
        return
    half = [module for module, found in parts.items() if MAGNITUDE in found and not {DOWN, UP} <= found.keys()]
    if half:
        raise LoraError(
            f"{path} is half a DoRA: {len(half)} of {counted(len(parts), 'module')} "
            f"{'has' if len(half) == 1 else 'have'} magnitudes without both matrices: key {lacking[0]!r} is missing. "
            "Save it again whole, or name another file."
        )
    modules = {key.partition(".")[0] for key in lacking}
    raise LoraError(
        f"{path}: {len(modules)} of {counted(len(parts), 'module')} {are(len(modules))} not whole: key {lacking[0]!r} "
        "is missing. Save it again, or name another file."
    )


def _refuse_values(tensors: "Mapping[str, torch.Tensor]", path: Path) -> None:
    """Raise LoraError for packed types, whole-number matrices, alpha 0, NaN and infinity."""
    kinds = {key: str(value.dtype).removeprefix("torch.") for key, value in tensors.items()}
    packed = [
        key for key, kind in kinds.items() if kind not in (_ALPHA_TYPES if key.endswith(f".{ALPHA}") else _MATRIX_TYPES)
    ]
    if packed:
        raise LoraError(
            f"{path}: {len(packed)} of {counted(len(tensors), 'key')} {are(len(packed))} of a type that is not read "
            f"here, as {packed[0]!r} ({kinds[packed[0]]}): name the file in float16, bfloat16 or float32."
        )
    none = [key for key, value in tensors.items() if key.endswith(f".{ALPHA}") and not value.float().any()]
    if none:
        raise LoraError(
            f"{path}: {len(none)} of {counted(len(tensors), 'key')} {are(len(none))} an alpha of 0, as {none[0]!r}: "
            "sd-scripts reads that as the rank, and ComfyUI as no change at all. Write the alpha that it was trained "
            "with, or name another file."
        )
    broken = [key for key, value in tensors.items() if not value.float().isfinite().all()]
    if broken:
        raise LoraError(
            f"{path}: {len(broken)} of {counted(len(tensors), 'key')} {'holds' if len(broken) == 1 else 'hold'} "
            f"values that are not finite (NaN or infinity), as {broken[0]!r}: its training failed, and its images are "
            "black. Name an earlier file of that training, or another one."
        )


def _adapter(parts: "Mapping[str, torch.Tensor]", module: str, path: Path) -> Adapter:
    down, up, magnitude = parts[DOWN], parts[UP], parts.get(MAGNITUDE)
    ones = [1] * (down.ndim - 2)
    if down.ndim not in (2, 4) or 0 in down.shape or 0 in up.shape or list(up.shape[1:]) != [down.shape[0], *ones]:
        raise LoraError(f"{path}: {module}: up {list(up.shape)} and down {list(down.shape)} do not fit together.")
    if magnitude is not None and list(magnitude.shape) not in ([up.shape[0], 1, *ones], [1, down.shape[1], *ones]):
        raise LoraError(f"{path}: {module}: {MAGNITUDE} {list(magnitude.shape)} fits neither outputs nor inputs.")
    alpha = parts.get(ALPHA)
    if alpha is not None and alpha.numel() != 1:
        raise LoraError(f"{path}: key '{module}.{ALPHA}' is not one number.")
    return Adapter(down, up, float(down.shape[0] if alpha is None else alpha.item()), magnitude)
