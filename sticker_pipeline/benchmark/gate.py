"""Whether a LoRA may replace the present release: the rules, as pure functions of the benchmark's tables.

A LoRA is released only if every rule holds. The limits stand in `benchmark: {gate: …}` of character.yaml.

1. `better_than_base`: it is more like the held-out images than what the base model makes of the same prompts and
   seeds: the 95 % interval of the paired difference, over all styles, lies above `gain` of the way from the base
   model's similarity to that of held-out images among themselves. Above 0 would not do: noise can be a little nearer
   to a character than somebody else's face is. Where no style has two held-out clips, that way is not known, and 0 is
   the limit.
2. `no_copies`: in each style, at most `copies` of its images are nearer to a training image than the 95th
   percentile of the held-out ones, and at most `copies_beyond_references` more than of those themselves. The limit is
   never lower than what an honest LoRA exceeds by chance once in twenty times (see `copies_by_chance`).
3. `not_collapsed`: in each style its images differ at least `diversity` as much as held-out clips do, and at most
   `one_clip` of them are nearest to one and the same clip, or what chance gives to so few images or clips once in
   forty times, where that is more.
4. `right_character`: at least `identity` of its images, over all styles, are nearest to this character among all.
   Where there is no other character, this is not checked, and does not hold a release.
5. Beside the present release, where there is one:
   a. `no_less_similar`: it keeps all but `loss_of_gain` of what the present release gains over the base model. The
      margin is a share of the gain, since a cosine means something else in every CLIP. This is a test of
      non-inferiority: the *lower end of the interval* of the paired difference must lie above −margin. The mean alone
      would let through half of all LoRAs that are worse by the margin, and weekly retraining would walk downhill; with
      the interval a LoRA that is worse by more than the margin passes once in forty times. The price: the fewer the
      images, the more often an equal one is refused, and then the present release stays, which harms nobody.
   b. `no_more_copies`, `no_less_diverse`: in each style, the share of copies is at most `more_copies` above, the
      diversity at most `less_diversity` (a share) below the present release's. A LoRA that misses the character
      scatters, and one that comes closer is less diverse for that alone: a diversity no lower than the references' own
      is never a fault. Here the *means* are compared: rules 2 and 3 have bounded both already, and with some tens of
      images an interval is wider than any margin of use.

What was not measured is never passed in silence: the check says so, and a LoRA of which a figure was measured in no
style is refused, unless `unmeasured: release`.

Where the defaults come from. Of the three demo characters in two styles with three seeds each (data/models/embedded/
REPORT.md and report/sweep.json), LoRAs are 1.3 to 3.2 times as diverse as the references, and in every case further
from the training images than held-out ones are. Honest LoRAs had at most .29 of their images nearest to one GIF,
one that collapsed onto it .83 (docs/results/experiments.md, d). Trainings that differ in the seed alone differ in
similarity by up to .03, of gains over the base model from .64 to .83: well within a tenth of the gain. These gains are
.8 to .96 of the way to the references; a training of 24 steps came .3 of it, weights of noise .1
(defs/test_release_line.py). Other CLIPs and base models have not been measured.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sticker_pipeline.benchmark.measure import BASE, CHANCE, LORA, OVERALL, REFERENCE, RELEASED
from sticker_pipeline.benchmark.metrics import SIMILARITY
from sticker_pipeline.core.character import Gate
from sticker_pipeline.core.verdict import Verdict

CHECKS = {
    "better_than_base": "It is more like the character than what the base model makes of the same prompts.",
    "no_copies": "It does not copy its training images.",
    "not_collapsed": "It does not draw one and the same image, or one clip, again and again.",
    "right_character": "Its images are nearest to this character among all.",
    "no_less_similar": "It is shown to be as good as the present release, but for the stated margin.",
    "no_more_copies": "It copies hardly more than the present release.",
    "no_less_diverse": "Its images are hardly less varied than the present release's.",
}
"""Name of each rule -> what it says."""
EVIDENCE = ["style", "figure", "value", "ci_low", "ci_high", "limit", "kept"]
BAD_LUCK = 0.05  # how often an honest LoRA may be refused for copying, by the luck of which images are held out

Row = Mapping[str, Any]
Figures = Mapping[tuple[str, str, str], Row]  # (model, style, metric) -> mean (finite), ci_low, ci_high, n


@dataclass(frozen=True)
class Check:
    """One rule, by its name in CHECKS. `checked`: something was measured that it could be held against."""

    name: str
    verdict: Verdict
    checked: bool


def gate(table: pd.DataFrame, over_base: pd.DataFrame, over_release: pd.DataFrame | None, limits: Gate) -> list[Check]:
    """The checks in the order of CHECKS; the LoRA may be released if all of them passed (see `may_be_released`).

    table: model, style, metric, mean, ci_low, ci_high, n, with the models `base`, `lora`, `reference` and, where there
    is a present release, `released`. over_base, over_release: metric, style, difference, ci_low, ci_high, n of the
    paired differences, the LoRA less the base model, and the LoRA less the present release (None: there is none). Rows
    over all styles have the style `all`. A mean that is no number counts as not measured.
    """
    figures = _figures(table)
    styles = _styles(figures)
    lines = {
        "better_than_base": [_better_than_base(figures, _overall(over_base), limits)],
        "no_copies": [_copies(figures, style, limits) for style in styles],
        "not_collapsed": [line for style in styles for line in _collapse(figures, style, limits)],
        "right_character": [_identity(figures, limits)],
    }
    checks = [_check(name, found, limits) for name, found in lines.items()]
    if over_release is None:
        return checks + [_nothing_to_compare(name) for name in list(CHECKS)[len(checks) :]]
    beside = {
        "no_less_similar": [_similarity_kept(figures, _overall(over_release), limits)],
        "no_more_copies": [_no_more_copies(figures, style, limits) for style in styles],
        "no_less_diverse": [_no_less_diverse(figures, style, limits) for style in styles],
    }
    return checks + [_check(name, found, limits) for name, found in beside.items()]


def may_be_released(checks: Sequence[Check]) -> bool:
    return all(check.verdict.passed for check in checks)


def decision(checks: Sequence[Check]) -> str:
    """One line for a person: released, or refused by which rules and why; and what was not checked."""
    refused = [f"{check.name}: {check.verdict.summary}" for check in checks if not check.verdict.passed]
    unchecked = [check.name for check in checks if check.verdict.passed and not check.checked]
    told = f" Not checked: {', '.join(unchecked)}." if unchecked else ""
    return (f"refused. {' '.join(refused)}" if refused else "may be released: every rule holds.") + told


def copies_by_chance(clips: int) -> float:
    """The share of honest images that are nearer to the training images than the nearest of `clips` held-out clips,
    exceeded with probability BAD_LUCK.

    Images that are drawn as held-out ones are exceed the largest of m with a share that is distributed as Beta(1, m):
    P(share > x) = (1 − x)^m. With 3 clips it is .63, with 10 .26, with 20 .14: who holds out few, can prove little.
    """
    return 1.0 - float(BAD_LUCK ** (1.0 / clips))


@dataclass(frozen=True)
class _Line:
    """One figure beside its limit. `kept` is None where it was not measured; `missing` then says what is not there."""

    style: str
    figure: str
    value: float = math.nan
    ci_low: float = math.nan
    ci_high: float = math.nan
    limit: str = ""
    kept: bool | None = None
    missing: str = ""


ADVICE = {
    "better_than_base": "It has not learned the character: train longer or at a higher rate, and look at the captions.",
    "no_copies": "It copies its training images: train fewer epochs, lower the rank, or add images.",
    "not_collapsed": "It draws nearly the same again and again: add other clips, or lower the share of the one that it "
    "is nearest to.",
    "right_character": "It draws somebody else: look at the trigger, and for frames of others among its images.",
    "no_less_similar": "It is not shown to be as good as the present release, which stays. More held-out clips or "
    "seeds would narrow the interval.",
    "no_more_copies": "The present release copies less, and stays.",
    "no_less_diverse": "The present release draws more varied images, and stays.",
}
UNMEASURED = "Hold out at least two clips of a style in benchmark.holdout of character.yaml."
ALONE = "there is no other character to tell it from"


def _better_than_base(figures: Figures, row: Row | None, limits: Gate) -> _Line:
    name = "similarity above the base model's"
    if row is None:
        return _Line(OVERALL, name, missing="no paired comparison with the base model")
    bound = limits.gain * _way_to_references(figures)
    return _interval_line(name, row, bound, f"> {bound:.3f}")


def _way_to_references(figures: Figures) -> float:
    """How much more alike held-out images are among themselves than to the base model's, on average over the styles
    in which that is known; 0 where it is in none, or no more."""
    of = SIMILARITY
    ways = [
        row["mean"] - figures[BASE, style, of]["mean"]
        for (model, style, metric), row in figures.items()
        if (model, metric) == (REFERENCE, of) and style != OVERALL and (BASE, style, of) in figures
    ]
    return max(0.0, sum(ways) / len(ways)) if ways else 0.0


def _copies(figures: Figures, style: str, limits: Gate) -> _Line:
    own, held_out = (figures.get((model, style, "copies")) for model in (LORA, REFERENCE))
    if own is None or held_out is None:
        return _Line(style, "copies", missing=f"no share of copies in style {style}")
    clips = figures.get((REFERENCE, style, "diversity"), {"n": 1})["n"]  # it has no diversity with only one clip
    stated = min(limits.copies, held_out["mean"] + limits.copies_beyond_references)
    return _at_most("copies", style, own, max(stated, copies_by_chance(clips)))


def _collapse(figures: Figures, style: str, limits: Gate) -> list[_Line]:
    own, held_out = (figures.get((model, style, "diversity")) for model in (LORA, REFERENCE))
    share = figures.get((LORA, style, "one_clip_share"))
    spread = (
        _at_least("diversity", style, own, limits.diversity * held_out["mean"])
        if own is not None and held_out is not None
        else _Line(style, "diversity", missing=f"no diversity of images and held-out clips in style {style}")
    )
    by_chance = figures.get((CHANCE, style, "one_clip_share"), {"ci_high": 0.0})["ci_high"]
    nearest = (
        _at_most("nearest to one clip", style, share, max(limits.one_clip, by_chance))
        if share is not None
        else _Line(style, "nearest to one clip", missing=f"no share nearest to one clip in style {style}")
    )
    return [spread, nearest]


def _identity(figures: Figures, limits: Gate) -> _Line:
    row = figures.get((LORA, OVERALL, "identity"))
    if row is None:
        return _Line(OVERALL, "right character", missing=ALONE)
    return _at_least("right character", OVERALL, row, limits.identity)


def _similarity_kept(figures: Figures, row: Row | None, limits: Gate) -> _Line:
    name = "similarity above the present release's"
    present, base = (figures.get((model, OVERALL, SIMILARITY)) for model in (RELEASED, BASE))
    if row is None or present is None or base is None:
        return _Line(OVERALL, name, missing="no paired comparison with the present release")
    margin = limits.loss_of_gain * max(0.0, present["mean"] - base["mean"])
    return _interval_line(name, row, -margin, f"> {-margin:.3f}")


def _no_more_copies(figures: Figures, style: str, limits: Gate) -> _Line:
    own, present = (figures.get((model, style, "copies")) for model in (LORA, RELEASED))
    if own is None or present is None:
        return _Line(style, "copies", missing=f"no share of copies of both in style {style}")
    return _at_most("copies", style, own, present["mean"] + limits.more_copies)


def _no_less_diverse(figures: Figures, style: str, limits: Gate) -> _Line:
    own, present, held_out = (figures.get((model, style, "diversity")) for model in (LORA, RELEASED, REFERENCE))
    if own is None or present is None:
        return _Line(style, "diversity", missing=f"no diversity of both in style {style}")
    least = (1.0 - limits.less_diversity) * present["mean"]
    return _at_least("diversity", style, own, min(least, held_out["mean"]) if held_out else least)


def _interval_line(figure: str, row: Row, bound: float, limit: str) -> _Line:
    """Kept where the whole interval lies above `bound`."""
    if not all(math.isfinite(row[key]) for key in ("difference", "ci_low", "ci_high")):
        return _Line(OVERALL, figure, missing=f"no interval of the {figure}")
    kept = bool(row["ci_low"] > bound)
    return _Line(OVERALL, figure, row["difference"], row["ci_low"], row["ci_high"], limit, kept)


def _at_most(figure: str, style: str, row: Row, limit: float) -> _Line:
    return _mean_line(figure, style, row, f"≤ {limit:.3f}", lambda mean: mean <= limit)


def _at_least(figure: str, style: str, row: Row, limit: float) -> _Line:
    return _mean_line(figure, style, row, f"≥ {limit:.3f}", lambda mean: mean >= limit)


def _mean_line(figure: str, style: str, row: Row, limit: str, keeps: Callable[[float], bool]) -> _Line:
    return _Line(style, figure, row["mean"], row["ci_low"], row["ci_high"], limit, bool(keeps(row["mean"])))


def _check(name: str, lines: Sequence[_Line], limits: Gate) -> Check:
    """Passed if every line is kept that was measured, and no figure is left unmeasured in every style."""
    measured = [line for line in lines if line.kept is not None]
    missing = [line.missing for line in lines if line.kept is None] if lines else ["the LoRA has no row"]
    nowhere = not lines or {line.figure for line in lines} != {line.figure for line in measured}
    refused = nowhere and limits.unmeasured == "refuse" and missing != [ALONE]
    broken = not all(line.kept for line in measured)
    parts = [*map(_told, measured), *([f"not checked: {', '.join(missing)}"] if missing else [])]
    advice = [ADVICE[name]] * broken + [UNMEASURED] * refused
    verdict = Verdict(not (broken or refused), " ".join([f"{'; '.join(parts)}.", *advice]), _evidence(lines))
    return Check(name, verdict, checked=not missing)


def _nothing_to_compare(name: str) -> Check:
    return Check(
        name, Verdict(True, "not checked: there is no release to compare it with.", _evidence([])), checked=False
    )


def _told(line: _Line) -> str:
    interval = "" if math.isnan(line.ci_low) else f" [{line.ci_low:.3f}, {line.ci_high:.3f}]"
    style = "" if line.style == OVERALL else f"{line.style}: "
    return f"{style}{line.figure} {line.value:.3f}{interval}, must be {line.limit}"


def _evidence(lines: Iterable[_Line]) -> pd.DataFrame:
    return pd.DataFrame([[getattr(line, name) for name in EVIDENCE] for line in lines], columns=EVIDENCE)


def _styles(figures: Figures) -> list[str]:
    """The styles that the LoRA has rows of, each judged by itself: a good one must not hide a bad one. Where there are
    only rows over all styles, those."""
    styles = sorted({style for model, style, _ in figures if model == LORA})
    return [style for style in styles if style != OVERALL] or styles


def _figures(table: pd.DataFrame) -> Figures:
    known = table[np.isfinite(table["mean"].astype(float))]
    return {(str(row["model"]), str(row["style"]), str(row["metric"])): _row(row) for row in known.to_dict("records")}


def _overall(comparison: pd.DataFrame) -> Row | None:
    rows = comparison[(comparison["metric"] == SIMILARITY) & (comparison["style"] == OVERALL)]
    return None if rows.empty else _row(rows.to_dict("records")[0])


def _row(record: Mapping[Hashable, Any]) -> Row:
    return {str(name): value for name, value in record.items()}
