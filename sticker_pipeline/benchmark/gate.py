"""The release gate: rules as pure functions of the benchmark's tables.

All rules must hold. Limits are in `benchmark: {gate: …}` of character.yaml.

1. `better_than_base`: the gain in similarity to held-out images over the base model (paired: same prompts and seeds;
   all mediums). Its 95 % interval must lie above the share `gain` of the distance from the base model's similarity to
   that of held-out images among themselves. 0 is not enough: noise can be slightly nearer to a character than another
   face. Without a medium with two held-out sources, that distance is unknown and the limit 0.
2. `no_copies`: in each medium, the share of images nearer to a training image than the 95th percentile of held-out ones
   is at most `copies`, and at most `copies_beyond_references` above that of held-out images. The limit is at least the
   share that an honest LoRA exceeds by chance once in twenty times (see `copies_by_chance`).
3. `not_collapsed`: in each medium, diversity is at least `diversity` times that of held-out sources, and at most
   `one_source` of the images are nearest to one source (or the share that chance exceeds once in forty times with so
   few images or sources, if higher).
4. `right_character`: at least `identity` of the images, over all mediums, are nearest to this character. Without other
   characters this is not checked, and does not prevent a release.
5. `follows_prompts`: over all mediums, the tagger finds at least `fidelity` times the share of prompted tags that it
   finds on the base model's images of the same prompts and seeds. *Means* are compared. With six prompts, the interval
   of the paired difference was .6 wide, more than the margin of .4: its upper end would release blobs that show nothing
   of their prompts (.06 against .81), its lower end refuse a loss of a third. Retraining cannot get worse step by step,
   since the limit is the base model's. Where the tagger knows no prompted tag, this is not checked, and does not
   prevent a release. It is fooled by images that show everything at once, by tags that the character always shows, and
   by one of two mediums that follows for both. The limit is low where the base model follows few prompts itself. An
   honest LoRA is refused if the tagger cannot read the character, such as the expressions of an animal.
6. Compared with the baseline release, if any:
   a. `no_less_similar`: the LoRA loses at most `loss_of_gain` of that release's gain over the base model; a share,
      since the scale of cosines differs between CLIPs. This is a test of non-inferiority: the *lower end of the
      interval* of the paired difference must exceed −margin. The mean alone would pass half of all LoRAs that are worse
      by the margin, and weekly retraining would get worse step by step. With the interval, a LoRA worse by more than
      the margin passes once in forty times. The price: with fewer images, an equal LoRA is refused more often; the
      baseline release then stays, which does no harm.
   b. `no_more_copies`, `no_less_diverse`: in each medium, copies are at most `more_copies` above, diversity at most
      `less_diversity` (a share) below the baseline release's. A LoRA that misses the character is more diverse, and one
      that comes closer less: a diversity no lower than the references' own always passes. *Means* are compared: rules 2
      and 3 already bound both, and with some tens of images an interval is wider than any useful margin.

A check names everything unmeasured. A LoRA with a metric measured in no medium is refused, unless
`unmeasured: release`. A refusal begins with its reason: a value beyond its limit, an interval too wide to show that the
limit is kept, or a metric that could not be measured. benchmark/forecast.py knows the last before any training.

Sources of the defaults: three demo characters in two mediums with three seeds each (data/models/embedded/REPORT.md and
report/training_sweep.json). LoRAs are 1.3 to 3.2 times as diverse as the references, and always further from training
images than held-out ones are. Honest LoRAs had at most .29 of their images nearest to one GIF, one that collapsed onto
it .83 (docs/results/experiments.md, d). Trainings that differ only in the seed differ in similarity by up to .03, with
gains over the base model of .64 to .83: well within a tenth of the gain. These gains are .8 to .96 of the distance to
the references; a training of 24 steps reached .3, weights of noise .1 (defs/test_release_line.py). For every setting,
character and seed of the sweep, the share of prompted tags was .94 to 1.01 of the base model's; of the blobs, .08.
Other CLIPs, taggers and base models were not measured."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from sticker_pipeline.benchmark.measure import BASE, CHANCE, LORA, OVERALL, REFERENCE, RELEASED
from sticker_pipeline.benchmark.metrics import SIMILARITY
from sticker_pipeline.core.character import Gate
from sticker_pipeline.core.verdict import Verdict

CHECKS = {
    "better_than_base": "Its images are more like the character than the base model's of the same prompts.",
    "no_copies": "It does not copy its training images.",
    "not_collapsed": "It does not generate one image, or one source, again and again.",
    "right_character": "Its images are nearest to this character among all.",
    "follows_prompts": "It does not ignore its prompts.",
    "no_less_similar": "It is shown to be as good as the baseline release, within the stated margin.",
    "no_more_copies": "It copies hardly more than the baseline release.",
    "no_less_diverse": "Its images are hardly less varied than the baseline release's.",
}
"""Rule -> its statement."""
EVIDENCE = ["medium", "metric", "value", "ci_low", "ci_high", "limit", "kept"]
BAD_LUCK = 0.05  # probability that an honest LoRA is refused for copying, by the choice of held-out images

Row = Mapping[str, Any]
Estimates = Mapping[tuple[str, str, str], Row]  # (model, medium, metric) -> mean (finite), ci_low, ci_high, n


@dataclass(frozen=True)
class Check:
    """One rule, by its name in CHECKS.

    checked: everything it needs was measured. unmeasured: sentences, without full stop, on metrics measured in no
    medium. broken: a measured value is beyond its limit.
    """

    name: str
    verdict: Verdict
    checked: bool
    unmeasured: tuple[str, ...] = ()
    broken: bool = False


def gate(table: pd.DataFrame, over_base: pd.DataFrame, over_release: pd.DataFrame | None, limits: Gate) -> list[Check]:
    """Checks in the order of CHECKS; a release needs all to pass.

    table: model, medium, metric, mean, ci_low, ci_high, n, with the models `base`, `lora`, `reference` and, if any,
    `released`. over_base, over_release: metric, medium, difference, ci_low, ci_high, n of the paired differences, the
    LoRA less the base model or the baseline release (None: there is none). The medium `all` is over all mediums. A mean
    that is NaN or infinite counts as not measured.
    """
    estimates = _estimates(table)
    mediums = _mediums(estimates)
    lines = {
        "better_than_base": [_better_than_base(estimates, _overall(over_base), limits)],
        "no_copies": [_copies(estimates, medium, limits) for medium in mediums],
        "not_collapsed": [line for medium in mediums for line in _collapse(estimates, medium, limits)],
        "right_character": [_identity(estimates, limits)],
        "follows_prompts": [_fidelity(estimates, limits)],
    }
    checks = [_check(name, found if mediums else [], limits) for name, found in lines.items()]
    if over_release is None:
        why = "there is no release to compare it with" if mediums else NOTHING_HELD_OUT
        return checks + [_not_compared(name, why) for name in list(CHECKS)[len(checks) :]]
    beside = {
        "no_less_similar": [_similarity_kept(estimates, _overall(over_release), limits)],
        "no_more_copies": [_no_more_copies(estimates, medium, limits) for medium in mediums],
        "no_less_diverse": [_no_less_diverse(estimates, medium, limits) for medium in mediums],
    }
    return checks + [_check(name, found if mediums else [], limits) for name, found in beside.items()]


def may_be_released(checks: Sequence[Check]) -> bool:
    return all(check.verdict.passed for check in checks)


def decision(checks: Sequence[Check]) -> str:
    """Summarise in one line: released or refused, why, and what is unchecked.

    Values beyond their limits come before what could not be measured.
    """
    failed = sorted((check for check in checks if not check.verdict.passed), key=lambda check: not check.broken)
    refused = [f"{check.name}: {check.verdict.summary}" for check in failed]
    unchecked = [check.name for check in checks if check.verdict.passed and not check.checked]
    note = f" Not checked: {', '.join(unchecked)}." if unchecked else ""
    return (f"refused. {' '.join(refused)}" if refused else "may be released: every rule holds.") + note


def copies_by_chance(sources: int) -> float:
    """Bound on the share of honest images nearer than every held-out source.

    Nearer to training images; exceeded with probability BAD_LUCK. If images are distributed as `sources` = m held-out
    ones, the share that exceeds the largest of these has the distribution Beta(1, m): P(share > x) = (1 − x)^m. With 3
    sources it is .63, with 10 .26, with 20 .14: few held-out sources prove little.
    """
    return 1.0 - float(BAD_LUCK ** (1.0 / sources))


Fault = Literal["too high", "too low", "too uncertain"]  # uncertain: the mean keeps the limit, its interval does not


@dataclass(frozen=True)
class _Line:
    """One metric beside its limit.

    kept: None where it was not measured; `missing` then says what is missing. fault: of a value beyond its limit.
    """

    medium: str
    metric: str
    value: float = math.nan
    ci_low: float = math.nan
    ci_high: float = math.nan
    limit: str = ""
    kept: bool | None = None
    missing: str = ""
    fault: Fault | None = None


ADVICE = {
    "better_than_base": "It has not learned the character: train longer or at a higher rate, and look at the captions.",
    "no_copies": "It copies its training images: train fewer epochs, lower the rank, or add images.",
    "not_collapsed": "It generates nearly the same again and again: add other sources. If its images look like one "
    "source, name that in media.exclude of character.yaml, or lower the share of its group.",
    "right_character": "It generates another character: check the trigger, and the training images for others.",
    "follows_prompts": "It ignores its prompts: train longer or at a lower rate, and let captions name what differs "
    "between images. If its images show what the tagger misses, lower benchmark.gate.fidelity.",
    "no_less_similar": "It is less similar than the baseline release, which stays.",
    "no_more_copies": "The baseline release copies less, and stays.",
    "no_less_diverse": "The baseline release generates more varied images, and stays.",
}
_NARROW = "More held-out sources narrow the interval: add images, or raise benchmark.holdout."
UNCERTAIN = {
    "better_than_base": _NARROW,
    "no_less_similar": f"It is not shown to be as good as the baseline release, which stays. {_NARROW}",
}
ACCEPT_UNMEASURED = "set benchmark.gate.unmeasured: release"
UNMEASURED = (
    "Hold out at least two sources of a medium (add images, or name files in benchmark.holdout), or "
    f"{ACCEPT_UNMEASURED}."
)
NOTHING_HELD_OUT = "nothing could be measured, as no image is held out"
ALONE = "there is no other character to compare with"
NO_KNOWN_TAG = "the tagger knows no prompted tag"
WAIVED = frozenset({ALONE, NO_KNOWN_TAG})  # what is missing for these prevents no release


def _better_than_base(estimates: Estimates, row: Row | None, limits: Gate) -> _Line:
    name = "similarity above the base model's"
    if row is None:
        return _unmeasured(OVERALL, name, "there is no paired comparison with the base model")
    bound = limits.gain * _way_to_references(estimates)
    return _interval_line(name, row, bound)


def _way_to_references(estimates: Estimates) -> float:
    """Similarity of held-out images among themselves less the base model's.

    The mean over the mediums that have both; 0 where none has, or below 0.
    """
    of = SIMILARITY
    ways = [
        row["mean"] - estimates[BASE, medium, of]["mean"]
        for (model, medium, metric), row in estimates.items()
        if (model, metric) == (REFERENCE, of) and medium != OVERALL and (BASE, medium, of) in estimates
    ]
    return max(0.0, sum(ways) / len(ways)) if ways else 0.0


def _copies(estimates: Estimates, medium: str, limits: Gate) -> _Line:
    own, holdout = (estimates.get((model, medium, "copies")) for model in (LORA, REFERENCE))
    if own is None or holdout is None:
        return _unmeasured(medium, "copies", "there is no share of copies")
    sources = estimates.get((REFERENCE, medium, "diversity"), {"n": 1})["n"]  # with one source it has no diversity
    stated = min(limits.copies, holdout["mean"] + limits.copies_beyond_references)
    return _at_most("copies", medium, own, max(stated, copies_by_chance(sources)))


def _collapse(estimates: Estimates, medium: str, limits: Gate) -> list[_Line]:
    own, holdout = (estimates.get((model, medium, "diversity")) for model in (LORA, REFERENCE))
    share = estimates.get((LORA, medium, "one_source_share"))
    if own is None:
        spread = _unmeasured(medium, "diversity", "there are fewer than two images of it")
    elif holdout is None:
        spread = _unmeasured(medium, "diversity", "fewer than two of its sources are held out")
    else:
        spread = _at_least("diversity", medium, own, limits.diversity * holdout["mean"])
    by_chance = estimates.get((CHANCE, medium, "one_source_share"), {"ci_high": 0.0})["ci_high"]
    nearest = (
        _at_most("nearest to one source", medium, share, max(limits.one_source, by_chance))
        if share is not None
        else _unmeasured(medium, "nearest to one source", "there is no such share")
    )
    return [spread, nearest]


def _identity(estimates: Estimates, limits: Gate) -> _Line:
    row = estimates.get((LORA, OVERALL, "identity"))
    if row is None:
        return _Line(OVERALL, "right character", missing=ALONE)
    return _at_least("right character", OVERALL, row, limits.identity)


def _fidelity(estimates: Estimates, limits: Gate) -> _Line:
    own, base = (estimates.get((model, OVERALL, "prompt_fidelity")) for model in (LORA, BASE))
    if own is None or base is None:
        return _Line(OVERALL, "prompt fidelity", missing=NO_KNOWN_TAG)
    return _at_least("prompt fidelity", OVERALL, own, limits.fidelity * base["mean"])


def _similarity_kept(estimates: Estimates, row: Row | None, limits: Gate) -> _Line:
    name = "similarity above the baseline release's"
    present, base = (estimates.get((model, OVERALL, SIMILARITY)) for model in (RELEASED, BASE))
    if row is None or present is None or base is None:
        return _unmeasured(OVERALL, name, "there is no paired comparison with the baseline release")
    margin = limits.loss_of_gain * max(0.0, present["mean"] - base["mean"])
    return _interval_line(name, row, -margin)


def _no_more_copies(estimates: Estimates, medium: str, limits: Gate) -> _Line:
    own, present = (estimates.get((model, medium, "copies")) for model in (LORA, RELEASED))
    if own is None or present is None:
        return _unmeasured(medium, "copies", "there is no share of copies of both")
    return _at_most("copies", medium, own, present["mean"] + limits.more_copies)


def _no_less_diverse(estimates: Estimates, medium: str, limits: Gate) -> _Line:
    own, present, holdout = (estimates.get((model, medium, "diversity")) for model in (LORA, RELEASED, REFERENCE))
    if own is None or present is None:
        return _unmeasured(medium, "diversity", "there are fewer than two images of it")
    least = (1.0 - limits.less_diversity) * present["mean"]
    return _at_least("diversity", medium, own, min(least, holdout["mean"]) if holdout else least)


def _interval_line(metric: str, row: Row, bound: float) -> _Line:
    if not all(math.isfinite(row[key]) for key in ("difference", "ci_low", "ci_high")):
        return _unmeasured(OVERALL, metric, "there are too few images for an interval")
    kept = bool(row["ci_low"] > bound)
    limit = f"> {bound:.3f} at its lower end"
    fault: Fault | None = None if kept else "too uncertain" if row["difference"] > bound else "too low"
    return _Line(OVERALL, metric, row["difference"], row["ci_low"], row["ci_high"], limit, kept, fault=fault)


def _at_most(metric: str, medium: str, row: Row, limit: float) -> _Line:
    return _mean_line(metric, medium, row, f"≤ {limit:.3f}", None if row["mean"] <= limit else "too high")


def _at_least(metric: str, medium: str, row: Row, limit: float) -> _Line:
    return _mean_line(metric, medium, row, f"≥ {limit:.3f}", None if row["mean"] >= limit else "too low")


def _mean_line(metric: str, medium: str, row: Row, limit: str, fault: Fault | None) -> _Line:
    return _Line(medium, metric, row["mean"], row["ci_low"], row["ci_high"], limit, fault is None, fault=fault)


def _unmeasured(medium: str, metric: str, why: str) -> _Line:
    return _Line(medium, metric, missing=f"{_of(medium)}{metric} could not be measured, as {why}")


def _check(name: str, lines: Sequence[_Line], limits: Gate) -> Check:
    """Pass if measured lines are kept and every metric was measured.

    In at least one medium; `unmeasured: release`, or a reason in WAIVED, waives that. No lines: nothing is held out.
    """
    measured = {line.metric for line in lines if line.kept is not None}
    missing = tuple(line.missing for line in lines if line.kept is None) if lines else (NOTHING_HELD_OUT,)
    nowhere = tuple(line.missing for line in lines if line.metric not in measured) if lines else missing
    broken = [line for line in lines if line.kept is False]
    refused = bool(nowhere) and limits.unmeasured == "refuse" and not WAIVED.issuperset(nowhere)
    verdict = Verdict(not (broken or refused), _summary(name, lines, broken, missing, refused), _evidence(lines))
    return Check(name, verdict, checked=not missing, unmeasured=nowhere, broken=bool(broken))


def _summary(name: str, lines: Sequence[_Line], broken: Sequence[_Line], missing: Sequence[str], refused: bool) -> str:
    """Put the reason of a refusal and its remedy first."""
    parts = [f"{'; '.join(map(_told, broken))}. {_advice(name, broken)}"] if broken else []
    kept = [f"{'; '.join(map(_told, kept))}."] if (kept := [line for line in lines if line.kept]) else []
    if missing and WAIVED.issuperset(missing):
        return f"not checked: {'; '.join(missing)}."
    unmeasured = [f"{'; '.join(missing)}."] if missing else []
    parts += [*unmeasured, UNMEASURED, *kept] if refused else [*kept, *unmeasured]
    return " ".join(parts)


def _advice(name: str, broken: Sequence[_Line]) -> str:
    return (UNCERTAIN if all(line.fault == "too uncertain" for line in broken) else ADVICE)[name]


def _not_compared(name: str, why: str) -> Check:
    return Check(name, Verdict(True, f"not checked: {why}.", _evidence([])), checked=False)


def _told(line: _Line) -> str:
    interval = "" if math.isnan(line.ci_low) else f" [{line.ci_low:.3f}, {line.ci_high:.3f}]"
    fault = f" {line.fault}:" if line.fault else ""
    return f"{_of(line.medium)}{line.metric}{fault} {line.value:.3f}{interval}, must be {line.limit}"


def _of(medium: str) -> str:
    return "" if medium == OVERALL else f"{medium}: "


def _evidence(lines: Iterable[_Line]) -> pd.DataFrame:
    return pd.DataFrame([[getattr(line, name) for name in EVIDENCE] for line in lines], columns=EVIDENCE)


def _mediums(estimates: Estimates) -> list[str]:
    """List the LoRA's mediums: each is checked alone.

    A good one must not hide a bad one. With rows over all mediums only: `all`.
    """
    mediums = sorted({medium for model, medium, _ in estimates if model == LORA})
    return [medium for medium in mediums if medium != OVERALL] or mediums


def _estimates(table: pd.DataFrame) -> Estimates:
    known = table[np.isfinite(table["mean"].astype(float))]
    return {(str(row["model"]), str(row["medium"]), str(row["metric"])): _row(row) for row in known.to_dict("records")}


def _overall(comparison: pd.DataFrame) -> Row | None:
    rows = comparison[(comparison["metric"] == SIMILARITY) & (comparison["medium"] == OVERALL)]
    return None if rows.empty else _row(rows.to_dict("records")[0])


def _row(record: Mapping[Hashable, Any]) -> Row:
    return {str(name): value for name, value in record.items()}
