"""Whether what a step will write fits on its disk, asked before its work begins."""

from collections.abc import Callable, Sequence

from sticker_pipeline.defs.scopes import CharacterStep
from sticker_pipeline.space import enough, frame_bytes, image_bytes, score_bytes

TAG_ROW_BYTES = 1024  # of the rows of the table of tags that one frame has: 10 bytes each, at most 100 of them


def check_room(work: CharacterStep, need: int) -> None:
    """Raise SpaceError where the disk of the artifact has fewer than `need` bytes free; logged where they just fit."""
    what = f"{work.context.asset_key.path[-1]} of {work.character.name}"
    enough(work.store.folder(work.character.name, work.context.asset_key.path[-1]), need, what, work.context.log.info)


def check_images(work: CharacterStep, images: int, *, copies: int = 2) -> None:
    """`check_room` for so many generated pictures: one copy of each in the cache, one in the artifact."""
    check_room(work, image_bytes(images, work.profile.resolution, work.profile.resolution, copies))


def check_frames(work: CharacterStep, files: Sequence[tuple[str, int, int, int]]) -> None:
    """`check_room` for the frames of `files` (format, width, height, frames) that are to be decoded."""
    check_room(work, sum(frame_bytes(*file) for file in files))


def scores_checked(work: CharacterStep, labels: int) -> Callable[[int], None]:
    """Do `check_room` for as many pictures as are to be tagged."""
    return lambda pictures: check_room(work, score_bytes(pictures, labels) + pictures * TAG_ROW_BYTES)
