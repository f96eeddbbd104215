"""Folder of a pack from its choice: sets, tables, page, verdicts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sticker_pipeline.core.character import Pack
from sticker_pipeline.core.progress import Count
from sticker_pipeline.core.schemas import typed
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.storage import write_table
from sticker_pipeline.packing.build import Sticker
from sticker_pipeline.packing.checks import verdicts, written
from sticker_pipeline.packing.choose import CHOICE, gaps
from sticker_pipeline.packing.finish import Look
from sticker_pipeline.packing.masters import MASTERS, stickers_of
from sticker_pipeline.packing.pack import PACK, VERDICTS, Origin, PackOf, texts_of, write_pack
from sticker_pipeline.packing.page import PAGE, pack_page
from sticker_pipeline.packing.pages import page_data, write_images
from sticker_pipeline.packing.picks import Picks
from sticker_pipeline.packing.slots import Slot


@dataclass(frozen=True)
class Material:
    """All that a pack is made of.

    rows: as CANDIDATES. choice: as CHOICE. files: candidate, or slot of an override, -> its image. origins: of the
    chosen slots. slots: those that should have a sticker.
    """

    name: str
    rows: pd.DataFrame
    choice: pd.DataFrame
    files: Mapping[str, Path]
    origins: Mapping[str, Origin]
    slots: Sequence[Slot]
    picks: Picks
    pack: Pack


@dataclass(frozen=True)
class Composed:
    """A composed pack.

    gaps: slots without a sticker, and why. problems: sentences about images that were chosen and cannot be used, and
    about texts that were cut.
    """

    stickers: list[Sticker]
    pack: PackOf
    gaps: dict[str, str]
    problems: list[str]


def compose(
    folder: Path,
    material: Material,
    limits: MediaSettings,
    cache: Path,
    count: Count,
    problems: Sequence[str] = (),
    stop: Callable[[], None] = lambda: None,
) -> Composed:
    """Write the pack of `material` into `folder`; without a sticker, write nothing.

    problems: sentences that the page shows too. stop: called often, may raise. Raises SpaceError.
    """
    own, picks, choice = material.pack, material.picks, material.choice
    stickers, failed = stickers_of(
        choice, material.files, picks, material.slots, own.motion, limits, folder / MASTERS, count, stop
    )
    every = [*problems, *failed.values()]
    empty = gaps(choice, [slot.name for slot in material.slots]) | failed
    if not stickers:
        return Composed([], PackOf(typed(pd.DataFrame(columns=PACK.names), PACK), {}, {}, [], []), empty, every)
    look, texts = Look(own.outline, own.shadow), texts_of(material.name, picks, own)
    made = write_pack(folder, stickers, material.origins, own.platforms, texts, look, cache, count, stop)
    every += made.notes
    write_table(made.index, folder, PACK)
    masters = {one.candidate: one for one in stickers}
    images = write_images(folder, material.files, masters, look, limits)
    shown = choice.assign(image=[images.get(name, ("", ""))[0] for name in choice["candidate"]])
    write_table(typed(shown, CHOICE), folder, CHOICE)
    page = page_data(texts.title, texts.author, choice, material.rows, images, material.slots, picks, own.motion, every)
    (folder / PAGE).write_text(pack_page(page), encoding="utf-8")
    found = verdicts(stickers, made, empty, own.platforms, look, material.rows)
    (folder / VERDICTS).write_text(written(found), encoding="utf-8")
    return Composed(stickers, made, empty, every)
