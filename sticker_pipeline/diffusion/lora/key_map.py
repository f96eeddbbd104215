"""Key tables: module names in LoRA files, and which modules may change.

Names are kohya's (sd-scripts, networks/lora.py), read by ComfyUI, A1111 and diffusers. Tables are strict in both
directions. Files: `file.py`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from sticker_pipeline.diffusion.families import FAMILIES

if TYPE_CHECKING:
    import torch

Targets = Literal["attention", "all", "all+conv"]  # the settings' `targets`; each contains those before it
Reach = Targets | Literal["others"]  # "others": all+conv and modules of other trainers
Kind = Literal["attention", "feed_forward", "conv"]  # decides a module's rank

_ORDER: tuple[Reach, ...] = ("attention", "all", "all+conv", "others")


@dataclass(frozen=True)
class Row:
    """Modules at `path`, `key` in files; {} is the same number in both.

    `model`: "unet" or a text encoder's folder. `targets`: the smallest set with these modules; "others" are never
    trained here. `kind`: decides their rank. ResNet 1×1 convolutions and linear layers need `all+conv` but have the
    linear layers' rank: sd-scripts' `conv_dim` is for 3×3 convolutions.
    """

    model: str
    path: str
    key: str
    kind: Kind
    targets: Reach


@dataclass(frozen=True)
class _Leaf:
    """A module at the same path within every block."""

    path: str
    kind: Kind
    targets: Targets


_TRANSFORMER = (
    _Leaf("proj_in", "feed_forward", "all"),
    _Leaf("proj_out", "feed_forward", "all"),
    *(
        _Leaf(f"transformer_blocks.{{}}.attn{n}.to_{p}", "attention", "attention")
        for n in (1, 2)
        for p in ("q", "k", "v", "out.0")
    ),
    _Leaf("transformer_blocks.{}.ff.net.0.proj", "feed_forward", "all"),
    _Leaf("transformer_blocks.{}.ff.net.2", "feed_forward", "all"),
)
_RESNET = (
    _Leaf("conv1", "conv", "all+conv"),
    _Leaf("time_emb_proj", "feed_forward", "all+conv"),
    _Leaf("conv2", "conv", "all+conv"),
    _Leaf("conv_shortcut", "feed_forward", "all+conv"),
)
_SAMPLER = (_Leaf("conv", "conv", "all+conv"),)
_TEXT = (
    *(_Leaf(f"self_attn.{p}_proj", "attention", "attention") for p in ("q", "k", "v", "out")),
    _Leaf("mlp.fc1", "feed_forward", "all"),
    _Leaf("mlp.fc2", "feed_forward", "all"),
)

# Names inside a ResNet block in Stability's generative-models ("SGM").
_SGM_RESNET = {"conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "conv2": "out_layers.3"}
_SGM_RESNET |= {"conv_shortcut": "skip_connection"}

# Modules outside the blocks: diffusers' path -> name in files. OneTrainer, peft and LyCORIS may change them, sd-scripts
# does not. SD1.5 has diffusers' names, SDXL SGM's (openaimodel.py of generative-models).
_SD15_ENDS = {path: path for path in ("conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2")}
_SDXL_ENDS = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}

_SDXL_LAYERS = 2  # per block on the way down; one more on the way up
_SDXL_ATTENTION_DOWN, _SDXL_ATTENTION_UP = (1, 2), (0, 1)  # blocks with attention, of three
_SDXL_BLOCKS = 3


def _sd15_blocks() -> Iterator[tuple[str, str, tuple[_Leaf, ...]]]:
    """Yield (path, file name, leaves) of SD1.5's blocks, in diffusers' names."""
    for path, leaves in (
        ("down_blocks.{}.attentions.{}", _TRANSFORMER),
        ("mid_block.attentions.{}", _TRANSFORMER),
        ("up_blocks.{}.attentions.{}", _TRANSFORMER),
        ("down_blocks.{}.resnets.{}", _RESNET),
        ("mid_block.resnets.{}", _RESNET),
        ("up_blocks.{}.resnets.{}", _RESNET),
        ("down_blocks.{}.downsamplers.{}", _SAMPLER),
        ("up_blocks.{}.upsamplers.{}", _SAMPLER),
    ):
        yield path, path, leaves


def _sdxl_blocks() -> Iterator[tuple[str, str, tuple[_Leaf, ...]]]:
    """Yield (path, file name, leaves) of SDXL's blocks, in SGM's names.

    SGM numbers blocks through all levels. Input block 0 is conv_in; each level has its layers and, except the last, a
    downsampler. In a block, part 0 is the ResNet, 1 the attention; an upsampler is last.
    """
    for block in range(_SDXL_BLOCKS):
        first_in, first_out = 1 + block * (_SDXL_LAYERS + 1), block * (_SDXL_LAYERS + 1)
        for layer in range(_SDXL_LAYERS):
            yield f"down_blocks.{block}.resnets.{layer}", f"input_blocks.{first_in + layer}.0", _RESNET
            if block in _SDXL_ATTENTION_DOWN:
                yield f"down_blocks.{block}.attentions.{layer}", f"input_blocks.{first_in + layer}.1", _TRANSFORMER
        for layer in range(_SDXL_LAYERS + 1):
            yield f"up_blocks.{block}.resnets.{layer}", f"output_blocks.{first_out + layer}.0", _RESNET
            if block in _SDXL_ATTENTION_UP:
                yield f"up_blocks.{block}.attentions.{layer}", f"output_blocks.{first_out + layer}.1", _TRANSFORMER
        if block < _SDXL_BLOCKS - 1:  # up blocks have attention here: the upsampler is part 2
            yield f"down_blocks.{block}.downsamplers.0", f"input_blocks.{first_in + _SDXL_LAYERS}.0", _SAMPLER
            yield f"up_blocks.{block}.upsamplers.0", f"output_blocks.{first_out + _SDXL_LAYERS}.2", _SAMPLER
    yield "mid_block.resnets.0", "middle_block.0", _RESNET
    yield "mid_block.attentions.0", "middle_block.1", _TRANSFORMER
    yield "mid_block.resnets.1", "middle_block.2", _RESNET


def _sd15_rows() -> Iterator[Row]:
    for path, name, leaves in _sd15_blocks():
        for leaf in leaves:
            yield _row("unet", f"{path}.{leaf.path}", f"lora_unet.{name}.{leaf.path}", leaf)


def _sdxl_rows() -> Iterator[Row]:
    for path, name, leaves in _sdxl_blocks():
        for leaf in leaves:
            renamed = "op" if "downsamplers" in path else _SGM_RESNET.get(leaf.path, leaf.path)
            yield _row("unet", f"{path}.{leaf.path}", f"lora_unet.{name}.{renamed}", leaf)


def _ends(names: dict[str, str]) -> Iterator[Row]:
    for path, name in names.items():
        kind: Kind = "conv" if path.startswith("conv") else "feed_forward"
        yield Row("unet", path, f"lora_unet_{name}".replace(".", "_"), kind, "others")


def _text_rows(family: str) -> Iterator[Row]:
    """Yield the rows of the text encoders, with `text_model` as in files.

    transformers ≥ 5.6 lacks it in CLIPTextModel's module tree. SD1.5's prefix is `lora_te` (`families.py`): sd-scripts
    silently drops `lora_te1` there.
    """
    for encoder in FAMILIES[family].text_encoders:
        for leaf in _TEXT:
            path = f"encoder.layers.{{}}.{leaf.path}"
            yield _row(encoder.folder, path, f"{encoder.prefix}.text_model.{path}", leaf)


def _row(model: str, path: str, key: str, leaf: _Leaf) -> Row:
    return Row(model, path, key.replace(".", "_"), leaf.kind, leaf.targets)


_PROJECTION = Row("text_encoder_2", "text_projection", "lora_te2_text_projection", "feed_forward", "others")

TABLE: dict[str, tuple[Row, ...]] = {
    "sd15": (*_sd15_rows(), *_ends(_SD15_ENDS), *_text_rows("sd15")),
    "sdxl": (*_sdxl_rows(), *_ends(_SDXL_ENDS), *_text_rows("sdxl"), _PROJECTION),
}
"""SD1.5's rows fit any number of blocks and layers. SDXL's are fixed, for smaller models too: three blocks of two
layers, attention in the inner two. The number of transformer blocks is free."""

_TEXT_PREFIX = "text_model."


def key_of(path: str, model: str, family: str = "sd15") -> str | None:
    """Return the kohya name of the module at `path`, or None.

    `model`: "unet", "text_encoder" or "text_encoder_2". Text encoder paths may begin with `text_model.`.
    """
    path = path.removeprefix(_TEXT_PREFIX) if model != "unet" else path
    for row, pattern, _ in _patterns(family):
        if row.model == model and (match := pattern.fullmatch(path)):
            return row.key.format(*match.groups())
    return None


def path_of(key: str, family: str = "sd15") -> tuple[str, str] | None:
    """Return (model, path without `text_model.`) of a kohya name, or None."""
    for row, _, pattern in _patterns(family):
        if match := pattern.fullmatch(key):
            return row.model, row.path.format(*match.groups())
    return None


def row_of(key: str, family: str = "sd15") -> Row | None:
    """Return the table row of a kohya name, or None."""
    for row, _, pattern in _patterns(family):
        if pattern.fullmatch(key):
            return row
    return None


@cache
def _patterns(family: str) -> tuple[tuple[Row, re.Pattern[str], re.Pattern[str]], ...]:
    return tuple((row, numbered(row.path), numbered(row.key)) for row in TABLE[family])


def numbered(text: str) -> re.Pattern[str]:
    """Return a pattern for `text` with a number group for each {}."""
    return re.compile(re.escape(text).replace(r"\{\}", r"(\d+)"))


def adaptable_modules(
    unet: "torch.nn.Module",
    text_encoders: "tuple[torch.nn.Module | None, ...]",
    *,
    family: str = "sd15",
    targets: Reach = "all+conv",
) -> dict[str, Any]:
    """Return the modules that LoRAs with these `targets` may change, by name.

    In tree order. `targets`: "others" for LoRAs of any trainer. `text_encoders`: in the family's order, None to skip
    one.
    """
    wanted = _ORDER[: _ORDER.index(targets) + 1]
    folders = [encoder.folder for encoder in FAMILIES[family].text_encoders]
    found: dict[str, Any] = {}
    for model, tree in zip(("unet", *folders), (unet, *text_encoders), strict=False):
        patterns = [
            (row.key, pattern) for row, pattern, _ in _patterns(family) if row.model == model and row.targets in wanted
        ]
        for path, module in tree.named_modules() if tree is not None else ():
            for key, pattern in patterns:
                if match := pattern.fullmatch(path.removeprefix(_TEXT_PREFIX)):
                    found[key.format(*match.groups())] = module
    return found
