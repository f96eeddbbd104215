from pathlib import Path
from typing import Any

import pytest
import torch

from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.diffusion.lora.key_map import row_of
from sticker_pipeline.training.adapters import adapters_of, add_adapters, by_model, load_adapters
from sticker_pipeline.training.models import Models, load_models


def models(base: Path) -> Models:
    return load_models(base, "sd15", torch.float32, prediction="base", zero_terminal_snr=False)


def add(base: Path, **settings: Any) -> dict[str, Any]:
    loaded = models(base)
    return add_adapters(loaded.unet, loaded.text_encoders, "sd15", TrainingSettings(**settings))


def test_each_kind_of_module_has_its_rank_and_alpha(tiny_base: Path) -> None:
    layers = add(
        tiny_base,
        targets="all+conv",
        rank=8,
        alpha=4.0,
        feed_forward_rank=6,
        feed_forward_alpha=3.0,
        conv_rank=2,
        conv_alpha=1.0,
    )
    expected = {"attention": (8, 4.0), "feed_forward": (6, 3.0), "conv": (2, 1.0)}
    seen = set()
    for key, adapter in adapters_of(layers).items():
        row = row_of(key, "sd15")
        assert row is not None
        assert (adapter.rank, adapter.alpha) == expected[row.kind], key
        seen.add(row.kind)
    assert seen == set(expected)


@pytest.mark.parametrize(("targets", "kinds"), [("attention", {"attention"}), ("all", {"attention", "feed_forward"})])
def test_targets_are_what_adapts(tiny_base: Path, targets: str, kinds: set[str]) -> None:
    rows = [row_of(key, "sd15") for key in add(tiny_base, targets=targets)]
    assert {row.kind for row in rows if row} == kinds


def test_adapters_begin_as_no_change_and_by_the_seed(tiny_base: Path) -> None:
    first, same, other = (adapters_of(add(tiny_base, rank=4, seed=seed)) for seed in (0, 0, 1))
    for key, adapter in first.items():
        assert not adapter.up.any()
        assert torch.equal(adapter.down, same[key].down) and not torch.equal(adapter.down, other[key].down)


def test_dora_begins_with_the_norms_of_the_weights(tiny_base: Path) -> None:
    plain = dict(models(tiny_base).unet.named_modules())
    path = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    adapter = adapters_of(add(tiny_base, dora=True))["lora_unet_" + path.replace(".", "_")]
    assert adapter.magnitude is not None
    assert torch.allclose(adapter.magnitude, plain[path].weight.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("dora", [False, True])
def test_saved_adapters_are_put_back(tiny_base: Path, dora: bool) -> None:
    settings: dict[str, Any] = {"targets": "all+conv", "dora": dora, "rank": 4}
    trained, fresh = add(tiny_base, **settings), add(tiny_base, **settings)
    with torch.no_grad():
        for parameter in (p for layer in trained.values() for p in layer.parameters() if p.requires_grad):
            parameter.normal_()
    load_adapters(fresh, adapters_of(trained))
    for key, adapter in adapters_of(fresh).items():
        wanted = adapters_of(trained)[key]
        assert torch.equal(adapter.down, wanted.down) and torch.equal(adapter.up, wanted.up)
        assert (adapter.magnitude is None) == (not dora)
        assert wanted.magnitude is None or torch.equal(adapter.magnitude, wanted.magnitude)  # type: ignore[arg-type]


def test_adapters_of_other_modules_are_refused(tiny_base: Path) -> None:
    with pytest.raises(ValueError, match="other modules"):
        load_adapters(add(tiny_base, targets="attention"), adapters_of(add(tiny_base, targets="all")))


def test_parameters_by_what_they_belong_to(tiny_base: Path) -> None:
    assert by_model(add(tiny_base)).keys() == {"unet", "text_encoder"}
    assert by_model(add(tiny_base, learning_rate_text_encoder=0)).keys() == {"unet"}
