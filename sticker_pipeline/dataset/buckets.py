"""Aspect-ratio buckets: the sizes that images of one batch share.

Pixels are cut in `dataset/pixels.py`.
"""

import numpy as np
import pandas as pd

from sticker_pipeline.core.settings import BucketSettings
from sticker_pipeline.core.texts import UserError

Size = tuple[int, int]  # width, height in pixels


class BucketError(UserError):
    """Bucket settings without a size to train at."""


def bucket_sizes(resolution: int, settings: BucketSettings) -> list[Size]:
    """Return the sizes for a `resolution` (side in pixels), largest area first.

    `shape: square` has that square alone. Otherwise sides are multiples of `step` from `min_side` to `max_side`, each
    with the longest other side whose area is at most resolution²: the buckets of NovelAI ("NovelAI Improvements on
    Stable Diffusion", 2022) and sd-scripts (model_util.make_bucket_resolutions, 2026). The square of `resolution`
    rounded down to a step is always included. `min_side` is rounded up to a step, but at most that square's side.
    Raises BucketError for a `step` above the resolution, or a `max_side` below that square.
    """
    if settings.shape == "square":
        return [(resolution, resolution)]
    step, square = settings.step, resolution // settings.step * settings.step
    if not square:
        raise BucketError(
            f"buckets.step is {step} pixels, but the resolution is {resolution}: make it smaller, or set "
            "`shape: square` under `buckets`"
        )
    if settings.max_side < square:
        raise BucketError(f"buckets.max_side is {settings.max_side} pixels: it must be at least {square}")
    shortest, longest = min(-(-settings.min_side // step) * step, square), settings.max_side // step * step
    sizes = {(square, square)}
    for side in range(shortest, longest + 1, step):
        other = min(longest, resolution**2 // side // step * step)
        if other >= shortest:
            sizes |= {(side, other), (other, side)}
    return sorted(sizes, key=lambda size: (-size[0] * size[1], size))


def assign_buckets(widths: np.ndarray, heights: np.ndarray, resolution: int, settings: BucketSettings) -> np.ndarray:
    """Return the bucket of each image: int64 [n, 2], width and height.

    `widths`, `heights`: int [n], pixels, > 0. The nearest aspect ratio minimises |ln(w/h) − ln(W/H)|, alike for wide
    and tall; of equals, the larger bucket. `upscale: False` limits each side to the image's, rounded down to a step;
    only a side below a step is scaled up, to a step. `min_side` does not hold then. Raises BucketError as bucket_sizes
    does.
    """
    sizes = np.array(bucket_sizes(resolution, settings), dtype=np.int64)
    images = np.column_stack([widths, heights]).astype(np.int64)
    ratios = np.log(images[:, 0] / images[:, 1])
    nearest = np.abs(ratios[:, None] - np.log(sizes[:, 0] / sizes[:, 1])).argmin(axis=1)
    chosen = sizes[nearest]
    if settings.upscale or settings.shape == "square":
        return chosen
    step = settings.step
    shorter = images.min(axis=1, keepdims=True)
    at_least_a_step = np.where(shorter < step, images * step // shorter, images)
    return np.minimum(chosen, at_least_a_step // step * step)


def bucket_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Count images and sampling share per bucket, largest share first.

    `rows`: bucket_width, bucket_height, probability. Columns width, height, images, share.
    """
    groups = rows.groupby(["bucket_width", "bucket_height"], sort=True)["probability"]
    table = groups.agg(["size", "sum"]).reset_index().set_axis(["width", "height", "images", "share"], axis="columns")
    return table.sort_values("share", ascending=False, kind="stable", ignore_index=True)
