"""Merge of LoRAs into one with the weighted sum of their changes.

`concatenated` is exact: matrices are concatenated, ranks add up. `truncated` keeps a given rank: the change of that
rank nearest to the sum in Frobenius norm, its truncated singular value decomposition (Eckart & Young 1936). Generation
with unmerged files: `generation/generate.py`.
"""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sticker_pipeline.diffusion.families import FAMILIES
from sticker_pipeline.diffusion.lora.apply import kernel_stated
from sticker_pipeline.diffusion.lora.file import Adapter, LoraError, LoraFile, with_one_alpha, write_lora
from sticker_pipeline.diffusion.lora.formats import read_any_lora

# Metadata keys kept where parts do not conflict.
COMMON = (
    "ss_v2",
    "ss_sd_model_name",
    "ss_new_sd_model_hash",
    "ss_clip_skip",
    "ss_resolution",
    "modelspec.implementation",
    "modelspec.resolution",
    "modelspec.prediction_type",
    "modelspec.encoder_layer",
)


_NOTHING = 1e-6  # of the parts' norm: float16 resolves 5e-4 of a value, so real differences are larger


@dataclass(frozen=True)
class Part:
    """A LoRA to merge, named for messages and metadata; negative weights subtract."""

    name: str
    lora: LoraFile
    weight: float


def merge_files(out: Path, files: Sequence[tuple[Path, float]], rank: int | None = None) -> tuple[LoraFile, float]:
    """Merge weighted LoRA files into `out`, float32, exactly or at `rank`.

    Returns the LoRA and the share of the change that is lost (see `truncated`). Raises LoraError for files that cannot
    be read or merged and for different families, FileExistsError where `out` exists, without writing.
    """
    if out.exists():
        raise FileExistsError(f"{out} is there already: name another file, or remove it.")
    read = [_read(path, weight) for path, weight in files]
    families = {family: part.name for family, part in read}
    if len(families) > 1:
        (one, first), (other, second) = list(families.items())[:2]
        raise LoraError(f"{first} is for {one} and {second} for {other}: no base model is changed by both.")
    parts = [part for _, part in read]
    merged, lost = concatenated(parts), 0.0
    if rank:
        merged, lost = truncated(merged, rank)
    merged = replace(merged, metadata=_metadata(parts, merged, out.stem, read[0][0]))
    write_lora(out, merged, "float32")
    return merged, lost


def _read(path: Path, weight: float) -> tuple[str, Part]:
    problems = []
    for family in FAMILIES:
        try:
            return family, Part(path.stem, read_any_lora(path, family), weight)
        except LoraError as error:
            problems.append(str(error))
    raise LoraError("\n".join(dict.fromkeys(problems)))


def concatenated(parts: Sequence[Part]) -> LoraFile:
    """Return the exact weighted sum of the parts; ranks add up.

    Values are float32, metadata empty. All modules get one alpha, the largest rank, for diffusers (see
    `with_one_alpha`). Raises LoraError for a DoRA (its change is no sum), modules of different shapes, weights that are
    0 or not finite, no parts, and a sum that changes nothing.
    """
    if not parts:
        raise LoraError("There is nothing to merge: name a LoRA file.")
    found: dict[str, list[tuple[Part, Adapter]]] = {}
    for part in parts:
        if not math.isfinite(part.weight) or part.weight == 0:
            raise LoraError(f"{part.name} has the weight {part.weight}: leave it out, or give it another.")
        for key, adapter in part.lora.adapters.items():
            if adapter.magnitude is not None:
                raise LoraError(
                    f"{part.name} is a DoRA ({key!r}): it scales whole weights, and cannot be added to another LoRA. "
                    "Train it without `dora`, or apply the files one after the other."
                )
            found.setdefault(key, []).append((part, adapter))
    merged = _one_alpha({key: _sum(key, members) for key, members in found.items()})
    whole = sum(part.weight**2 * _square(adapter) for members in found.values() for part, adapter in members)
    if sum(map(_square, merged.adapters.values())) <= _NOTHING**2 * whole:
        names = ", ".join(f"{part.name} ({part.weight:g})" for part in parts)
        raise LoraError(f"The sum of {names} changes nothing: give other weights, or merge other files.")
    return merged


def truncated(lora: LoraFile, rank: int) -> tuple[LoraFile, float]:
    """Return the LoRA of rank `rank` nearest to `lora`, and the loss.

    The loss is the Frobenius norm of the rest over that of the whole change, 0 to 1. Modules of lower rank keep theirs;
    in each, both matrices get the root of the singular values. Computed in float64. Raises ValueError for a rank below
    1, LoraError for a DoRA.
    """
    if rank < 1:
        raise ValueError(f"rank must be 1 or more, not {rank}.")
    adapters, lost, whole = {}, 0.0, 0.0
    for key, adapter in lora.adapters.items():
        if adapter.magnitude is not None:
            raise LoraError(f"A DoRA has no nearest LoRA of a lower rank ({key!r}).")
        adapters[key], squares = _of_rank(adapter, rank)
        whole += float(squares.sum())
        lost += float(squares[rank:].sum())
    return replace(_one_alpha(adapters), metadata=lora.metadata), math.sqrt(lost / whole) if whole else 0.0


def _square(adapter: Adapter) -> float:
    """Return the change's squared Frobenius norm: `(alpha / rank)² · trace (upᵀ up)(down downᵀ)`."""
    up, down = adapter.up.double().flatten(1), adapter.down.double().flatten(1)
    return float(((up.T @ up) * (down @ down.T)).sum()) * (adapter.alpha / adapter.rank) ** 2


def _sum(key: str, members: Sequence[tuple[Part, Adapter]]) -> Adapter:
    first, shape = members[0][0], kernel_stated(members[0][1].shape)
    four = any(adapter.down.ndim == 4 for _, adapter in members)  # a linear layer is a 1×1 convolution
    downs, ups = [], []
    for part, adapter in members:
        if kernel_stated(adapter.shape) != shape:
            raise LoraError(
                f"{part.name} and {first.name} are not for the same base model: {key!r} is "
                f"{list(adapter.shape)} in the one and {list(members[0][1].shape)} in the other."
            )
        scale = part.weight * adapter.alpha / adapter.rank
        down, up = adapter.down.float(), adapter.up.float() * scale
        downs.append(down.reshape(adapter.rank, *shape[1:]) if four else down)
        ups.append(up.reshape(shape[0], adapter.rank, 1, 1) if four else up)
    down, up = torch.cat(downs), torch.cat(ups, dim=1)
    return Adapter(down, up, float(len(down)))


def _of_rank(adapter: Adapter, rank: int) -> tuple[Adapter, torch.Tensor]:
    """Return the adapter cut to `rank`, and its squared singular values.

    All values are returned, descending, float64. The change is never formed: with up = Q₁R₁ and downᵀ = Q₂R₂, its
    singular values are those of the small R₁R₂ᵀ.
    """
    scale = adapter.alpha / adapter.rank
    left, r1 = torch.linalg.qr(adapter.up.double().flatten(1) * scale)
    right, r2 = torch.linalg.qr(adapter.down.double().flatten(1).T)
    u, sizes, vh = torch.linalg.svd(r1 @ r2.T, full_matrices=False)
    kept = sizes[:rank]
    up, down = (left @ u)[:, :rank] * kept.sqrt(), kept.sqrt()[:, None] * (vh @ right.T)[:rank]
    shaped = Adapter(
        down.float().reshape(len(kept), *adapter.down.shape[1:]),
        up.float().reshape(len(up), len(kept), *adapter.up.shape[2:]),
        float(len(kept)),
    )
    return shaped, sizes**2


def _one_alpha(adapters: dict[str, Adapter]) -> LoraFile:
    return with_one_alpha(LoraFile(adapters), float(max(adapter.rank for adapter in adapters.values())))


def _metadata(parts: Sequence[Part], merged: LoraFile, name: str, family: str) -> dict[str, str]:
    """Return the metadata of the merged file `name`.

    Family, rank, alpha, sources, all parts' trigger words and tag counts, and keys of COMMON that do not conflict.
    """
    own = FAMILIES[family]
    sources = [part.lora.metadata for part in parts]
    rank = max(adapter.rank for adapter in merged.adapters.values())
    words = list(dict.fromkeys(word for source in sources for word in _triggers(source)))
    values: dict[str, Any] = {
        "ss_output_name": name,
        "ss_base_model_version": own.base_version,
        "ss_network_module": "networks.lora",
        "ss_network_dim": rank,
        "ss_network_alpha": next(iter(merged.adapters.values())).alpha,
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": own.architecture,
        "modelspec.title": name,
        "modelspec.merged_from": ", ".join(f"{part.name} ({part.weight:g})" for part in parts),
        **{key: said.pop() for key in COMMON if len(said := {source.get(key, "") for source in sources} - {""}) == 1},
    }
    if words:
        values["ss_training_comment"] = f"trigger: {', '.join(words)}"
        values["modelspec.trigger_phrase"] = ", ".join(words)
        values["modelspec.usage_hint"] = f"Begin the prompt with {', '.join(words)}."
    if counts := _tag_counts(sources):
        values["ss_tag_frequency"] = json.dumps(counts, ensure_ascii=False)
    return {key: str(value) for key, value in values.items()}


def _triggers(metadata: dict[str, str]) -> list[str]:
    """Return `modelspec.trigger_phrase`, else the trigger in our files' comment."""
    comment = metadata.get("ss_training_comment", "")
    stated = comment.removeprefix("trigger: ") if comment.startswith("trigger: ") else ""
    return [word.strip() for word in (metadata.get("modelspec.trigger_phrase") or stated).split(",") if word.strip()]


def _tag_counts(sources: Sequence[dict[str, str]]) -> dict[str, dict[str, int]]:
    """Return the sum of kohya's `ss_tag_frequency` tables; others are skipped."""
    counts: dict[str, Counter[str]] = {}
    for source in sources:
        try:
            folders = json.loads(source.get("ss_tag_frequency", "{}"))
            for folder, tags in folders.items():
                counts.setdefault(folder, Counter()).update({tag: int(count) for tag, count in tags.items()})
        except (ValueError, TypeError, AttributeError, RecursionError):
            continue
    return {folder: dict(tags.most_common()) for folder, tags in counts.items()}
