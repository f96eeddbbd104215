"""Tables on tags and captions, for the UI and reports.

Charts are in `tagging/charts.py`.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from sticker_pipeline.tagging.captions import parse_caption
from sticker_pipeline.tagging.wd14 import spelled

TAUGHT, CHARACTER, INHERENT = "taught", "character", "inherent"


def tag_counts(tags: pd.DataFrame) -> dict[str, int]:
    """Count frames per general tag: most frequent first, then by name."""
    return _ranked(Counter(tags.loc[tags["category"] == "general", "tag"]))


def caption_tag_counts(captions: pd.DataFrame) -> dict[str, int]:
    """Count captions per tag: most frequent first, then by name."""
    return _ranked(Counter(tag for caption in captions["caption"] for tag, _ in parse_caption(caption)))


def before_and_after(tags: pd.DataFrame, captions: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Return tag -> (tagged frames, captions).

    Most frequent of both first, then by name.
    """
    before, after = tag_counts(tags), caption_tag_counts(captions)
    pairs = {tag: (before.get(tag, 0), after.get(tag, 0)) for tag in {*before, *after}}
    return dict(sorted(pairs.items(), key=lambda entry: (-max(entry[1]), entry[0])))


def character_tags(
    tags: pd.DataFrame, captions: pd.DataFrame, dropped: pd.DataFrame, taught: Sequence[str]
) -> pd.DataFrame:
    """Compare the tags of the character's identity before and after curation.

    Where captions keep only the trigger, the character binds to it. Columns: tag; kind: `taught` (trigger and learned
    tags, in given order), `character` (the tagger's character tags) or `inherent` (dropped traits); found_on: share
    (0-1) of captioned frames, score: its mean there (NaN: nowhere); written_on: share of captions, weight: its mean
    there (NaN: nowhere). Within a kind the most found first.
    """
    frames, columns = max(1, len(captions)), ["tag", "kind", "found_on", "score", "written_on", "weight"]
    scores = tags.groupby("tag")["score"]
    entries = [entry for caption in captions["caption"] for entry in parse_caption(caption)]
    weights = pd.DataFrame(entries, columns=["tag", "weight"]).groupby("tag")["weight"]
    found, score, written, weight = scores.size(), scores.mean(), weights.size(), weights.mean()
    own = {spelled(tag) for tag in taught}
    known = {*tags.loc[tags["category"] == CHARACTER, "tag"]} - own
    inherent = {*dropped.loc[dropped["reason"].str.startswith(INHERENT), "tag"]} - own
    kinds = [(TAUGHT, list(taught))]
    kinds += [
        (kind, sorted(some, key=lambda tag: (-found[tag], tag)))
        for kind, some in ((CHARACTER, known), (INHERENT, inherent))
    ]
    rows = [
        (
            tag,
            kind,
            found.get(spelled(tag), 0) / frames,
            score.get(spelled(tag), np.nan),
            written.get(tag, 0) / frames,
            weight.get(tag, np.nan),
        )
        for kind, names in kinds
        for tag in names
    ]
    return pd.DataFrame(rows, columns=columns)


def tags_per_image(tags: pd.DataFrame, captions: pd.DataFrame) -> tuple[list[int], list[int]]:
    """Return general tags per captioned frame, and tags per caption."""
    counts = tags[tags["category"] == "general"].groupby("frame_id").size()
    return [int(counts.get(frame, 0)) for frame in captions["frame_id"]], captions["n_tags"].tolist()


def mean_tags(tags: pd.DataFrame, captions: pd.DataFrame) -> tuple[float, float]:
    """Return mean general tags per frame and tags per caption.

    The trigger is a tag of a caption. NaN without frames.
    """
    if captions.empty:
        return float("nan"), float("nan")
    return float((tags["category"] == "general").sum() / len(captions)), float(captions["n_tags"].mean())


def drop_reasons(dropped: pd.DataFrame) -> pd.DataFrame:
    """Count dropped tags by kind of reason; `examples` are the most frequent."""
    kinds = dropped.assign(kind=[reason.split(":")[0] for reason in dropped["reason"]])
    entries = [
        {
            "reason": kind,
            "rows": len(part),
            "distinct_tags": part["tag"].nunique(),
            "examples": ", ".join(list(_ranked(Counter(part["tag"])))[:5]),
        }
        for kind, part in kinds.groupby("kind")
    ]
    table = pd.DataFrame(entries, columns=["reason", "rows", "distinct_tags", "examples"])
    return table.sort_values(["rows", "reason"], ascending=[False, True], ignore_index=True)


def dropped_tags(dropped: pd.DataFrame) -> pd.DataFrame:
    """Count dropped tags by reason: tag, reason, frames; most frequent first."""
    counts = dropped.groupby(["tag", "reason"]).size().rename("frames").reset_index()
    return counts.sort_values(["frames", "tag", "reason"], ascending=[False, True, True], ignore_index=True)


def caption_sample(captions: pd.DataFrame, most: int = 8) -> pd.DataFrame:
    """Return at most `most` evenly spaced rows."""
    rows = np.unique(np.linspace(0, len(captions) - 1, num=min(most, len(captions))).round().astype(np.int64))
    return captions.iloc[rows].reset_index(drop=True)


def _ranked(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))
