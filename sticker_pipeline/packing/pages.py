"""Page of a pack: candidates with small images, and the suggestions.

Both come from its tables.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.media.decode import decode
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.packing.animation import Animation, still
from sticker_pipeline.packing.build import Sticker
from sticker_pipeline.packing.candidates import records
from sticker_pipeline.packing.choose import OVERRIDE
from sticker_pipeline.packing.encode.settings import Settings
from sticker_pipeline.packing.encode.webp import encode
from sticker_pipeline.packing.finish import Look, finished
from sticker_pipeline.packing.masters import MasterError, master_of, words_of
from sticker_pipeline.packing.page import PageCandidate, PageData, PageSlot
from sticker_pipeline.packing.picks import Picks
from sticker_pipeline.packing.place import PlaceError, scaled
from sticker_pipeline.packing.slots import Slot

FOLDER = "page"  # of images, beside pack.html
SIDE, SMALL = 200, 64  # pixels of an image and of its thumbnail
QUALITY = Settings(quality=80)


@dataclass(frozen=True)
class Measure:
    """A measure of a candidate as the page shows it."""

    title: str
    meaning: str
    shown: str  # format of the value


MEASURES = {
    "fidelity": Measure(
        "asked tags found", "share of the tags in the prompt that the tagger finds in the image", "{:.0%}"
    ),
    "likeness": Measure(
        "likeness", "cosine to the character's own images: 1 is the same, a low one is somebody else", "{:.2f}"
    ),
    "nearest": Measure(
        "nearest training image", "cosine to the most similar image of the training: too close is a copy", "{:.2f}"
    ),
}
MARKS = {
    "own": "a file of the character's folder; unmarked ones were generated",
    "override": "a person's file in pack/override, which wins",
}


def page_data(
    title: str,
    author: str,
    choice: pd.DataFrame,
    candidates: pd.DataFrame,
    images: Mapping[str, tuple[str, str]],
    slots: Sequence[Slot],
    picks: Picks,
    motion: str,
    problems: Sequence[str],
) -> PageData:
    """Return the page's content.

    choice: rows of CHOICE. images: candidate -> its image and thumbnail, relative to the page.
    """
    measures = {str(row["candidate"]): _measures(row) for row in records(candidates)}
    names = list(dict.fromkeys([*(slot.name for slot in slots), *choice["slot"]]))
    return PageData(
        title=title,
        author=author,
        slots=tuple(_slot(name, choice[choice["slot"] == name], images, measures, slots, motion) for name in names),
        picks=picks,
        problems=tuple(problems),
        meanings=(*MARKS.items(), *((one.title, one.meaning) for one in MEASURES.values())),
    )


def _slot(
    name: str,
    rows: pd.DataFrame,
    images: Mapping[str, tuple[str, str]],
    measures: Mapping[str, tuple[tuple[str, str], ...]],
    slots: Sequence[Slot],
    motion: str,
) -> PageSlot:
    words = words_of(name, Picks(), slots)
    shown = [row for row in records(rows) if row["candidate"] in images]
    return PageSlot(
        name,
        words.emoji,
        words.text,
        words.keywords,
        motion,
        tuple(
            PageCandidate(
                row["candidate"],
                *images[row["candidate"]],
                row["origin"],
                row["chosen"],
                row["reason"],
                measures.get(row["candidate"], ()) if row["origin"] != OVERRIDE else (),
            )
            for row in shown
        ),
        any(slot.name == name for slot in slots),
    )


def _measures(row: Mapping[str, float]) -> tuple[tuple[str, str], ...]:
    known = [(one, row[name]) for name, one in MEASURES.items() if row[name] == row[name]]
    return tuple((one.title, one.shown.format(value)) for one, value in known)


def write_images(
    folder: Path, files: Mapping[str, Path], made: Mapping[str, Sticker], look: Look, limits: MediaSettings
) -> dict[str, tuple[str, str]]:
    """Write image and thumbnail of each candidate below `folder`; return their places.

    files: candidate -> its image. made: stickers whose masters are there already; animated ones move, all else and
    each thumbnail is still. An image that cannot be cut out is shown whole, and an unreadable one is left out. Names
    of files are numbers: a candidate's may be long or odd.
    """
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    found = {}
    for number, (candidate, path) in enumerate(sorted(files.items())):
        place = f"{FOLDER}/{number:04}"
        shown = _shown(path, made.get(candidate), look, limits)
        if shown is None:
            continue
        (folder / f"{place}.webp").write_bytes(encode(shown, QUALITY))
        (folder / f"{place}_small.webp").write_bytes(encode(_thumbnail(shown), QUALITY))
        found[candidate] = (f"{place}.webp", f"{place}_small.webp")
    return found


def _thumbnail(shown: Animation) -> Animation:
    """Return a small still; of an animation the whole first frame.

    People who want no motion see it.
    """
    first = still(shown.frames[0])
    if not shown.is_still:
        return first
    width, height = first.size
    return scaled(first, (max(1, width * SMALL // SIDE), max(1, height * SMALL // SIDE)))


def _shown(path: Path, made: Sticker | None, look: Look, limits: MediaSettings) -> Animation | None:
    try:
        if made:
            return finished(made.master(), SIDE, look)
        return still(finished(master_of(path, limits), SIDE, look).frames[0])
    except (MasterError, PlaceError):
        return _first_frame(path, limits)


def _first_frame(path: Path, limits: MediaSettings) -> Animation | None:
    try:
        with closing(decode(path, limits)) as found:
            image = Image.fromarray(next(found).rgba, "RGBA")
    except (MediaError, OSError, StopIteration):
        return None
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return still(np.asarray(image))
