"""Learning rate, resuming, and the optimiser's update."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sticker_pipeline.embedded import loop
from sticker_pipeline.embedded.muon import Muon, orthogonal

PLAN = loop.Plan(steps=6, batch=4, matrix_rate=1e-2, warmup=2, seed=7)


def test_learning_rate_by_hand() -> None:
    plan = loop.Plan(steps=100, batch=1, matrix_rate=1.0, warmup=10, decay_from=0.5)
    assert loop.multiplier(0, plan) == pytest.approx(0.1)
    assert loop.multiplier(9, plan) == 1.0
    assert loop.multiplier(49, plan) == 1.0
    assert loop.multiplier(75, plan) == pytest.approx(0.01 + 0.99 * 0.5)
    assert loop.multiplier(100, plan) == pytest.approx(0.01)


def _network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16), torch.nn.Linear(16, 8))


def _train(plan: loop.Plan, checkpoint: Path, until: int | None = None) -> dict[str, torch.Tensor]:
    network = _network()
    training = loop.Training({"net": network}, {"net": 1.0}, plan)
    seen: dict[str, torch.Tensor] = {}

    def loss_at(step: int) -> torch.Tensor:
        if step == until:
            os.kill(os.getpid(), signal.SIGTERM)
        noise = torch.randn(4, 8, generator=loop.torch_rng(plan.seed, step))
        result: torch.Tensor = (network(noise) - noise).square().mean()
        return result

    def snapshot() -> None:
        seen.update({key: value.clone() for key, value in network.state_dict().items()})

    loop.run(training, loss_at, checkpoint, label="test", say=lambda line: None, snapshot=snapshot)
    return seen


def test_a_stopped_training_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole = _train(PLAN, tmp_path / "whole.safetensors")
    with pytest.raises(KeyboardInterrupt, match="run the same command again"):
        _train(PLAN, tmp_path / "parts.safetensors", until=2)
    assert (tmp_path / "parts.safetensors").exists()
    parts = _train(PLAN, tmp_path / "parts.safetensors")
    assert whole.keys() == parts.keys()
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=0, atol=0)


def test_signal_handlers_are_put_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    _train(replace(PLAN, steps=1), tmp_path / "one.safetensors")
    assert signal.getsignal(signal.SIGTERM) == before


def test_orthogonal_keeps_directions_and_evens_sizes() -> None:
    rng = np.random.default_rng(0)
    left, _, right = np.linalg.svd(rng.normal(size=(24, 40)), full_matrices=False)
    matrix = torch.from_numpy(left @ np.diag(np.linspace(1.0, 3.0, 24)) @ right).float()
    update = orthogonal(matrix).double().numpy()
    sizes = np.linalg.svd(update, compute_uv=False)
    assert sizes.min() > 0.6
    assert sizes.max() < 1.3
    # the same singular vectors: in their basis the update is diagonal
    inside = left.T @ update @ right.T
    assert np.abs(inside - np.diag(np.diag(inside))).max() < 0.03
    np.testing.assert_allclose(orthogonal(matrix.T).numpy(), update.T, atol=0.03)


def test_muon_lowers_a_quadratic() -> None:
    weight = torch.nn.Parameter(torch.zeros(8, 8))
    wanted = torch.eye(8)
    optimizer = Muon([weight], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        (weight - wanted).square().sum().backward()
        optimizer.step()
    assert float((weight - wanted).square().sum()) < 0.2


@pytest.mark.parametrize(
    ("key", "shape", "hidden"),
    [
        ("down_blocks.0.resnets.0.conv1.weight", (32, 32, 3, 3), True),
        ("conv_in.weight", (32, 8, 3, 3), False),
        ("text_model.embeddings.token_embedding.weight", (900, 64), False),
        ("norm.weight", (32,), False),
    ],
)
def test_which_parameters_are_hidden_matrices(key: str, shape: tuple[int, ...], hidden: bool) -> None:
    assert loop.is_hidden_matrix(key, torch.zeros(shape)) is hidden
