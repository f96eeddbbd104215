"""Optimizers, one row each; docs/contributing/index.md shows how to add one.

Settings, the check for settings without effect, kohya's import, the memory estimate, LoRA metadata and
`training/optimizers.py` follow OPTIMIZERS. Rows name constructors; nothing is imported here.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Shape = tuple[int, ...]  # of a trained float32 tensor


@dataclass(frozen=True)
class Argument:
    """A constructor's argument that is a setting here.

    default: the constructor's (for kohya files without it); None leaves it. always_written: LoRA metadata has it even
    if unchanged.
    """

    name: str
    default: Any
    always_written: bool = False


@dataclass(frozen=True)
class Optimizer:
    """A row of the table.

    - name: in settings.
    - note: a few words for people.
    - constructor: import path.
    - state_bytes: kept for a trained float32 tensor of that shape.
    - arguments: setting -> argument; other rows' settings have no effect.
    - kohya: names in kohya's files, the usual first.
    - fixed: argument -> default and our value, required of kohya files.
    - passed: arguments that kohya's files cannot have.
    - extra: installs the package, "" if always there.
    - one_rate: one step size for all weights, so one rate.
    - scheduled: arguments that are a schedule here.
    """

    name: str
    note: str
    constructor: str
    state_bytes: Callable[[Shape], int]
    arguments: Mapping[str, Argument]
    kohya: tuple[str, ...]
    fixed: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    passed: Mapping[str, Any] = field(default_factory=dict)
    extra: str = ""
    one_rate: bool = False
    scheduled: tuple[str, ...] = ()

    @property
    def package(self) -> str:
        return self.constructor.partition(".")[0]


def float32_copies(count: int) -> Callable[[Shape], int]:
    """Return the bytes of `count` float32 tensors by shape."""
    return lambda shape: 4 * count * math.prod(shape)


def _eight_bits(shape: Shape) -> int:
    """Return the bytes of two 8-bit moments.

    Each has a scale per 256 entries; small tensors stay float32.
    """
    entries = math.prod(shape)
    return 8 * entries if entries < 4096 else 2 * entries + 2 * 4 * math.ceil(entries / 256)


def _factored(shape: Shape) -> int:
    """Return the bytes of row and column sums; vectors keep all entries."""
    entries = math.prod(shape)
    return 4 * entries if len(shape) < 2 else 4 * (entries // shape[-1] + entries // shape[-2])


def _weight_decay(default: float) -> dict[str, Argument]:
    return {"weight_decay": Argument("weight_decay", default, always_written=True)}


BETAS = {"betas": Argument("betas", (0.9, 0.999), always_written=True)}
_ADAMW_FIXED = {"eps": (1e-8, 1e-8), "amsgrad": (False, False)}

_ROWS = (
    Optimizer(
        name="adamw",
        note="PyTorch's, fused",
        constructor="torch.optim.adamw.AdamW",
        state_bytes=float32_copies(2),
        arguments=_weight_decay(0.01) | BETAS,
        kohya=("AdamW", "PagedAdamW", "PagedAdamW32bit"),  # paged: same results
        fixed=_ADAMW_FIXED,
        passed={"fused": True},
    ),
    Optimizer(
        name="adamw8bit",
        note="from bitsandbytes, with a quarter of the state; also for a CPU, where it is slow",
        constructor="bitsandbytes.optim.adamw.AdamW8bit",
        state_bytes=_eight_bits,
        arguments=_weight_decay(0.01) | BETAS,
        kohya=("AdamW8bit", "PagedAdamW8bit"),
        fixed=_ADAMW_FIXED,
        extra="gpu",
    ),
    Optimizer(
        name="prodigy",
        note="finds its step size; its authors' package, with the bias correction and the safeguard for warm-ups that "
        "they advise for diffusion models unless the settings say otherwise",
        constructor="prodigyopt.prodigy.Prodigy",
        state_bytes=float32_copies(4),
        arguments={
            **_weight_decay(0.0),
            **BETAS,
            "prodigy_d_coef": Argument("d_coef", 1.0, always_written=True),
            "prodigy_d0": Argument("d0", 1e-6),
            "prodigy_bias_correction": Argument("use_bias_correction", False),
            "prodigy_safeguard_warmup": Argument("safeguard_warmup", False),
        },
        kohya=("Prodigy",),
        fixed={
            "decouple": (True, True),
            "eps": (1e-8, 1e-8),
            "beta3": (None, None),
            "growth_rate": (math.inf, math.inf),
            "slice_p": (1, 1),
        },
        one_rate=True,
    ),
    Optimizer(
        name="dadaptadam",
        note="finds its step size: Adam by D-Adaptation (Defazio and Mishchenko 2023), its authors' package",
        constructor="dadaptation.dadapt_adam.DAdaptAdam",
        state_bytes=float32_copies(3),
        arguments={**_weight_decay(0.0), **BETAS, "dadapt_growth_rate": Argument("growth_rate", None)},
        kohya=("DAdaptAdam",),
        fixed={
            "decouple": (False, True),
            "d0": (1e-6, 1e-6),
            "eps": (1e-8, 1e-8),
            "use_bias_correction": (False, False),
        },
        extra="dadaptation",
        one_rate=True,
    ),
    Optimizer(
        name="adafactor",
        note="from transformers, with the smallest state; it uses the rate of the schedule. It scales by the size of a "
        "weight only with adafactor_scale_parameter: up matrices, which begin at 0, would hardly move",
        constructor="transformers.optimization.Adafactor",
        state_bytes=_factored,
        arguments={
            **_weight_decay(0.0),
            "adafactor_scale_parameter": Argument("scale_parameter", True),
        },
        kohya=("Adafactor",),
        fixed={
            "warmup_init": (False, False),
            "clip_threshold": (1.0, 1.0),
            "decay_rate": (-0.8, -0.8),
            "beta1": (None, None),
            "eps": ((1e-30, 1e-3), (1e-30, 1e-3)),
        },
        passed={"relative_step": False},
        scheduled=("relative_step",),
    ),
)
OPTIMIZERS: Mapping[str, Optimizer] = {row.name: row for row in _ROWS}
"""By name in settings."""
BY_KOHYA_NAME: Mapping[str, Optimizer] = {name.lower(): row for row in _ROWS for name in row.kohya}
"""By lower-case name in kohya's files."""
OWN_SETTINGS = tuple(
    setting
    for setting in dict.fromkeys(setting for row in _ROWS for setting in row.arguments)
    if not all(setting in row.arguments for row in _ROWS)
)
"""Settings that are arguments of some optimizers only."""
LEAN = tuple(row.name for row in _ROWS if row.state_bytes((1024, 1024)) < 4 * 1024**2)
"""Optimizers that keep less than one float32 per weight."""


def needed_by(setting: str) -> str:
    readers, others = ([row.name for row in _ROWS if (setting in row.arguments) == reads] for reads in (True, False))
    if len(readers) <= len(others):
        return f"`optimizer: {'` or `'.join(readers)}`"
    return f"another optimizer than {' or '.join(others)}"
