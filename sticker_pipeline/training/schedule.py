"""Learning-rate schedules: pure functions of the step, and nothing else.

Peak learning rates, and which parameters they belong to, stand in train.py.
"""

import math
from collections.abc import Callable


def recipe(total_steps: int, cycles: int = 4, warmup_fraction: float = 0.1) -> Callable[[int], float]:
    """Cosine with hard restarts and a linear warm-up inside each cycle: multiplier 0–1 of the peak learning rate.

    With cycle length c = ⌈total_steps / cycles⌉, warm-up w = round(warmup_fraction·c) and u = s mod c, step s has
    u/w while u < w, else ½(1 + cos π(u−w)/(c−w)): 0 at the start of each cycle, 1 at u = w, close to 0 at its end.
    Where total_steps is not divisible by cycles, all cycles but the last have the same length and the last one is cut
    short, so that each step is defined; more cycles than steps give cycles of one step. A warm-up that rounds to 0 is
    none: cycles then begin at 1; a warm-up always leaves at least one step of its cycle to the cosine.

    Raises ValueError for total_steps < 1, cycles < 1 or a warmup_fraction outside 0 ≤ x < 1.
    """
    cycle, warmup = _cycle(total_steps, cycles, warmup_fraction)

    def multiplier(step: int) -> float:
        into_cycle = step % cycle
        if into_cycle < warmup:
            return into_cycle / warmup
        return 0.5 * (1.0 + math.cos(math.pi * (into_cycle - warmup) / (cycle - warmup)))

    return multiplier


def constant(total_steps: int, cycles: int = 4, warmup_fraction: float = 0.1) -> Callable[[int], float]:
    """The peak throughout, after one linear warm-up as long as that of the first cycle of `recipe` with the same
    arguments: multiplier 0–1 of the peak learning rate. Raises ValueError as `recipe` does."""
    _, warmup = _cycle(total_steps, cycles, warmup_fraction)
    return lambda step: step / warmup if step < warmup else 1.0


def _cycle(total_steps: int, cycles: int, warmup_fraction: float) -> tuple[int, int]:
    """Steps of a cycle, and of the warm-up at its beginning."""
    if total_steps < 1 or cycles < 1 or not 0 <= warmup_fraction < 1:
        raise ValueError(
            f"A schedule needs total_steps ≥ 1, cycles ≥ 1 and 0 ≤ warmup_fraction < 1, "
            f"not {total_steps}, {cycles} and {warmup_fraction}."
        )
    cycle = math.ceil(total_steps / cycles)
    return cycle, min(round(warmup_fraction * cycle), cycle - 1)


SCHEDULES = {"restarts": recipe, "constant": constant}
"""`training.schedule` of the settings -> the schedule, made from (total_steps, cycles, warmup_fraction)."""
