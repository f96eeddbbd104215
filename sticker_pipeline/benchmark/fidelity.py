"""Whether images show what their prompts ask for, in the eyes of the tagger.

The tagger's scores come from tagging/scoring.py, its thresholds from tagging/thresholds.py.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from sticker_pipeline.benchmark.bootstrap import Estimate, row_mean
from sticker_pipeline.tagging.captions import parse_caption
from sticker_pipeline.tagging.wd14 import Category, spelled


def asked_tags(attributes: str) -> list[str]:
    """The tags that the free attributes of a prompt (comma-separated) ask for, as captions spell them, each once;
    weights such as `(smile:1.2)` do not matter."""
    return list(dict.fromkeys(spelled(tag.lower()) for tag, _ in parse_caption(attributes)))


def found_tags(
    scores: np.ndarray, limits: Mapping[Category, np.ndarray], columns: Mapping[Category, np.ndarray]
) -> np.ndarray:
    """Which tags the tagger finds on each image: bool[n, tags], true where a score reaches its threshold.

    scores: float[n, tags]; limits: category -> threshold of each image, float[n] (`thresholds.per_frame`); columns:
    category -> the positions of its tags (`wd14.category_columns`). Tags of other categories are never found.
    """
    found = np.zeros(scores.shape, dtype=bool)
    for category, limit in limits.items():
        found[:, columns[category]] = scores[:, columns[category]] >= limit[:, None]
    return found


def unknown_tags(attributes: Sequence[str], names: Collection[str]) -> list[str]:
    """The tags asked for in `attributes` that the tagger, which knows `names`, cannot find; sorted."""
    return sorted({tag for each in attributes for tag in asked_tags(each)} - set(names))


def prompt_fidelity(
    found: np.ndarray,
    names: Sequence[str],
    attributes: Sequence[str],
    *,
    samples: int = 2_000,
    seed: int = 0,
    prompts: Sequence[str] | None = None,
) -> Estimate | None:
    """Of the tags that the free attributes of an image's prompt ask for, the share that the tagger finds: the mean
    over images, each counting alike; n = images of which anything was asked that the tagger knows. None where there
    is none.

    found: bool[n, tags] (`found_tags`); names: the tagger's tags; attributes: of each image. Tags that the tagger
    does not know are not counted (`unknown_tags` names them).

    It rewards a LoRA that leaves the base model's obedience alone. It is fooled by images that show everything at
    once (nothing is taken off for tags that nobody asked for), by what the character has or does on all its images,
    and by a tagger that sees the word's cliché; and what the tagger misses on true images, no model can get. So
    compare models, not heights. Raises ValueError where the numbers of rows or tags differ.
    """
    if found.shape != (len(attributes), len(names)):
        raise ValueError(f"found is {list(found.shape)} for {len(attributes)} images and {len(names)} tags.")
    shares = found_shares(found, names, attributes)
    return None if np.isnan(shares).all() else row_mean(shares, samples, seed, prompts)


def found_shares(found: np.ndarray, names: Sequence[str], attributes: Sequence[str]) -> np.ndarray:
    """Of each image the share of the asked tags that are found, float64[n], as `prompt_fidelity` has them; NaN where
    nothing was asked that the tagger knows."""
    position = {name: column for column, name in enumerate(names)}
    columns = [[position[tag] for tag in asked_tags(each) if tag in position] for each in attributes]
    return np.array([found[row, asked].mean() if asked else np.nan for row, asked in enumerate(columns)], np.float64)
