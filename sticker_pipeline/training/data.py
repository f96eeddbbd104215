"""Training rows, batches of each epoch, random numbers of each step.

Functions of (training set, seed, epoch, step), without state between steps.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.dataset.manifest import HOLDOUT, TRAIN, TRAINING_SET, VALIDATION
from sticker_pipeline.sampling.epochs import epoch_order, systematic_counts
from sticker_pipeline.training.regularisation import read_regularisation
from sticker_pipeline.training.spec import SpecError, TrainingSpec

Batch = np.ndarray  # int64[b]: row numbers of the train table, all of one bucket
Step = list[Batch]  # batches whose gradients make one optimizer step


def read_training_set(spec: TrainingSpec, note: Callable[[str], None] = lambda line: None) -> pd.DataFrame:
    """Rows to train on, from 0: the train split, then regularisation images.

    Beside the columns of TRAINING_SET: `path` (absolute), `width`, `height` (pixels), `regularisation`. Probabilities
    sum to 1, of which settings.regularisation_share for regularisation images. `note` reports those left out, and why.
    Raises SpecError for a missing table, column or image, another table than spec.training_set_sha256, an empty train
    split, probabilities that do not sum to 1, a size that is no multiple of 8, and a regularisation folder without
    images.
    """
    train = _split(spec, TRAIN)
    if train.empty:
        raise SpecError(f"training_set: {_index(spec)} has no image to train on (no row with split '{TRAIN}').")
    if not np.isclose(train["probability"].sum(), 1.0, atol=1e-6) or (train["probability"] < 0).any():
        raise SpecError(
            f"training_set: {_index(spec)}: probabilities of the train split sum to {train['probability'].sum()}."
        )
    if spec.regularisation is None:
        return train
    share = spec.settings.regularisation_share
    others = read_regularisation(
        spec.regularisation,
        spec.cache,
        spec.resolution,
        spec.buckets,
        share=share,
        roots=spec.regularisation_roots,
        note=note,
    )
    train["probability"] *= (1 - share) / train["probability"].sum()
    return pd.concat([train, others], ignore_index=True)


def read_holdout(spec: TrainingSpec) -> pd.DataFrame:
    """Rows of the split `holdout`, perhaps none; as read_training_set."""
    return _split(spec, HOLDOUT)


def read_validation(spec: TrainingSpec) -> pd.DataFrame:
    """Rows of the split `validation`, as read_holdout."""
    return _split(spec, VALIDATION)


def _index(spec: TrainingSpec) -> Path:
    return spec.training_set / "index.parquet"


def _split(spec: TrainingSpec, split: str) -> pd.DataFrame:
    path = _index(spec)
    if not path.is_file():
        raise SpecError(f"training_set: {path} is missing.")
    try:
        data = path.read_bytes()
        table = pd.read_parquet(io.BytesIO(data))
    except (OSError, ValueError) as error:
        raise SpecError(f"training_set: {path} is damaged ({error}): materialize 'training_set' again.") from error
    if spec.training_set_sha256 not in (None, hashlib.sha256(data).hexdigest()):
        raise SpecError(f"training_set: {path} was made again since this training was requested: request it again.")
    for column in TRAINING_SET.names:
        if column not in table.columns:
            raise SpecError(f"training_set: {path} has no column '{column}'. It needs {', '.join(TRAINING_SET.names)}.")
    rows = table.loc[table["split"] == split, TRAINING_SET.names].reset_index(drop=True)
    sizes = rows[["bucket_width", "bucket_height"]].to_numpy()
    if (sizes % 8 != 0).any() or (sizes <= 0).any():
        raise SpecError(f"training_set: {path}: bucket_width and bucket_height must be multiples of 8.")
    paths = [(spec.frames / file).absolute() for file in rows["file"]]
    sides = np.array([_size(path, file, spec) for path, file in zip(paths, rows["file"], strict=True)], dtype=np.int64)
    width, height = sides.reshape(-1, 2).T
    return rows.assign(path=[str(path) for path in paths], width=width, height=height, regularisation=False)


def _size(path: Path, file: str, spec: TrainingSpec) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except FileNotFoundError as error:
        raise SpecError(f"training_set: {_index(spec)} names {file!r}, but {path} is missing.") from error
    except OSError as error:
        raise SpecError(f"training_set: {path} cannot be read as an image: {error}.") from error


@dataclass(frozen=True)
class Plan:
    """Steps of one process, computed epoch by epoch to save memory.

    `probabilities` float64[n], `buckets` int64[n] (from 0) of each row; `lengths`: each epoch's steps, which vary where
    buckets do not divide evenly.
    """

    probabilities: np.ndarray
    buckets: np.ndarray
    samples: int
    seed: int
    batch_size: int
    accumulation: int
    rank: int
    ranks: int
    lengths: tuple[int, ...]

    @property
    def total_steps(self) -> int:
        return sum(self.lengths)

    def epoch(self, number: int) -> list[Step]:
        """Steps of epoch `number` (from 0), a function of it and the plan."""
        order = epoch_order(self.probabilities, self.samples, self.seed, number)
        rng = np.random.default_rng([self.seed, number, 0, 1])  # step_rng(seed, number, 0) has the same seed
        share = share_of_rank(batches(order, self.buckets, self.batch_size, rng), self.rank, self.ranks)
        return steps(share, self.accumulation)


def plan(table: pd.DataFrame, spec: TrainingSpec, rank: int = 0, ranks: int = 1) -> Plan:
    """Plan of process `rank` of `ranks`; all have equally many steps.

    Of N samples of an epoch, over all processes, each row has ⌊N·p⌋ or ⌈N·p⌉, whatever its bucket, each in exactly one
    batch (but for those that fill up the last round of several processes).
    """
    settings = spec.settings
    sizes = table[["bucket_width", "bucket_height"]]
    buckets = sizes.groupby(list(sizes.columns), sort=True).ngroup().to_numpy(dtype=np.int64)
    probabilities = table["probability"].to_numpy(dtype=np.float64)
    lengths = []
    for epoch in range(settings.epochs):
        counts = systematic_counts(probabilities, spec.samples_per_epoch, settings.seed, epoch)
        in_bucket = np.bincount(buckets, weights=counts).astype(np.int64)
        rounds = -(-int((-(-in_bucket // settings.batch_size)).sum()) // ranks)
        lengths.append(-(-rounds // settings.gradient_accumulation))
    return Plan(
        probabilities,
        buckets,
        spec.samples_per_epoch,
        settings.seed,
        settings.batch_size,
        settings.gradient_accumulation,
        rank,
        ranks,
        tuple(lengths),
    )


def batches(order: np.ndarray, buckets: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[Batch]:
    """Cut `order` into batches of at most `batch_size` rows of one bucket.

    `order`: int64[n_samples], rows; `buckets`: int64[n], bucket of each row. A bucket keeps its order and has as few
    batches as possible, of sizes that differ by one at most: an image alone in a batch would move the weights more than
    others. Batches are shuffled: otherwise the same bucket or smaller batch would always end an epoch.
    """
    of_bucket = buckets[order]
    sorted_rows = order[np.argsort(of_bucket, kind="stable")]
    counts = np.bincount(of_bucket)
    parts = np.split(sorted_rows, np.cumsum(counts)[:-1])
    made = [batch for part in parts if len(part) for batch in np.array_split(part, -(-len(part) // batch_size))]
    return [made[number] for number in rng.permutation(len(made))]


def share_of_rank(epoch: Sequence[Batch], rank: int, ranks: int) -> list[Batch]:
    """Batches of process `rank` of `ranks`, equally many for each.

    The epoch's beginning fills up the last round.
    """
    rounds = -(-len(epoch) // ranks)
    return [epoch[(number * ranks + rank) % len(epoch)] for number in range(rounds)]


def steps(epoch: Sequence[Batch], accumulation: int) -> list[Step]:
    """Groups of `accumulation` batches, one per step; the last may be smaller.

    Batches differ in size: a step's gradient is the mean over images, not over batches.
    """
    return [list(epoch[start : start + accumulation]) for start in range(0, len(epoch), accumulation)]


def step_rng(seed: int, step: int, number: int = 0) -> np.random.Generator:
    """Generator of batch `number` of a step, independent of other batches.

    numpy fills up seeds with zeros: [seed, step] equals [seed, step, 0], hence the last 1. For `number` 0 the seed is
    also that of Plan.epoch(step), which orders batches.
    """
    return np.random.default_rng([seed, step, number, 1])
