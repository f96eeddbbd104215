"""Score thresholds of tags: thresholds.csv, fixed numbers, or MCut."""

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
# without a known character all scores are near 0, and their largest gap is noise.
CHARACTER_FLOOR = 0.15
# Rows that MCut sorts at a time: with 10,861 float32 scores each, 22 MB, and as much for their gaps.
ROWS_AT_A_TIME = 512


@dataclass(frozen=True)
class Thresholds:
    """Thresholds for one tagger: numbers (0-1), or MCut for each image.

    `general_source`: origin of the number for general tags, as text.
    """

    general: Threshold
    character: Threshold
    general_source: str = ""


@cache
def model_thresholds() -> dict[str, float]:
    """Read thresholds.csv: tagger -> general threshold."""
    return {row["model"]: float(row["general"]) for row in read_rows("thresholds.csv")}


def resolved(profile: Profile) -> Thresholds:
    """Return the thresholds of the profile's tagger.

    `model` is looked up by its folder's name. Raises ProfileError where thresholds.csv lacks it.
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
    """Return the middle of the largest score gap in each row.

    `scores` float32 [N, T] -> float32 [N]. Of equal gaps the highest, so that fewer tags count. One score is its own
    threshold; none gives 0. Source: Largeron, Moulin, Gery (2012), "MCut: A Thresholding Strategy for Multi-label
    Classification", IDA 2012.
    """
    rows, columns = scores.shape
    if columns < 2:
        return scores.max(axis=1, initial=0).astype(np.float32)
    ordered = np.sort(scores, axis=1)[:, ::-1]
    gap = np.argmax(ordered[:, :-1] - ordered[:, 1:], axis=1)
    upper, lower = ordered[np.arange(rows), gap], ordered[np.arange(rows), gap + 1]
    # neighbouring floats have none between them: the upper one is the threshold
    return np.maximum(lower + (upper - lower) / 2, np.nextafter(lower, upper))


def per_frame(
    thresholds: Thresholds, scores: np.ndarray, columns: Mapping[Category, np.ndarray]
) -> dict[Category, np.ndarray]:
    """Return category (general, character) -> each frame's threshold, float32 [N].

    `scores` float32 [N, T], `columns` from `wd14.category_columns`. MCut takes each category separately.
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
    """Describe the thresholds in one line; `limits` from `per_frame`."""
    general = _words("general", thresholds.general, limits["general"], thresholds.general_source)
    return f"{general}; {_words('character', thresholds.character, limits['character'], '')}"


def _words(category: str, threshold: Threshold, limits: np.ndarray, source: str) -> str:
    if threshold != "mcut":
        return f"{category} ≥ {threshold:g}" + (f" ({source})" if source else "")
    if not len(limits):
        return f"{category} ≥ MCut of each image"
    low, middle, high = np.quantile(limits, [0, 0.5, 1])
    return f"{category} ≥ MCut of each image ({low:.3g} to {high:.3g}, median {middle:.3g})"
