"""Modules that a LoRA may change, and their names in files, by sd-scripts' rules.

`python -m sticker_pipeline_tests.diffusion.lora.expected_keys` writes them to data/<family>_keys.txt. The rules are not
those of key_map.py: classes of modules are searched, as in create_modules of sd-scripts, and SDXL's blocks are numbered
by walking through the U-Net in order of computation. The real create_modules (networks/lora.py at 48d368f), run over
sd-scripts' own model classes, gave these very keys, shapes and ranks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sticker_pipeline.diffusion.architectures import build

DATA = Path(__file__).parent / "data"
ENCODERS = {
    "sd15": {"text_encoder": "lora_te"},
    "sdxl": {"text_encoder": "lora_te1", "text_encoder_2": "lora_te2"},
}
SGM_NAMES = {
    "conv1": "in_layers_2",
    "conv2": "out_layers_3",
    "time_emb_proj": "emb_layers_1",
    "conv_shortcut": "skip_connection",
}


@dataclass(frozen=True)
class Expected:
    """A line of a data file: a module's name, smallest target set, kind, weight shape."""

    key: str
    targets: str
    kind: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.key} {self.targets} {self.kind} {'x'.join(map(str, self.shape))}"


def read(family: str) -> list[Expected]:
    lines = (DATA / f"{family}_keys.txt").read_text(encoding="utf-8").splitlines()
    return [
        Expected(key, targets, kind, tuple(map(int, shape.split("x"))))
        for key, targets, kind, shape in (line.split() for line in lines)
    ]


def expected(family: str) -> Iterator[Expected]:
    """Of all modules of `family`, from the model classes on the meta device."""
    with torch.device("meta"):
        unet = build(family, "unet")
        encoders = {prefix: build(family, folder) for folder, prefix in ENCODERS[family].items()}
    blocks = dict(sgm_blocks(unet)) if family == "sdxl" else {}
    for path, module in unet.named_modules():
        name = type(module).__name__
        if name in ("Transformer2DModel", "ResnetBlock2D", "Downsample2D", "Upsample2D"):
            for inner, layer in layers(module):
                renamed = sgm_layer(name, inner) if blocks else inner
                yield described(f"lora_unet_{blocks.get(path, path)}.{renamed}", name, inner, layer)
    for prefix, encoder in encoders.items():
        for path, module in encoder.named_modules():
            name = type(module).__name__
            if name in ("CLIPAttention", "CLIPMLP"):
                for inner, layer in layers(module):
                    path = path.removeprefix("text_model.")
                    yield described(f"{prefix}_text_model.{path}.{inner}", name, inner, layer)


def layers(module: Any) -> Iterator[tuple[str, Any]]:
    return ((path, child) for path, child in module.named_modules() if type(child).__name__ in ("Linear", "Conv2d"))


def described(name: str, owner: str, inner: str, layer: Any) -> Expected:
    if owner == "CLIPAttention" or ".attn1." in f".{inner}" or ".attn2." in f".{inner}":
        targets, kind = "attention", "attention"
    elif owner in ("CLIPMLP", "Transformer2DModel"):
        targets, kind = "all", "feed_forward"
    else:
        wide = type(layer).__name__ == "Conv2d" and layer.kernel_size != (1, 1)
        targets, kind = "all+conv", "conv" if wide else "feed_forward"
    return Expected(name.replace(".", "_"), targets, kind, tuple(layer.weight.shape))


def sgm_layer(owner: str, inner: str) -> str:
    if owner == "Downsample2D":
        return "op"
    return SGM_NAMES[inner] if owner == "ResnetBlock2D" else inner


def sgm_blocks(unet: Any) -> Iterator[tuple[str, str]]:
    """(path in diffusers, path in SGM) of what a U-Net computes, in that order.

    SGM holds it as numbered blocks of numbered parts. A new input block begins with each ResNet or downsampler, a new
    output block with each ResNet; attention and upsamplers are the next part of the block at hand.
    """
    number = 0  # input block 0 is conv_in
    for level, block in enumerate(unet.down_blocks):
        for layer in range(len(block.resnets)):
            number += 1
            yield f"down_blocks.{level}.resnets.{layer}", f"input_blocks.{number}.0"
            if hasattr(block, "attentions"):
                yield f"down_blocks.{level}.attentions.{layer}", f"input_blocks.{number}.1"
        if block.downsamplers is not None:
            number += 1
            yield f"down_blocks.{level}.downsamplers.0", f"input_blocks.{number}.0"
    middle = ["mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1"]
    yield from ((path, f"middle_block.{part}") for part, path in enumerate(middle))
    number = -1
    for level, block in enumerate(unet.up_blocks):
        for layer in range(len(block.resnets)):
            number, parts = number + 1, [f"up_blocks.{level}.resnets.{layer}"]
            if hasattr(block, "attentions"):
                parts.append(f"up_blocks.{level}.attentions.{layer}")
            if block.upsamplers is not None and layer == len(block.resnets) - 1:
                parts.append(f"up_blocks.{level}.upsamplers.0")
            yield from ((path, f"output_blocks.{number}.{part}") for part, path in enumerate(parts))


if __name__ == "__main__":
    for family in ENCODERS:
        text = "\n".join(map(str, expected(family))) + "\n"
        (DATA / f"{family}_keys.txt").write_text(text, encoding="utf-8")
