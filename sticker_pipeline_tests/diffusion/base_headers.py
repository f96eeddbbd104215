"""Headers of base models without weights: all names and shapes, in tiny files."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch

from sticker_pipeline.diffusion.architectures import CONFIGS, build
from sticker_pipeline.diffusion.families import FAMILIES
from sticker_pipeline_tests.single_file import UNET_DEFAULTS, open_clip_tensors, unet_name, vae_name

Shapes = dict[str, list[int]]


@cache
def parts(family: str) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors of each part of the true architecture, without memory.

    Names are those of diffusers and transformers.
    """
    with torch.device("meta"):
        return {part: build(family, part).state_dict() for part in CONFIGS[family] if part != "scheduler"}


@cache
def checkpoint(family: str) -> Shapes:
    """Name -> shape of the tensors of a whole single-file checkpoint."""
    config, tensors = UNET_DEFAULTS | CONFIGS[family]["unet"], parts(family)
    found = {"model.diffusion_model." + unet_name(name, config): value for name, value in tensors["unet"].items()}
    found |= {"first_stage_model." + vae_name(name, 4): value for name, value in tensors["vae"].items()}
    first, *second = FAMILIES[family].text_encoders
    texts = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in tensors["text_encoder"].items()}
    found |= {first.single_file_prefix + name: value for name, value in texts.items()}
    for encoder in second:
        with torch.device("meta"):
            their = open_clip_tensors(tensors[encoder.folder])
        found |= {encoder.single_file_prefix + name: value for name, value in their.items()}
    return {name: list(value.shape) for name, value in found.items()}


def folder_tensors(family: str, part: str) -> Shapes:
    """Name -> shape of the tensors of a part in a diffusers folder."""
    return {name: list(value.shape) for name, value in parts(family)[part].items()}


def write_header(
    path: Path, shapes: Mapping[str, list[int]], *, dtype: str = "F16", metadata: Mapping[str, object] | None = None
) -> Path:
    """A safetensors file with these tensors in its header, and no data; returns `path`."""
    header = {name: {"dtype": dtype, "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    text = json.dumps({**({"__metadata__": metadata} if metadata else {}), **header}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    return path
