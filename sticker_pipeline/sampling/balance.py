"""Checks of a character's images: number, variety and balance of sampling."""

import numpy as np
import pandas as pd

from sticker_pipeline.core.texts import are, counted
from sticker_pipeline.core.verdict import Verdict
from sticker_pipeline.sampling.weights import effective_images, group_shares, source_shares, source_similarity

# A holdout needs three sources in a group (dataset/manifest.py); with fewer in all, nothing can be measured.
TOO_FEW = 3
# Our choice: the demo characters have some 25; nothing smaller was tried.
FEW = 10
# Kish's effective number of sources by perceptual hash. Three real sets of stickers, mostly one head on an empty
# background: 3.3, 4.1 and 9.5; hashes that differ in a bit or two, as for one drawing: about 1.
FEW_DIFFERENT = 2.0
# Ratio of shares: of two groups, the lighter then has about one sample in ten.
HEAVIER = 10.0
# One source of at least MANY_SOURCES with a quarter of the samples.
HEAVY_SOURCE, MANY_SOURCES = 0.25, 8


def enough_images(trained: pd.DataFrame) -> Verdict:
    """Check that there are enough sources to train on.

    `trained`: frame_id, group, source_id of the frames in training.
    """
    table = trained.groupby("group", sort=True).agg(sources=("source_id", "nunique"), frames=("frame_id", "size"))
    sources = trained["source_id"].nunique()
    summary = f"{counted(sources, 'source')} to train on"
    if sources < TOO_FEW:
        summary += f": too few to learn a character from, or to measure it. Add images until there are {FEW} or more."
    elif sources < FEW:
        summary += f": expect poses and clothes to be copied; {FEW} or more are advised."
    return Verdict(sources >= FEW, summary, table.reset_index(), pointless=sources < TOO_FEW)


def different_enough(frames: pd.DataFrame) -> Verdict:
    """Check that the sources are not nearly one drawing.

    Otherwise the LoRA can generate nothing else. Metric: Kish's effective number n / (1 + (n − 1)·ρ) of n sources by
    their first kept frames, with ρ the mean likeness of all pairs (weights.source_similarity). Fewer than TOO_FEW
    sources pass.
    """
    first = frames[frames["kept"].astype(bool)].drop_duplicates("source_id")
    count = len(first)
    likeness = source_similarity(first.assign(source_id="all")).get("all", 1.0)
    effective = count / (1 + (count - 1) * likeness) if count else 0.0
    passed = effective >= FEW_DIFFERENT or count < TOO_FEW
    summary = f"{counted(count, 'source')} {are(count)} as different as {effective:.1f} unrelated images"
    if not passed:
        summary += ": they show nearly one drawing. Add other poses, framings and backgrounds."
    return Verdict(passed, summary, _closest_pairs(first))


def balanced(weights: pd.DataFrame) -> Verdict:
    """Check that every group and source has a fair share of samples."""
    groups, sources = group_shares(weights), source_shares(weights)
    faults = []
    light, heavy = groups.iloc[groups["share"].argmin()], groups.iloc[groups["share"].argmax()]
    if heavy["share"] > HEAVIER * light["share"]:
        ratio = heavy["share"] / light["share"]
        faults.append(f"group {heavy['group']} is sampled {ratio:.0f} times as often as {light['group']}")
    top = sources.iloc[sources["share"].argmax()]
    if len(sources) >= MANY_SOURCES and top["share"] > HEAVY_SOURCE:
        faults.append(f"{top['source_id']} alone is {top['share']:.0%} of the samples")
    effective = effective_images(weights["probability"].to_numpy())
    advice = (
        "; ".join(faults) + ": change `share` in character.yaml, or the mode" if faults else "the groups are balanced"
    )
    count = f"{counted(len(weights), 'frame')} {'counts' if len(weights) == 1 else 'count'}"
    return Verdict(not faults, f"{count} as {effective:.1f} equal images; {advice}.", groups)


def _closest_pairs(first: pd.DataFrame, most: int = 20) -> pd.DataFrame:
    """Return the most similar pairs: one, other, differing_bits (of 64), nearest first.

    Each source is paired only with its nearest later one.
    """
    hashes = np.array([int(value, 16) for value in first["phash"]], dtype=np.uint64)
    sources = first["source_id"].to_numpy()
    nearest = []
    for row in range(len(hashes) - 1):
        bits = np.bitwise_count(hashes[row + 1 :] ^ hashes[row])
        other = int(bits.argmin())
        nearest.append((sources[row], sources[row + 1 + other], int(bits[other])))
    table = pd.DataFrame(nearest, columns=["one", "other", "differing_bits"])
    return table.sort_values(["differing_bits", "one"], ignore_index=True)[:most]
