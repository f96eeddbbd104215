"""Models with known faults, as embeddings of their images, and their benchmark tables.

An image is a unit vector. A character is a direction; its sources lie around it, the frames of a GIF closely together,
and so do the images of a LoRA, as far from it as the LoRA is bad. The metrics are computed here once more, from
their definitions.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

STYLES = ("art", "sticker")
IMAGES, HOLDOUT, SAMPLES, DIMENSIONS = 32, 10, 400, 48
SPREAD = 0.33  # of sources around their character: cosines of .9 between them
TABLE = ["model", "style", "metric", "mean", "ci_low", "ci_high", "n"]
COMPARISON = ["metric", "style", "difference", "ci_low", "ci_high", "n"]

Model = dict[str, np.ndarray]  # style -> unit float64 [IMAGES, DIMENSIONS]


@dataclass(frozen=True)
class World:
    """One character in two styles: training images with sources, and held-out images.

    Each held-out image is a source.
    """

    rng: np.random.Generator
    directions: np.ndarray  # of this character and three others
    training: Mapping[str, np.ndarray]
    sources: Mapping[str, np.ndarray]
    holdout: Mapping[str, np.ndarray]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def around(rng: np.random.Generator, centres: np.ndarray, distance: float) -> np.ndarray:
    """A unit vector near each of `centres` [n, d].

    Each is moved by `distance` in a direction of its own.
    """
    return unit(centres + distance * unit(rng.standard_normal(centres.shape)))


def world(seed: int) -> World:
    """Sample a world: three GIFs of eight frames, twelve stills, HOLDOUT stills, per style."""
    rng = np.random.default_rng(seed)
    directions = unit(rng.standard_normal((4, DIMENSIONS)))
    training, sources, holdout = {}, {}, {}
    for style in STYLES:
        starts = around(rng, np.tile(directions[0], (15, 1)), SPREAD)
        sources[style] = np.repeat(np.arange(15), [8] * 3 + [1] * 12)
        training[style] = around(rng, starts[sources[style]], 0.08)
        holdout[style] = around(rng, np.tile(directions[0], (HOLDOUT, 1)), SPREAD)
    return World(rng, directions, training, sources, holdout)


def drawn(of: World, distance: float, character: int = 0) -> Model:
    """Images `distance` away from a character (0: the world's own).

    .45 is a good LoRA, 2 hardly resembles the character.
    """
    return {style: around(of.rng, np.tile(of.directions[character], (IMAGES, 1)), distance) for style in STYLES}


def noise(of: World) -> Model:
    return {style: unit(of.rng.standard_normal((IMAGES, DIMENSIONS))) for style in STYLES}


def memorised(of: World) -> Model:
    """A training image each, each source as often as any other."""
    rows = {style: np.searchsorted(of.sources[style], np.arange(IMAGES) % 15) for style in STYLES}
    return {style: around(of.rng, of.training[style][rows[style]], 0.02) for style in STYLES}


def collapsed(of: World) -> Model:
    """Something like a frame of the first GIF, again and again."""
    return {style: around(of.rng, of.training[style][np.arange(IMAGES) % 8], 0.15) for style in STYLES}


def table_of(of: World, models: Mapping[str, Model]) -> pd.DataFrame:
    """The benchmark's table, with `all` as the mean over styles, and the rows of `reference`."""
    rows = []
    for name, model in models.items():
        found = {style: figures(of, style, model[style]) for style in STYLES}
        rows += [(name, style, metric, value, IMAGES) for style in STYLES for metric, value in found[style].items()]
        for metric in found["art"]:
            rows.append((name, "all", metric, float(np.mean([found[style][metric] for style in STYLES])), 2 * IMAGES))
    for style in STYLES:
        own = figures(of, style, of.holdout[style])
        rows += [("reference", style, metric, own[metric], HOLDOUT) for metric in ("copies", "diversity")]
    table = pd.DataFrame(rows, columns=["model", "style", "metric", "mean", "n"])
    return table.assign(ci_low=table["mean"] - 0.01, ci_high=table["mean"] + 0.01)[TABLE]


def figures(of: World, style: str, images: np.ndarray) -> dict[str, float]:
    training, holdout = of.training[style], of.holdout[style]
    threshold = np.quantile((holdout @ training.T).max(axis=1), 0.95)
    to_training = images @ training.T
    nearest = of.sources[style][to_training.argmax(axis=1)]
    pairs = (images @ images.T)[np.triu_indices(len(images), 1)]
    return {
        "clip_similarity": float((images @ holdout.T).mean()),
        "copies": float((to_training.max(axis=1) > threshold).mean()),
        "one_source_share": float(np.bincount(nearest).max() / len(images)),
        "diversity": float(1 - pairs.mean()),
        "identity": float(((images @ of.directions.T).argmax(axis=1) == 0).mean()),
    }


def comparison(of: World, one: Model, other: Model) -> pd.DataFrame:
    """The paired difference in similarity over all styles, its interval by resampling images and references."""
    rng = np.random.default_rng(1)
    means = np.zeros((SAMPLES + 1, len(STYLES)))
    for column, style in enumerate(STYLES):
        difference = (one[style] - other[style]) @ of.holdout[style].T
        means[0, column] = difference.mean()
        for sample in range(1, SAMPLES + 1):
            images, references = rng.integers(0, IMAGES, IMAGES), rng.integers(0, HOLDOUT, HOLDOUT)
            means[sample, column] = difference[np.ix_(images, references)].mean()
    over_styles = means.mean(axis=1)
    low, high = np.quantile(over_styles[1:], [0.025, 0.975])
    return pd.DataFrame([("clip_similarity", "all", over_styles[0], low, high, 2 * IMAGES)], columns=COMPARISON)
