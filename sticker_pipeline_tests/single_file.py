"""A diffusers folder as one checkpoint in the original Stable Diffusion layout.

The inverse of `from_single_file`, for tests of such files. Names: CompVis' latent-diffusion (SD1.5), Stability's
generative-models and open_clip (SDXL).
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, Any]

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
# Of UNet2DConditionModel: a config.json may leave out what equals them.
UNET_DEFAULTS = {"layers_per_block": 2, "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3]}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
OPEN_CLIP_ENDS = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
}


def write_single_file(folder: Path, family: str, target: Path) -> Path:
    """Write the diffusers model in `folder`, of `family` ("sd15", "sdxl"), as the checkpoint `target`; returns that.

    Raises ValueError for a tensor that the original layout has no name for.
    """
    unet = UNET_DEFAULTS | json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
    levels = len(json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))["block_out_channels"])
    tensors: Tensors = {}
    for key, value in _weights(folder / "unet").items():
        tensors["model.diffusion_model." + unet_name(key, unet)] = value
    for key, value in _weights(folder / "vae").items():
        matrix = ".attentions." in key and value.ndim == 2
        tensors["first_stage_model." + vae_name(key, levels)] = value[:, :, None, None] if matrix else value
    first = "cond_stage_model.transformer." if family == "sd15" else "conditioner.embedders.0.transformer."
    for key, value in _weights(folder / "text_encoder").items():
        tensors[first + "text_model." + key.removeprefix("text_model.")] = value
    if family == "sdxl":
        second = open_clip_tensors(_weights(folder / "text_encoder_2"))
        tensors |= {"conditioner.embedders.1.model." + key: value for key, value in second.items()}
    save_file({key: value.contiguous() for key, value in tensors.items()}, target)
    return target


def unet_name(key: str, config: Mapping[str, Any]) -> str:
    """The original name of a tensor of the U-Net with that `config`.

    Original blocks are numbered through all levels: in each, its layers, and with the last one, or behind it, what
    changes the size. Parts of a block are numbered too: the ResNet is 0, attention 1, an upsampler comes last.
    """
    path, _, kind = key.rpartition(".")
    layers = config["layers_per_block"]
    if path in UNET_ENDS:
        return f"{UNET_ENDS[path]}.{kind}"
    if match := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", path):
        return f"middle_block.{2 * int(match[2]) + (match[1] == 'attentions')}.{RESNET.get(match[3], match[3])}.{kind}"
    if match := re.fullmatch(r"down_blocks\.(\d+)\.downsamplers\.0\.conv", path):
        return f"input_blocks.{(int(match[1]) + 1) * (layers + 1)}.0.op.{kind}"
    if match := re.fullmatch(r"up_blocks\.(\d+)\.upsamplers\.0\.conv", path):
        part = 1 + config["up_block_types"][int(match[1])].startswith("CrossAttn")
        return f"output_blocks.{int(match[1]) * (layers + 1) + layers}.{part}.conv.{kind}"
    if match := re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.+)", path):
        side, start = ("input_blocks", 1) if match[1] == "down" else ("output_blocks", 0)  # input block 0 is conv_in
        number = start + int(match[2]) * (layers + 1) + int(match[4])
        return f"{side}.{number}.{int(match[3] == 'attentions')}.{RESNET.get(match[5], match[5])}.{kind}"
    raise ValueError(f"{key} has no name in the original layout.")


def vae_name(key: str, levels: int) -> str:
    """The original name of a VAE's tensor.

    `up` counts from the last of its `levels`, unlike in diffusers.
    """
    key = key.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    if match := re.fullmatch(r"(\w+)\.(down|up)_blocks\.(\d+)\.(resnets\.\d|\w+samplers\.0)\.(.+)", key):
        coder, direction, number, part, rest = match.groups()
        level = int(number) if direction == "down" else levels - 1 - int(number)
        part = part.replace("resnets", "block") if part.startswith("resnets") else f"{direction}sample"
        return f"{coder}.{direction}.{level}.{part}.{rest}"
    if match := re.fullmatch(r"(\w+)\.mid_block\.resnets\.(\d)\.(.+)", key):
        return f"{match[1]}.mid.block_{int(match[2]) + 1}.{match[3]}"
    if match := re.fullmatch(r"(\w+)\.mid_block\.attentions\.0\.(.+)\.(weight|bias)", key):
        return f"{match[1]}.mid.attn_1.{VAE_ATTENTION[match[2]]}.{match[3]}"
    return key


def open_clip_tensors(text_encoder: Tensors) -> Tensors:
    """SDXL's second text encoder as open_clip stores it: query, key and value are one matrix."""
    tensors: Tensors = {"logit_scale": torch.tensor(4.6052)}  # real files have it; nothing reads it
    for key, value in text_encoder.items():
        if key == "text_projection.weight":
            tensors["text_projection"] = value.T
        elif key in OPEN_CLIP_ENDS:
            tensors[OPEN_CLIP_ENDS[key]] = value
        elif match := re.fullmatch(r"text_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", key):
            block = f"transformer.resblocks.{match[1]}"
            if match[2] in OPEN_CLIP_LAYER:
                tensors[f"{block}.{OPEN_CLIP_LAYER[match[2]]}.{match[3]}"] = value
            elif match[2] == "self_attn.q_proj":
                parts = [text_encoder[key.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
                tensors[f"{block}.attn.in_proj_{match[3]}"] = torch.cat(parts)
    return tensors


def _weights(folder: Path) -> Tensors:
    (file,) = folder.glob("*.safetensors")
    return load_file(file)
