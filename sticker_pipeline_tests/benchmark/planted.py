"""Models with known faults, as embeddings of their images, and the benchmark's tables of them.

An image is a unit vector. A character is a direction. Its sources lie around it, the frames of a GIF close together,
and the images of a LoRA farther away, the worse the LoRA is. The metrics are computed here a second time, from their
definitions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd

MEDIUMS = ("art", "sticker")
IMAGES, HOLDOUT, SAMPLES, DIMENSIONS = 32, 10, 400, 48
SPREAD = 0.33  # of sources around their character: cosines of .9 between them
FIDELITY = 0.9  # share of the prompted tags that are found on a model's images
TABLE = ["model", "medium", "metric", "mean", "ci_low", "ci_high", "n"]
COMPARISON = ["metric", "medium", "difference", "ci_low", "ci_high", "n"]

Model = dict[str, np.ndarray]  # medium -> unit float64 [IMAGES, DIMENSIONS]


@dataclass(frozen=True)
class World:
    """One character in two mediums: of each, training images with their sources, and held-out ones (a source each)."""

    rng: np.random.Generator
    directions: np.ndarray  # of this character and three others
    training: Mapping[str, np.ndarray]
    sources: Mapping[str, np.ndarray]
    holdout: Mapping[str, np.ndarray]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def around(rng: np.random.Generator, centres: np.ndarray, distance: float) -> np.ndarray:
    """A unit vector near each of `centres` [n, d]: each is moved by `distance` in a direction of its own."""
    return unit(centres + distance * unit(rng.standard_normal(centres.shape)))


def world(seed: int) -> World:
    """Three GIFs of eight frames and twelve stills to train on in each medium, HOLDOUT stills beside them."""
    rng = np.random.default_rng(seed)
    directions = unit(rng.standard_normal((4, DIMENSIONS)))
    training, sources, holdout = {}, {}, {}
    for medium in MEDIUMS:
        starts = around(rng, np.tile(directions[0], (15, 1)), SPREAD)
        sources[medium] = np.repeat(np.arange(15), [8] * 3 + [1] * 12)
        training[medium] = around(rng, starts[sources[medium]], 0.08)
        holdout[medium] = around(rng, np.tile(directions[0], (HOLDOUT, 1)), SPREAD)
    return World(rng, directions, training, sources, holdout)


def drawn(of: World, distance: float, character: int = 0) -> Model:
    """Images `distance` away from a character (0: the world's own): .45 is a good LoRA, 2 hardly knows it."""
    return {medium: around(of.rng, np.tile(of.directions[character], (IMAGES, 1)), distance) for medium in MEDIUMS}


def noise(of: World) -> Model:
    return {medium: unit(of.rng.standard_normal((IMAGES, DIMENSIONS))) for medium in MEDIUMS}


def memorised(of: World) -> Model:
    """A training image each, each source as often as any other."""
    rows = {medium: np.searchsorted(of.sources[medium], np.arange(IMAGES) % 15) for medium in MEDIUMS}
    return {medium: around(of.rng, of.training[medium][rows[medium]], 0.02) for medium in MEDIUMS}


def collapsed(of: World) -> Model:
    """Something like a frame of the first GIF, again and again."""
    return {medium: around(of.rng, of.training[medium][np.arange(IMAGES) % 8], 0.15) for medium in MEDIUMS}


def table_of(
    of: World, models: Mapping[str, Model], fidelity: Mapping[str, float] = MappingProxyType({})
) -> pd.DataFrame:
    """The benchmark's table, with `all` as the mean over mediums, and the rows of `reference`.

    fidelity: model -> its prompt fidelity, where that is not FIDELITY.
    """
    rows = []
    for name, model in models.items():
        follows = {"prompt_fidelity": fidelity.get(name, FIDELITY)}
        found = {medium: figures(of, medium, model[medium]) | follows for medium in MEDIUMS}
        rows += [(name, medium, metric, value, IMAGES) for medium in MEDIUMS for metric, value in found[medium].items()]
        for metric in found["art"]:
            rows.append(
                (name, "all", metric, float(np.mean([found[medium][metric] for medium in MEDIUMS])), 2 * IMAGES)
            )
    for medium in MEDIUMS:
        own = figures(of, medium, of.holdout[medium])
        rows += [("reference", medium, metric, own[metric], HOLDOUT) for metric in ("copies", "diversity")]
    table = pd.DataFrame(rows, columns=["model", "medium", "metric", "mean", "n"])
    return table.assign(ci_low=table["mean"] - 0.01, ci_high=table["mean"] + 0.01)[TABLE]


def figures(of: World, medium: str, images: np.ndarray) -> dict[str, float]:
    training, holdout = of.training[medium], of.holdout[medium]
    threshold = np.quantile((holdout @ training.T).max(axis=1), 0.95)
    to_training = images @ training.T
    nearest = of.sources[medium][to_training.argmax(axis=1)]
    pairs = (images @ images.T)[np.triu_indices(len(images), 1)]
    return {
        "clip_similarity": float((images @ holdout.T).mean()),
        "copies": float((to_training.max(axis=1) > threshold).mean()),
        "one_source_share": float(np.bincount(nearest).max() / len(images)),
        "diversity": float(1 - pairs.mean()),
        "identity": float(((images @ of.directions.T).argmax(axis=1) == 0).mean()),
    }


def comparison(of: World, one: Model, other: Model) -> pd.DataFrame:
    """The paired difference in similarity over all mediums, its interval by resampling images and references."""
    rng = np.random.default_rng(1)
    means = np.zeros((SAMPLES + 1, len(MEDIUMS)))
    for column, medium in enumerate(MEDIUMS):
        difference = (one[medium] - other[medium]) @ of.holdout[medium].T
        means[0, column] = difference.mean()
        for sample in range(1, SAMPLES + 1):
            images, references = rng.integers(0, IMAGES, IMAGES), rng.integers(0, HOLDOUT, HOLDOUT)
            means[sample, column] = difference[np.ix_(images, references)].mean()
    over_mediums = means.mean(axis=1)
    low, high = np.quantile(over_mediums[1:], [0.025, 0.975])
    return pd.DataFrame([("clip_similarity", "all", over_mediums[0], low, high, 2 * IMAGES)], columns=COMPARISON)
