"""The image that shows at a glance what a LoRA changes: models and references in rows over the same prompts.

Judging the images with numbers belongs to benchmark.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from sticker_pipeline.core.images import labelled_grid


def sample_grid(
    rows: Mapping[str, Sequence[Image.Image]], columns: Sequence[str], *, most: int = 8, cell: int = 96
) -> Image.Image:
    """An RGB grid with one row for each `name: images`, the first `most` of the columns.

    The rows of models answer the same requests, so that a column shows one prompt and seed; a row may be shorter, as
    the references, which belong to no prompt, often are.
    """
    shown = list(columns)[:most]
    return labelled_grid(list(rows), shown, [list(images)[: len(shown)] for images in rows.values()], cell=cell)


def grid_of_files(
    folder: Path, rows: Mapping[str, Sequence[str]], columns: Sequence[str], seeds: int, *, most: int, cell: int = 84
) -> Image.Image:
    """`sample_grid` of the first seed of every prompt. `rows`: name -> files in `folder`, `seeds` for each prompt."""
    images = {name: [Image.open(folder / file) for file in files[::seeds]] for name, files in rows.items()}
    return sample_grid(images, columns, most=most, cell=cell)
