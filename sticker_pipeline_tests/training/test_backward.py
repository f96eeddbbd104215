"""Precision of the models, and gradients of the trained weights."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.training.adapters import adapters_of, add_adapters
from sticker_pipeline.training.backward import Inputs, Weights, in_use, predict, unet_backward, weights_of
from sticker_pipeline.training.models import Models, checkpoint_gradients, load_models
from sticker_pipeline.training.objective import image_losses


def adapted(
    base: Path, dtype: torch.dtype, device: str = "cpu", **settings: Any
) -> tuple[Models, dict[str, Any], Weights]:
    models = load_models(base, "sd15", dtype, prediction="base", zero_terminal_snr=False)
    chosen = TrainingSettings(rank=4, alpha=4.0, learning_rate_text_encoder=0.0, **settings)
    layers = add_adapters(models.unet, (), "sd15", chosen)
    models.unet.to(device)
    weights = weights_of(layers.values(), dtype)
    dice = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in adapters_of(layers).values():
            layer.up.copy_(torch.randn(layer.up.shape, generator=dice) / 10)
    return models, layers, weights


def batch(dtype: torch.dtype, seed: int = 0, images: int = 2) -> Inputs:
    dice = torch.Generator().manual_seed(seed)
    return {
        "noisy": torch.randn(images, 4, 8, 8, generator=dice).to(dtype),
        "timesteps": torch.randint(1000, (images,), generator=dice),
        "target": torch.randn(images, 4, 8, 8, generator=dice),
        "encoder_hidden_states": torch.randn(images, 77, 32, generator=dice).to(dtype),
        "share": torch.rand(images, generator=dice),
    }


def run(models: Models, weights: Weights, inputs: Inputs, scale: float = 1.0) -> tuple[torch.Tensor, ...]:
    weights.gradient.zero_()
    with in_use(weights):
        errors, of_inputs = unet_backward(models.unet, weights, lambda loss: loss * scale)(inputs)
    return errors, *of_inputs


def test_in_float32_the_gradients_are_autograds(tiny_base: Path) -> None:
    models, _, weights = adapted(tiny_base, torch.float32)
    assert all(used is learned for used, learned in zip(weights.used, weights.learned, strict=True))
    inputs = batch(torch.float32)
    inputs["encoder_hidden_states"].requires_grad_()
    errors, of_text = run(models, weights, inputs)
    expected = image_losses(predict(models.unet, inputs), inputs["target"])
    assert torch.allclose(errors, expected)
    wanted = torch.autograd.grad(
        (expected * inputs["share"]).sum(), [*weights.learned, inputs["encoder_hidden_states"]]
    )
    for found, one in zip([*(p.grad for p in weights.learned), of_text], wanted, strict=True):
        assert torch.allclose(found, one, atol=1e-7)


def test_gradients_add_up_and_are_scaled(tiny_base: Path) -> None:
    models, _, weights = adapted(tiny_base, torch.float32)
    run(models, weights, batch(torch.float32), scale=2.0)
    twice = weights.gradient.clone()
    run(models, weights, batch(torch.float32))
    with in_use(weights):
        unet_backward(models.unet, weights, lambda loss: loss)(batch(torch.float32))
    assert torch.allclose(weights.gradient, twice, atol=1e-7)


@pytest.mark.parametrize("dora", [False, True])
def test_in_half_precision_copies_compute_and_float32_learns(tiny_base: Path, dora: bool) -> None:
    models, layers, weights = adapted(tiny_base, torch.bfloat16, dora=dora)
    errors = run(models, weights, batch(torch.bfloat16))[0]
    exact_models, _, exact = adapted(tiny_base, torch.float32, dora=dora)
    expected = run(exact_models, exact, {**batch(torch.float32), "noisy": batch(torch.bfloat16)["noisy"].float()})[0]
    assert errors.dtype == torch.float32 and torch.allclose(errors, expected, rtol=0.02)
    magnitudes = {id(parameter) for layer in layers.values() for parameter in layer.lora_magnitude_vector.parameters()}
    assert bool(magnitudes) == dora
    for learned, used in zip(weights.learned, weights.used, strict=True):
        assert learned.dtype == torch.float32 and learned.grad is not None and learned.grad.dtype == torch.float32
        assert used.dtype == (torch.float32 if id(learned) in magnitudes else torch.bfloat16)
    assert torch.nn.functional.cosine_similarity(weights.gradient, exact.gradient, dim=0) > 0.99
    # Outside they are float32 again; inside, what was learned meanwhile is used.
    assert {adapter.down.dtype for adapter in adapters_of(layers).values()} == {torch.float32}
    with torch.no_grad():
        weights.learned[0].fill_(3.0)
    with in_use(weights):
        assert weights.used[0].unique().tolist() == [3.0]
        assert torch.bfloat16 in {adapter.down.dtype for adapter in adapters_of(layers).values()}


def test_checkpointing_computes_with_the_copies_too(tiny_base: Path) -> None:
    models, _, weights = adapted(tiny_base, torch.bfloat16)
    run(models, weights, batch(torch.bfloat16))
    plain = weights.gradient.clone()
    checkpoint_gradients(models.unet)
    run(models, weights, batch(torch.bfloat16))
    assert torch.equal(weights.gradient, plain)
