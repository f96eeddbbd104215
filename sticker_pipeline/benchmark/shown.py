"""Presentation of a benchmark: headline, chart, plotted numbers, and images."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.benchmark.measure import BASE, LORA, OVERALL, REFERENCE
from sticker_pipeline.benchmark.metrics import SIMILARITY, trigger_note
from sticker_pipeline.core.images import interval_chart

SHOWN_IMAGES = 4  # of each model in each medium


def headline(rows: pd.DataFrame) -> str:
    """Summarise the similarity of base model and LoRA, by medium."""
    chosen = rows[rows["metric"] == SIMILARITY].set_index(["medium", "model"])["mean"]
    parts = [
        f"{medium}: base {chosen[medium, BASE]:.3f}, LoRA {chosen[medium, LORA]:.3f}"
        for medium in dict.fromkeys(chosen.index.get_level_values("medium"))
        if (medium, LORA) in chosen.index
    ]
    return "similarity: " + "; ".join(parts) if parts else "no medium has held-out images"


def similarity_chart(rows: pd.DataFrame) -> Image.Image:
    """Chart the similarity of every model in every medium, with intervals."""
    intervals = {
        f"{row['medium']} · {row['model']}": (float(row["mean"]), float(row["ci_low"]), float(row["ci_high"]))
        for row in rows[rows["metric"] == SIMILARITY].to_dict("records")
    }
    return interval_chart(intervals, title="CLIP similarity to held-out images, 95 % intervals", unit="mean cosine")


def plotted(rows: pd.DataFrame) -> Mapping[str, float]:
    """Values that the UI plots over time: the LoRA's similarity by medium."""
    chosen = rows[(rows["metric"] == SIMILARITY) & (rows["model"] == LORA)]
    return {f"similarity_{row['medium']}": float(row["mean"]) for row in chosen.to_dict("records")}


def trigger_note_of(rows: pd.DataFrame) -> str:
    """`trigger_note` of the benchmark's table."""
    ours = rows[(rows["model"] == LORA) & (rows["medium"] == OVERALL)]
    return trigger_note(dict(zip(ours["metric"], ours["ci_low"], strict=True)))


def shown_images(
    sampled: pd.DataFrame, samples: Path, holdout: pd.DataFrame, frames: Path
) -> dict[tuple[str, str], list[Image.Image]]:
    """(medium, model) -> images of the same requests, and held-out images.

    sampled: medium, model, and file in the folder `samples`; holdout: medium, and file in the folder `frames`.
    """
    groups = [(key, part, samples) for key, part in sampled.groupby(["medium", "model"], sort=False)]
    groups += [((medium, REFERENCE), part, frames) for medium, part in holdout.groupby("medium")]
    return {
        (str(medium), str(model)): [Image.open(folder / name) for name in spread(part, SHOWN_IMAGES)["file"]]
        for (medium, model), part, folder in groups
    }


def spread(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """Select `count` rows spread evenly over the table (or all, if fewer)."""
    positions = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))
    return rows.iloc[positions]
