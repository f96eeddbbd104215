"""A LoRA's change of the weights: against peft's own layers, and against the formulas by hand."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from sticker_pipeline.diffusion.lora.apply import apply_lora
from sticker_pipeline.diffusion.lora.file import Adapter, LoraError, LoraFile, read_lora, write_lora
from sticker_pipeline.diffusion.lora.key_map import adaptable_modules

KEY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
CONV_KEY = "lora_unet_down_blocks_0_resnets_0_conv1"
ONE_BY_ONE_KEY = "lora_unet_down_blocks_0_attentions_0_proj_in"
TEXT_KEY = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"


def open_models(base: Path) -> tuple[Any, Any]:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

    unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet", local_files_only=True)
    text_encoder = CLIPTextModel.from_pretrained(base, subfolder="text_encoder", local_files_only=True)
    return unet.requires_grad_(False).eval(), text_encoder.requires_grad_(False).eval()


@pytest.fixture
def models(tiny_base: Path) -> tuple[Any, Any]:
    return open_models(tiny_base)


def outputs(unet: Any, text_encoder: Any) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    noisy = torch.randn(2, 4, 8, 8, generator=generator)
    ids = torch.randint(0, 300, (2, 77), generator=generator)
    with torch.no_grad():
        hidden = text_encoder(ids)[0]
        return unet(noisy, torch.tensor([10, 700]), encoder_hidden_states=hidden).sample, hidden


def peft_adapters(models: tuple[Any, Any], targets: Any, *, dora: bool) -> LoraFile:
    """Random adapters of peft inside the models, and the same as a LoRA file holds them."""
    generator = torch.Generator().manual_seed(5)
    modules = adaptable_modules(models[0], models[1:], targets=targets)
    for model in models:
        paths = [path for path, module in model.named_modules() if module in set(modules.values())]
        config = peft.LoraConfig(r=4, lora_alpha=3.0, target_modules=paths, use_dora=dora)
        peft.inject_adapter_in_model(config, model, adapter_name="default")
        model.eval()
    adapters = {}
    for key, layer in adaptable_modules(models[0], models[1:], targets=targets).items():
        up = layer.lora_B["default"].weight
        up.data.copy_(torch.randn(up.shape, generator=generator) * 0.2)
        magnitude = None
        if dora:
            trained = layer.lora_magnitude_vector["default"].weight
            trained.data.mul_(1 + 0.2 * torch.rand(trained.shape, generator=generator))
            magnitude = trained.detach().reshape(-1, 1, *(1,) * (up.ndim - 2))
        adapters[key] = Adapter(layer.lora_A["default"].weight.detach(), up.detach(), 3.0, magnitude)
    return LoraFile(adapters)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("targets", ["attention", "all", "all+conv"])
def test_the_effect_is_that_of_training_in_peft(
    tmp_path: Path, tiny_base: Path, models: tuple[Any, Any], targets: str, dora: bool
) -> None:
    trained = open_models(tiny_base)
    write_lora(tmp_path / "a", peft_adapters(trained, targets, dora=dora), "float32")
    weights = {name: value.clone() for name, value in models[0].state_dict().items()}
    before = outputs(*models)
    with apply_lora(models[0], models[1:], read_lora(tmp_path / "a")):
        for applied, right, original in zip(outputs(*models), outputs(*trained), before, strict=True):
            torch.testing.assert_close(applied, right, rtol=1e-4, atol=1e-4)
            assert (applied - original).abs().max() > 0.01
    assert all(torch.equal(value, weights[name]) for name, value in models[0].state_dict().items())
    assert all(torch.equal(*pair) for pair in zip(outputs(*models), before, strict=True))


def test_strength_scales_the_change_of_the_weights(models: tuple[Any, Any]) -> None:
    weight = adaptable_modules(models[0], models[1:])[KEY].weight
    original = weight.clone()
    down, up = torch.randn(4, weight.shape[1]), torch.randn(weight.shape[0], 4)
    handle = apply_lora(models[0], models[1:], LoraFile({KEY: Adapter(down, up, 2.0)}), strength=0.5)
    torch.testing.assert_close(weight - original, 0.5 * 2.0 / 4 * up @ down, rtol=1e-4, atol=1e-5)
    handle.remove()
    assert torch.equal(weight, original)


def test_a_convolution_changes_as_two_in_a_row_would(models: tuple[Any, Any]) -> None:
    """sd-scripts trains a 3×3 convolution to `rank` channels and a 1×1 one behind it."""
    conv = adaptable_modules(models[0], models[1:])[CONV_KEY]
    generator = torch.Generator().manual_seed(1)
    down = torch.randn(2, conv.in_channels, 3, 3, generator=generator) * 0.1
    up = torch.randn(conv.out_channels, 2, 1, 1, generator=generator)
    image = torch.randn(1, conv.in_channels, 6, 6, generator=generator)
    plain = conv(image)
    added = torch.nn.functional.conv2d(torch.nn.functional.conv2d(image, down, padding=1), up)
    with apply_lora(models[0], models[1:], LoraFile({CONV_KEY: Adapter(down, up, 1.0)})):
        torch.testing.assert_close(conv(image), plain + 0.5 * added, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("key", [KEY, ONE_BY_ONE_KEY, CONV_KEY])
@pytest.mark.parametrize("columns", [False, True])
def test_a_dora_gives_the_changed_weight_its_norms(models: tuple[Any, Any], key: str, columns: bool) -> None:
    weight = adaptable_modules(models[0], models[1:])[key].weight
    original = weight.clone()
    generator = torch.Generator().manual_seed(1)
    ones = (1,) * (weight.ndim - 2)
    shape = (1, weight.shape[1], *ones) if columns else (weight.shape[0], 1, *ones)
    magnitude = 1 + torch.rand(shape, generator=generator)
    down = torch.randn(2, *weight.shape[1:], generator=generator)
    up = torch.randn(weight.shape[0], 2, *ones, generator=generator)
    lora = LoraFile({key: Adapter(down, up, 1.0, magnitude)})
    kept = 1 if columns else 0
    with apply_lora(models[0], models[1:], lora):
        norms = weight.transpose(0, kept).flatten(1).norm(dim=1)
        torch.testing.assert_close(norms, magnitude.flatten(), rtol=1e-4, atol=1e-5)
        changed = weight.clone()
        merged = original + 0.5 * torch.einsum("or,r...->o...", up.flatten(1), down)
        alike = torch.nn.functional.cosine_similarity(
            changed.transpose(0, kept).flatten(1), merged.transpose(0, kept).flatten(1)
        )
        torch.testing.assert_close(alike, torch.ones_like(alike))
    with apply_lora(models[0], models[1:], lora, strength=0.25):  # a quarter of the way
        torch.testing.assert_close(weight, original + 0.25 * (changed - original), rtol=1e-4, atol=1e-5)


def test_a_matrix_fits_a_1x1_convolution(models: tuple[Any, Any]) -> None:
    """Files of others write linear layers for 1×1 convolutions, and the reverse."""
    weight = adaptable_modules(models[0], models[1:])[ONE_BY_ONE_KEY].weight
    original, (out, into) = weight.clone(), weight.shape[:2]
    with apply_lora(
        models[0], models[1:], LoraFile({ONE_BY_ONE_KEY: Adapter(torch.ones(1, into), torch.ones(out, 1), 1.0)})
    ):
        torch.testing.assert_close(weight - original, torch.ones_like(weight), rtol=1e-4, atol=1e-4)


def test_a_lora_that_does_not_fit_changes_nothing(models: tuple[Any, Any]) -> None:
    weights = {name: value.clone() for name, value in models[0].state_dict().items()}
    fitting = adaptable_modules(models[0], models[1:])[KEY].weight.shape
    good = Adapter(torch.ones(1, fitting[1]), torch.ones(fitting[0], 1), 1.0)
    conv = adaptable_modules(models[0], models[1:])[CONV_KEY].weight.shape
    for key, bad, message in (
        (KEY.replace("blocks_0_att", "blocks_7_att"), good, "does not have"),
        (TEXT_KEY, Adapter(torch.ones(1, 5), torch.ones(5, 1), 1.0), "is for a module"),
        (CONV_KEY, Adapter(torch.ones(1, conv[1], 1, 1), torch.ones(conv[0], 1, 1, 1), 1.0), "is for a module"),
    ):
        with pytest.raises(LoraError, match=message):
            apply_lora(models[0], models[1:], LoraFile({KEY: good, key: bad}))
    with pytest.raises(LoraError, match="does not have"):  # a text encoder that is left alone
        apply_lora(models[0], (None,), LoraFile({KEY: good, TEXT_KEY: good}))
    assert all(torch.equal(value, weights[name]) for name, value in models[0].state_dict().items())
