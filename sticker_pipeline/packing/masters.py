"""Masters of stickers: cut out, without a rim, at their source's size."""

import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sticker_pipeline.core.character import SLOT_PATTERN
from sticker_pipeline.core.progress import Count
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.texts import UserError
from sticker_pipeline.media.decode import decode
from sticker_pipeline.media.frame import MediaError, shown_ms
from sticker_pipeline.packing.animation import Animation, animation, still
from sticker_pipeline.packing.build import Sticker
from sticker_pipeline.packing.candidates import GENERATED, records
from sticker_pipeline.packing.cut_out import cut_out
from sticker_pipeline.packing.emoji import suggest
from sticker_pipeline.packing.encode.formats import ENCODERS
from sticker_pipeline.packing.encode.settings import Settings
from sticker_pipeline.packing.fit import rotated
from sticker_pipeline.packing.motion import moved
from sticker_pipeline.packing.outline import without_rim
from sticker_pipeline.packing.parallel import in_order
from sticker_pipeline.packing.picks import Motion, Picks
from sticker_pipeline.packing.place import Upscale, each_frame, is_pixel_art, scaled, upscaled, visible_box
from sticker_pipeline.packing.slots import Slot, known_slots
from sticker_pipeline.packing.upscale import installed_upscaler

MASTERS = "masters"  # folder of masters in a pack
MOST_SIDE = 640  # pixels of a master: iMessage takes 618


class MasterError(UserError):
    """A chosen image that cannot be a sticker.

    The message names the file.
    """


@dataclass(frozen=True)
class Words:
    """Emoji, keywords and text of a slot."""

    emoji: tuple[str, ...]
    keywords: tuple[str, ...]
    text: str


def master_of(path: Path, limits: MediaSettings) -> Animation:
    """Read an image or animation and cut it out.

    A rim of its own is removed. It has at most MOST_SIDE pixels a side, more than any platform takes. A loop that
    closes begins with its best still, which platforms show while nothing plays. Raises MasterError for one that cannot
    be read, has no flat background, or shows nothing.
    """
    try:
        master = rotated(without_rim(cut_out(_read(path, limits)).animation))
    except (MediaError, UserError, OSError) as error:
        raise MasterError(f"{path}: {error}") from error
    if visible_box(master) is None:
        raise MasterError(f"{path}: nothing is visible in it but background. Use an image that shows something.")
    return _visible_first(master)


def enlarged(master: Animation, upscale: Upscale | None) -> Animation:
    """Enlarge a small master by an upscaler.

    Without one, and of pixel art, it is returned as it is.
    """
    if upscale is None or 2 * max(master.size) > MOST_SIDE or is_pixel_art(master):
        return master
    return each_frame(master, lambda frame: upscaled(frame, upscale))


def _visible_first(shown: Animation) -> Animation:
    """Rotate a loop: empty frames do not come first."""
    first = next(at for at, frame in enumerate(shown.frames) if visible_box(still(frame)))
    if not first:
        return shown
    order = [*range(first, len(shown.frames)), *range(first)]
    return Animation(shown.frames[order], tuple(shown.durations[at] for at in order), shown.loops)


def _read(path: Path, limits: MediaSettings) -> Animation:
    """Read an image or animation, each frame scaled as it comes."""
    frames, durations = [], []
    with closing(decode(path, limits)) as found:
        for frame in found:
            scale = MOST_SIDE / max(frame.rgba.shape[:2])
            size = max(1, round(frame.rgba.shape[1] * scale)), max(1, round(frame.rgba.shape[0] * scale))
            one = still(frame.rgba)
            frames.append((scaled(one, size) if scale < 1 else one).frames[0])
            durations.append(shown_ms(frame.duration_ms))
    return animation(frames, durations)


def with_motion(master: Animation, motion: Motion) -> Animation:
    """Return a still moved as asked.

    Animations, and stills without motion, stay as they are.
    """
    return master if motion == "none" or not master.is_still else moved(master, motion)


def words_of(slot: str, picks: Picks, slots: Sequence[Slot], tags: Collection[str] = ()) -> Words:
    """Return emoji, keywords and text of a slot.

    A person's, else the slot's, else by its name and tags.
    """
    known = {**known_slots(), **{each.name: each for each in slots}}.get(slot)
    plain = slot.replace("_", " ")
    own = Words(known.emoji, known.keywords, known.text) if known else Words((), (plain,), plain)
    return Words(
        tuple(picks.emoji.get(slot, ())) or own.emoji or suggest(slot, list(tags)),
        tuple(picks.keywords.get(slot, own.keywords)),
        picks.text.get(slot, own.text),
    )


def file_name(slot: str) -> str:
    """Return the file name of a slot's master.

    Any text gives one without separators, not hidden and not long.
    """
    if re.fullmatch(SLOT_PATTERN, slot):
        return f"{slot}.png"
    return f"sticker-{hashlib.sha256(slot.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}.png"


def stickers_of(
    choice: pd.DataFrame,
    files: Mapping[str, Path],
    picks: Picks,
    slots: Sequence[Slot],
    motion: Motion,
    limits: MediaSettings,
    folder: Path,
    count: Count = lambda *_: None,
    stop: Callable[[], None] = lambda: None,
) -> tuple[list[Sticker], dict[str, str]]:
    """Write the chosen stickers' masters and return them in order.

    With them: slot -> why one fails. folder: of the masters. files: candidate (an override's slot) -> its image.
    motion: of stills, where picks name no other. stop: called between masters, may raise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Sticker] = []
    failed: dict[str, str] = {}
    rows = records(choice[choice["chosen"]].sort_values("position"))
    upscale = installed_upscaler()

    def attempt(row: Mapping[str, Any]) -> tuple[Path, str, bool] | MasterError:
        try:
            master = enlarged(master_of(files[row["candidate"]], limits), upscale)
        except MasterError as error:
            return error
        return _written(row["slot"], with_motion(master, picks.motion.get(row["slot"], motion)), folder)

    for number, (row, found) in enumerate(zip(rows, in_order(attempt, rows, stop), strict=True), 1):
        count("images cut out", number, len(rows))
        slot = row["slot"]
        if isinstance(found, MasterError):
            failed[slot] = str(found)
            continue
        file, sha256, animated = found
        if twin := next((one.slot for one in made if one.sha256 == sha256), None):
            failed[slot] = f"{files[row['candidate']]} shows the same as the sticker of {twin}: keep one."
            continue
        words = words_of(slot, picks, slots)
        said = words.emoji, words.keywords, words.text
        made.append(Sticker(slot, row["candidate"], file, sha256, animated, *said, row["origin"] == GENERATED))
    return made, failed


def _written(slot: str, master: Animation, folder: Path) -> tuple[Path, str, bool]:
    """Write a master; return its file, the SHA-256, and whether it moves."""
    data = ENCODERS["PNG" if master.is_still else "APNG"](master, Settings())
    file = folder / file_name(slot)
    file.write_bytes(data)
    return file, hashlib.sha256(data).hexdigest(), not master.is_still
