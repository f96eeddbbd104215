"""Checks for disk space before a step's work."""

from typing import Any

from sticker_pipeline.core.files.space import enough, image_bytes
from sticker_pipeline.dagster_kit.step import Step


def check_room(work: Step[Any], need: int) -> None:
    """Raise SpaceError if the artifact's disk has fewer than `need` bytes free.

    Little spare space is logged.
    """
    asset = work.context.asset_key.path[-1]
    enough(work.store.folder(work.scope.place, asset), need, f"{asset} of {work.scope.name}", work.context.log.info)


def check_images(work: Step[Any], images: int, resolution: int, *, copies: int = 2) -> None:
    """Run `check_room` for generated images, by default for cache and artifact."""
    check_room(work, image_bytes(images, resolution, resolution, copies))
