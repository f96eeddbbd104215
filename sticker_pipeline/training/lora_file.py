"""LoRA files as the whole SD1.5 world reads them: kohya's key names, true alpha, metadata, safetensors only.

The names are one table, used strictly in both directions. What the metadata of our own files say stands in metadata.py;
how adapters are trained in models.py.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sticker_pipeline.models.content import why_not_safetensors
from sticker_pipeline.storage import atomic_file

if TYPE_CHECKING:
    import torch

Precision = Literal["float16", "float32"]


class LoraError(ValueError):
    """A LoRA file that cannot be used; the message names the file, the key, and what is wrong with it."""


@dataclass(frozen=True)
class Row:
    """Modules at `path` in the tree of `model` are called `key` in a file; each {} is the same number in both."""

    model: Literal["unet", "text_encoder"]
    path: str
    key: str
    attention: bool  # a projection of an attention layer: what `targets: attention` adapts


_UNET_BLOCKS = ("down_blocks.{}.attentions.{}", "mid_block.attentions.{}", "up_blocks.{}.attentions.{}")
_UNET_LAYERS = (  # 12 for each transformer block of SD1.5: 16 blocks, 192 modules
    ("proj_in", False),
    ("proj_out", False),
    *((f"transformer_blocks.{{}}.attn{n}.to_{p}", True) for n in (1, 2) for p in ("q", "k", "v", "out.0")),
    ("transformer_blocks.{}.ff.net.0.proj", False),
    ("transformer_blocks.{}.ff.net.2", False),
)
_TEXT_LAYERS = (  # 6 for each of the 12 layers of SD1.5's text encoder: 72 modules
    *((f"encoder.layers.{{}}.self_attn.{p}_proj", True) for p in ("q", "k", "v", "out")),
    ("encoder.layers.{}.mlp.fc1", False),
    ("encoder.layers.{}.mlp.fc2", False),
)


def _unet_rows() -> Iterator[Row]:
    for block in _UNET_BLOCKS:
        for layer, attention in _UNET_LAYERS:
            path = f"{block}.{layer}"
            yield Row("unet", path, "lora_unet_" + path.replace(".", "_"), attention)


def _text_rows(prefix: str) -> Iterator[Row]:
    """Files say `text_model`, which transformers ≥ 5.6 no longer has in its module tree (see `module_paths`)."""
    for path, attention in _TEXT_LAYERS:
        yield Row("text_encoder", path, f"{prefix}_text_model_" + path.replace(".", "_"), attention)


# SD1.5's text encoder is `lora_te`: sd-scripts silently drops `lora_te1` there.
TABLE: dict[str, tuple[Row, ...]] = {"sd15": (*_unet_rows(), *_text_rows("lora_te"))}

# What `ss_base_model_version` says in files for each family (kohya's names).
BASE_VERSIONS = {"sd15": "sd_v1"}

_TEXT_PREFIX = "text_model."
_PARTS = ("lora_down.weight", "lora_up.weight", "alpha")


def key_of(path: str, model: str, family: str = "sd15") -> str | None:
    """The kohya name of the module at `path` of `model` ("unet", "text_encoder"), or None where the table has none."""
    for row in TABLE[family]:
        if row.model == model and (numbers := _match(row.path, path.removeprefix(_TEXT_PREFIX))) is not None:
            return row.key.format(*numbers)
    return None


def path_of(key: str, family: str = "sd15") -> tuple[str, str] | None:
    """(model, module path) of a kohya name, or None where the table has none. The inverse of `key_of`."""
    for row in TABLE[family]:
        if (numbers := _match(row.key, key)) is not None:
            return row.model, row.path.format(*numbers)
    return None


def _match(pattern: str, text: str) -> tuple[str, ...] | None:
    found = re.fullmatch(re.escape(pattern).replace(r"\{\}", r"(\d+)"), text)
    return found.groups() if found else None


def adaptable_modules(
    unet: "torch.nn.Module",
    text_encoder: "torch.nn.Module | None",
    *,
    family: str = "sd15",
    attention_only: bool = False,
) -> dict[str, Any]:
    """The modules that a LoRA of `family` may change, by kohya name, in the order of the module trees."""
    rows = [row for row in TABLE[family] if row.attention or not attention_only]
    found: dict[str, Any] = {}
    for model, tree in (("unet", unet), ("text_encoder", text_encoder)):
        if tree is None:
            continue
        patterns = [
            (re.compile(re.escape(row.path).replace(r"\{\}", r"(\d+)")), row.key) for row in rows if row.model == model
        ]
        for path, module in tree.named_modules():
            for pattern, key in patterns:
                if match := pattern.fullmatch(path.removeprefix(_TEXT_PREFIX)):
                    found[key.format(*match.groups())] = module
    return found


@dataclass(frozen=True)
class Adapter:
    """What is added to one module: weight += alpha / rank · up @ down.

    down: [rank, in] or, for a convolution, [rank, in, 1, 1]; up: [out, rank] or [out, rank, 1, 1].
    """

    down: "torch.Tensor"
    up: "torch.Tensor"
    alpha: float

    @property
    def rank(self) -> int:
        return int(self.down.shape[0])


@dataclass(frozen=True)
class LoraFile:
    """`adapters` by kohya module name; `metadata` as in the file's header."""

    adapters: dict[str, Adapter]
    metadata: dict[str, str] = field(default_factory=dict)


def write_lora(path: Path, lora: LoraFile, precision: Precision) -> None:
    """Write a LoRA file in one rename. Matrices get `precision`; alphas stay float32, so that they are exact.

    `sshs_model_hash`, `sshs_legacy_hash` and `modelspec.hash_sha256` are added to the metadata. Equal input gives equal
    bytes: the file holds no time and no path. Raises LoraError for values that are not finite in this precision.
    """
    import torch

    tensors: dict[str, torch.Tensor] = {}
    for key, adapter in lora.adapters.items():
        values = (
            adapter.down.detach().to("cpu", getattr(torch, precision)).contiguous(),
            adapter.up.detach().to("cpu", getattr(torch, precision)).contiguous(),
            torch.tensor(adapter.alpha, dtype=torch.float32),
        )
        if not all(value.isfinite().all() for value in values):
            raise LoraError(f"{path}: not written: {key} holds infinities or no numbers in {precision}.")
        tensors |= {f"{key}.{part}": value for part, value in zip(_PARTS, values, strict=True)}
    hashes = _hashes(tensors, lora.metadata)
    with atomic_file(path) as staging:
        staging.write_bytes(_serialised(tensors, {**lora.metadata, **hashes}))


def _serialised(tensors: Mapping[str, "torch.Tensor"], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file whose header has the metadata in sorted order: the library writes them in a random one."""
    from safetensors.torch import save

    plain = save(dict(tensors))
    size = int.from_bytes(plain[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(plain[8 : 8 + size])}
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    encoded += b" " * (-len(encoded) % 8)  # tensors begin at a multiple of 8 bytes
    return len(encoded).to_bytes(8, "little") + encoded + plain[8 + size :]


def _hashes(tensors: Mapping[str, "torch.Tensor"], metadata: Mapping[str, str]) -> dict[str, str]:
    """The hashes by which A1111 recognises a LoRA, defined by sd-webui-additional-networks: the SHA-256 of all bytes
    behind the header, and (legacy) 8 digits of that of 64 KiB from offset 1 MiB of the file with its `ss_` metadata."""
    data = _serialised(tensors, {key: value for key, value in metadata.items() if key.startswith("ss_")})
    body = hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()
    legacy = hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8]
    return {"sshs_model_hash": body, "sshs_legacy_hash": legacy, "modelspec.hash_sha256": f"0x{body}"}


def read_lora(path: Path, family: str = "sd15") -> LoraFile:
    """Read a kohya LoRA file for `family`, strictly.

    Raises LoraError for a file that is no safetensors file (pickles are recognised by content), that says it was made
    for another family, that has a key not in the table, or that lacks a part of a module. A file without
    `ss_base_model_version` is judged by its keys; a module without alpha has alpha = rank, as kohya reads it.
    """
    from safetensors import SafetensorError, safe_open

    _refuse_pickle(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise LoraError(f"{path} is not a whole safetensors file: {error}.") from error
    version = metadata.get("ss_base_model_version")
    if version is not None and version != BASE_VERSIONS[family]:
        raise LoraError(f"{path} was made for base models of {version!r}, not for {BASE_VERSIONS[family]!r}.")
    return LoraFile(_adapters(tensors, family, path), metadata)


def _refuse_pickle(path: Path) -> None:
    if not path.is_file():
        raise LoraError(f"{path}: there is no such file.")
    why = why_not_safetensors(path)
    if why:
        raise LoraError(f"{path} {why}")


def _adapters(tensors: Mapping[str, "torch.Tensor"], family: str, path: Path) -> dict[str, Adapter]:
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        module, _, part = key.partition(".")
        if part not in _PARTS or path_of(module, family) is None:
            raise LoraError(f"{path}: key {key!r} is not one of a {family} LoRA (transformer blocks and text encoder).")
        parts.setdefault(module, {})[part] = tensor
    adapters = {}
    for module, found in parts.items():
        for part in _PARTS[:2]:
            if part not in found:
                raise LoraError(f"{path}: key '{module}.{part}' is missing.")
        down, up, alpha = (found.get(part) for part in _PARTS)
        assert down is not None and up is not None
        if down.ndim not in (2, 4) or up.ndim != down.ndim or up.shape[1] != down.shape[0]:
            raise LoraError(f"{path}: {module}: up {list(up.shape)} and down {list(down.shape)} do not fit together.")
        adapters[module] = Adapter(down, up, down.shape[0] if alpha is None else alpha.item())
    if not adapters:
        raise LoraError(f"{path} holds no LoRA at all.")
    return adapters


@dataclass(frozen=True)
class AppliedLora:
    """A LoRA that is part of the models' weights now. `remove` puts the original weights back, bit for bit."""

    originals: "dict[torch.nn.Parameter, torch.Tensor]"

    def remove(self) -> None:
        """Restore the original weights. Of several LoRAs, the last applied must be removed first."""
        import torch

        with torch.no_grad():
            for weight, original in self.originals.items():
                weight.copy_(original)
        self.originals.clear()

    def __enter__(self) -> "AppliedLora":
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


def apply_lora(
    unet: "torch.nn.Module",
    text_encoder: "torch.nn.Module",
    lora: LoraFile,
    strength: float = 1.0,
    *,
    family: str = "sd15",
) -> AppliedLora:
    """Add strength · alpha / rank · up @ down to the weight of each module that `lora` names.

    Returns a handle to `remove` it again, also usable as a context manager. Nothing is changed when LoraError is
    raised: for a module that these models do not have, or whose shape differs.
    """
    import torch

    modules = adaptable_modules(unet, text_encoder, family=family)
    weights = {}
    for key, adapter in lora.adapters.items():
        if key not in modules:
            raise LoraError(f"The LoRA changes {key!r}, which this base model does not have.")
        weight = modules[key].weight
        expected = (adapter.up.shape[0], adapter.down.shape[1])
        if tuple(weight.shape[:2]) != expected:
            raise LoraError(
                f"The LoRA's {key!r} is for a module of {expected}, the base model's is {tuple(weight.shape)}."
            )
        weights[key] = weight
    originals = {}
    with torch.no_grad():
        for key, adapter in lora.adapters.items():
            weight = weights[key]
            originals[weight] = weight.detach().clone()
            weight.copy_(weight.float() + _delta(adapter, strength, weight))
    return AppliedLora(originals)


def _delta(adapter: Adapter, strength: float, weight: "torch.Tensor") -> "torch.Tensor":
    up = adapter.up.to(weight.device).float().flatten(1)
    down = adapter.down.to(weight.device).float().flatten(1)
    return (strength * adapter.alpha / adapter.rank * (up @ down)).reshape(weight.shape)
