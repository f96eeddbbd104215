"""What is drawn when: the training set's rows, the batches of each epoch, and each step's own random numbers.

Everything here is a function of (training set, seed, epoch, step); nothing is kept between steps. Pictures and latents
belong to latents.py.
"""

import numpy as np
import pandas as pd

from sticker_pipeline.sampling.draws import epoch_order
from sticker_pipeline.training.spec import SpecError, TrainingSpec

COLUMNS = ("frame_id", "file", "caption", "probability", "bucket_width", "bucket_height", "split")

Batch = np.ndarray  # int64[b]: row numbers of the train table, all of one bucket


def read_training_set(spec: TrainingSpec) -> pd.DataFrame:
    """The rows of the train split, numbered from 0.

    Raises SpecError for a missing table or column, an empty train split, probabilities that do not sum to 1, a size
    that is no multiple of 8, or a picture that is not there.
    """
    path = spec.training_set / "index.parquet"
    if not path.is_file():
        raise SpecError(f"training_set: {path} is missing.")
    table = pd.read_parquet(path)
    for column in COLUMNS:
        if column not in table.columns:
            raise SpecError(f"training_set: {path} has no column '{column}'. It needs {', '.join(COLUMNS)}.")
    train = table[table["split"] == "train"].reset_index(drop=True)
    if train.empty:
        raise SpecError(f"training_set: {path} has no picture to train on (no row with split 'train').")
    if not np.isclose(train["probability"].sum(), 1.0, atol=1e-6) or (train["probability"] < 0).any():
        raise SpecError(f"training_set: {path}: probabilities of the train split sum to {train['probability'].sum()}.")
    sizes = train[["bucket_width", "bucket_height"]].to_numpy()
    if (sizes % 8 != 0).any() or (sizes <= 0).any():
        raise SpecError(f"training_set: {path}: bucket_width and bucket_height must be multiples of 8.")
    for file in train["file"]:
        if not (spec.frames / file).is_file():
            raise SpecError(f"training_set: {path} names {file!r}, but {spec.frames / file} is missing.")
    return train


def plan(table: pd.DataFrame, spec: TrainingSpec) -> list[list[Batch]]:
    """The batches of every epoch: known before training begins, since buckets make their number vary by epoch."""
    buckets = list(zip(table["bucket_width"].tolist(), table["bucket_height"].tolist(), strict=True))
    probabilities = table["probability"].to_numpy(dtype=np.float64)
    return [
        batches(
            epoch_order(probabilities, spec.draws_per_epoch, spec.settings.seed, epoch),
            buckets,
            spec.settings.batch_size,
        )
        for epoch in range(spec.settings.epochs)
    ]


def batches(order: np.ndarray, buckets: list[tuple[int, int]], batch_size: int) -> list[Batch]:
    """Cut `order` (int64[n_draws]) into batches of pictures of one size, keeping the order within each bucket.

    A batch is complete as soon as its bucket has `batch_size` draws; what is left at the end becomes smaller batches,
    so that each draw is used exactly once.
    """
    open_batches: dict[tuple[int, int], list[int]] = {}
    done: list[Batch] = []
    for row in order.tolist():
        batch = open_batches.setdefault(buckets[row], [])
        batch.append(row)
        if len(batch) == batch_size:
            done.append(np.array(open_batches.pop(buckets[row]), dtype=np.int64))
    return done + [np.array(batch, dtype=np.int64) for batch in open_batches.values()]


def share_of_rank(epoch: list[Batch], rank: int, ranks: int) -> list[Batch]:
    """The batches that process `rank` of `ranks` trains on: equally many for each, the last round filled up from the
    epoch's beginning."""
    rounds = -(-len(epoch) // ranks)
    return [epoch[(number * ranks + rank) % len(epoch)] for number in range(rounds)]


def step_rng(seed: int, step: int, rank: int = 0) -> np.random.Generator:
    """The random numbers of one step, independent of all other steps."""
    return np.random.default_rng([seed, step, rank])


def dropped_captions(rng: np.random.Generator, size: int, share: float) -> np.ndarray:
    """bool[size]: which captions of a batch are left empty."""
    return rng.random(size) < share
