"""Checks of a pack, with evidence."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from sticker_pipeline.core.texts import counted
from sticker_pipeline.core.verdict import Verdict, listed
from sticker_pipeline.packing.animation import Animation
from sticker_pipeline.packing.build import Sticker
from sticker_pipeline.packing.candidates import FEW_SPECKS, GENERATED
from sticker_pipeline.packing.finish import FULL_SIDE, Look, finished
from sticker_pipeline.packing.pack import PackOf
from sticker_pipeline.packing.platforms import platform_kinds
from sticker_pipeline.packing.quality import (
    BACKGROUNDS,
    EMOJI_SIDE,
    MAX_LOOP_GAP,
    MIN_EDGES,
    MIN_FIRST_FRAME,
    first_frame_share,
    loop_gap,
    readable_at,
)
from sticker_pipeline.packing.verify import Fault

LEAST_DB = 30.0  # at chat size: below, blocks and bands show

CHECKS = {
    "fits_platforms": "every file keeps all rules of its platform, by its bytes alone",
    "alpha_survives": "each file, decoded again, is still cut out",
    "first_frame_whole": "the first frame of an animation shows the whole subject: WhatsApp and LINE rest on it",
    "loop_closes": "the last frame of an animation leads to the first one",
    "clean": "no chosen sticker is cut off by its image, or has specks of background left",
    "no_copies": "no chosen image is a copy of a training image",
    "readable": f"each sticker has enough contrast at {EMOJI_SIDE} pixels, on dark and on light",
    "quality": f"each file is within {LEAST_DB:g} dB of its sticker at chat size",
    "no_gaps": "each slot has a sticker",
    "nothing_left_out": "each platform has all stickers",
    "policy_of_generated_art": "the platforms allow generated art",
}
ERRORS = frozenset({"fits_platforms", "alpha_survives"})  # the others warn


def verdicts(
    stickers: Sequence[Sticker],
    pack: PackOf,
    gaps: Mapping[str, str],
    platforms: Sequence[str],
    look: Look,
    rows: pd.DataFrame,
) -> dict[str, Verdict]:
    """Return the verdict of each of CHECKS.

    rows: as CANDIDATES, of all candidates.
    """
    return {
        "fits_platforms": fits_platforms(pack.faults),
        "alpha_survives": alpha_survives(pack.opaque),
        "clean": clean(stickers, rows),
        "no_copies": no_copies(stickers, rows),
        "first_frame_whole": first_frame_whole(stickers),
        "loop_closes": loop_closes(stickers),
        "readable": readable(stickers, look),
        "quality": quality(pack.index),
        "no_gaps": no_gaps(gaps),
        "nothing_left_out": nothing_left_out(pack.left_out),
        "policy_of_generated_art": policy_of_generated_art(platforms, sum(one.generated for one in stickers)),
    }


def written(found: Mapping[str, Verdict]) -> str:
    """Return verdicts as JSON, for an artifact."""
    rows = {
        name: {
            "passed": one.passed,
            "summary": one.summary,
            "evidence": json.loads(one.evidence.to_json(orient="split")),
        }
        for name, one in found.items()
    }
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def read_verdicts(text: str) -> dict[str, Verdict]:
    """Return the verdicts that `written` wrote."""
    return {
        name: Verdict(
            one["passed"], one["summary"], pd.DataFrame(one["evidence"]["data"], columns=one["evidence"]["columns"])
        )
        for name, one in json.loads(text).items()
    }


def fits_platforms(faults: Mapping[str, Sequence[Fault]]) -> Verdict:
    """Pass without a broken rule."""
    rows = [
        {"platform": platform, "file": one.file, "rule": one.rule, "value": one.value, "limit": one.limit,
         "source": str(one.source)}
        for platform, own in faults.items()
        for one in own
    ]  # fmt: skip
    if not rows:
        return Verdict(True, f"the files keep all rules of {listed(sorted(faults)) or 'no platform'}", pd.DataFrame())
    first = next(one for own in faults.values() for one in own)
    return Verdict(False, f"{counted(len(rows), 'rule')} broken: {first}", pd.DataFrame(rows))


def alpha_survives(opaque: Sequence[str]) -> Verdict:
    """Pass if no file has lost its alpha channel."""
    evidence = pd.DataFrame({"file": list(opaque)})
    if opaque:
        return Verdict(False, f"the alpha channel is lost: {listed(opaque)}", evidence)
    return Verdict(True, "each file is cut out when decoded again", evidence)


def clean(stickers: Sequence[Sticker], rows: pd.DataFrame) -> Verdict:
    """Pass if no chosen candidate is cut off, or had specks.

    A person may accept one that has.
    """
    own = rows[rows["candidate"].isin([one.candidate for one in stickers])]
    bad = own[(own["specks"] > FEW_SPECKS) | (own["cut_off"] & (own["origin"] == GENERATED))]
    evidence = own[["slot", "candidate", "specks", "cut_off", "flat"]]
    if len(bad):
        return Verdict(False, f"cut off, or with specks: {listed(bad['slot'])}", evidence)
    return Verdict(True, f"{counted(len(own), 'cut-out')} looked at", evidence)


def no_copies(stickers: Sequence[Sticker], rows: pd.DataFrame) -> Verdict:
    """Pass if no chosen image is a copy of a training image.

    A copy is nearer to training than 95 % of held-out images.
    """
    own = rows[rows["candidate"].isin([one.candidate for one in stickers]) & (rows["origin"] == GENERATED)]
    evidence = own[["slot", "candidate", "nearest", "copy_bound", "fidelity", "likeness"]]
    bad = own[own["nearest"] > own["copy_bound"]]
    if len(bad):
        return Verdict(False, f"copies of training images: {listed(bad['slot'])}", evidence)
    return Verdict(True, f"{counted(len(own), 'generated image')} compared with the training images", evidence)


def first_frame_whole(stickers: Sequence[Sticker]) -> Verdict:
    """Pass if each animation's first frame covers nearly the usual area."""
    return _of_animations(
        stickers, first_frame_share, lambda share: share >= MIN_FIRST_FRAME, "first frame",
        f"the first frame covers less than {MIN_FIRST_FRAME:.0%} of the usual area",
    )  # fmt: skip


def loop_closes(stickers: Sequence[Sticker]) -> Verdict:
    """Pass if no animation jumps at its end."""
    return _of_animations(
        stickers, loop_gap, lambda gap: gap <= MAX_LOOP_GAP, "gap",
        f"from the last frame to the first is more than {MAX_LOOP_GAP:g} times the usual step",
    )  # fmt: skip


def _of_animations(
    stickers: Sequence[Sticker],
    measure: Callable[[Animation], float],
    passes: Callable[[float], bool],
    column: str,
    fault: str,
) -> Verdict:
    values = {one.slot: float(measure(one.master())) for one in stickers if one.animated}
    bad = [slot for slot, value in values.items() if not passes(value)]
    evidence = pd.DataFrame({"slot": list(values), column: list(values.values())})
    if not values:
        return Verdict(True, "there is no animation", evidence)
    if bad:
        return Verdict(False, f"{listed(bad)}: {fault}", evidence)
    return Verdict(True, f"{counted(len(values), 'animation')} looked at", evidence)


def readable(stickers: Sequence[Sticker], look: Look) -> Verdict:
    """Pass if all stickers show strong edges at emoji size."""
    stills = [replace(one, animated=False) for one in stickers]
    measured = {one.slot: readable_at(finished(one.master(), FULL_SIDE // 4, look)) for one in stills}
    evidence = pd.DataFrame(
        {
            "slot": list(measured),
            "edges_on_dark": [found.dark for found in measured.values()],
            "edges_on_light": [found.light for found in measured.values()],
        }
    )
    faint = [slot for slot, found in measured.items() if not found.readable]
    if faint:
        return Verdict(False, f"{listed(faint)}: less than {MIN_EDGES:g} of an outline's edges show", evidence)
    return Verdict(True, f"all have edges on {len(BACKGROUNDS)} backgrounds", evidence)


def quality(index: pd.DataFrame) -> Verdict:
    """Pass if files have LEAST_DB against their stickers at chat size."""
    worst = index.dropna(subset="error_db").sort_values("error_db", kind="stable")
    evidence = worst[["platform", "kind", "slot", "error_db", "bytes", "settings"]]
    bad = worst[worst["error_db"] < LEAST_DB]
    if len(bad):
        row = bad.iloc[0]
        return Verdict(
            False,
            f"{counted(len(bad), 'file')} below {LEAST_DB:g} dB; the worst is {row['slot']} for {row['platform']} "
            f"{row['kind']}, {row['error_db']:.1f} dB",
            evidence,
        )
    lowest = f"; the worst has {worst['error_db'].iloc[0]:.1f} dB" if len(worst) else ""
    return Verdict(True, f"{counted(len(index), 'file')}{lowest}", evidence)


def no_gaps(gaps: Mapping[str, str]) -> Verdict:
    """Pass if each slot has a sticker."""
    evidence = pd.DataFrame({"slot": list(gaps), "why": list(gaps.values())})
    if not gaps:
        return Verdict(True, "each slot has a sticker", evidence)
    return Verdict(False, listed([f"no {slot}" for slot in gaps]), evidence)


def nothing_left_out(left_out: Mapping[str, Sequence[str]]) -> Verdict:
    """Pass if each platform takes all stickers."""
    rows = [(platform, sentence) for platform, own in left_out.items() for sentence in own]
    evidence = pd.DataFrame(rows, columns=["platform", "left out"])
    if not rows:
        return Verdict(True, "each platform has all stickers", evidence)
    counts = [f"{platform} {len(own)}" for platform, own in left_out.items() if own]
    return Verdict(False, f"left out: {', '.join(counts)}; {rows[0][1]}", evidence)


def policy_of_generated_art(platforms: Sequence[str], generated: int) -> Verdict:
    """Pass if no platform refuses or restricts the generated stickers."""
    rows, strict = [], []
    for platform in platforms:
        kind = next(kind for (name, _), kind in platform_kinds().items() if name == platform)
        policy = kind.rules.policy
        rows.append((platform, policy.value.level, policy.value.text, str(kind.source(policy))))
        if policy.value.level != "note":
            strict.append(f"{platform}: {policy.value.text}")
    evidence = pd.DataFrame(rows, columns=["platform", "level", "policy", "source"])
    if generated and strict:
        return Verdict(False, " ".join(strict), evidence)
    said = "no sticker is generated" if not generated else f"{counted(generated, 'generated sticker')}"
    return Verdict(True, said, evidence)
