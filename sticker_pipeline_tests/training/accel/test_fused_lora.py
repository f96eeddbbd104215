"""Fused LoRA layers have the outputs and gradients of peft's own."""

import copy

import peft
import pytest
import torch
from torch import nn

from sticker_pipeline.training.accel.fused_lora import FusedLinear, fuse


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 5, bias=False)
        self.conv = nn.Conv2d(3, 6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pixels = self.conv(x).flatten(2).transpose(1, 2)
        result: torch.Tensor = self.second(torch.nn.functional.silu(self.first(pixels)))
        return result


def adapted(*, dora: bool = False, dropout: float = 0.0) -> Block:
    torch.manual_seed(0)
    block = Block().requires_grad_(False)
    targets = ["first", "second", "conv"]
    config = peft.LoraConfig(r=2, lora_alpha=3, target_modules=targets, use_dora=dora, lora_dropout=dropout)
    peft.inject_adapter_in_model(config, block, adapter_name="default")
    with torch.no_grad():
        for name, parameter in block.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    return block.double()


@pytest.mark.parametrize("needs", [False, True])
def test_outputs_and_gradients_are_pefts(needs: bool) -> None:
    plain = adapted()
    fused = copy.deepcopy(plain)
    assert fuse(fused) == 2  # the convolution stays
    assert isinstance(fused.first, FusedLinear) and isinstance(fused.second, FusedLinear)
    results = []
    for block in (plain, fused):
        x = torch.randn(
            4, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=needs
        )
        y = block(x)
        y.square().sum().backward()
        results.append([y, *([x.grad] if needs else []), *(p.grad for p in block.parameters() if p.requires_grad)])
    assert len(results[0]) == 7 + needs
    for expected, found in zip(*results, strict=True):
        assert expected is not None and torch.allclose(found, expected)


def test_adapters_can_be_switched_off() -> None:
    block = adapted()
    fuse(block)
    x = torch.randn(1, 3, 2, 2, dtype=torch.float64)
    with_adapters = block(x)
    for module in block.modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            module.enable_adapters(False)
    torch.manual_seed(0)
    assert torch.allclose(block(x), Block().double()(x)) and not torch.allclose(block(x), with_adapters)


@pytest.mark.parametrize("settings", [{"dora": True}, {"dropout": 0.1}])
def test_what_is_more_than_lora_stays(settings: dict[str, float]) -> None:
    assert fuse(adapted(**settings)) == 0  # type: ignore[arg-type]


def test_what_learns_itself_stays() -> None:
    block = adapted()
    block.first.base_layer.weight.requires_grad_()
    assert fuse(block) == 1
