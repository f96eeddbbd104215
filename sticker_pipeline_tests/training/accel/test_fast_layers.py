"""Layers laid out for oneDNN have the outputs and gradients of PyTorch's own."""

import copy
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import peft
import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sticker_pipeline.training.accel import fast_layers
from sticker_pipeline.training.accel.fast_layers import (
    Adapted,
    FrozenConv2d,
    FrozenLinear,
    FrozenPointwise,
    Geometry,
    speed_up,
)

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN")


def frozen(layer: nn.Module) -> nn.Sequential:
    return nn.Sequential(layer).requires_grad_(False)


def gradient(layer: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The layer's output, and the gradient of a sum that weighs each of its elements differently."""
    x = x.detach().requires_grad_()
    result = layer(x)
    weights = torch.linspace(-1, 1, result.numel()).view(result.shape)
    return result.detach(), torch.autograd.grad((result * weights).sum(), x)[0]


def assert_same(layer: nn.Module, other: nn.Module, x: torch.Tensor) -> None:
    for found, expected in zip(gradient(layer, x), gradient(other, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(24,), (5, 24), (2, 7, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer(shape: tuple[int, ...], bias: bool) -> None:
    model = frozen(nn.Linear(24, 40, bias=bias))
    fast = copy.deepcopy(model)
    assert speed_up(fast) == 1
    assert type(fast[0]) is FrozenLinear
    assert_same(fast, model, torch.randn(shape))


def test_a_linear_layer_reads_rows_that_are_not_next_to_each_other() -> None:
    model = frozen(nn.Linear(24, 40))
    fast = copy.deepcopy(model)
    speed_up(fast)
    assert_same(fast, model, torch.randn(7, 2, 24).transpose(0, 1))


@settings(deadline=None, max_examples=60)
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.integers(1, 2),
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    batch=st.integers(1, 3),
    channels_last=st.booleans(),
)
def test_a_convolution(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: int,
    size: tuple[int, int],
    batch: int,
    channels_last: bool,
) -> None:
    conv = nn.Conv2d(16, 32, kernel, stride, padding, dilation).requires_grad_(False)
    fast = FrozenConv2d(conv, Geometry(16, 32, kernel, padding, stride, (dilation, dilation)))
    x = torch.randn(batch, 16, *size)
    assert_same(fast, conv, x.contiguous(memory_format=torch.channels_last) if channels_last else x)


@pytest.mark.parametrize(
    ("layer", "stand_in"),
    [
        (nn.Conv2d(64, 128, 3, padding=1), FrozenConv2d),
        (nn.Conv2d(64, 64, 3, stride=2, padding=1), FrozenConv2d),
        (nn.Conv2d(64, 128, 1), FrozenPointwise),
    ],
)
def test_what_stands_in_for_a_convolution(layer: nn.Module, stand_in: type, monkeypatch: pytest.MonkeyPatch) -> None:
    # Which convolutions have two orders depends on the processor.
    monkeypatch.setattr(fast_layers, "one_order_for_all_sizes", lambda geometry: True)
    model = frozen(layer)
    fast = copy.deepcopy(model)
    assert speed_up(fast) == 1
    assert type(fast[0]) is stand_in
    assert_same(fast, model, torch.randn(2, 64, 7, 8))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(8, 8).requires_grad_(True),
        nn.Linear(8, 8).requires_grad_(False).half(),
        nn.Linear(8, 8, device="meta").requires_grad_(False),
        nn.Conv2d(8, 8, 3, groups=2).requires_grad_(False),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular").requires_grad_(False),
        nn.Conv2d(8, 8, 3, padding="same").requires_grad_(False),
        nn.LayerNorm(8).requires_grad_(False),
    ],
    ids=["trained", "half", "elsewhere", "groups", "circular", "same", "another"],
)
def test_what_has_no_faster_stand_in_stays(layer: nn.Module) -> None:
    model = nn.Sequential(layer)
    assert speed_up(model) == 0
    assert model[0] is layer


def test_a_convolution_whose_weights_have_two_orders_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    orders = iter((b"for small images", b"for large images"))
    monkeypatch.setattr(fast_layers, "_order", lambda weight: next(orders))
    model = frozen(nn.Conv2d(7, 9, 3))  # a geometry that no other test has asked about
    assert speed_up(model) == 0
    assert type(model[0]) is nn.Conv2d


def small_unet() -> Any:
    torch.manual_seed(0)
    unet: Any = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=8,
    )
    return unet.requires_grad_(False).eval()


def with_lora(unet: Any, **changes: Any) -> Any:
    """`unet` with LoRA in its attention, feed-forward and 1×1 convolutions, none of which is zero."""
    targets = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]
    config = peft.LoraConfig(r=3, lora_alpha=2.0, target_modules=targets, init_lora_weights=False, **changes)
    peft.inject_adapter_in_model(config, unet)
    return unet.eval()


def trained(unet: Any) -> list[torch.Tensor]:
    return [parameter for parameter in unet.parameters() if parameter.requires_grad]


def prediction(unet: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(2, 4, 8, 8, generator=generator)
    hidden = torch.randn(2, 5, 16, generator=generator)
    result: torch.Tensor = unet(latents, torch.tensor([20, 700]), encoder_hidden_states=hidden, return_dict=False)[0]
    return result


def test_a_unet_with_lora_predicts_and_learns_the_same() -> None:
    torch.manual_seed(0)
    unet = with_lora(small_unet())
    fast = copy.deepcopy(unet)
    assert speed_up(fast) > 50
    found, expected = prediction(fast), prediction(unet)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for gradient_found, gradient_expected in zip(
        torch.autograd.grad(found.square().sum(), trained(fast)),
        torch.autograd.grad(expected.square().sum(), trained(unet)),
        strict=True,
    ):
        torch.testing.assert_close(gradient_found, gradient_expected, rtol=1e-3, atol=1e-4)


def test_every_frozen_linear_layer_of_a_unet_and_every_lora_is_fast() -> None:
    unet = with_lora(small_unet())
    count = sum(hasattr(module, "lora_A") for module in unet.modules())
    speed_up(unet)
    left = [module for module in unet.modules() if isinstance(module, nn.Linear)]
    assert all(module.weight.requires_grad for module in left)
    assert sum(isinstance(module, Adapted) for module in unet.modules()) == count == 4 * (8 + 2 + 2)


def test_lora_around_a_fast_layer_is_seen_as_it_is_now() -> None:
    unet = with_lora(small_unet())
    plain, fast = copy.deepcopy(unet), unet
    speed_up(fast)
    for model in (plain, fast):
        for module in model.modules():
            if hasattr(module, "lora_A"):
                module.scaling["default"] = 0.25
                module.lora_B["default"].weight.data.mul_(3.0)
    torch.testing.assert_close(prediction(fast), prediction(plain), rtol=1e-4, atol=1e-5)
    for module in fast.modules():
        if hasattr(module, "lora_A"):
            module.enable_adapters(False)
    torch.testing.assert_close(prediction(fast), prediction(small_unet()), rtol=1e-4, atol=1e-5)


def test_dora_keeps_the_weights_that_it_decomposes() -> None:
    unet = with_lora(small_unet(), use_dora=True)
    fast = copy.deepcopy(unet)
    assert speed_up(fast) > 0
    assert not any(isinstance(module, Adapted) for module in fast.modules())
    torch.testing.assert_close(prediction(fast), prediction(unet), rtol=1e-4, atol=1e-5)


def test_no_gradient_is_made_for_what_lies_before_the_first_trained_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(FrozenLinear, "product_back", lambda self, gradient: asked.append(self) or gradient)
    model = nn.Sequential(*frozen(nn.Linear(4, 4)), nn.Linear(4, 4), *frozen(nn.Linear(4, 4)))
    speed_up(model)
    model(torch.randn(2, 4)).sum().backward()
    assert asked == [model[2]]


def test_nothing_is_done_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(fast_layers, "operators_work", fast_layers.operators_work.__wrapped__)
    model = frozen(nn.Linear(4, 4))
    assert speed_up(model) == 0
    assert type(model[0]) is nn.Linear


@pytest.fixture
def operators(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[object], None]]:
    """Puts others in the place of oneDNN's operators."""

    def put(others: object) -> None:
        monkeypatch.setattr(fast_layers, "_onednn", others)
        fast_layers.operators_work.cache_clear()
        fast_layers.one_order_for_all_sizes.cache_clear()

    yield put
    monkeypatch.undo()
    fast_layers.operators_work.cache_clear()
    fast_layers.one_order_for_all_sizes.cache_clear()


class Wrong:
    """Operators whose products are doubled."""

    def __getattr__(self, name: str) -> Any:
        real = getattr(torch.ops.mkldnn, name)
        return (lambda *given: 2 * real(*given)) if name.endswith("_pointwise") else real


@pytest.mark.parametrize("others", [SimpleNamespace(), Wrong()], ids=["none", "wrong results"])
def test_layers_stay_and_it_is_said_where_pytorch_has_other_operators(
    operators: Callable[[object], None], others: object, caplog: pytest.LogCaptureFixture
) -> None:
    operators(others)
    assert speed_up(nn.Sequential(nn.Linear(8, 16).requires_grad_(False))) == 0
    assert caplog.messages == [
        f"PyTorch {torch.__version__} has other oneDNN operators: training uses its slower layers."
    ]
    assert speed_up(nn.Sequential(nn.Linear(8, 16).requires_grad_(False))) == 0
    assert len(caplog.messages) == 1


def test_to_try_the_operators_takes_no_random_number() -> None:
    fast_layers.operators_work.cache_clear()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert fast_layers.operators_work() == torch.backends.mkldnn.is_available()
    assert torch.equal(torch.get_rng_state(), before)
