import importlib.util
import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load, load_file, save

from sticker_pipeline.core.optimizer_table import OPTIMIZERS
from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.diffusion.lora.file import read_lora
from sticker_pipeline.training.logs.progress import Progress
from sticker_pipeline.training.optimizers import (
    check_optimizer,
    load_optimizer_state,
    make_optimizer,
    optimizer_state,
)
from sticker_pipeline.training.schedule import make_schedule
from sticker_pipeline.training.spec import SpecError
from sticker_pipeline.training.train import train
from sticker_pipeline_tests.training.conftest import SpecMaker

NAMES = [
    pytest.param(
        row.name,
        marks=pytest.mark.skipif(not importlib.util.find_spec(row.package), reason=f"needs {row.package}"),
    )
    for row in OPTIMIZERS.values()
]
ONE_RATE = [row.name for row in OPTIMIZERS.values() if row.one_rate]
OPTIONAL = {row.name: (row.package, row.extra) for row in OPTIMIZERS.values() if row.extra}


def settings(optimizer: str, **others: Any) -> TrainingSettings:
    rate = 1.0 if optimizer in ONE_RATE else 1e-2
    values = {"optimizer": optimizer, "learning_rate_unet": rate, "learning_rate_text_encoder": rate, **others}
    return TrainingSettings.model_validate(values)


def groups(chosen: TrainingSettings) -> list[dict[str, Any]]:
    """Weights as LoRA has them: down matrices of noise, up matrices of 0, one large enough for 8 bits."""
    generator = torch.Generator().manual_seed(0)
    unet = [torch.nn.Parameter(torch.randn(8, 640, generator=generator)), torch.nn.Parameter(torch.zeros(640, 8))]
    text = [torch.nn.Parameter(torch.randn(4, 6, generator=generator)), torch.nn.Parameter(torch.zeros(6, 4))]
    return [
        {"name": "unet", "params": unet, "peak": chosen.learning_rate_unet},
        {"name": "text_encoder", "params": text, "peak": chosen.learning_rate_text_encoder},
    ]


def parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def take_steps(optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    """Steps `first` to `last`, each a function of its number and the weights; the rate is 0 at step 0."""
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * min(1.0, step / 3)
        for weight in parameters(optimizer):
            weight.grad = weight.detach() + 0.3 * torch.randn(weight.shape, generator=generator) - 0.5
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("saved_at", [0, 1, 6])
def test_a_saved_optimizer_goes_on_bit_for_bit(name: str, saved_at: int) -> None:
    chosen = settings(name, betas=(0.85, 0.98))
    whole = make_optimizer(chosen, groups(chosen))
    take_steps(whole, 0, 12)

    first = make_optimizer(chosen, groups(chosen))
    take_steps(first, 0, saved_at)
    tensors, state = optimizer_state(first)
    weights = [weight.detach().clone() for weight in parameters(first)]
    file, text = save(tensors), json.dumps(state, allow_nan=False)
    take_steps(first, saved_at, 12)  # must not reach what was saved

    second = make_optimizer(chosen, groups(chosen))
    with torch.no_grad():
        for weight, value in zip(parameters(second), weights, strict=True):
            weight.copy_(value)
    load_optimizer_state(second, load(file), json.loads(text))
    take_steps(second, saved_at, 12)

    assert all(torch.equal(a, b) for a, b in zip(parameters(second), parameters(whole), strict=True))
    (tensors, state), (others, other) = optimizer_state(second), optimizer_state(whole)
    assert state == other and tensors.keys() == others.keys()
    assert all(torch.equal(tensors[key], others[key]) for key in tensors)


@pytest.mark.parametrize("name", NAMES)
def test_values_keep_their_types(name: str) -> None:
    chosen = settings(name)
    before, after = (make_optimizer(chosen, groups(chosen)) for _ in range(2))
    take_steps(before, 0, 4)
    tensors, state = optimizer_state(before)
    load_optimizer_state(after, tensors, json.loads(json.dumps(state)))

    def shape(value: Any) -> Any:
        """`value` with each tensor as its dtype and shape, and each number beside its type."""
        if isinstance(value, torch.Tensor):
            return value.dtype, value.shape
        if isinstance(value, dict):
            return {key: shape(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value), [shape(item) for item in value]
        return type(value), value

    assert shape(after.state_dict()) == shape(before.state_dict())


def test_a_value_without_a_form_is_refused() -> None:
    chosen = settings("adamw")
    optimizer = make_optimizer(chosen, groups(chosen))
    optimizer.param_groups[1]["odd"] = {1, 2}
    with pytest.raises(TypeError, match=r"param_groups\.1\.odd is a set"):
        optimizer_state(optimizer)


@pytest.mark.parametrize("name", NAMES)
def test_groups_keep_their_names_and_peaks(name: str) -> None:
    chosen = settings(name, weight_decay=0.05)
    optimizer = make_optimizer(chosen, groups(chosen))
    assert [group["name"] for group in optimizer.param_groups] == ["unet", "text_encoder"]
    for group in optimizer.param_groups:
        assert group["lr"] == group["peak"] == chosen.learning_rate_unet
        assert group["weight_decay"] == 0.05


@pytest.mark.parametrize("name", NAMES)
def test_each_trains_the_tiny_model(name: str, make_spec: SpecMaker) -> None:
    """Two steps, on the U-Net alone; the first has a rate above 0."""
    rate = 1.0 if name in ONE_RATE else 1e-2
    changes = {"schedule": "constant", "warmup_fraction": 0.0, "learning_rate_text_encoder": 0.0}
    spec = make_spec(
        settings={"optimizer": name, "epochs": 1, "samples_per_epoch": 4, "learning_rate_unet": rate, **changes}
    )
    file = read_lora(train(spec, Progress(lambda line: None)))
    assert file.metadata["ss_optimizer"].startswith(f"{OPTIMIZERS[name].constructor}(weight_decay=0.01")
    log = pd.read_parquet(spec.output / "log.parquet")
    assert np.isfinite(log["loss"]).all() and len(log) == 2
    weights = load_file(spec.output / "checkpoints" / "epoch_01.safetensors")
    up = [tensor for key, tensor in weights.items() if key.endswith(".lora_up.weight")]
    assert up and all(torch.isfinite(tensor).all() for tensor in up)
    assert any(tensor.any() for tensor in up)  # they begin at 0


def test_adamw_is_fused_and_has_the_betas() -> None:
    chosen = settings("adamw", betas=(0.8, 0.95))
    optimizer = make_optimizer(chosen, groups(chosen))
    assert type(optimizer) is torch.optim.AdamW
    assert all(group["fused"] and group["betas"] == (0.8, 0.95) for group in optimizer.param_groups)


@pytest.mark.parametrize("value", [0.0, 1e-3, 100.0])
def test_adafactor_moves_by_the_external_rate_whatever_the_size_of_a_weight(value: float) -> None:
    """The first step divides a gradient by its own size: a gradient of equal entries moves each weight by the rate."""
    chosen = settings("adafactor", weight_decay=0.0)
    weight = torch.nn.Parameter(torch.full((4, 5), value))
    optimizer = make_optimizer(chosen, [{"name": "unet", "params": [weight], "peak": 1.0}])
    optimizer.param_groups[0]["lr"] = 0.25
    weight.grad = torch.full((4, 5), 3.0)
    optimizer.step()
    assert weight.detach().flatten().tolist() == pytest.approx([value - 0.25] * 20, rel=1e-5)


def test_the_relative_step_of_adafactor_is_that_of_transformers() -> None:
    """Its own mode computes the rate inside; here the schedule gives it, with a peak of 1."""
    from transformers import Adafactor

    chosen = settings(
        "adafactor", schedule="relative", adafactor_scale_parameter=True, learning_rate_unet=1.0, weight_decay=0.0
    )
    rate = make_schedule(chosen, 8)
    start = [torch.linspace(-1, 2, 12).view(3, 4), torch.zeros(5)]
    ours, theirs = ([torch.nn.Parameter(one.clone()) for one in start] for _ in range(2))
    optimizer = make_optimizer(chosen, [{"name": "unet", "params": ours, "peak": 1.0}])
    reference = Adafactor(theirs)  # relative_step and scale_parameter are on
    for step in range(8):
        generator = torch.Generator().manual_seed(step)
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[0]["peak"] * rate(step)
        optimizer.step()
        reference.step()
    for one, other, first in zip(ours, theirs, start, strict=True):
        assert torch.equal(one, other) and not torch.equal(one.detach(), first)


def test_prodigy_has_the_arguments_that_settings_name() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    usual = make_optimizer(settings("prodigy"), [{"name": "unet", "params": [weight], "peak": 1.0}]).param_groups[0]
    assert (usual["d0"], usual["use_bias_correction"], usual["safeguard_warmup"]) == (1e-6, True, True)
    chosen = settings("prodigy", prodigy_d0=1e-4, prodigy_bias_correction=False, prodigy_safeguard_warmup=False)
    group = make_optimizer(chosen, [{"name": "unet", "params": [weight], "peak": 1.0}]).param_groups[0]
    assert (group["d"], group["d0"]) == (1e-4, 1e-4)
    assert (group["use_bias_correction"], group["safeguard_warmup"]) == (False, False)


def prodigy_by_the_paper(weight: torch.Tensor, gradients: list[torch.Tensor], rates: list[float]) -> float:
    """Algorithm 4 of Mishchenko and Defazio 2023 (Adam version) with its bias correction; returns d.

    For rates that warm up, the rate is left out of the denominator's sum s. Moves `weight`. β = (.9, .999), d₀ = 1e-6,
    ε = 1e-8.
    """
    beta1, beta2, d0, eps = 0.9, 0.999, 1e-6, 1e-8
    beta3, d, r, k = math.sqrt(beta2), d0, 0.0, 0
    start, first, second, s = weight.clone(), *(torch.zeros_like(weight) for _ in range(3))
    for gradient, rate in zip(gradients, rates, strict=True):
        if rate == 0:
            continue
        k += 1
        step = d * rate * math.sqrt(1 - beta2**k) / (1 - beta1**k)
        first = beta1 * first + (1 - beta1) * d * gradient
        second = beta2 * second + (1 - beta2) * d**2 * gradient**2
        r = beta3 * r + d / d0 * step * float((gradient * (start - weight)).sum())
        s = beta3 * s + d / d0 * d * gradient
        d = max(d, r / float(s.abs().sum()))
        weight -= step * first / (second.sqrt() + d * eps)
    return d


def test_prodigy_follows_its_paper_and_the_schedule() -> None:
    chosen = settings("prodigy", weight_decay=0.0)
    weight = torch.nn.Parameter(torch.linspace(-1, 1, 12, dtype=torch.float64).view(3, 4))
    expected = weight.detach().clone()
    optimizer = make_optimizer(chosen, [{"name": "unet", "params": [weight], "peak": 1.0}])
    generator = torch.Generator().manual_seed(1)
    gradients = [torch.randn(3, 4, generator=generator, dtype=torch.float64) + 2.0 for _ in range(60)]
    rates = [0.0, 0.25, 0.5, 0.75, *[1.0] * 40, 0.5, 0.0, *[0.5] * 14]
    for gradient, rate in zip(gradients, rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = gradient.clone()
        optimizer.step()
    d = prodigy_by_the_paper(expected, gradients, rates)
    assert d > 1e-5  # it has grown
    assert optimizer.param_groups[0]["d"] == pytest.approx(d, rel=1e-9)
    assert torch.allclose(weight.detach(), expected, rtol=1e-9)


def d_adapted_by_the_paper(
    weight: torch.Tensor, gradients: list[torch.Tensor], rates: list[float], growth: float, decay: float
) -> float:
    """Adam with D-Adaptation (Defazio and Mishchenko 2023, algorithm 5); returns d.

    Weights decay apart from the gradient. Moves `weight`. β = (.9, .99), d₀ = 1e-6, ε = 1e-8.
    """
    beta1, beta2, eps, d, r = 0.9, 0.99, 1e-8, 1e-6, 0.0
    root = math.sqrt(beta2)
    first, second, s = (torch.zeros_like(weight) for _ in range(3))
    for gradient, rate in zip(gradients, rates, strict=True):
        step, used = d * rate, first.clone()
        if rate > 0:
            r = root * r + (1 - root) * step * float((gradient * s / (second.sqrt() + eps)).sum())
            used = beta1 * first + (1 - beta1) * step * gradient
            second = beta2 * second + (1 - beta2) * gradient**2
            s = root * s + (1 - root) * step * gradient
            d = max(d, min(r / ((1 - root) * float(s.abs().sum())), d * growth))
        first = used
        weight.mul_(1 - decay * step).sub_(first / (second.sqrt() + eps))
    return d


@pytest.mark.skipif(not importlib.util.find_spec("dadaptation"), reason="needs dadaptation")
@pytest.mark.parametrize(("growth", "decay"), [(None, 0.0), (1.02, 0.2)])
def test_d_adaptation_follows_its_paper_and_the_schedule(growth: float | None, decay: float) -> None:
    chosen = settings("dadaptadam", weight_decay=decay, betas=(0.9, 0.99), dadapt_growth_rate=growth)
    weight = torch.nn.Parameter(torch.linspace(-1, 1, 12, dtype=torch.float64).view(3, 4))
    expected = weight.detach().clone()
    optimizer = make_optimizer(chosen, [{"name": "unet", "params": [weight], "peak": 1.0}])
    generator = torch.Generator().manual_seed(1)
    gradients = [torch.randn(3, 4, generator=generator, dtype=torch.float64) + 2.0 for _ in range(40)]
    rates = [0.25, 0.5, 0.75, *[1.0] * 30, *[0.5] * 7]
    for gradient, rate in zip(gradients, rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = gradient.clone()
        optimizer.step()
    d = d_adapted_by_the_paper(expected, gradients, rates, growth or math.inf, decay)
    assert d > 1.5e-6  # it has grown
    assert optimizer.param_groups[0]["d"] == pytest.approx(d, rel=1e-6)
    assert torch.allclose(weight.detach(), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", ONE_RATE)
def test_some_have_one_rate(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    check_optimizer(settings(name, learning_rate_text_encoder=0.0))
    with pytest.raises(SpecError, match=f"learning_rate_text_encoder: {name} finds one step size"):
        check_optimizer(settings(name, learning_rate_text_encoder=0.5))


@pytest.mark.parametrize("name", OPTIONAL)
def test_a_missing_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    chosen = settings(name)
    package, extra = OPTIONAL[name]
    with pytest.raises(SpecError, match=rf"{package}.*sticker_pipeline\[{extra}\]"):
        make_optimizer(chosen, groups(chosen))
