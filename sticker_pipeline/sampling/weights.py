"""Sampling probability of each frame, and shares of groups and sources.

Counts per epoch are in `sampling/epochs.py`.
"""

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.core.images import paired_bars
from sticker_pipeline.core.schemas import Column, TableSchema
from sticker_pipeline.core.texts import UserError

Mode = Literal["inverse_length", "effective_size", "uniform"]
MODES = ("inverse_length", "effective_size", "uniform")
FRAME_WEIGHTS = TableSchema(
    "each kept frame",
    (
        Column("frame_id", "str", "the frame, as in frames"),
        Column("group", "str", "its group"),
        Column("source_id", "str", "its source"),
        Column("probability", "float64", "the probability that a sample is this frame; all sum to 1", low=0, high=1),
        Column("samples_per_epoch", "float64", "the expected number of its samples in an epoch", low=0),
    ),
    key=("frame_id",),
)
SAMPLES_PER_SOURCE = 10  # per epoch of the original project
HASH_BITS = 64


class SamplingError(UserError):
    """Invalid frames, shares or settings for probabilities."""


def frame_weights(
    frames: pd.DataFrame,
    shares: Mapping[str, float],
    mode: str,
    samples_per_epoch: int | None,
    similarity: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Return the probability of each kept frame: table FRAME_WEIGHTS, ordered as `frames`.

    For group c with sources g of n_g kept frames and weight w_g, W_c = Σ_{g∈c} w_g: π_c = share_c·W_c / Σ_d share_d·W_d
    and p = π_c·(w_g / W_c) / n_g = share_c·w_g / n_g / Σ_d share_d·W_d. With equal shares, sources count alike in all
    groups; a share scales each source of its group.

    `mode` sets w_g: `inverse_length` 1; `uniform` n_g; `effective_size` n_g / (1 + (n_g − 1)·ρ_g), Kish's effective
    number of n_g images of mean similarity ρ_g in 0..1, from `similarity` by source_id, else source_similarity.
    `probability` sums to 1 within 1e-12; `samples_per_epoch` is the expected number N·p for N samples (default:
    SAMPLES_PER_SOURCE per source).

    Raises SamplingError for no kept frame, a group without a share, an unknown mode, a similarity missing or outside
    0..1, a share that is not positive and finite, or N < 1.
    """
    kept = frames[frames["kept"].astype(bool)]
    lengths = kept.groupby(["group", "source_id"], sort=False)["frame_id"].transform("size").to_numpy(dtype=np.float64)
    _check(kept, shares, mode, samples_per_epoch)
    raw = _shares_of(kept, shares) * _source_weights(kept, lengths, mode, similarity) / lengths
    probability = raw / math.fsum(raw)
    sources = kept[["group", "source_id"]].drop_duplicates()
    draws = SAMPLES_PER_SOURCE * len(sources) if samples_per_epoch is None else samples_per_epoch
    table = kept[["frame_id", "group", "source_id"]].reset_index(drop=True)
    return table.assign(probability=probability, samples_per_epoch=draws * probability)


def source_similarity(frames: pd.DataFrame) -> dict[str, float]:
    """Return ρ by source_id: kept frames' mean pairwise likeness, 0 to 1.

    1 for a single frame. The likeness of two is 1 − d/32 for perceptual hashes that differ in d of 64 bits (unrelated
    images: 32 on average). Negative means become 0. Per bit, k ones among n frames give k·(n − k) differing pairs: O(n)
    per source.
    """
    kept = frames[frames["kept"].astype(bool)]
    return {
        str(source): _mean_likeness(hashes.tolist()) for source, hashes in kept.groupby("source_id", sort=True)["phash"]
    }


def group_shares(weights: pd.DataFrame) -> pd.DataFrame:
    """Return group, sources, frames, share (summed probability), sorted by group."""
    table = weights.groupby("group", sort=True).agg(
        sources=("source_id", "nunique"), frames=("frame_id", "size"), share=("probability", "sum")
    )
    return table.reset_index()


def source_shares(weights: pd.DataFrame) -> pd.DataFrame:
    """Return group, source_id, frames, share, samples_per_epoch, sorted by the first two."""
    table = weights.groupby(["group", "source_id"], sort=True).agg(
        frames=("frame_id", "size"), share=("probability", "sum"), samples_per_epoch=("samples_per_epoch", "sum")
    )
    return table.reset_index()


def effective_images(probability: np.ndarray) -> float:
    """Return Kish's effective number of images, `(Σp)² / Σp²`.

    1 (one is certain) to n (all are equal).
    """
    return float(probability.sum() ** 2 / (probability**2).sum())


def _check(kept: pd.DataFrame, shares: Mapping[str, float], mode: str, samples_per_epoch: int | None) -> None:
    if mode not in MODES:
        raise SamplingError(f"sampling mode {mode!r} does not exist: use one of {', '.join(MODES)}")
    if kept.empty:
        raise SamplingError("no frame is kept: look at the reasons in raw_media and frames, and add images")
    unknown = sorted(set(kept["group"]) - set(shares))
    if unknown:
        raise SamplingError(
            f"group {unknown[0]!r} has frames but no share: known groups are {', '.join(sorted(shares))}"
        )
    for group, share in shares.items():
        if not (share > 0 and math.isfinite(share)):
            raise SamplingError(f"the share of group {group!r} is {share}: it must be above 0")
    if samples_per_epoch is not None and samples_per_epoch < 1:
        raise SamplingError(f"samples_per_epoch is {samples_per_epoch}: it must be at least 1")


def _shares_of(kept: pd.DataFrame, shares: Mapping[str, float]) -> np.ndarray:
    return np.array([shares[group] for group in kept["group"]], dtype=np.float64)


def _source_weights(
    kept: pd.DataFrame, lengths: np.ndarray, mode: str, similarity: Mapping[str, float] | None
) -> np.ndarray:
    """Return w_g of each frame's source, float64 [n]."""
    if mode == "inverse_length":
        return np.ones(len(kept))
    if mode == "uniform":
        return lengths
    known = source_similarity(kept) if similarity is None else similarity
    for source in kept["source_id"].unique():
        if not 0 <= known.get(source, -1) <= 1:
            raise SamplingError(f"{source}: its similarity is {known.get(source)}: each source needs one in 0..1")
    rho = np.array([known[source] for source in kept["source_id"]], dtype=np.float64)
    return lengths / (1 + (lengths - 1) * rho)


def _mean_likeness(hashes: list[str]) -> float:
    count = len(hashes)
    if count < 2:
        return 1.0
    values = np.array([int(value, 16) for value in hashes], dtype=">u8")
    ones = np.unpackbits(values.view(np.uint8).reshape(count, 8), axis=1).sum(axis=0, dtype=np.int64)
    mean_distance = int((ones * (count - ones)).sum()) / (count * (count - 1) / 2)
    return max(0.0, 1 - 2 * mean_distance / HASH_BITS)


def group_chart(groups: pd.DataFrame) -> Image.Image:
    """Chart each group's share of frames and of samples."""
    frames = groups["frames"] / groups["frames"].sum()
    shares = {
        str(group): (plain, share) for group, plain, share in zip(groups["group"], frames, groups["share"], strict=True)
    }
    names = ("of the frames", "of the samples")
    return paired_bars(shares, title="share of each group", unit="share", names=names)
