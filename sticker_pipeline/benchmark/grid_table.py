"""The table of a sampling grid: each setting, compared with the profile's.

Each metric is a mean over mediums, with an interval over prompts where there are enough (bootstrap.py). Its function
says what it rewards and how it is fooled.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
import pandas as pd

from sticker_pipeline.benchmark.bootstrap import Estimate, average, difference, estimate, row_mean
from sticker_pipeline.benchmark.choice import copy_threshold
from sticker_pipeline.benchmark.evaluation import FEW_PROMPTS, Embeddings, Requests
from sticker_pipeline.benchmark.fidelity import prompt_fidelity
from sticker_pipeline.benchmark.recommend import pareto_front
from sticker_pipeline.benchmark.similarity import clip_similarity, cosines
from sticker_pipeline.benchmark.tone import Tones, relative_shift, veil
from sticker_pipeline.core.schemas import Column, TableSchema, typed
from sticker_pipeline.generation.grid_points import GridPoint

# Columns with a mean and an interval (…_low, …_high).
ESTIMATED = {
    "quality": "the root of similarity times fidelity; the similarity alone where the tagger has no prompted tag",
    "quality_change": "quality less that of the reference setting, paired",
    "similarity": "mean cosine to held-out images",
    "fidelity": "share of the prompted tags that the tagger finds",
    "contrast_shift": "contrast above the reference's, as a share of it",
    "saturation_shift": "saturation above the reference's, as a share of it",
    "sharpness_shift": "sharpness above the reference's, as a share of it",
    "veil": "white veil: lightening of the reference's darkest parts, as a share of their distance to white",
    "copies": "share of images that are copies of training images",
    "copies_change": "copies less those of the reference setting, paired",
}
SHIFTS = ("contrast", "saturation", "sharpness")
# Columns with a mean alone.
LEVELS = {
    "contrast": "standard deviation of luma, 0 to 1",
    "saturation": "largest less smallest colour channel, 0 to 1",
    "sharpness": "root mean square of the Laplacian of luma, 0 to 4",
    "haze": "black point: the 5 % quantile of the smallest colour channel, 0 to 1",
}
SAMPLING_GRID = TableSchema(
    "each setting",
    (
        Column("style_weight", "float64", "strength of the style's LoRA; 0: not used"),
        Column("character_weight", "float64", "strength of the character's LoRA"),
        Column("lcm_weight", "float64", "strength of the LCM-LoRA; 0: not used"),
        Column("steps", "int64", "steps of the sampler", low=1),
        Column("guidance_scale", "float64", "classifier-free guidance (CFG); 1 and less: none", low=0),
        Column("scheduler", "str", "the sampler, as generation.scheduler names it"),
        Column("seconds", "float64", "wall-clock seconds per image", low=0),
        *(
            column
            for name, meaning in ESTIMATED.items()
            for column in (
                Column(name, "float64", meaning, nullable=True),
                Column(f"{name}_low", "float64", f"lower end of the 95 % interval of {name}", nullable=True),
                Column(f"{name}_high", "float64", f"upper end of the 95 % interval of {name}", nullable=True),
            )
        ),
        *(Column(name, "float64", f"mean over images: {meaning}") for name, meaning in LEVELS.items()),
        Column("n", "int64", "images", low=0),
        Column("pareto", "bool", "whether no setting is as fast and better: the Pareto front of quality and seconds"),
    ),
    key=tuple(field.name for field in fields(GridPoint)),
)


@dataclass(frozen=True)
class PointFeatures:
    """Images of one setting for one medium's requests, row by row.

    embeddings: unit rows float[n, d]. tags: the tagger's tags found, bool[n, tags].
    """

    embeddings: np.ndarray
    tags: np.ndarray
    tones: Tones


@dataclass(frozen=True)
class Copied:
    """Training images that may be copied, and the cosine of a copy."""

    trained: Embeddings
    threshold: float

    def of(self, embeddings: np.ndarray) -> np.ndarray:
        """Mark copies with 1.0, others with 0.0.

        NaN without a threshold (one source).
        """
        nearest = cosines(embeddings, self.trained.vectors).max(axis=1)
        unknown = math.isnan(self.threshold)
        return np.full(len(nearest), np.nan) if unknown else (nearest > self.threshold).astype(np.float64)


@dataclass(frozen=True)
class Timed:
    """The sampler's name in a setting, and wall-clock seconds per image."""

    scheduler: str
    seconds: float


def grid_table(
    features: Mapping[GridPoint, Mapping[str, PointFeatures]],
    references: Mapping[GridPoint, GridPoint],
    timed: Mapping[GridPoint, Timed],
    sources: Mapping[str, np.ndarray],
    requests: Mapping[str, Requests],
    tag_names: Sequence[str],
    trained: Embeddings,
    *,
    samples: int = 2_000,
) -> pd.DataFrame:
    """The table SAMPLING_GRID, a row per setting as in `features`.

    features: setting -> medium -> images; all settings have the same mediums and requests. references: setting -> the
    one to compare it with, also in `features`. sources: medium -> rows of `similarity.source_means`. requests: by
    medium. trained: the LoRA's training images. Copies are those of `choice.copied`. …_change: less the reference's,
    paired.
    """
    copied_from = Copied(trained, copy_threshold(trained))
    measured = {
        point: _measured(features[point], sources, requests, tag_names, copied_from, samples) for point in features
    }
    rows = []
    for point, own in measured.items():
        reference = references[point]
        estimates = own | _shifts(features[point], features[reference], requests, samples)
        for name in ("quality", "copies"):
            estimates[f"{name}_change"] = difference(own[name], measured[reference][name])
        rows.append(
            {
                **asdict(point),
                **asdict(timed[point]),
                **{key: value for name in ESTIMATED for key, value in _columns(name, estimates.get(name)).items()},
                **{
                    name: float(np.mean([getattr(one.tones, name) for one in features[point].values()]))
                    for name in LEVELS
                },
                "n": own["similarity"].n,
            }
        )
    table = pd.DataFrame(rows)
    front = pareto_front(table["seconds"].to_numpy(dtype=float), table["quality"].to_numpy(dtype=float))
    return typed(table.assign(pareto=front), SAMPLING_GRID)


def _measured(
    features: Mapping[str, PointFeatures],
    sources: Mapping[str, np.ndarray],
    requests: Mapping[str, Requests],
    tag_names: Sequence[str],
    copied_from: Copied,
    samples: int,
) -> dict[str, Estimate]:
    similarity, fidelity, copies = [], [], []
    for medium, own in features.items():
        prompts = resampled_prompts(requests[medium])
        similarity.append(clip_similarity(own.embeddings, sources[medium], samples=samples, prompts=prompts))
        found = prompt_fidelity(own.tags, tag_names, requests[medium].attributes, samples=samples, prompts=prompts)
        if found is not None:
            fidelity.append(found)
        copies.append(row_mean(copied_from.of(own.embeddings), samples, 0, prompts))
    estimates = {"similarity": average(similarity), "copies": average(copies)}
    if fidelity:
        estimates["fidelity"] = average(fidelity)
    return estimates | {"quality": quality(estimates["similarity"], estimates.get("fidelity"))}


def quality(similarity: Estimate, fidelity: Estimate | None) -> Estimate:
    """Root of similarity (at least 0) times fidelity, with their joint interval.

    The similarity itself where the tagger has none of the prompted tags (`fidelity` None).
    """
    if fidelity is None:
        return similarity
    mean = float(np.sqrt(max(similarity.mean, 0.0) * fidelity.mean))
    if not len(similarity.draws) or not len(fidelity.draws):
        return Estimate(mean, float("nan"), float("nan"), similarity.n)
    draws = np.sqrt(np.maximum(similarity.draws, 0.0) * fidelity.draws)
    return estimate(mean, draws, similarity.n)


def _shifts(
    features: Mapping[str, PointFeatures],
    reference: Mapping[str, PointFeatures],
    requests: Mapping[str, Requests],
    samples: int,
) -> dict[str, Estimate]:
    parts: dict[str, list[Estimate]] = {f"{name}_shift": [] for name in SHIFTS}
    parts["veil"] = []
    for medium, own in features.items():
        prompts, other = resampled_prompts(requests[medium]), reference[medium].tones
        for name in SHIFTS:
            values, before = getattr(own.tones, name), getattr(other, name)
            parts[f"{name}_shift"].append(relative_shift(values, before, samples=samples, prompts=prompts))
        parts["veil"].append(veil(own.tones.haze, other.haze, samples=samples, prompts=prompts))
    return {name: average(found) for name, found in parts.items()}


def resampled_prompts(requests: Requests) -> Sequence[str] | None:
    """Prompts to resample, or None if too few."""
    prompts = requests.prompts
    return prompts if prompts and len(set(prompts)) >= FEW_PROMPTS else None


def _columns(name: str, found: Estimate | None) -> dict[str, float]:
    values = (found.mean, found.ci_low, found.ci_high) if found else (float("nan"),) * 3
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
