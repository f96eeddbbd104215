"""Captions that were written by hand, or by another tool, beside pictures: read as tags, and given to frames.

Which file is whose caption belongs to media; how our own captions are made belongs to `curation`.
"""

import re
from collections.abc import Sequence

import pandas as pd

from sticker_pipeline.tagging.captions import format_caption, parse_weighted
from sticker_pipeline.tagging.wd14 import spelled

# Emphasis and escapes of A1111 and sd-scripts: `(tag:1.2)`, `\(`. A caption with one of them is read as a weighted one.
_WEIGHTED = re.compile(r"\\[()]|\([^()]+:\d+(?:\.\d+)?\)")


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


def written_caption(text: str, first: Sequence[str]) -> tuple[str, int]:
    """A written caption as a caption of ours, and the number of its tags: `first` (trigger and learned tags) where they
    are missing, whether spelled with spaces or underscores, then the text's own tags as they stand, in their order."""
    items = [item.strip() for item in text.split(",") if item.strip()]
    weighted = bool(_WEIGHTED.search(text))
    pairs = [parse_weighted(item) if weighted else (item, 1.0) for item in items]
    said = {spelled(tag) for tag, _ in pairs}
    tags = [tag for tag in first if spelled(tag) not in said] + [tag for tag, _ in pairs]
    return format_caption(tags, dict(pairs)), len(tags)
