"""Captions that were written by hand, or by another tool, beside images: read as tags, and given to frames.

Which file is whose caption belongs to media; how our own captions are made belongs to `curation`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from sticker_pipeline.core.character import HEAVIEST
from sticker_pipeline.tagging.captions import cut_weights, format_caption, habits, misread_weights, parse_caption
from sticker_pipeline.tagging.wd14 import spelled

KEPT_BEFORE = "|||"
NO_WEIGHT = f"read as text: a weight is above 0 and at most {HEAVIEST:g}"
CUT_WEIGHT = f"its weights multiply to more than {HEAVIEST:g}, which is taken"


def written_captions(frames: pd.DataFrame, captions: pd.DataFrame) -> dict[str, str]:
    """frame_id of each kept frame that has a written caption -> that caption.

    `frames` is the table of the asset, `captions` has path and caption. A frame whose own file has none takes that of a
    frame which was merged into it (the first one): the words of a person are not lost with a duplicate.
    """
    of_path = dict(zip(captions["path"], captions["caption"], strict=True))
    kept = frames[frames["kept"].astype(bool)]
    found = {
        frame: of_path[path] for frame, path in zip(kept["frame_id"], kept["path"], strict=True) if path in of_path
    }
    merged = frames[frames["duplicate_of"] != ""]
    for keeper, path in zip(merged["duplicate_of"], merged["path"], strict=True):
        if path in of_path:
            found.setdefault(keeper, of_path[path])
    return found


@dataclass(frozen=True)
class Written:
    """A written caption as one of ours: its text, the number of its tags, and what a person should know of how it was
    read."""

    caption: str
    n_tags: int
    notes: tuple[str, ...] = ()


def written_caption(text: str, first: Sequence[str]) -> Written:
    """`first` (trigger and learned tags) where `text` lacks them, however spelled (spaces or underscores, small or
    large letters: the text encoder reads them alike), then the text's own tags as they stand, in their order, each
    once, with the weight that it was given last; a weight of 1 is as none.

    Lines are parts of one caption. Where each begins with the trigger they are several captions to choose from, as for
    sd-scripts' wildcards, and the first is taken. `|||`, which sd-scripts keeps tags before, separates as a comma does.
    """
    chosen, notes = _chosen_lines(text.splitlines(), first)
    caption = ", ".join(chosen).replace(KEPT_BEFORE, ",")
    own: dict[str, tuple[str, float]] = {}
    for tag, weight in parse_caption(caption):
        kept, before = own.get(_said(tag), (tag, 1.0))
        own[_said(tag)] = (kept, weight if weight != 1.0 else before)
    tags = [tag for tag in first if _said(tag) not in own] + [tag for tag, _ in own.values()]
    notes += [f"{part}: {NO_WEIGHT}" for part in misread_weights(caption)]
    notes += [f"{tag}: {CUT_WEIGHT}" for tag in cut_weights(caption)]
    notes += habits(caption)
    return Written(format_caption(tags, dict(own.values())), len(tags), tuple(notes))


def _said(tag: str) -> str:
    """What spellings of one tag have in common."""
    return spelled(tag).casefold()


def _chosen_lines(lines: Sequence[str], first: Sequence[str]) -> tuple[Sequence[str], list[str]]:
    """The lines that are one caption, and a note where others are left."""
    begins = [_said(tags[0][0]) if (tags := parse_caption(line)) else "" for line in lines]
    if len(lines) < 2 or not first or any(tag != _said(first[0]) for tag in begins):
        return lines, []
    return lines[:1], [f"{len(lines)} captions, each beginning with the trigger: the first is taken"]
