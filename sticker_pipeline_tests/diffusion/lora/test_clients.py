"""Every key of the true architectures is found by the programs that load LoRAs, as the right module.

The rules of ComfyUI (comfy/lora.py, comfy/utils.py) and A1111 (extensions-builtin/Lora/networks.py), which are not
installed, are restated here; expected_keys.py has sd-scripts'; diffusers is the real one.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from sticker_pipeline.diffusion.architectures import build
from sticker_pipeline.diffusion.families import FAMILIES
from sticker_pipeline.diffusion.lora.apply import apply_lora
from sticker_pipeline.diffusion.lora.file import Adapter, LoraFile, with_one_alpha, write_lora
from sticker_pipeline.diffusion.lora.key_map import TABLE, adaptable_modules, path_of, row_of
from sticker_pipeline.generation.generate import with_loras
from sticker_pipeline_tests.diffusion.lora.expected_keys import read
from sticker_pipeline_tests.single_file import OPEN_CLIP_LAYER, unet_name
from sticker_pipeline_tests.tiny_models import build_tiny_pipeline, build_tiny_sdxl

Located = tuple[str, str]  # as path_of gives it: model, path without `text_model.`


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def original_unet(family: str) -> dict[str, str]:
    """Modules with weights of the true U-Net: name in the original layout -> path in diffusers."""
    with torch.device("meta"):
        unet = build(family, "unet")
    paths = [path for path, module in unet.named_modules() if hasattr(module, "weight")]
    return {unet_name(f"{path}.weight", unet.config).removesuffix(".weight"): path for path in paths}


@pytest.fixture(scope="module")
def text_modules(family: str) -> dict[str, list[str]]:
    """Modules with weights in the layers of the true text encoders, by folder: `encoder.layers.0.mlp.fc1`, …"""
    with torch.device("meta"):
        encoders = {encoder.folder: build(family, encoder.folder) for encoder in FAMILIES[family].text_encoders}
    return {
        folder: [
            path.removeprefix("text_model.")
            for path, module in encoder.named_modules()
            if hasattr(module, "weight") and ".layers." in path
        ]
        for folder, encoder in encoders.items()
    }


def comfyui(original_unet: dict[str, str], text_modules: dict[str, list[str]]) -> dict[str, Located]:
    """Return the names that ComfyUI looks for in a file.

    U-Net: `lora_unet_` and the original or the diffusers name with underscores. Text: the linear layers of CLIP-L as
    `lora_te_` and as `lora_te1_`, those of CLIP-G as `lora_te2_`.
    """
    known: dict[str, Located] = {}
    for original, path in original_unet.items():
        for name in (original, path):
            known["lora_unet_" + name.replace(".", "_")] = ("unet", path)
    for folder, paths in text_modules.items():
        prefixes = ("lora_te2",) if folder == "text_encoder_2" else ("lora_te", "lora_te1")
        for path in paths:
            if re.search(r"mlp\.fc[12]|self_attn\.(q|k|v|out)_proj", path):
                known |= {f"{prefix}_text_model_{path}".replace(".", "_"): (folder, path) for prefix in prefixes}
    return known


def test_comfyui_finds_every_key(
    family: str, original_unet: dict[str, str], text_modules: dict[str, list[str]]
) -> None:
    known = comfyui(original_unet, text_modules)
    assert {line.key: known.get(line.key) for line in read(family)} == {
        line.key: path_of(line.key, family) for line in read(family)
    }


def test_comfyui_finds_what_only_others_change(
    family: str, original_unet: dict[str, str], text_modules: dict[str, list[str]]
) -> None:
    """And it loads CLIP-G's projection as `lora_te2_text_projection` (model_lora_keys_clip of comfy/lora.py)."""
    known = comfyui(original_unet, text_modules)
    known["lora_te2_text_projection"] = ("text_encoder_2", "text_projection")
    keys = [row.key for row in TABLE[family] if row.targets == "others"]
    assert {key: known.get(key) for key in keys} == {key: path_of(key, family) for key in keys}
    assert len(keys) == (4 if family == "sd15" else 7)


def a1111_modules(family: str, original_unet: dict[str, str], text_modules: dict[str, list[str]]) -> dict[str, Located]:
    """Return A1111's modules by name: `diffusion_model_` and the original name.

    The text encoder of SD1.5 is `transformer`; SDXL's are embedder 0, `transformer`, and embedder 1, `model`, which is
    open_clip's: q, k and v are one module.
    """
    known: dict[str, Located] = {}
    for original, path in original_unet.items():
        known["diffusion_model_" + original.replace(".", "_")] = ("unet", path)
    for folder, paths in text_modules.items():
        for path in paths:
            if folder == "text_encoder":
                embedder = "0_" if family == "sdxl" else ""
                known[f"{embedder}transformer_text_model_{path}".replace(".", "_")] = (folder, path)
            elif match := re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", path):
                block = f"1_model_transformer_resblocks_{match[1]}"
                if match[2] in OPEN_CLIP_LAYER:
                    known[f"{block}_{OPEN_CLIP_LAYER[match[2]]}".replace(".", "_")] = (folder, path)
                else:
                    known[f"{block}_attn"] = (folder, f"encoder.layers.{match[1]}.self_attn")
    return known


A1111_RESNET = {"conv1": "in_layers_2", "conv2": "out_layers_3", "time_emb_proj": "emb_layers_1"}
A1111_RESNET |= {"conv_shortcut": "skip_connection"}


def a1111(key: str, known: dict[str, Located]) -> Located | None:
    """The module that A1111 takes `key` for: its name converted, or else the key with another beginning.

    Diffusers' block numbers become numbers in steps of three, as SD1.5 has them. An upsampler is part 2 of its block,
    and in the first block part 1, which is wrong for SDXL: there the file must have the original name.
    """
    name = a1111_name(key)
    if name in known:
        return known[name]
    if (match := re.fullmatch(r"(.*)_([qkv]_proj)", name)) and match[1] in known:
        model, path = known[match[1]]
        return model, f"{path}.{match[2]}"
    if "lora_unet" in key:
        return known.get(key.replace("lora_unet", "diffusion_model"))
    for start in ("0_transformer_text_model", "transformer_text_model"):
        if (name := key.replace("lora_te1_text_model", start)) in known:
            return known[name]
    return None


def a1111_name(key: str) -> str:
    if match := re.match(r"lora_unet_(down|up)_blocks_(\d+)_(attentions|resnets)_(\d+)_(.+)", key):
        side, first = ("input", 1) if match[1] == "down" else ("output", 0)
        rest = A1111_RESNET.get(match[5], match[5]) if match[3] == "resnets" else match[5]
        number = first + 3 * int(match[2]) + int(match[4])
        return f"diffusion_model_{side}_blocks_{number}_{int(match[3] == 'attentions')}_{rest}"
    if match := re.match(r"lora_unet_mid_block_(attentions|resnets)_(\d+)_(.+)", key):
        part = 1 if match[1] == "attentions" else 2 * int(match[2])
        rest = A1111_RESNET.get(match[3], match[3]) if match[1] == "resnets" else match[3]
        return f"diffusion_model_middle_block_{part}_{rest}"
    if match := re.match(r"lora_unet_down_blocks_(\d+)_downsamplers_0_conv", key):
        return f"diffusion_model_input_blocks_{3 + 3 * int(match[1])}_0_op"
    if match := re.match(r"lora_unet_up_blocks_(\d+)_upsamplers_0_conv", key):
        return f"diffusion_model_output_blocks_{2 + 3 * int(match[1])}_{2 if int(match[1]) else 1}_conv"
    if match := re.match(r"lora_te_text_model_encoder_layers_(\d+)_(.+)", key):
        return f"transformer_text_model_encoder_layers_{match[1]}_{match[2]}"
    if match := re.match(r"lora_te2_text_model_encoder_layers_(\d+)_(.+)", key):
        rest = match[2].replace("mlp_fc1", "mlp_c_fc").replace("mlp_fc2", "mlp_c_proj").replace("self_attn", "attn")
        return f"1_model_transformer_resblocks_{match[1]}_{rest}"
    return key


def test_a1111_finds_every_key(family: str, original_unet: dict[str, str], text_modules: dict[str, list[str]]) -> None:
    known = a1111_modules(family, original_unet, text_modules)
    assert {line.key: a1111(line.key, known) for line in read(family)} == {
        line.key: path_of(line.key, family) for line in read(family)
    }


def test_why_sdxl_files_have_original_names(
    family: str, original_unet: dict[str, str], text_modules: dict[str, list[str]]
) -> None:
    """A1111 does not find SDXL's first upsampler by its diffusers name: these rules do tell a wrong name."""
    found = a1111("lora_unet_up_blocks_0_upsamplers_0_conv", a1111_modules(family, original_unet, text_modules))
    assert found == (("unet", "up_blocks.0.upsamplers.0.conv") if family == "sd15" else None)


def test_diffusers_converts_every_key(family: str) -> None:
    """diffusers' own conversion of kohya files, on files with every key of the true architecture."""
    import diffusers

    with torch.device("meta"):
        config = build(family, "unet").config
    tensors: dict[str, torch.Tensor] = {}
    numbers = {line.key: number for number, line in enumerate(read(family), start=1)}
    for key, number in numbers.items():  # each module's down matrix says which one it is
        tensors[f"{key}.lora_down.weight"] = torch.full((1, 1), number)
        tensors[f"{key}.lora_up.weight"] = torch.zeros(1, 1)
        tensors[f"{key}.alpha"] = torch.tensor(float(number))
    pipeline = getattr(diffusers, FAMILIES[family].pipeline)
    converted, alphas = pipeline.lora_state_dict(tensors, unet_config=config)
    downs = {key: int(value) for key, value in converted.items() if re.search(r"lora_A|down\.", key)}
    assert {diffusers_module(key): number for key, number in downs.items()} == {
        path_of(key, family): number for key, number in numbers.items()
    }
    assert sorted(alphas.values()) == sorted(numbers.values())


def diffusers_module(key: str) -> Located:
    """The module that diffusers takes one of its own keys for."""
    model, _, path = key.partition(".")
    path = re.split(r"[._]lora", path)[0].replace(".processor.", ".").removeprefix("text_model.")
    path = re.sub(r"\.to_out$", ".to_out.0", path) if model == "unet" else path
    return model, re.sub(r"self_attn\.to_(q|k|v|out)$", r"self_attn.\1_proj", path)


RANKS = {"attention": 2, "feed_forward": 3, "conv": 4}
ALPHAS = {"attention": 3.0, "feed_forward": 1.0, "conv": 0.5}


def random_lora(modules: dict[str, Any], family: str, seed: int = 4) -> LoraFile:
    """Adapters with another rank and alpha for each kind of module, and changes of about a fifth of the weights."""
    generator = torch.Generator().manual_seed(seed)
    adapters = {}
    for key, module in modules.items():
        row = row_of(key, family)
        assert row
        # diffusers reads no other rank there than the attention's
        kind = "attention" if row.path == "text_projection" else row.kind
        weight, rank = module.weight, RANKS[kind]
        down = torch.randn(rank, *weight.shape[1:], generator=generator) * 0.1
        up = torch.randn(weight.shape[0], rank, *(1,) * (weight.ndim - 2), generator=generator) * 0.2
        adapters[key] = Adapter(down, up, ALPHAS[kind])
    return LoraFile(adapters)


def outputs(pipeline: Any, family: str) -> list[torch.Tensor]:
    """Return the outputs of the U-Net and each text encoder for fixed random inputs."""
    generator = torch.Generator().manual_seed(3)
    noisy = torch.randn(2, 4, 8, 8, generator=generator)
    hidden = torch.randn(2, 77, pipeline.unet.config.cross_attention_dim, generator=generator)
    ids = torch.randint(0, 300, (2, 77), generator=generator)
    added = {"text_embeds": torch.randn(2, 48, generator=generator), "time_ids": torch.full((2, 6), 32.0)}
    timesteps = torch.tensor([10, 700])
    with torch.no_grad():
        prediction = pipeline.unet(noisy, timesteps, encoder_hidden_states=hidden, added_cond_kwargs=added).sample
        encoders = [getattr(pipeline, encoder.folder) for encoder in FAMILIES[family].text_encoders]
        read = [encoder(ids, output_hidden_states=True) for encoder in encoders]
        pooled = [read[1].text_embeds] if family == "sdxl" else []
        return [prediction, *(output.hidden_states[-1] for output in read), *pooled]


@pytest.mark.parametrize("targets", ["attention", "all+conv", "others"])
def test_the_effect_in_diffusers_is_ours(family: str, tmp_path: Path, targets: Any) -> None:
    """The real `load_lora_weights` on a small real model: ranks and alphas that differ, SDXL's renamed blocks."""
    import diffusers

    folder = (build_tiny_pipeline if family == "sd15" else build_tiny_sdxl)(tmp_path / "base")
    pipeline = getattr(diffusers, FAMILIES[family].pipeline).from_pretrained(folder, local_files_only=True)
    encoders = tuple(getattr(pipeline, encoder.folder) for encoder in FAMILIES[family].text_encoders)
    lora = random_lora(adaptable_modules(pipeline.unet, encoders, family=family, targets=targets), family)
    write_lora(tmp_path / "lora.safetensors", with_one_alpha(lora, 3.0), "float32")
    before = outputs(pipeline, family)
    with apply_lora(pipeline.unet, encoders, lora, family=family):
        ours = outputs(pipeline, family)
    assert all((changed - plain).abs().max() > 0.05 for changed, plain in zip(ours, before, strict=True))
    pipeline.load_lora_weights(str(tmp_path / "lora.safetensors"))
    for found, right in zip(outputs(pipeline, family), ours, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-4)


def test_several_with_weights_are_those_of_peft(family: str, tmp_path: Path) -> None:
    """`with_loras` beside diffusers' `set_adapters`, which weights peft's adapters."""
    import diffusers

    folder = (build_tiny_pipeline if family == "sd15" else build_tiny_sdxl)(tmp_path / "base")
    pipeline = getattr(diffusers, FAMILIES[family].pipeline).from_pretrained(folder, local_files_only=True)
    encoders = tuple(getattr(pipeline, encoder.folder) for encoder in FAMILIES[family].text_encoders)
    modules = adaptable_modules(pipeline.unet, encoders, family=family, targets="attention")
    weights = {"style": 0.5, "character": 1.0, "lcm": 0.25}
    for seed, name in enumerate(weights):
        lora = with_one_alpha(random_lora(modules, family, seed), 3.0)
        write_lora(tmp_path / f"{name}.safetensors", lora, "float32")
    with with_loras(pipeline, [(tmp_path / f"{name}.safetensors", weight) for name, weight in weights.items()]):
        ours = outputs(pipeline, family)
    for name in weights:
        pipeline.load_lora_weights(str(tmp_path / f"{name}.safetensors"), adapter_name=name)
    pipeline.set_adapters(list(weights), list(weights.values()))
    for found, right in zip(outputs(pipeline, family), ours, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-4)
