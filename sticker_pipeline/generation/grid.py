"""Grids of images: models and references by the same prompts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from sticker_pipeline.core.images import labelled_grid


def sample_grid(
    rows: Mapping[str, Sequence[Image.Image]], columns: Sequence[str], *, most: int = 8, cell: int = 96
) -> Image.Image:
    """RGB grid with a row per `name: images`, `most` columns.

    Models have the same requests: a column is one prompt and seed. Rows may be shorter; references belong to no prompt.
    """
    shown = list(columns)[:most]
    return labelled_grid(list(rows), shown, [list(images)[: len(shown)] for images in rows.values()], cell=cell)


def grid_of_files(
    folder: Path, rows: Mapping[str, Sequence[str]], columns: Sequence[str], seeds: int, *, most: int, cell: int = 84
) -> Image.Image:
    """`sample_grid` of the first seed of every prompt.

    `rows`: name -> files in `folder`, `seeds` per prompt.
    """
    images = {name: [Image.open(folder / file) for file in files[::seeds]] for name, files in rows.items()}
    return sample_grid(images, columns, most=most, cell=cell)
