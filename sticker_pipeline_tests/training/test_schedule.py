import math
from typing import Any

import pytest
import torch
from diffusers import optimization as diffusers_schedules
from hypothesis import given
from hypothesis import strategies as st

from sticker_pipeline.core.settings import TrainingSettings
from sticker_pipeline.training.schedule import cosine_restarts_warmup_each, make_schedule


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.0),
        (19, 0.95),
        (20, 1.0),
        (110, 0.5),  # half way between 20 and 200: cos(π/2)
        (199, 0.5 * (1 + math.cos(math.pi * 179 / 180))),
        (200, 0.0),  # the second cycle begins with its own warm-up
        (210, 0.5),
        (220, 1.0),
        (400, 0.0),
        (799, 0.5 * (1 + math.cos(math.pi * 179 / 180))),
    ],
)
def test_recipe_of_800_steps(step: int, expected: float) -> None:
    assert cosine_restarts_warmup_each(800)(step) == pytest.approx(expected, abs=1e-12)


def test_last_cycle_is_cut_short_when_steps_do_not_divide() -> None:
    rate = cosine_restarts_warmup_each(10, cycles=4, warmup_fraction=0.4)  # cycles of 3, 3, 3 and 1; warm-up of 1
    assert [rate(s) for s in range(10)] == pytest.approx([0, 1, 0.5, 0, 1, 0.5, 0, 1, 0.5, 0])


def test_warm_up_that_rounds_to_nothing_starts_at_the_peak() -> None:
    rate = cosine_restarts_warmup_each(16, cycles=4, warmup_fraction=0.1)
    assert [rate(s) for s in (0, 2, 4)] == pytest.approx([1.0, 0.5, 1.0])


def test_more_cycles_than_steps() -> None:
    assert [cosine_restarts_warmup_each(2, cycles=4)(s) for s in range(2)] == [1.0, 1.0]


@given(st.integers(1, 500), st.integers(1, 20), st.floats(0, 0.99))
def test_every_step_is_a_share_of_the_peak(total: int, cycles: int, warmup: float) -> None:
    for name in ("cosine_restarts_warmup_each", "cosine_restarts", "cosine", "linear", "constant"):
        rate = make_schedule(TrainingSettings(schedule=name, cycles=cycles, warmup_fraction=warmup), total)
        values = [rate(s) for s in range(total)]
        assert all(0.0 <= value <= 1.0 for value in values)
        assert max(values) > 0


@pytest.mark.parametrize("arguments", [(0,), (8, 0), (8, 4, 1.0), (8, 4, -0.1)])
def test_impossible_schedules(arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="A schedule needs"):
        cosine_restarts_warmup_each(*arguments)


def test_a_run_of_no_steps_has_no_schedule() -> None:
    with pytest.raises(ValueError, match="total_steps ≥ 1"):
        make_schedule(TrainingSettings(schedule="linear"), 0)


def test_restarts_is_the_recipe() -> None:
    made = make_schedule(TrainingSettings(schedule="cosine_restarts_warmup_each", cycles=3, warmup_fraction=0.2), 100)
    assert [made(s) for s in range(100)] == [cosine_restarts_warmup_each(100, 3, 0.2)(s) for s in range(100)]


def diffusers_multipliers(name: str, total: int, warmup: int, cycles: int) -> list[float]:
    """The same schedule as diffusers makes it: the factor of LambdaLR at each step."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    makers: dict[str, Any] = {
        "cosine_restarts": lambda: diffusers_schedules.get_cosine_with_hard_restarts_schedule_with_warmup(
            optimizer, warmup, total, cycles
        ),
        "cosine": lambda: diffusers_schedules.get_cosine_schedule_with_warmup(optimizer, warmup, total),
        "linear": lambda: diffusers_schedules.get_linear_schedule_with_warmup(optimizer, warmup, total),
        "constant": lambda: diffusers_schedules.get_constant_schedule_with_warmup(optimizer, warmup),
    }
    (multiplier,) = makers[name]().lr_lambdas
    return [float(multiplier(step)) for step in range(total)]


@pytest.mark.parametrize("name", ["cosine_restarts", "cosine", "linear", "constant"])
@pytest.mark.parametrize(
    ("total", "fraction", "warmup", "cycles"), [(100, 0.1, 10, 4), (37, 0.25, 9, 3), (8, 0.0, 0, 1), (800, 0.05, 40, 5)]
)
def test_the_usual_schedules_are_those_of_diffusers(
    name: Any, total: int, fraction: float, warmup: int, cycles: int
) -> None:
    made = make_schedule(TrainingSettings(schedule=name, cycles=cycles, warmup_fraction=fraction), total)
    ours = [made(step) for step in range(total)]
    assert ours == pytest.approx(diffusers_multipliers(name, total, warmup, cycles), abs=1e-12)


@pytest.mark.parametrize("period", [1, 7, 30])
def test_cosine_annealing_is_that_of_pytorch(period: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=period)
    made = make_schedule(TrainingSettings(schedule="cosine_annealing", annealing_steps=period), 100)
    for step in range(100):
        assert made(step) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        theirs.step()


def test_the_relative_step_begins_at_a_hundredth_and_falls_from_step_10_000() -> None:
    made = make_schedule(TrainingSettings(schedule="relative"), 50_000)
    assert [made(step) for step in (0, 9_999, 39_999)] == pytest.approx([0.01, 0.01, 0.005])


def test_a_warm_up_leaves_one_step() -> None:
    """Of one step, 60 % round to one step: it would have rate 0, and nothing would be learned."""
    for name in ("cosine_restarts", "cosine", "linear", "constant"):
        assert make_schedule(TrainingSettings(schedule=name, warmup_fraction=0.6), 1)(0) == 1.0
