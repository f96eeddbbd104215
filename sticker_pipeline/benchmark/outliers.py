"""Frames that may show another character, by CLIP similarity to the rest."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.core.images import contact_sheet
from sticker_pipeline.core.texts import counted
from sticker_pipeline.core.verdict import Verdict, listed

# Robust standard deviations below the median. In the embedded CLIP, images of another demo character lie 15 and more
# below, a demo character's own farthest image (small, under a starry sky) 2.
OUTLIER_SCORE = 5.0
# Least deviation, as a share of the median: among nearly equal images any difference would be an outlier.
LEAST_DEVIATION = 0.05
SHOWN = 20  # frames shown, also where the check passes: for people to judge
MIN_SOURCES = 5  # fewer do not show which is the outlier
MAD_TO_DEVIATION = 1.4826  # of a normal distribution, Rousseeuw & Croux 1993


def looked_at(frames: pd.DataFrame, each: int = 3) -> pd.DataFrame:
    """Select at most `each` kept frames of each source, evenly spread, in order."""
    kept = frames[frames["kept"].astype(bool)]
    place = kept.groupby("source_id").cumcount()
    size = kept.groupby("source_id")["frame_id"].transform("size")
    # the frames at which floor(i·each/n) steps up: the first of each of `each` equal parts
    return kept[(place * each // size) != ((place - 1) * each // size)]


def outlier_score(embeddings: np.ndarray, sources: pd.Series) -> np.ndarray:
    """Distance of each frame below the median similarity, float64 [n].

    In robust standard deviations of the frames' mean similarity to the other sources. embeddings: float32 [n, d] of
    length 1; sources: of each. A source counts by the mean of its frames. The deviation is the median absolute one,
    which outliers hardly move, times MAD_TO_DEVIATION, and at least LEAST_DEVIATION of the median.
    """
    codes, names = pd.factorize(sources)
    sums = np.zeros((len(names), embeddings.shape[1]))
    np.add.at(sums, codes, embeddings)
    means = sums / np.bincount(codes)[:, None]
    similarity = embeddings @ means.T
    similarity[np.arange(len(codes)), codes] = 0.0
    mean = similarity.sum(axis=1) / max(1, len(names) - 1)
    below = np.median(mean) - mean
    deviation = MAD_TO_DEVIATION * np.median(np.abs(below))
    return below / max(deviation, LEAST_DEVIATION * abs(np.median(mean)), 1e-6)


def same_character(frames: pd.DataFrame, embeddings: np.ndarray) -> Verdict:
    """Check that every frame seems to show the same character.

    frames: frame_id, path, frame_index, source_id of the rows of `embeddings`. Evidence: all frames, the farthest
    first.
    """
    order = ["frame_id", "path", "frame_index"]
    if frames["source_id"].nunique() < MIN_SOURCES:
        table = frames[order].assign(outlier_score=0.0)
        return Verdict(True, f"not checked: fewer than {MIN_SOURCES} sources do not show an outlier.", table)
    values = outlier_score(embeddings, frames["source_id"])
    table = frames[order].assign(outlier_score=values).sort_values("outlier_score", ascending=False, ignore_index=True)
    strange = table[table["outlier_score"] > OUTLIER_SCORE]
    if strange.empty:
        return Verdict(True, f"none of {counted(len(table), 'frame')} looks like another character.", table)
    names = listed(strange["path"])
    summary = f"{len(strange)} of {counted(len(table), 'frame')} may show another character: {names}. " + (
        "Look at it, and remove it if so." if len(strange) == 1 else "Look at them, and remove those that do."
    )
    return Verdict(False, summary, table)


def outlier_sheet(verdict: Verdict, frames: pd.DataFrame, folder: Path) -> Image.Image:
    """Make a sheet of the SHOWN frames of `same_character`.

    frames: frame_id, and file in `folder`.
    """
    files, rows = frames.set_index("frame_id")["file"], verdict.evidence[:SHOWN]
    captions = [
        f"{value:.1f} {path.rpartition('/')[2]}"
        for path, value in zip(rows["path"], rows["outlier_score"], strict=True)
    ]
    images = [Image.open(folder / files[frame]) for frame in rows["frame_id"]]
    return contact_sheet(images, captions, columns=7, cell=128)
