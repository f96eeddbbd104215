"""Captions written beside images, by hand or by another tool."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from sticker_pipeline.core.character import HEAVIEST
from sticker_pipeline.core.texts import counted
from sticker_pipeline.tagging.captions import cut_weights, format_caption, habits, misread_weights, parse_caption
from sticker_pipeline.tagging.wd14 import spelled

KEPT_BEFORE = "|||"
NO_WEIGHT = f"read as text: a weight is above 0 and at most {HEAVIEST:g}"
CUT_WEIGHT = f"its weights multiply to more than {HEAVIEST:g}, and are cut to it"


def written_captions(frames: pd.DataFrame, captions: pd.DataFrame) -> dict[str, str]:
    """Return frame_id -> written caption of each kept frame that has one.

    `frames`: the asset's table; `captions`: path and caption. A frame without one takes that of the first frame merged
    into it, so that duplicates lose no captions.
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
    """A written caption in our grammar, with notes on its reading."""

    caption: str
    n_tags: int
    notes: tuple[str, ...] = ()


def written_caption(text: str, first: Sequence[str]) -> Written:
    """Put `first` (trigger and learned tags) before the tags of `text`.

    Those that `text` has in any spelling (spaces or underscores, either case: alike to the text encoder) are not added.
    The text's tags follow in order, once each, with their last weight that is not 1.

    Lines form one caption. If each begins with the trigger, they are alternatives, as with sd-scripts' wildcards, and
    the first is taken. `|||`, before which sd-scripts keeps tags, separates like a comma.
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
    return spelled(tag).casefold()


def _chosen_lines(lines: Sequence[str], first: Sequence[str]) -> tuple[Sequence[str], list[str]]:
    begins = [_said(tags[0][0]) if (tags := parse_caption(line)) else "" for line in lines]
    if len(lines) < 2 or not first or any(tag != _said(first[0]) for tag in begins):
        return lines, []
    return lines[:1], [f"{counted(len(lines), 'caption')}, each beginning with the trigger: the first is taken"]
