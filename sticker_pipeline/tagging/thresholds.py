"""From which score on a tag counts: the taggers' own thresholds (thresholds.csv), fixed numbers, or MCut.

Scores come from `scoring`; which of the tags above a threshold reach a caption is decided in `curation`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from sticker_pipeline.core.profile import Profile, ProfileError
from sticker_pipeline.tagging.categories import read_rows
from sticker_pipeline.tagging.wd14 import Category

Threshold = float | Literal["mcut"]

# The authors' demo takes max(0.15, mcut) for character tags (app.py of https://huggingface.co/spaces/SmilingWolf/wd-tagger):
# on an image of nobody known all scores are near 0, and the largest gap between them says nothing.
CHARACTER_FLOOR = 0.15
# Rows of scores that MCut sorts at a time: 10,861 float32 scores of each are 22 MB, and as much again for their gaps.
ROWS_AT_A_TIME = 512


@dataclass(frozen=True)
class Thresholds:
    """What the settings mean for one tagger: numbers (0-1), or MCut for each image. `general_source` says where the
    number for general tags comes from, for a person."""

    general: Threshold
    character: Threshold
    general_source: str = ""


@cache
def model_thresholds() -> dict[str, float]:
    """thresholds.csv: tagger -> general threshold."""
    return {row["model"]: float(row["general"]) for row in read_rows("thresholds.csv")}


def resolved(profile: Profile) -> Thresholds:
    """The thresholds of the profile's tagger, `model` looked up by the name of the tagger's folder.

    Raises ProfileError for `model` where thresholds.csv does not know the tagger.
    """
    settings = profile.tagging
    if settings.general_threshold != "model":
        return Thresholds(settings.general_threshold, settings.character_threshold)
    tagger, known = profile.tagger.name, model_thresholds()
    if tagger not in known:
        raise ProfileError(
            f"tagging: general_threshold is 'model', but no threshold is known for the tagger {tagger!r}. Known are "
            f"{', '.join(known)}. Write `tagging: {{general_threshold: 0.35}}` in character.yaml, with the number of "
            "the tagger's model card, or `mcut` for one found on each image."
        )
    return Thresholds(known[tagger], settings.character_threshold, f"P=R of {tagger}")


def mcut(scores: np.ndarray) -> np.ndarray:
    """For each row of `scores` (float32 [N, T]) the threshold (float32 [N]) in the middle of the largest gap between
    its sorted scores; of equal gaps the one nearest the top, so that fewer tags count.

    Largeron, Moulin, Gery (2012), "MCut: A Thresholding Strategy for Multi-label Classification", IDA 2012. A row of
    one score has no gap: its threshold is that score; of none, 0.
    """
    rows, columns = scores.shape
    if columns < 2:
        return scores.max(axis=1, initial=0).astype(np.float32)
    ordered = np.sort(scores, axis=1)[:, ::-1]
    gap = np.argmax(ordered[:, :-1] - ordered[:, 1:], axis=1)
    upper, lower = ordered[np.arange(rows), gap], ordered[np.arange(rows), gap + 1]
    # two neighbouring floats have no float between them: the threshold is then the upper one, never the lower
    return np.maximum(lower + (upper - lower) / 2, np.nextafter(lower, upper))


def per_frame(
    thresholds: Thresholds, scores: np.ndarray, columns: Mapping[Category, np.ndarray]
) -> dict[Category, np.ndarray]:
    """Category (general, character) -> the threshold of each frame, float32 [N].

    `scores` float32 [N, T], `columns` from `wd14.category_columns`. MCut looks at each category by itself.
    """
    general = _for_each(thresholds.general, scores, columns["general"])
    character = _for_each(thresholds.character, scores, columns["character"])
    if thresholds.character == "mcut":
        character = np.maximum(character, np.float32(CHARACTER_FLOOR))
    return {"general": general, "character": character}


def _for_each(threshold: Threshold, scores: np.ndarray, columns: np.ndarray) -> np.ndarray:
    if threshold != "mcut":
        return np.full(len(scores), threshold, dtype=np.float32)
    parts = [mcut(scores[i : i + ROWS_AT_A_TIME, columns]) for i in range(0, len(scores), ROWS_AT_A_TIME)]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)


def described(thresholds: Thresholds, limits: Mapping[Category, np.ndarray]) -> str:
    """What was in force, in one line; `limits` from `per_frame`."""
    general = _words("general", thresholds.general, limits["general"], thresholds.general_source)
    return f"{general}; {_words('character', thresholds.character, limits['character'], '')}"


def _words(category: str, threshold: Threshold, limits: np.ndarray, source: str) -> str:
    if threshold != "mcut":
        return f"{category} ≥ {threshold:g}" + (f" ({source})" if source else "")
    if not len(limits):
        return f"{category} ≥ MCut of each image"
    low, middle, high = np.quantile(limits, [0, 0.5, 1])
    return f"{category} ≥ MCut of each image ({low:.3g} to {high:.3g}, median {middle:.3g})"
