"""Which epoch of a training becomes the LoRA, and on what evidence.

The evidence never includes the benchmark's held-out references or its seeds: a model chosen on them would look better
in the benchmark than it is.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from sticker_pipeline.benchmark.memorisation import nearest_training
from sticker_pipeline.benchmark.similarity import clip_similarity, diversity

SELECTION_PURPOSE = "selection"  # of generation.prompts.requests_for: other seeds than the benchmark's


def validation_frames(frames: pd.DataFrame, styles: Mapping[str, str], *, most: int = 16) -> pd.DataFrame:
    """The pictures that epochs are compared with: one frame of each training clip, at most `most` clips per style.

    frames: frame_id, group, clip_id, frame_index of the training split only; styles: group -> style.
    Of a clip, the frame in the middle. Which clips: those with the lowest SHA-256 of their id, so that adding a clip
    exchanges at most one. Returns frame_id, style, clip_id, sorted by style and clip_id.

    These pictures were trained on, so similarity to them rewards an epoch that copies; what makes the comparison fair
    is that every epoch is judged by the same ones. `nearest_training` and `diversity` stand beside it.
    """
    ordered = frames.sort_values(["clip_id", "frame_index"], kind="stable")
    rank, size = ordered.groupby("clip_id").cumcount(), ordered.groupby("clip_id")["frame_id"].transform("size")
    middle = ordered[rank == (size - 1) // 2]
    middle = middle.assign(
        style=middle["group"].map(dict(styles)),
        key=[hashlib.sha256(clip.encode()).hexdigest() for clip in middle["clip_id"]],
    )
    chosen = middle.sort_values("key").groupby("style").head(most)
    return chosen.sort_values(["style", "clip_id"])[["frame_id", "style", "clip_id"]].reset_index(drop=True)


def checkpoint_metrics(
    generated: Mapping[int, Mapping[str, np.ndarray]],
    validation: Mapping[str, np.ndarray],
    *,
    samples: int = 2_000,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per epoch: epoch, metrics (a dictionary of floats).

    generated: epoch -> style -> unit embeddings float[n, d] on the same requests for every epoch; validation: style ->
    unit embeddings float[v, d]. Metrics: `clip_similarity`, `diversity`, `nearest_training` (to the validation
    pictures), each the plain mean over the styles; `clip_similarity_low` and `_high`, the means of its 95 % bounds over
    the styles; `n`, the number of images.
    """
    rows = []
    for epoch in sorted(generated):
        styles = [style for style in sorted(generated[epoch]) if len(validation.get(style, ()))]
        if not styles:
            raise ValueError(f"Epoch {epoch} has no generated pictures of a style that has validation pictures.")
        rows.append(
            {
                "epoch": epoch,
                "metrics": _over_styles(
                    [_style_metrics(generated[epoch][style], validation[style], samples, seed) for style in styles]
                ),
            }
        )
    return pd.DataFrame(rows, columns=["epoch", "metrics"])


def choose_epoch(metrics: pd.DataFrame) -> pd.DataFrame:
    """`metrics` (epoch, metrics) sorted by epoch with `chosen`, true for one row: the highest clip similarity, and of
    equal ones the earliest epoch, which has had the least time to copy.

    Raises ValueError for an empty table or where no similarity is a number.
    """
    table = metrics.sort_values("epoch", kind="stable").reset_index(drop=True)
    similarity = np.array([entry["clip_similarity"] for entry in table["metrics"]], dtype=float)
    if not np.isfinite(similarity).any():
        raise ValueError("No epoch has a clip similarity: there is nothing to choose from.")
    best = int(np.nanargmax(similarity))
    return table.assign(chosen=table.index == best)


def _style_metrics(images: np.ndarray, validation: np.ndarray, samples: int, seed: int) -> dict[str, float]:
    similarity = clip_similarity(images, validation, samples=samples, seed=seed)
    spread = diversity(images, samples=samples, seed=seed)
    return {
        "clip_similarity": similarity.mean,
        "clip_similarity_low": similarity.ci_low,
        "clip_similarity_high": similarity.ci_high,
        "diversity": spread.mean if spread else float("nan"),
        "nearest_training": nearest_training(images, validation, samples=samples, seed=seed).mean,
        "n": float(similarity.n),
    }


def _over_styles(parts: list[dict[str, float]]) -> dict[str, float]:
    means = {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}
    return {**means, "n": float(sum(part["n"] for part in parts))}
