"""Recommended sampling settings, one for each budget of steps.

The rule:

1. Settings with more steps than the budget are out.
2. So are those with a fault, compared with the reference: the same style and character weights with the profile's
   settings, without LCM. A fault is a change by more than LIMIT, a tenth, which a person sees: a white veil (hazy),
   too little or too much contrast (flat, burnt) or saturation (pale, garish), too little sharpness (blurred), more
   copies of training images. Similarity and fidelity hardly show these: CLIP and tagger use small images and are
   insensitive to colours, and copies are more similar.
3. Of the others, all within TOLERANCE of the best quality are as good. Quality is the root of similarity to held-out
   images times prompt fidelity: a relative loss of either counts the same, and a LoRA that ignores the prompt gains
   nothing.
4. Of those, the fastest; of equally fast ones the best.

Where every setting has a fault, none is recommended. The best of many is partly luck, and chosen by the held-out
images: a LoRA's reported metrics remain the benchmark's, with the profile's settings. The benchmark also measures the
recommended settings, on other seeds than they were chosen by.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sticker_pipeline.core.earlier_names import record_of_today
from sticker_pipeline.core.storage import file_sha256
from sticker_pipeline.core.texts import UserError, counted
from sticker_pipeline.generation.grid_points import Adapters, GridPoint
from sticker_pipeline.generation.recommended import at_most

FILE_NAME = "recommended.json"
TOLERANCE = 0.03
LIMIT = 0.1
SETTING = ("style_weight", "character_weight", "lcm_weight", "steps", "guidance_scale", "scheduler")


@dataclass(frozen=True)
class Recommendation:
    """The recommendation for at most `budget` steps.

    setting: values of SETTING, or None. why: the reason, a sentence. metrics: of the setting.
    """

    budget: int
    setting: dict[str, Any] | None
    why: str
    metrics: dict[str, float]


FAULTS: tuple[tuple[str, int, str, str], ...] = (
    ("veil", 1, "hazy", "white veil"),
    ("contrast_shift", -1, "flat", "contrast"),
    ("contrast_shift", 1, "burnt", "contrast"),
    ("saturation_shift", -1, "pale", "saturation"),
    ("saturation_shift", 1, "garish", "saturation"),
    ("sharpness_shift", -1, "blurred", "sharpness"),
    ("copies_change", 1, "copying", "copies of training images"),
)
"""Column, sign of the faulty direction, fault, measured quantity."""


def faults(row: pd.Series) -> list[str]:
    """Name the faults of a row of the grid; NaN is none."""
    return [
        f"{fault} ({what} {100 * row[column]:+.0f} %)"
        for column, sign, fault, what in FAULTS
        if sign * row[column] > LIMIT
    ]


def pareto_front(seconds: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Mark settings that no other dominates in seconds and quality: bool[n].

    No other is as fast and better, or as good and faster. Never true for a quality of NaN.
    """
    order = np.lexsort((-quality, seconds))
    front = np.zeros(len(seconds), dtype=bool)
    best = (-np.inf, np.inf)
    for place in order:
        if quality[place] > best[0] or (quality[place], seconds[place]) == best:
            front[place], best = True, (quality[place], seconds[place])
    return front


def recommendations(table: pd.DataFrame, budgets: Sequence[int]) -> list[Recommendation]:
    """One recommendation for each of `budgets`, by the rule above.

    table: columns of SETTING and FAULTS, quality (and its interval), seconds, similarity, fidelity.
    """
    return [_recommended(table, budget) for budget in budgets]


def _recommended(table: pd.DataFrame, budget: int) -> Recommendation:
    within = table[(table["steps"] <= budget) & table["quality"].notna()]
    sound = within[[not faults(row) for _, row in within.iterrows()]]
    if sound.empty:
        return Recommendation(budget, None, _why_none(within, budget), {})
    best = sound["quality"].max()
    as_good = sound[sound["quality"] >= (1 - TOLERANCE) * best]
    row = as_good.sort_values(["seconds", "quality"], ascending=[True, False], kind="stable").iloc[0]
    why = (
        f"Of {counted(len(within), 'setting')} of at most {counted(budget, 'step')} {len(sound)} "
        f"{'has' if len(sound) == 1 else 'have'} no fault; the quality of {len(as_good)} is within "
        f"{100 * TOLERANCE:.0f} % of the best ({best:.3f}), and this is the fastest of them."
    )
    metrics = ("quality", "quality_low", "quality_high", "seconds", "similarity", "fidelity")
    return Recommendation(
        budget, {name: _plain(row[name]) for name in SETTING}, why, {name: float(row[name]) for name in metrics}
    )


def _why_none(within: pd.DataFrame, budget: int) -> str:
    if within.empty:
        return f"No setting of at most {counted(budget, 'step')} was tried."
    found = ", ".join(faults(within.sort_values("quality").iloc[-1]))
    tried = f"{counted(len(within), 'setting')} of at most {counted(budget, 'step')}"
    return f"Each of {tried} has a fault; the best is {found}."


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def as_json(recommended: Sequence[Recommendation]) -> list[dict[str, Any]]:
    """Convert to the content of recommended.json; NaN and infinity become None."""
    return [
        {
            **asdict(each),
            "metrics": {name: value if np.isfinite(value) else None for name, value in each.metrics.items()},
        }
        for each in recommended
    ]


def headline(recommended: Sequence[Recommendation]) -> str:
    """Summarise in one line the recommendation for the largest budget with one."""
    found = [each for each in recommended if each.setting]
    if not found:
        return "every setting has a fault"
    last = found[-1]
    return f"at most {counted(last.budget, 'step')}: {_in_words(last)}, quality {last.metrics['quality']:.3f}"


def advice_table(recommended: Sequence[Recommendation]) -> pd.DataFrame:
    """A row for each budget: steps_at_most, setting in words, metrics."""
    return pd.DataFrame(
        [{"steps_at_most": each.budget, "setting": _in_words(each), **each.metrics} for each in recommended]
    )


def _in_words(each: Recommendation) -> str:
    if each.setting is None:
        return "none"
    weights = {name: each.setting[f"{name}_weight"] for name in ("style", "character", "lcm")}
    used = ", ".join(f"{name} {weight:g}" for name, weight in weights.items() if weight) or "no LoRA"
    return f"{used}, {counted(each.setting['steps'], 'step')}, CFG {each.setting['guidance_scale']:g}"


def write_recommendations(
    folder: Path, profile: str, character_lora: str, adapters: Adapters, recommended: Sequence[Recommendation]
) -> None:
    """Write recommended.json; character_lora: its name in words."""
    content = {
        "profile": profile,
        "character": character_lora,
        "loras": {name: file_sha256(path) if path else None for name, path in vars(adapters).items()},
        "budgets": as_json(recommended),
    }
    (folder / FILE_NAME).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


class RecommendError(UserError):
    """An unreadable recommended.json; the message says what to do."""


@dataclass(frozen=True)
class Recommendations:
    """The content of recommended.json.

    loras: "character", "style", "lcm" -> sha256 of the file used, or None.
    """

    profile: str
    loras: dict[str, str | None]
    budgets: list[Recommendation]


@dataclass(frozen=True)
class Setting:
    """A setting recommended for at most `budget` steps, and perhaps for more.

    scheduler: the sampler's name.
    """

    budget: int
    point: GridPoint
    scheduler: str


def read_recommendations(path: Path) -> Recommendations:
    """Read recommended.json. Raises RecommendError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        budgets = [Recommendation(**record_of_today(each)) for each in content["budgets"]]
        loras = {name: content["loras"][name] for name in ("character", "style", "lcm")}
        _distinct(budgets)  # fails for an incomplete setting
        return Recommendations(content["profile"], loras, budgets)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecommendError(
            f"{path} cannot be read ({error}): materialize `sampling_grid` again, or delete its folder."
        ) from error


def settings_for(
    found: Recommendations, profile: str, loras: Mapping[str, str | None]
) -> tuple[list[Setting], list[str]]:
    """Distinct settings for the LoRA loras["character"], each with its smallest budget.

    Also returns a sentence about each that is left out. loras: "character", "style", "lcm" -> sha256 of the present
    files. A setting is valid only for the LoRA of the character, and those with a weight, that it was measured with.
    """
    if not any(each.setting for each in found.budgets):
        return [], []
    if (found.profile, found.loras["character"]) != (profile, loras["character"]):
        return [], [
            "The settings that `sampling_grid` recommends are for another LoRA of the character, and not used with "
            "this one. A grid uses the release where there is one: materialize it again once this LoRA is released."
        ]
    settings, left_out = [], []
    for setting in _distinct(found.budgets):
        if changed := _changed(setting.point, found.loras, loras):
            left_out.append(
                f"The setting that `sampling_grid` recommends for {at_most(setting.budget)} is not used: it was "
                f"measured with another {' and another '.join(changed)}. Materialize it again."
            )
        else:
            settings.append(setting)
    return settings, left_out


def _distinct(budgets: Sequence[Recommendation]) -> list[Setting]:
    first: dict[tuple[GridPoint, str], int] = {}
    for each in sorted(budgets, key=lambda each: each.budget):
        if each.setting:
            weights = {name: value for name, value in each.setting.items() if name != "scheduler"}
            first.setdefault((GridPoint(**weights), each.setting["scheduler"]), each.budget)
    return [Setting(budget, point, scheduler) for (point, scheduler), budget in first.items()]


def _changed(point: GridPoint, used: Mapping[str, str | None], now: Mapping[str, str | None]) -> list[str]:
    """Name the LoRAs with a weight in `point` that differ from those `used`."""
    adapters = {"style": ("LoRA of the style", point.style_weight), "lcm": ("LCM-LoRA", point.lcm_weight)}
    return [called for name, (called, weight) in adapters.items() if weight and used[name] != now[name]]
