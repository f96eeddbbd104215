"""Files that are no LoRA for the base model are refused by kind, with the number of keys."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sticker_pipeline.core.texts import counted
from sticker_pipeline.diffusion.lora.file import LoraError
from sticker_pipeline.diffusion.lora.formats import read_any_lora
from sticker_pipeline_tests.tiny_models import build_tiny_pipeline, build_tiny_sdxl

KEY = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
TEXT_KEY = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
PATH = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
PARTS = ("lora_down.weight", "lora_up.weight", "alpha")


def module(name: str) -> list[str]:
    return [f"{name}.{part}" for part in PARTS]


def refusal(path: Path, tensors: dict[str, torch.Tensor], family: str, metadata: dict[str, str] | None = None) -> str:
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(LoraError) as error:
        read_any_lora(path, family)
    return str(error.value)


@pytest.mark.parametrize(
    ("keys", "kind", "concerned"),
    [  # keys as files that people share have them
        (module("lora_unet_double_blocks_0_img_attn_qkv"), "a LoRA for Flux", 3),
        ([f"transformer.single_transformer_blocks.0.attn.to_q.lora_{part}.weight" for part in "AB"], "for Flux", 2),
        (module("lora_unet_joint_blocks_0_x_block_attn_qkv"), "a LoRA for SD3", 3),
        (["transformer.transformer_blocks.0.attn.add_q_proj.lora_A.weight"], "a LoRA for SD3", 1),
        ([*module(KEY), *module("lora_te3_encoder_block_0_layer_0_SelfAttention_q")], "a LoRA for SD3", 3),
        (["transformer.blocks.0.attn.to_q.lora_A.weight"], "a LoRA for a diffusion transformer", 1),
        (module("lora_prior_unet_down_blocks_0_0_attention_to_q"), "a LoRA for Stable Cascade", 3),
        (["unet:0:up", "unet:0:down", "unet:1:up"], "a LoRA of cloneofsimo's lora_diffusion", 3),
        ([*module(KEY), "bundle_emb.nova.string_to_param.*"], "a bundle of OneTrainer", 1),
        (["emb_params"], "a textual inversion", 1),
        (["clip_g", "clip_l"], "a textual inversion", 2),
        (["<nova>"], "a textual inversion", 1),
        (["model.diffusion_model.out.2.weight", "first_stage_model.decoder.conv_in.bias"], "a full checkpoint", 2),
        (["down_blocks.0.resnets.0.conv1.weight", "conv_in.weight"], "a U-Net, with all its weights", 2),
        (["text_model.encoder.layers.0.mlp.fc1.weight"], "a text encoder", 1),
        (["decoder.up.0.block.0.conv1.weight", "encoder.mid_block.resnets.0.conv1.weight"], "a VAE", 2),
        (["control_model.input_hint_block.0.weight", "controlnet_down_blocks.0.bias"], "a ControlNet", 2),
        (["lora_controlnet"], "a ControlNet", 1),
        (["lllite_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.down.0.weight"], "a ControlNet-LLLite", 1),
        (["image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"], "an IP-Adapter", 2),
        (["down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"], r"a motion module \(AnimateDiff\)", 1),
        ([*module(KEY), f"unet.{PATH}.lora_B.bias"], "a LoRA with trained biases", 1),
        ([f"base_model.model.{PATH}.hada_w1_a"], "a LyCORIS LoHa", 1),
        ([f"base_model.model.{PATH}.oft_R.weight"], "an OFT", 1),
        ([f"base_model.model.{PATH}.vera_lambda_b"], "a VeRA", 1),
        (module("lora_unet_input_blocks_4_1_proj_in"), "a LoRA with Stability's names of blocks", 3),
        (module("diffusion_model.input_blocks.4.1.proj_in"), "a LoRA with Stability's names of blocks", 3),
        (module("lora_unet_time_embed_0"), "a LoRA with Stability's names of blocks", 3),
    ],
)
def test_each_kind_is_named_with_its_keys(tmp_path: Path, keys: list[str], kind: str, concerned: int) -> None:
    message = refusal(tmp_path / "rival.safetensors", {key: torch.ones(1) for key in keys}, "sd15")
    assert re.search(rf"rival.safetensors is .*{kind}.*: {concerned} of {counted(len(keys), 'key')}, as '", message), (
        message
    )
    assert re.search("[Nn]ame|name another file", message)


def test_sd2_is_told_by_its_text_encoder(tmp_path: Path) -> None:
    tensors = {f"{TEXT_KEY}.lora_down.weight": torch.ones(4, 1024), f"{TEXT_KEY}.lora_up.weight": torch.ones(1024, 4)}
    message = refusal(tmp_path / "a", tensors, "sd15")
    assert "is a LoRA for SD2 (its text encoder reads 1024 values; 2 keys)" in message


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["dora_scale"], "is half a DoRA: 1 of 1 module"),
        (["dora_scale", "lora_up.weight"], "is half a DoRA: 1 of 1 module .*lora_down.weight' is missing"),
        (["lora_down.weight"], "1 of 1 module is not whole: key .*lora_up.weight' is missing"),
        (["alpha"], "1 of 1 module is not whole"),
    ],
)
def test_modules_that_are_not_whole(tmp_path: Path, parts: list[str], message: str) -> None:
    tensors = {f"{KEY}.{part}": torch.ones(4, 4) for part in parts}
    assert re.search(message, refusal(tmp_path / "a", tensors, "sd15"))


def test_a_dora_whose_magnitudes_are_lost_is_half_a_dora(tmp_path: Path) -> None:
    tensors = {f"unet.{PATH}.lora_A.weight": torch.ones(4, 8), f"unet.{PATH}.lora_B.weight": torch.ones(6, 4)}
    metadata = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 4, "unet.use_dora": True})}
    assert "is half a DoRA: its configuration says use_dora" in refusal(tmp_path / "a", tensors, "sd15", metadata)


def test_whole_models_of_the_real_libraries_are_no_loras(tmp_path: Path) -> None:
    for build, family in ((build_tiny_pipeline, "sd15"), (build_tiny_sdxl, "sdxl")):
        base = build(tmp_path / family)
        for part, kind in (("unet", "a U-Net, with all its weights"), ("vae", "a VAE")):
            with pytest.raises(LoraError, match=f"is {kind}: .* It is no LoRA"):
                read_any_lora(base / part / "diffusion_pytorch_model.safetensors", family)
    with pytest.raises(LoraError, match=r"is a text encoder: .* It is no LoRA"):
        read_any_lora(tmp_path / "sdxl" / "text_encoder_2" / "model.safetensors", "sdxl")


def test_a_folder_is_named_so(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/")):
        with pytest.raises(LoraError, match=r"is a folder: name the \.safetensors file in it"):
            read_any_lora(path)
