"""Aspect-ratio buckets: the few sizes to which images are cut, so that those of one batch have the same size.

Which size an image goes to is decided here by its width and height alone; cutting the pixels belongs to pixels.py.
"""

import numpy as np
import pandas as pd

from sticker_pipeline.core.settings import BucketSettings
from sticker_pipeline.core.texts import UserError

Size = tuple[int, int]  # width, height in pixels


class BucketError(UserError):
    """Bucket settings that leave no size to train at."""


def bucket_sizes(resolution: int, settings: BucketSettings) -> list[Size]:
    """The sizes for a `resolution` (side of a square in pixels), the largest area first.

    `shape: square` has that square alone. Otherwise both sides are multiples of `step` from `min_side` to `max_side`:
    for every side, the longest other side with which the area is at most resolution². These are the buckets of NovelAI
    ("NovelAI Improvements on Stable Diffusion", 2022) and of sd-scripts (model_util.make_bucket_resolutions, 2026). A
    square is always among them: `resolution` rounded down to a step. `min_side` is rounded up to a step, and counts as
    the side of that square where it is more, so that small resolutions have sizes too. Raises BucketError for a `step`
    above the resolution, and for a `max_side` below that square.
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
    """The bucket of each image: int64 [n, 2], width and height, from `widths` and `heights` (int [n], pixels, > 0).

    It is the one with the nearest aspect ratio: the smallest |ln(w/h) − ln(W/H)|, which treats wide and tall alike; of
    two as near, the larger. With `upscale: False` each side is no longer than the image's, rounded down to a step:
    no image is scaled up, but for one with a side of less than a step, which is scaled until that side is one.
    `min_side` does not hold for such images. Raises BucketError as bucket_sizes does.
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
    """What each bucket of `rows` (columns bucket_width, bucket_height, probability) holds: width, height, images, and
    their share of all draws; the most drawn first."""
    groups = rows.groupby(["bucket_width", "bucket_height"], sort=True)["probability"]
    table = groups.agg(["size", "sum"]).reset_index().set_axis(["width", "height", "images", "share"], axis="columns")
    return table.sort_values("share", ascending=False, kind="stable", ignore_index=True)
