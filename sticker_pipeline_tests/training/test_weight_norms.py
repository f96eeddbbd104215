"""The limit on weight norms against sd-scripts' formula, written out with numpy."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState
from hypothesis import given
from hypothesis import strategies as st

from sticker_pipeline.diffusion.lora.file import Adapter, read_lora
from sticker_pipeline.training.logs.progress import Progress
from sticker_pipeline.training.train import train
from sticker_pipeline.training.weight_norms import change_norm, limit_norms
from sticker_pipeline_tests.training.conftest import SpecMaker


def adapter(down: tuple[int, ...], up: tuple[int, ...], alpha: float, size: float = 1.0, seed: int = 0) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    return Adapter(size * torch.randn(down, generator=generator), torch.randn(up, generator=generator), alpha)


LINEAR = ((4, 12), (8, 4))
POINT = ((4, 12, 1, 1), (8, 4, 1, 1))
KERNEL = ((4, 12, 3, 3), (8, 4, 1, 1))


def change(one: Adapter) -> np.ndarray:
    """Return the change of the weight, in float64, entry by entry: [out, in, n, n]."""
    down, up = one.down.double().numpy(), one.up.double().numpy()
    down, up = down.reshape(*down.shape[:2], -1), up.reshape(up.shape[0], up.shape[1])
    added = np.zeros((up.shape[0], *down.shape[1:]))
    for rank in range(len(down)):
        added += up[:, rank, None, None] * down[None, rank]
    return one.alpha / len(down) * added


@pytest.mark.parametrize(("down", "up"), [LINEAR, POINT, KERNEL])
@pytest.mark.parametrize(("alpha", "most"), [(4.0, 1.0), (1.0, 1.0), (2.0, 5.0), (4.0, 1000.0), (32.0, 0.01)])
def test_each_module_is_scaled_as_sd_scripts_does(
    down: tuple[int, ...], up: tuple[int, ...], alpha: float, most: float
) -> None:
    one = adapter(down, up, alpha)
    before = change(one)
    old_up, old_down = one.up.clone(), one.down.clone()
    norm = math.sqrt((before**2).sum())
    ratio = min(max(norm, most / 2), most) / max(norm, most / 2)  # clamp(min=most/2), then clamp(max=most)
    norms = limit_norms([one], most)
    assert norms.scaled == (norm > most)
    assert norms.mean == pytest.approx(norm * ratio, rel=1e-6)
    assert one.up.numpy() == pytest.approx(old_up.numpy() * math.sqrt(ratio), rel=1e-6)
    assert one.down.numpy() == pytest.approx(old_down.numpy() * math.sqrt(ratio), rel=1e-6)
    assert change(one) == pytest.approx(before * ratio, rel=1e-6, abs=1e-6 * norm * ratio)
    if norm <= most:
        assert torch.equal(one.up, old_up) and torch.equal(one.down, old_down)


def test_what_has_learned_nothing_yet_has_norm_0() -> None:
    fresh = Adapter(torch.randn(4, 6), torch.zeros(5, 4), 2.0)
    norms = limit_norms([fresh], 1.0)
    assert (norms.scaled, norms.mean) == (0, 0.0)
    assert not fresh.up.any() and fresh.down.any()


def test_modules_are_limited_one_by_one() -> None:
    small, large = adapter(*LINEAR, 4.0, size=1e-3), adapter(*KERNEL, 4.0, size=10.0, seed=1)
    quiet, loud = (math.sqrt((change(one) ** 2).sum()) for one in (small, large))
    assert quiet < 2.0 < loud
    norms = limit_norms([small, large], 2.0)
    assert (norms.scaled, norms.mean) == (1, pytest.approx((quiet + 2.0) / 2, rel=1e-6))
    assert math.sqrt((change(large) ** 2).sum()) == pytest.approx(2.0, rel=1e-6)


def test_ranks_that_undo_each_other_have_the_norm_of_what_is_left() -> None:
    generator = torch.Generator().manual_seed(0)
    row, column = torch.randn(1, 500, generator=generator), torch.randn(300, 1, generator=generator)
    both = Adapter(torch.cat([row, row]), torch.cat([column, -0.9 * column], dim=1), 2.0)
    expected = math.sqrt((change(both) ** 2).sum())
    assert expected == pytest.approx(0.1 * float(row.norm() * column.norm()), rel=1e-5)
    assert float(change_norm(both)) == pytest.approx(expected, rel=1e-4)


@given(st.integers(0, 10**6), st.floats(0.01, 100.0), st.sampled_from([LINEAR, POINT, KERNEL]))
def test_a_limit_that_is_kept_changes_nothing_more(
    seed: int, most: float, shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    one = adapter(*shapes, 4.0, seed=seed)
    limit_norms([one], most)
    assert float(change_norm(one)) <= most * (1 + 1e-6)
    up = one.up.clone()
    limit_norms([one], most * (1 + 2e-6))  # the limit is rounded to float32, as the norm is
    assert torch.equal(one.up, up)


@pytest.fixture
def any_precision() -> Iterator[None]:
    AcceleratorState._reset_state(reset_partial_state=True)  # it remembers the precision
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("any_precision")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_training_keeps_the_limit_and_logs_it(make_spec: SpecMaker, precision: str) -> None:
    most = 2e-3
    settings = {"precision": precision, "targets": "all+conv", "schedule": "constant", "warmup_fraction": 0.0}
    quiet = Progress(lambda line: None)
    free = read_lora(train(make_spec(settings=settings), quiet))
    assert max(float(change_norm(one)) for one in free.adapters.values()) > 2 * most
    spec = make_spec(settings={**settings, "max_weight_norm": most})
    spec = spec.model_copy(update={"output": spec.output.with_name("limited")})
    limited = read_lora(train(spec, quiet))
    norms = [float(change_norm(one)) for one in limited.adapters.values()]
    assert max(norms) == pytest.approx(most, rel=1e-2)  # the file is float16
    assert (free.metadata["ss_scale_weight_norms"], limited.metadata["ss_scale_weight_norms"]) == ("None", "0.002")
    log = pd.read_parquet(spec.output / "log.parquet")
    assert log["weights_scaled"].max() > 0 and log["weights_scaled"].max() <= len(norms)
    assert log["weight_norm"].iloc[-1] == pytest.approx(np.mean(norms), rel=1e-2)
    assert (log["weight_norm"] <= most * (1 + 1e-6)).all()
