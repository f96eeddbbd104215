"""Whether what a step will write fits on its disk, asked before its work begins."""

from typing import Any

from sticker_pipeline.core.files.space import enough, image_bytes
from sticker_pipeline.dagster_kit.step import Step


def check_room(work: Step[Any], need: int) -> None:
    """Raise SpaceError where the disk of the artifact has fewer than `need` bytes free; logged where they just fit."""
    asset = work.context.asset_key.path[-1]
    enough(work.store.folder(work.scope.place, asset), need, f"{asset} of {work.scope.name}", work.context.log.info)


def check_images(work: Step[Any], images: int, resolution: int, *, copies: int = 2) -> None:
    """`check_room` for so many generated images: one copy of each in the cache, one in the artifact."""
    check_room(work, image_bytes(images, resolution, resolution, copies))
