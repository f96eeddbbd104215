"""Learning-rate schedules: pure functions of the step."""

import math
from collections.abc import Callable

from sticker_pipeline.core.settings import TrainingSettings


def make_schedule(settings: TrainingSettings, total_steps: int) -> Callable[[int], float]:
    """Function of step `0 ≤ s < total_steps` to 0–1 of the peak.

    `cosine_restarts_warmup_each` has its own function. Four others warm up once, over w =
    round(warmup_fraction·total_steps) steps: s/w while s < w. Then, with p = (s−w)/(total_steps−w), as in diffusers and
    transformers (with warm-up):

    - cosine: ½(1 + cos πp)
    - cosine_restarts: ½(1 + cos π(cycles·p mod 1))
    - linear: 1 − p
    - constant: 1

    Two have no warm-up and ignore total_steps:

    - cosine_annealing: ½(1 + cos πs/annealing_steps), as PyTorch's CosineAnnealingLR
    - relative: min(0.01, 1/√(s+1)), Adafactor's relative step (Shazeer and Stern 2018)

    Raises ValueError for total_steps < 1.
    """
    if settings.schedule == "cosine_annealing":
        return lambda step: _half_cosine(step / settings.annealing_steps)
    if settings.schedule == "relative":
        return lambda step: min(0.01, 1.0 / math.sqrt(step + 1))
    if settings.schedule == "cosine_restarts_warmup_each":
        return cosine_restarts_warmup_each(total_steps, settings.cycles, settings.warmup_fraction)
    shapes: dict[str, Callable[[float], float]] = {
        "cosine_restarts": lambda progress: _half_cosine(settings.cycles * progress % 1.0),
        "cosine": _half_cosine,
        "linear": lambda progress: 1.0 - progress,
        "constant": lambda progress: 1.0,
    }
    return _after_warmup(shapes[settings.schedule], total_steps, settings.warmup_fraction)


def cosine_restarts_warmup_each(
    total_steps: int, cycles: int = 4, warmup_fraction: float = 0.1
) -> Callable[[int], float]:
    """Cosine with hard restarts and a linear warm-up in each cycle.

    Values are 0–1 of the peak.

    With cycle length c = ⌈total_steps / cycles⌉, warm-up w = round(warmup_fraction·c) and u = s mod c, step s has u/w
    while u < w, else ½(1 + cos π(u−w)/(c−w)): 0 at a cycle's start, 1 at u = w, close to 0 at its end. Where
    total_steps is not divisible by cycles, the last one is cut short; more cycles than steps give cycles of one step.
    Without warm-up (w = 0) cycles begin at 1. At least one step of a cycle is cosine.

    Raises ValueError for total_steps < 1, cycles < 1 or a warmup_fraction outside 0 ≤ x < 1.
    """
    if total_steps < 1 or cycles < 1:
        raise ValueError(f"A schedule needs total_steps ≥ 1 and cycles ≥ 1, not {total_steps} and {cycles}.")
    cycle = math.ceil(total_steps / cycles)
    within = _after_warmup(_half_cosine, cycle, warmup_fraction)
    return lambda step: within(step % cycle)


def _after_warmup(shape: Callable[[float], float], total_steps: int, warmup_fraction: float) -> Callable[[int], float]:
    """Linear warm-up, then `shape` of the progress 0 ≤ p < 1.

    At least one step is not warm-up: one-step runs would otherwise learn nothing.
    """
    if total_steps < 1 or not 0 <= warmup_fraction < 1:
        raise ValueError(
            f"A schedule needs total_steps ≥ 1 and 0 ≤ warmup_fraction < 1, not {total_steps} and {warmup_fraction}."
        )
    warmup = min(round(warmup_fraction * total_steps), total_steps - 1)
    return lambda step: step / warmup if step < warmup else shape((step - warmup) / (total_steps - warmup))


def _half_cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))
