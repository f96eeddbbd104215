import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sticker_pipeline.training.schedule import constant, recipe


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
    assert recipe(800)(step) == pytest.approx(expected, abs=1e-12)


def test_last_cycle_is_cut_short_when_steps_do_not_divide() -> None:
    rate = recipe(10, cycles=4, warmup_fraction=0.4)  # cycles of 3, 3, 3 and 1; warm-up of 1
    assert [rate(s) for s in range(10)] == pytest.approx([0, 1, 0.5, 0, 1, 0.5, 0, 1, 0.5, 0])


def test_warm_up_that_rounds_to_nothing_starts_at_the_peak() -> None:
    rate = recipe(16, cycles=4, warmup_fraction=0.1)
    assert [rate(s) for s in (0, 2, 4)] == pytest.approx([1.0, 0.5, 1.0])


def test_more_cycles_than_steps() -> None:
    assert [recipe(2, cycles=4)(s) for s in range(2)] == [1.0, 1.0]


@given(st.integers(1, 500), st.integers(1, 20), st.floats(0, 0.99))
def test_every_step_is_a_share_of_the_peak(total: int, cycles: int, warmup: float) -> None:
    rate = recipe(total, cycles, warmup)
    values = [rate(s) for s in range(total)]
    assert all(0.0 <= value <= 1.0 for value in values)
    assert max(values) > 0


@pytest.mark.parametrize("arguments", [(0,), (8, 0), (8, 4, 1.0), (8, 4, -0.1)])
def test_impossible_schedules(arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="A schedule needs"):
        recipe(*arguments)


def test_constant_warms_up_once_and_stays() -> None:
    rate = constant(80, cycles=4, warmup_fraction=0.1)  # a cycle of 20 steps has a warm-up of 2
    assert [rate(step) for step in (0, 1, 2, 20, 21, 79)] == [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]
    assert {constant(80, warmup_fraction=0.0)(step) for step in range(80)} == {1.0}
