"""LoRA files of other trainers: the same adapters in every layout, and refusals."""

import json
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import save_file

from sticker_pipeline.diffusion.families import FAMILIES
from sticker_pipeline.diffusion.lora.file import Adapter, LoraError, LoraFile, read_lora, write_lora
from sticker_pipeline.diffusion.lora.formats import read_any_lora
from sticker_pipeline.diffusion.lora.key_map import adaptable_modules, path_of, row_of
from sticker_pipeline_tests.diffusion.lora.expected_keys import read
from sticker_pipeline_tests.tiny_models import build_tiny_pipeline, build_tiny_sdxl

Tensors = dict[str, torch.Tensor]
KEY = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
PROCESSOR = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.processor"
UNET = ["to_q", "to_out.0", "ff.net.2", "conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2"]
ADDED = ["add_embedding.linear_1", "add_embedding.linear_2"]
TEXT = {"text_encoder": ["q_proj", "fc1"], "text_encoder_2": ["q_proj", "fc1", "text_projection"]}
SDXL_KEY = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"


def kohya(key: str, into: int = 8, out: int = 6, alpha: float | None = 2.0) -> Tensors:
    """One module, rank 4, as kohya writes it."""
    tensors = {f"{key}.lora_down.weight": torch.rand(4, into), f"{key}.lora_up.weight": torch.rand(out, 4)}
    return tensors if alpha is None else {**tensors, f"{key}.alpha": torch.tensor(alpha)}


def every_module(family: str) -> LoraFile:
    """An adapter for each key of the true architecture; all differ."""
    adapters = {}
    for number, line in enumerate(read(family), start=1):
        ones = (1,) * (len(line.shape) - 2)
        kernel = line.shape[2:]
        adapters[line.key] = Adapter(
            torch.full((2, 3, *kernel), number), torch.full((5, 2, *ones), -number), float(number)
        )
    return LoraFile(adapters)


def assert_same(found: LoraFile, right: LoraFile) -> None:
    assert found.adapters.keys() == right.adapters.keys()
    for key, adapter in right.adapters.items():
        other = found.adapters[key]
        assert other.alpha == adapter.alpha
        assert torch.equal(other.down, adapter.down.float()) and torch.equal(other.up, adapter.up.float())


def diffusers_path(key: str, family: str) -> tuple[str, str]:
    located = path_of(key, family)
    assert located
    model, path = located
    return model, path if model == "unet" else f"text_model.{path}"


def peft_layout(key: str, adapter: Adapter, family: str) -> Tensors:
    """As peft names it, and diffusers since 2024."""
    name = ".".join(diffusers_path(key, family))
    return {f"{name}.lora_A.weight": adapter.down, f"{name}.lora_B.weight": adapter.up}


def saved_by_diffusers(key: str, adapter: Adapter, family: str) -> Tensors:
    """As `save_lora_weights` names what went through convert_state_dict_to_diffusers."""
    model, path = diffusers_path(key, family)
    middle = "lora" if model == "unet" else "lora_linear_layer"
    return {
        f"{model}.{path}.{middle}.down.weight": adapter.down,
        f"{model}.{path}.{middle}.up.weight": adapter.up,
    }


def attention_processors(key: str, adapter: Adapter, family: str) -> Tensors:
    """As diffusers named it in 2023: layers of attention processors, with an underscore."""
    model, path = diffusers_path(key, family)
    if model == "unet":
        path = re.sub(r"(attn\d)\.(to_[a-z]+)(\.0)?$", r"\1.processor.\2", path)
    path = re.sub(r"self_attn\.(q|k|v|out)_proj$", r"self_attn.to_\1", path)
    separator = "_lora" if re.search(r"to_[a-z]+$", path) else ".lora_linear_layer" if model != "unet" else ".lora"
    return {f"{model}.{path}{separator}.down.weight": adapter.down, f"{model}.{path}{separator}.up.weight": adapter.up}


def with_diffusers_names(key: str, adapter: Adapter, family: str) -> Tensors:
    """kohya's layout with the module trees of today's libraries: no SGM names, no `text_model`."""
    located = path_of(key, family)
    assert located
    prefixes = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}
    name = f"{prefixes[located[0]]}_{located[1]}".replace(".", "_")
    return {f"{name}.lora_down.weight": adapter.down, f"{name}.lora_up.weight": adapter.up}


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
@pytest.mark.parametrize("layout", [peft_layout, saved_by_diffusers, attention_processors, with_diffusers_names])
def test_every_module_is_read_in_every_layout(tmp_path: Path, family: str, layout: Callable[..., Tensors]) -> None:
    right = every_module(family)
    tensors: Tensors = {}
    for key, adapter in right.adapters.items():
        named = layout(key, adapter, family)
        tensors |= named
        if layout is with_diffusers_names:
            tensors[f"{next(iter(named)).partition('.')[0]}.alpha"] = torch.tensor(adapter.alpha)
        else:
            tensors[f"{'.'.join(diffusers_path(key, family))}.alpha"] = torch.tensor(adapter.alpha)
    save_file({key: value.float() for key, value in tensors.items()}, tmp_path / "a.safetensors")
    assert_same(read_any_lora(tmp_path / "a.safetensors", family), right)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_our_own_files_are_read_the_same(tmp_path: Path, family: str) -> None:
    right = every_module(family)
    write_lora(
        tmp_path / "a", LoraFile(right.adapters, {"ss_base_model_version": FAMILIES[family].base_version}), "float32"
    )
    assert_same(read_any_lora(tmp_path / "a", family), right)
    assert read_any_lora(tmp_path / "a", family).metadata == read_lora(tmp_path / "a", family).metadata


def test_without_alpha_it_is_the_rank(tmp_path: Path) -> None:
    save_file(kohya(KEY, alpha=None), tmp_path / "kohya")
    down, up = torch.ones(4, 8), torch.ones(6, 4)
    path = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    save_file({f"{path}.lora_A.weight": down, f"{path}.lora_B.weight": up}, tmp_path / "peft")
    for name in ("kohya", "peft"):
        assert [adapter.alpha for adapter in read_any_lora(tmp_path / name).adapters.values()] == [4.0]


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_files_saved_by_diffusers_have_their_effect(tmp_path: Path, family: str) -> None:
    """Real `save_lora_weights` of real peft layers: lora_alpha and alpha_pattern are in the file's metadata alone."""
    import diffusers
    from diffusers.utils import convert_state_dict_to_diffusers

    folder = (build_tiny_pipeline if family == "sd15" else build_tiny_sdxl)(tmp_path / "base")
    pipeline_class = getattr(diffusers, FAMILIES[family].pipeline)
    pipeline = pipeline_class.from_pretrained(folder, local_files_only=True)
    folders = [encoder.folder for encoder in FAMILIES[family].text_encoders]
    saved: dict[str, Any] = {}
    for part in ("unet", *folders):
        model = getattr(pipeline, part)
        unet = part == "unet"
        config = peft.LoraConfig(
            r=2,
            lora_alpha=6,
            target_modules=[*UNET, *(ADDED if family == "sdxl" else ())] if unet else TEXT[part],
            alpha_pattern={"ff.net.2": 1} if unet else {"fc1": 3},
            rank_pattern={"to_out.0": 3} if unet else {"q_proj": 3},
            use_rslora=unet,
        )
        peft.inject_adapter_in_model(config, model)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter)
        state = convert_state_dict_to_diffusers(peft.get_peft_model_state_dict(model))
        saved |= {f"{part}_lora_layers": state, f"{part}_lora_adapter_metadata": config.to_dict()}
    pipeline_class.save_lora_weights(tmp_path, weight_name="a.safetensors", **saved)

    lora = read_any_lora(tmp_path / "a.safetensors", family)
    encoders = tuple(getattr(pipeline, name) for name in folders)
    layers = adaptable_modules(pipeline.unet, encoders, family=family, targets="others")
    adapted = {key for key, layer in layers.items() if hasattr(layer, "lora_A")}
    assert lora.adapters.keys() == adapted
    for key, adapter in lora.adapters.items():
        right = layers[key].get_delta_weight("default")
        delta = adapter.alpha / adapter.rank * (adapter.up.flatten(1) @ adapter.down.flatten(1)).reshape(right.shape)
        torch.testing.assert_close(delta, right, rtol=1e-5, atol=1e-6)
    assert {adapter.rank for adapter in lora.adapters.values()} == {2, 3}
    rows = [row_of(key, family) for key in lora.adapters]
    assert sum(row is not None and row.targets == "others" for row in rows) == (4 if family == "sd15" else 7)


def test_alphas_in_metadata(tmp_path: Path) -> None:
    path = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    tensors = {f"unet.{path}.lora_A.weight": torch.ones(4, 8), f"unet.{path}.lora_B.weight": torch.ones(6, 4)}
    for configuration, alpha in (
        ({"unet.lora_alpha": 8}, 8.0),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn2.to_k": 2}}, 2.0),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"n2.to_k": 2}}, 8.0),  # no whole name
        ({"unet.lora_alpha": 8, "unet.use_rslora": True}, 8 * math.sqrt(4)),
        ({"text_encoder.lora_alpha": 8}, 4.0),
    ):
        save_file(tensors, tmp_path / "a", metadata={"lora_adapter_metadata": json.dumps(configuration)})
        assert read_any_lora(tmp_path / "a").adapters[KEY].alpha == alpha


def test_metadata_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    for text in ("{", "7"):
        save_file(kohya(KEY), tmp_path / "a", metadata={"lora_adapter_metadata": text})
        with pytest.raises(LoraError, match="lora_adapter_metadata"):
            read_any_lora(tmp_path / "a")


def test_magnitudes_of_peft_become_columns(tmp_path: Path) -> None:
    linear, conv = (
        "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",
        "unet.down_blocks.0.resnets.0.conv1",
    )
    magnitude = torch.arange(1.0, 7.0)
    tensors = {
        f"{linear}.lora_A.weight": torch.ones(4, 8),
        f"{linear}.lora_B.weight": torch.ones(6, 4),
        f"{linear}.lora_magnitude_vector": magnitude,
        f"{conv}.lora_A.weight": torch.ones(4, 8, 3, 3),
        f"{conv}.lora_B.weight": torch.ones(6, 4, 1, 1),
        f"{conv}.lora_magnitude_vector.weight": magnitude.reshape(1, 6, 1, 1).clone(),
    }
    save_file(tensors, tmp_path / "a")
    adapters = read_any_lora(tmp_path / "a").adapters
    for key, shape in ((KEY, (6, 1)), ("lora_unet_down_blocks_0_resnets_0_conv1", (6, 1, 1, 1))):
        found = adapters[key].magnitude
        assert found is not None and torch.equal(found, magnitude.reshape(shape))


def test_a_locon_without_tucker_core_is_plain_and_read(tmp_path: Path) -> None:
    key = "lora_unet_down_blocks_0_resnets_0_conv1"
    tensors = {f"{key}.lora_down.weight": torch.ones(4, 8, 3, 3), f"{key}.lora_up.weight": torch.ones(6, 4, 1, 1)}
    metadata = {"ss_network_module": "lycoris.kohya", "ss_network_args": '{"algo": "locon"}'}
    save_file({**tensors, f"{key}.alpha": torch.tensor(1.0)}, tmp_path / "a", metadata=metadata)
    assert read_any_lora(tmp_path / "a").adapters[key].shape == (6, 8, 3, 3)


def test_a_magnitude_that_is_one_number_is_refused(tmp_path: Path) -> None:
    path = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    tensors = {f"{path}.lora_A.weight": torch.ones(4, 8), f"{path}.lora_B.weight": torch.ones(6, 4)}
    save_file({**tensors, f"{path}.lora_magnitude_vector": torch.tensor(1.0)}, tmp_path / "a")
    with pytest.raises(LoraError, match="fits neither outputs nor inputs"):
        read_any_lora(tmp_path / "a")


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "alpha"], "LoHa"),
        (["lokr_w1", "lokr_w2_a", "lokr_w2_b", "alpha"], "LoKr"),
        (["diff"], "full difference"),
        (["weight", "on_input"], r"\(IA\)³"),
        (["lora_down.weight", "lora_up.weight", "lora_mid.weight", "alpha"], "Tucker"),
        (["oft_blocks"], "OFT"),
        (["a1.weight", "a2.weight", "b1.weight", "b2.weight"], "GLoRA"),
        (["w_norm", "b_norm"], "norms"),
        (["lora_down.weight", "lora_up.weight", "scalar"], "scalars"),
    ],
)
def test_other_methods_are_refused_by_name(tmp_path: Path, parts: list[str], name: str) -> None:
    save_file({f"{KEY}.{part}": torch.ones(4, 4) for part in parts}, tmp_path / "rival.safetensors")
    with pytest.raises(LoraError, match=name) as error:
        read_any_lora(tmp_path / "rival.safetensors")
    assert "rival.safetensors" in str(error.value) and "name another file" in str(error.value)


@pytest.mark.parametrize(
    ("tensors", "metadata", "family", "message"),
    [
        (kohya(KEY), {"ss_base_model_version": "sdxl_base_v1-0"}, "sd15", "LoRA for SDXL .*sdxl_base_v1-0"),
        (kohya(KEY), {"ss_base_model_version": "sd_v2_v"}, "sd15", "LoRA for SD2"),
        (kohya(SDXL_KEY), {"ss_base_model_version": "sd_1.5"}, "sdxl", "LoRA for SD1.5"),
        (kohya(KEY), {"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, "sd15", "modelspec.architecture"),
        (kohya(SDXL_KEY, into=2048), {}, "sd15", "LoRA for SDXL .*2048 values"),
        (kohya(KEY, into=768), {}, "sdxl", "LoRA for SD1.5 .*768 values"),
        (kohya(KEY, into=1024), {}, "sd15", "LoRA for SD2"),
        ({f"unet.{PROCESSOR}.to_k_lora.down.weight": torch.ones(4, 2048)}, {}, "sd15", "LoRA for SDXL"),
        (
            {"unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight": torch.ones(4, 768)},
            {},
            "sdxl",
            "SD1.5",
        ),
    ],
)
def test_loras_for_another_family_are_refused(
    tmp_path: Path, tensors: Tensors, metadata: dict[str, str], family: str, message: str
) -> None:
    save_file(tensors, tmp_path / "a", metadata=metadata)
    with pytest.raises(LoraError, match=message):
        read_any_lora(tmp_path / "a", family)


@pytest.mark.parametrize("version", ["None", "", "my own base"])
def test_names_of_bases_that_are_not_known_tell_nothing(tmp_path: Path, version: str) -> None:
    save_file(kohya(KEY, into=768), tmp_path / "a", metadata={"ss_base_model_version": version})
    assert list(read_any_lora(tmp_path / "a").adapters) == [KEY]


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (kohya("lora_unet_conv_norm_out"), "3 of 3 keys .* 'lora_unet_conv_norm_out"),
        ({**kohya(KEY), "unet.conv_norm_out.lora_A.weight": torch.ones(4, 8)}, "1 of 4 keys .* 'unet.conv_norm_out"),
        ({"text_encoder.text_model.final_layer_norm.lora_A.weight": torch.ones(4, 8)}, "final_layer_norm"),
        ({f"{KEY}.lora_down.weight": torch.ones(4, 8)}, "lora_up.weight' is missing"),
        ({"emb_params": torch.ones(1, 8)}, "emb_params"),
        (
            {**kohya("lora_te_text_model_encoder_layers_0_mlp_fc1"), **kohya("lora_te1_encoder_layers_0_mlp_fc1")},
            "says the same as another one",
        ),
        ({}, "no LoRA at all"),
    ],
)
def test_what_cannot_be_applied_is_refused_by_its_key(tmp_path: Path, tensors: Tensors, message: str) -> None:
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(LoraError, match=message) as error:
        read_any_lora(tmp_path / "a.safetensors")
    assert "a.safetensors" in str(error.value)


def test_pickles_are_refused_by_content(tmp_path: Path) -> None:
    torch.save(kohya(KEY), tmp_path / "zip.safetensors")
    (tmp_path / "bare.safetensors").write_bytes(pickle.dumps({"x": 1}))
    for name in ("zip", "bare"):
        with pytest.raises(LoraError, match="pickle checkpoint"):
            read_any_lora(tmp_path / f"{name}.safetensors")
