import hashlib
import json
import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sticker_pipeline.settings import TrainingSettings
from sticker_pipeline.storage import file_sha256
from sticker_pipeline.training.lora_file import (
    TABLE,
    Adapter,
    LoraError,
    LoraFile,
    adaptable_modules,
    apply_lora,
    key_of,
    path_of,
    read_lora,
    write_lora,
)
from sticker_pipeline.training.models import Models, adapters_of, add_adapters, load_models

KEY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
TEXT_KEY = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"


@pytest.fixture(scope="module")
def sd15() -> tuple[torch.nn.Module, torch.nn.Module]:
    """The true SD1.5 architecture without weights."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        text_encoder = CLIPTextModel(
            CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
        )
    return unet, text_encoder


def test_sd15_has_192_and_72_modules(sd15: tuple[torch.nn.Module, torch.nn.Module]) -> None:
    keys = list(adaptable_modules(*sd15))
    assert sum(key.startswith("lora_unet_") for key in keys) == 192
    assert sum(key.startswith("lora_te_text_model_encoder_layers_") for key in keys) == 72
    assert len(keys) == 264
    attention = list(adaptable_modules(*sd15, attention_only=True))
    assert sum(key.startswith("lora_unet_") for key in attention) == 128  # what diffusers' own script trains
    assert sum(key.startswith("lora_te_") for key in attention) == 48


def test_targets_are_every_linear_and_1x1_convolution(sd15: tuple[torch.nn.Module, torch.nn.Module]) -> None:
    unet, text_encoder = sd15
    expected = {
        id(module)
        for path, module in [*unet.named_modules(), *text_encoder.named_modules()]
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
        and (".attentions." in path or "encoder.layers." in path)
    }
    assert {id(module) for module in adaptable_modules(unet, text_encoder).values()} == expected


def test_names_are_kohyas(sd15: tuple[torch.nn.Module, torch.nn.Module]) -> None:
    modules = adaptable_modules(*sd15)
    for key in (
        KEY,
        TEXT_KEY,
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0",
        "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_0_proj",
        "lora_unet_up_blocks_1_attentions_0_transformer_blocks_0_ff_net_2",
        "lora_unet_down_blocks_2_attentions_1_proj_in",
        "lora_te_text_model_encoder_layers_11_mlp_fc2",
    ):
        assert key in modules


def test_the_table_is_one_to_one() -> None:
    rows = TABLE["sd15"]
    assert len({row.key for row in rows}) == len({(row.model, row.path) for row in rows}) == len(rows) == 42
    for row in rows:
        numbers = range(3, 3 + row.path.count("{}"))
        path, key = row.path.format(*numbers), row.key.format(*numbers)
        assert (key_of(path, row.model), path_of(key)) == (key, (row.model, path))
        assert re.fullmatch(r"lora_(unet|te_text_model)_[a-z0-9_]+", key)


def test_both_spellings_of_the_text_encoder_have_one_key() -> None:
    """transformers dropped the prefix `text_model.` from its modules; files keep it."""
    assert key_of("text_model.encoder.layers.0.self_attn.q_proj", "text_encoder") == TEXT_KEY
    assert key_of("encoder.layers.0.self_attn.q_proj", "text_encoder") == TEXT_KEY
    assert key_of("conv_in", "unet") is None and path_of("lora_unet_conv_in") is None


def example(rank: int = 4, alpha: float = 2.7) -> LoraFile:
    generator = torch.Generator().manual_seed(1)
    adapters = {
        KEY: Adapter(torch.randn(rank, 8, generator=generator), torch.randn(6, rank, generator=generator), alpha),
        KEY.replace("transformer_blocks_0_attn1_to_q", "proj_in"): Adapter(
            torch.randn(rank, 8, 1, 1, generator=generator), torch.randn(6, rank, 1, 1, generator=generator), alpha
        ),
    }
    return LoraFile(adapters, {"ss_base_model_version": "sd_v1", "ss_output_name": "nová", "modelspec.title": "x"})


def test_round_trip_keeps_values_alpha_and_metadata(tmp_path: Path) -> None:
    lora = example()
    write_lora(tmp_path / "a.safetensors", lora, "float32")
    found = read_lora(tmp_path / "a.safetensors")
    assert found.adapters.keys() == lora.adapters.keys()
    for key, adapter in lora.adapters.items():
        assert torch.equal(found.adapters[key].down, adapter.down) and torch.equal(found.adapters[key].up, adapter.up)
        assert found.adapters[key].alpha == pytest.approx(2.7, rel=1e-7)  # true alpha, not the rank
    assert found.metadata.items() >= lora.metadata.items()


def test_file_layout_is_kohyas(tmp_path: Path) -> None:
    write_lora(tmp_path / "a.safetensors", example(), "float16")
    tensors = load_file(tmp_path / "a.safetensors")
    assert {key: tuple(value.shape) for key, value in tensors.items() if key.startswith(KEY)} == {
        f"{KEY}.lora_down.weight": (4, 8),
        f"{KEY}.lora_up.weight": (6, 4),
        f"{KEY}.alpha": (),
    }
    assert tensors[f"{KEY}.lora_up.weight"].dtype == torch.float16


def test_equal_adapters_give_equal_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_lora(tmp_path / name, example(), "float16")
    assert file_sha256(tmp_path / "a") == file_sha256(tmp_path / "b")


def test_hashes_are_those_that_clients_compute(tmp_path: Path) -> None:
    write_lora(tmp_path / "a", example(), "float32")
    data = (tmp_path / "a").read_bytes()
    size = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + size])["__metadata__"]
    assert metadata["sshs_model_hash"] == hashlib.sha256(data[8 + size :]).hexdigest()
    assert metadata["sshs_legacy_hash"] == hashlib.sha256(b"").hexdigest()[:8]  # the file is smaller than 1 MiB
    assert metadata["modelspec.hash_sha256"] == "0x" + metadata["sshs_model_hash"]


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({f"{KEY}.lora_A.weight": torch.zeros(4, 8)}, "lora_A"),
        ({"lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha": torch.tensor(1.0)}, "lora_te1_text_model"),
        ({"lora_unet_conv_in.alpha": torch.tensor(1.0)}, "lora_unet_conv_in"),
        ({f"{KEY}.lora_down.weight": torch.zeros(4, 8)}, r"lora_up\.weight' is missing"),
        (
            {f"{KEY}.lora_down.weight": torch.zeros(4, 8), f"{KEY}.lora_up.weight": torch.zeros(6, 3)},
            "do not fit together",
        ),
        ({}, "no LoRA at all"),
    ],
)
def test_faulty_files_name_the_key(tmp_path: Path, tensors: dict[str, torch.Tensor], message: str) -> None:
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(LoraError, match=message) as error:
        read_lora(tmp_path / "a.safetensors")
    assert "a.safetensors" in str(error.value)


def test_a_file_for_another_family_is_refused(tmp_path: Path) -> None:
    lora = example()
    write_lora(tmp_path / "a", LoraFile(lora.adapters, {"ss_base_model_version": "sdxl_base_v1-0"}), "float32")
    with pytest.raises(LoraError, match="sdxl_base_v1-0"):
        read_lora(tmp_path / "a")


def test_pickles_are_refused_by_content(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / "zip.safetensors")
    (tmp_path / "pickle.safetensors").write_bytes(pickle.dumps({"x": 1}))
    for name in ("zip", "pickle"):
        with pytest.raises(LoraError, match="pickle checkpoint"):
            read_lora(tmp_path / f"{name}.safetensors")
    (tmp_path / "text.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(LoraError, match="not a safetensors file"):
        read_lora(tmp_path / "text.safetensors")
    with pytest.raises(LoraError, match="no such file"):
        read_lora(tmp_path / "none.safetensors")


def test_a_header_of_any_length_is_read(tmp_path: Path) -> None:
    """Among these lengths are some whose first byte is 0x80, like a pickle's."""
    starts = set()
    for letters in range(0, 256, 8):
        write_lora(tmp_path / "a", LoraFile(example().adapters, {"note": "x" * letters}), "float32")
        starts.add((tmp_path / "a").read_bytes()[0])
        assert read_lora(tmp_path / "a").metadata["note"] == "x" * letters
    assert 0x80 in starts


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    write_lora(tmp_path / "a", example(), "float32")
    (tmp_path / "cut").write_bytes((tmp_path / "a").read_bytes()[:-10])
    with pytest.raises(LoraError, match="not a whole safetensors file"):
        read_lora(tmp_path / "cut")


def test_values_that_are_no_numbers_are_not_written(tmp_path: Path) -> None:
    adapter = Adapter(torch.full((1, 2), 1e6), torch.ones(2, 1), 1.0)
    write_lora(tmp_path / "a", LoraFile({KEY: adapter}), "float32")
    with pytest.raises(LoraError, match="infinities"):
        write_lora(tmp_path / "b", LoraFile({KEY: adapter}), "float16")
    assert not (tmp_path / "b").exists()


def outputs(models: Models) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    noisy = torch.randn(2, 4, 8, 8, generator=generator)
    ids = torch.randint(0, 300, (2, 77), generator=generator)
    with torch.no_grad():
        hidden = models.text_encoder(ids)[0]
        return models.unet(noisy, torch.tensor([10, 700]), encoder_hidden_states=hidden).sample, hidden


@pytest.mark.parametrize("targets", ["all", "attention"])
def test_applied_effect_is_that_of_training(tmp_path: Path, tiny_base: Path, targets: str) -> None:
    cpu = torch.device("cpu")
    trained = load_models(tiny_base, cpu, torch.float32)
    settings = TrainingSettings.model_validate({"rank": 4, "alpha": 3.0, "targets": targets})
    layers = add_adapters(trained, settings, "sd15")
    generator = torch.Generator().manual_seed(5)
    for layer in layers.values():
        weight = layer.lora_B["default"].weight
        weight.data.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
    write_lora(tmp_path / "a", LoraFile(adapters_of(layers)), "float32")

    plain = load_models(tiny_base, cpu, torch.float32)
    weights = {name: value.clone() for name, value in plain.unet.state_dict().items()}
    before = outputs(plain)
    with apply_lora(plain.unet, plain.text_encoder, read_lora(tmp_path / "a")):
        for applied, expected, original in zip(outputs(plain), outputs(trained), before, strict=True):
            torch.testing.assert_close(applied, expected, rtol=1e-5, atol=1e-5)
            assert (applied - original).abs().max() > 0.01
    assert all(torch.equal(value, weights[name]) for name, value in plain.unet.state_dict().items())
    assert all(torch.equal(*pair) for pair in zip(outputs(plain), before, strict=True))


def test_strength_scales_the_change_of_the_weights(tiny_base: Path) -> None:
    models = load_models(tiny_base, torch.device("cpu"), torch.float32)
    weight = adaptable_modules(models.unet, models.text_encoder)[KEY].weight
    original = weight.clone()
    down, up = torch.randn(4, weight.shape[1]), torch.randn(weight.shape[0], 4)
    handle = apply_lora(models.unet, models.text_encoder, LoraFile({KEY: Adapter(down, up, 2.0)}), strength=0.5)
    torch.testing.assert_close(weight - original, 0.5 * 2.0 / 4 * up @ down, rtol=1e-4, atol=1e-5)
    handle.remove()
    assert torch.equal(weight, original)


def test_a_lora_that_does_not_fit_changes_nothing(tiny_base: Path) -> None:
    models = load_models(tiny_base, torch.device("cpu"), torch.float32)
    weights = {name: value.clone() for name, value in models.unet.state_dict().items()}
    fitting = adaptable_modules(models.unet, models.text_encoder)[KEY].weight.shape
    good = Adapter(torch.ones(1, fitting[1]), torch.ones(fitting[0], 1), 1.0)
    for key, message in ((KEY.replace("blocks_0_att", "blocks_7_att"), "does not have"), (TEXT_KEY, "is for a module")):
        with pytest.raises(LoraError, match=message):
            bad = Adapter(torch.ones(1, 5), torch.ones(5, 1), 1.0)
            apply_lora(models.unet, models.text_encoder, LoraFile({KEY: good, key: bad}))
    assert all(torch.equal(value, weights[name]) for name, value in models.unet.state_dict().items())
