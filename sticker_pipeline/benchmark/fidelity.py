"""Agreement of images with their prompts, according to the tagger."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from sticker_pipeline.benchmark.bootstrap import Estimate, row_mean
from sticker_pipeline.core.texts import counted
from sticker_pipeline.tagging.captions import parse_caption
from sticker_pipeline.tagging.wd14 import Category, spelled


def asked_tags(attributes: str) -> list[str]:
    """Parse the tags of a prompt's free attributes (comma-separated).

    Spelled as in captions, each once; weights such as `(smile:1.2)` are ignored.
    """
    return list(dict.fromkeys(spelled(tag.lower()) for tag, _ in parse_caption(attributes)))


def found_tags(
    scores: np.ndarray, limits: Mapping[Category, np.ndarray], columns: Mapping[Category, np.ndarray]
) -> np.ndarray:
    """Tags on each image whose score reaches its threshold: bool[n, tags].

    scores: float[n, tags]; limits: category -> threshold of each image, float[n] (`thresholds.per_frame`); columns:
    category -> positions of its tags (`wd14.category_columns`). Other categories are never found.
    """
    found = np.zeros(scores.shape, dtype=bool)
    for category, limit in limits.items():
        found[:, columns[category]] = scores[:, columns[category]] >= limit[:, None]
    return found


def unknown_tags(attributes: Sequence[str], names: Collection[str]) -> list[str]:
    """List the tags of `attributes` that the tagger (`names`) lacks, sorted."""
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
    """Mean share of an image's prompted tags that the tagger finds.

    n = images with a prompted tag that the tagger has, each counted alike; None without any. found: bool[n, tags]
    (`found_tags`); names: the tagger's tags; attributes: the free attributes of each prompt. Tags that the tagger lacks
    do not count (`unknown_tags` lists them).

    It rewards a LoRA that follows prompts as the base model does. It is fooled by images that show everything at once
    (unprompted tags cost nothing), by traits or actions that the character has on all its images, and by a tagger that
    responds to a word's cliché. No model can get tags that the tagger misses on true images: compare models, not
    absolute values. Raises ValueError where the numbers of rows or tags differ.
    """
    if found.shape != (len(attributes), len(names)):
        raise ValueError(f"found is {list(found.shape)} for {counted(len(attributes), 'image')} and {len(names)} tags.")
    shares = found_shares(found, names, attributes)
    return None if np.isnan(shares).all() else row_mean(shares, samples, seed, prompts)


def found_shares(found: np.ndarray, names: Sequence[str], attributes: Sequence[str]) -> np.ndarray:
    """Share of each image's prompted tags that are found, float64[n].

    As in `prompt_fidelity`; NaN where the tagger has none of them.
    """
    position = {name: column for column, name in enumerate(names)}
    columns = [[position[tag] for tag in asked_tags(each) if tag in position] for each in attributes]
    return np.array([found[row, asked].mean() if asked else np.nan for row, asked in enumerate(columns)], np.float64)
