"""Table of keys against data made from the model classes by other rules: expected_keys.py."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sticker_pipeline.diffusion.architectures import build
from sticker_pipeline.diffusion.families import FAMILIES
from sticker_pipeline.diffusion.lora.key_map import TABLE, Targets, adaptable_modules, key_of, path_of, row_of
from sticker_pipeline_tests.diffusion.lora.expected_keys import expected, read
from sticker_pipeline_tests.tiny_models import build_tiny_sdxl

SETS: dict[Targets, tuple[str, ...]] = {
    "attention": ("attention",),
    "all": ("attention", "all"),
    "all+conv": ("attention", "all", "all+conv"),
}
COUNTS = {  # of modules in the U-Net and in each text encoder
    ("sd15", "attention"): (128, 48),
    ("sd15", "all"): (192, 72),
    ("sd15", "all+conv"): (278, 72),
    ("sdxl", "attention"): (560, 48, 128),
    ("sdxl", "all"): (722, 72, 192),
    ("sdxl", "all+conv"): (788, 72, 192),
}


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def models(family: str) -> tuple[Any, ...]:
    """The U-Net and the text encoders of the true architecture, without weights."""
    with torch.device("meta"):
        return tuple(build(family, part) for part in ("unet", *(e.folder for e in FAMILIES[family].text_encoders)))


def test_the_data_are_what_the_model_classes_say(family: str) -> None:
    assert list(expected(family)) == read(family)


@pytest.mark.parametrize("targets", list(SETS))
def test_modules_of_each_target_set_are_those_of_sd_scripts(
    family: str, models: tuple[Any, ...], targets: Targets
) -> None:
    found = adaptable_modules(models[0], models[1:], family=family, targets=targets)
    wanted = {line.key: line.shape for line in read(family) if line.targets in SETS[targets]}
    assert {key: tuple(module.weight.shape) for key, module in found.items()} == wanted
    prefixes = ("lora_unet_", *(f"{encoder.prefix}_text_model_" for encoder in FAMILIES[family].text_encoders))
    assert tuple(sum(key.startswith(prefix) for key in found) for prefix in prefixes) == COUNTS[family, targets]


def test_ranks_are_those_of_sd_scripts(family: str) -> None:
    rows = {line.key: row_of(line.key, family) for line in read(family)}
    assert all(rows.values())
    assert {key: row and (row.kind, row.targets) for key, row in rows.items()} == {
        line.key: (line.kind, line.targets) for line in read(family)
    }


def test_every_key_is_that_of_its_module_alone(family: str, models: tuple[Any, ...]) -> None:
    names = ("unet", *(encoder.folder for encoder in FAMILIES[family].text_encoders))
    trees = dict(zip(names, models, strict=True))
    for key, module in adaptable_modules(models[0], models[1:], family=family).items():
        located = path_of(key, family)
        assert located is not None
        model, path = located
        found = dict(trees[model].named_modules())
        assert found.get(path, found.get(f"text_model.{path}")) is module
        assert key_of(path, model, family) == key


def test_no_other_linear_layer_or_convolution_is_left_out(family: str, models: tuple[Any, ...]) -> None:
    found = set(adaptable_modules(models[0], models[1:], family=family).values())
    layers = {
        path: module
        for model in models
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
    }
    left = {path for path, module in layers.items() if module not in found}
    every = adaptable_modules(models[0], models[1:], family=family, targets="others")
    assert set(every.values()) == set(layers.values())
    ends = {"conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2"}
    more = {"add_embedding.linear_1", "add_embedding.linear_2", "text_projection"}
    assert left == (ends | more if family == "sdxl" else ends)


def test_a_text_encoder_that_is_left_alone_has_no_keys(family: str, models: tuple[Any, ...]) -> None:
    for encoders in ((), (None,) * (len(models) - 1)):
        assert all(key.startswith("lora_unet_") for key in adaptable_modules(models[0], encoders, family=family))
    if family == "sdxl":
        second = adaptable_modules(models[0], (None, models[2]), family=family, targets="attention")
        assert {key.split("_")[1] for key in second} == {"unet", "te2"}


@pytest.mark.parametrize(
    ("family", "path", "key"),
    [  # from files that people share
        ("sd15", "mid_block.attentions.0.proj_in", "lora_unet_mid_block_attentions_0_proj_in"),
        (
            "sd15",
            "up_blocks.3.attentions.2.transformer_blocks.0.ff.net.0.proj",
            "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_0_proj",
        ),
        ("sd15", "down_blocks.0.downsamplers.0.conv", "lora_unet_down_blocks_0_downsamplers_0_conv"),
        ("sd15", "up_blocks.0.resnets.1.conv_shortcut", "lora_unet_up_blocks_0_resnets_1_conv_shortcut"),
        (
            "sdxl",
            "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0",
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_out_0",
        ),
        (
            "sdxl",
            "down_blocks.2.attentions.1.transformer_blocks.9.ff.net.2",
            "lora_unet_input_blocks_8_1_transformer_blocks_9_ff_net_2",
        ),
        ("sdxl", "mid_block.attentions.0.proj_out", "lora_unet_middle_block_1_proj_out"),
        ("sdxl", "mid_block.resnets.1.conv1", "lora_unet_middle_block_2_in_layers_2"),
        ("sdxl", "down_blocks.0.downsamplers.0.conv", "lora_unet_input_blocks_3_0_op"),
        ("sdxl", "up_blocks.0.upsamplers.0.conv", "lora_unet_output_blocks_2_2_conv"),
        ("sdxl", "up_blocks.1.upsamplers.0.conv", "lora_unet_output_blocks_5_2_conv"),
        ("sdxl", "up_blocks.2.resnets.2.conv_shortcut", "lora_unet_output_blocks_8_0_skip_connection"),
        ("sd15", "conv_in", "lora_unet_conv_in"),
        ("sd15", "time_embedding.linear_2", "lora_unet_time_embedding_linear_2"),
        ("sdxl", "conv_in", "lora_unet_input_blocks_0_0"),
        ("sdxl", "conv_out", "lora_unet_out_2"),
        ("sdxl", "time_embedding.linear_1", "lora_unet_time_embed_0"),
        ("sdxl", "add_embedding.linear_2", "lora_unet_label_emb_0_2"),
    ],
)
def test_known_names_of_unet_modules(family: str, path: str, key: str) -> None:
    assert (key_of(path, "unet", family), path_of(key, family)) == (key, ("unet", path))


def test_both_spellings_of_a_text_encoder_have_one_key() -> None:
    """transformers dropped the prefix `text_model.` from one of its classes; files keep it."""
    for family, model, prefix in (
        ("sd15", "text_encoder", "lora_te"),
        ("sdxl", "text_encoder", "lora_te1"),
        ("sdxl", "text_encoder_2", "lora_te2"),
    ):
        key = f"{prefix}_text_model_encoder_layers_0_self_attn_q_proj"
        for path in ("text_model.encoder.layers.0.self_attn.q_proj", "encoder.layers.0.self_attn.q_proj"):
            assert key_of(path, model, family) == key
        assert path_of(key, family) == (model, "encoder.layers.0.self_attn.q_proj")


@pytest.mark.parametrize(
    ("family", "key"),
    [
        ("sd15", "lora_unet_label_emb_0_0"),
        ("sd15", "lora_te1_text_model_encoder_layers_0_mlp_fc1"),
        ("sd15", "lora_te_encoder_layers_0_mlp_fc1"),
        ("sd15", "lora_unet_input_blocks_4_1_proj_in"),
        ("sdxl", "lora_unet_down_blocks_1_attentions_0_proj_in"),
        ("sdxl", "lora_unet_out_0"),  # a norm
        ("sdxl", "lora_unet_input_blocks_1_1_proj_in"),  # SDXL has no attention there
        ("sdxl", "lora_unet_output_blocks_8_1_proj_in"),
        ("sdxl", "lora_unet_output_blocks_9_0_in_layers_2"),
        ("sdxl", "lora_unet_label_emb_0_1"),
        ("sdxl", "lora_te_text_model_encoder_layers_0_mlp_fc1"),
        ("sdxl", "lora_te1_text_projection"),
        ("sdxl", ""),
    ],
)
def test_keys_that_are_not_in_the_table(family: str, key: str) -> None:
    assert path_of(key, family) is None and row_of(key, family) is None


def test_the_table_is_one_to_one(family: str) -> None:
    rows = TABLE[family]
    assert len({row.key for row in rows}) == len({(row.model, row.path) for row in rows}) == len(rows)
    for row in rows:
        numbers = range(3, 3 + row.path.count("{}"))
        path, key = row.path.format(*numbers), row.key.format(*numbers)
        assert (key_of(path, row.model, family), path_of(key, family), row_of(key, family)) == (
            key,
            (row.model, path),
            row,
        )
        assert re.fullmatch(r"lora_(unet|te[12]?_text_model|te2(?=_text_projection))_[a-z0-9_]+", key)


@given(
    family=st.sampled_from(["sd15", "sdxl"]),
    row=st.integers(0, 10_000),
    numbers=st.lists(st.integers(0, 99), min_size=4, max_size=4),
    junk=st.sampled_from(["x", "_", "0", ".weight", " "]),
)
def test_no_key_is_near_enough_to_another(family: str, row: int, numbers: list[int], junk: str) -> None:
    """A key with something added is another module or none, never the same one."""
    found = TABLE[family][row % len(TABLE[family])]
    key = found.key.format(*numbers)
    assert path_of(key, family) == (found.model, found.path.format(*numbers))
    for other in (junk + key, key + junk):
        located = path_of(other, family)
        assert located is None or key_of(located[1], located[0], family) == other


def test_a_tiny_sdxl_has_the_blocks_of_the_true_one(tmp_path: Path) -> None:
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_pretrained(build_tiny_sdxl(tmp_path / "base"), local_files_only=True)
    found = adaptable_modules(pipeline.unet, (pipeline.text_encoder, pipeline.text_encoder_2), family="sdxl")
    wanted = {line.key for line in read("sdxl")}
    assert set(found) <= wanted
    # but for transformer blocks and text layers that it has fewer of
    fewer = {re.sub(r"(transformer_blocks|layers)_\d+", r"\1_0", key) for key in wanted}
    assert {re.sub(r"(transformer_blocks|layers)_\d+", r"\1_0", key) for key in found} == fewer
