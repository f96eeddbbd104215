"""Scores of many frames: read, tagged in batches, cached; and the table of tags that count.

One image and one model belong to `wd14`, from which score on a tag counts to `thresholds`. Nothing here knows
characters: the cache is shared by all of them.

The cache holds, for each (model, preprocessing), shards `<hash of content>.rows`: rows (pixel_sha256, checksum, float32
[T]), and nothing else. Shards are only ever added, each in one rename, or removed for being damaged, so that runs of
several characters may share the folder; a frame that two of them scored at once is there twice, and the first in file
order is read.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from sticker_pipeline.core.caching import checksum, read_entry, read_png
from sticker_pipeline.core.files.space import writing
from sticker_pipeline.core.schemas import Column, TableSchema, typed
from sticker_pipeline.core.storage import atomic_file
from sticker_pipeline.tagging import wd14

# A run that is killed loses the work since its last shard. 256 frames are some minutes of a full-size tagger on a CPU,
# and 30,000 frames are 118 files.
SHARD_FRAMES = 256
# Decoding a PNG and resizing it takes a few milliseconds outside of Python's lock: two threads keep up with a model
# that needs 10 ms and more for an image, without taking the cores that inference uses.
DECODER_THREADS = 2
BATCHES_AHEAD = 2
ROWS_AT_A_TIME = 1024

Progress = Callable[[int, int], None]
WD14_TAGS = TableSchema(
    "each tag that the tagger gives a kept frame",
    (
        Column("frame_id", "str", "the frame, as in frames"),
        Column("tag", "str", "the tag, with spaces"),
        Column(
            "category",
            "str",
            "general: what is seen; character: whom the tagger takes it for; rating: the best of its ratings",
            values=("general", "character", "rating"),
        ),
        Column("score", "float32", "the tagger's probability of the tag", low=0, high=1),
    ),
    key=("frame_id", "tag"),
)


def in_tenths(say: Callable[[str], object]) -> Progress:
    """A progress that says so at each tenth, however many batches there are."""
    last = 0

    def show(done: int, total: int) -> None:
        nonlocal last
        if (tenth := 10 * done // total) > last:
            last = tenth
            say(f"{done} of {total} images tagged")

    return show


@dataclass(frozen=True)
class Scored:
    """`scores` float32 [N, T], 0–1, in the order of the frames; how many distinct images were computed, how many read
    from the cache."""

    scores: np.ndarray
    computed: int
    cached: int


def score_frames(
    files: Mapping[str, tuple[Path, str]],
    tagger: wd14.Tagger,
    cache: Path,
    batch_size: int,
    progress: Progress = lambda done, total: None,
    planned: Callable[[int], None] = lambda missing: None,
) -> Scored:
    """The tagger's scores of frames; images that this model has seen before are read from `cache`.

    Args:
        files: frame_id -> (PNG file, its pixel_sha256). Equal pixels are scored once.
        tagger: from `wd14.open_tagger`.
        cache: folder for shards, e.g. `ArtifactStore.cache("wd14")`; made if needed, may be deleted at any time.
        batch_size: images per run of the model, 1 or more.
        progress: called with (computed so far, to compute) after each batch.
        planned: called with how many are to be computed, before the first; it may raise.

    Raises TaggerError naming the file when a frame cannot be read, or the model breaks its contract. What was scored
    before an error is in the cache. A shard that is damaged is removed: its frames are scored again.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, not {batch_size}")
    folder = cache / f"{tagger.model_sha256[:24]}-p{wd14.PREPROCESSING_VERSION}"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    images = {pixels: path for path, pixels in files.values()}
    row_of = {pixels: row for row, pixels in enumerate(images)}
    table = np.empty((len(images), len(tagger.labels)), dtype=np.float32)
    missing = _read_cached(folder, row_of, table)
    planned(len(missing))
    _compute(missing, images, row_of, table, tagger, folder, batch_size, progress)
    rows = np.fromiter((row_of[pixels] for _, pixels in files.values()), dtype=np.int64, count=len(files))
    # the gather copies [N, T] (over 1 GB for 30,000 frames of a full-size tagger): only done where it changes anything
    scores = table if len(rows) == len(table) else table[rows]
    return Scored(scores, computed=len(missing), cached=len(images) - len(missing))


def _shard_dtype(labels: int) -> np.dtype:
    return np.dtype([("pixel_sha256", "S64"), ("checksum", "<u4"), ("scores", "<f4", (labels,))])


def _read_cached(folder: Path, row_of: Mapping[str, int], table: np.ndarray) -> list[str]:
    """Fill the rows of `table` that shards hold; returns the images still to compute, in the order of `row_of`.

    Shards are memory-mapped: of other characters' frames only the names are read.
    """
    found = np.zeros(len(row_of), dtype=bool)
    for path in sorted(folder.glob("*.rows")):
        wanted = read_entry(path, partial(_wanted_rows, row_of=row_of, found=found, labels=table.shape[1]))
        for row, scores in wanted or ():
            table[row], found[row] = scores, True
    return [pixels for pixels, row in row_of.items() if not found[row]]


def _wanted_rows(path: Path, row_of: Mapping[str, int], found: np.ndarray, labels: int) -> list[tuple[int, np.ndarray]]:
    """Row of the table and scores, of those rows of a shard that are wanted and not `found` yet. Raises ValueError
    where the shard, or one of these rows, is damaged."""
    shard = np.memmap(path, _shard_dtype(labels), mode="r")
    rows = [row_of.get(name.decode("latin-1"), -1) for name in shard["pixel_sha256"].tolist()]
    wanted = [(place, row) for place, row in enumerate(rows) if row >= 0 and not found[row]]
    names, checksums, scores = (shard[name] for name in ("pixel_sha256", "checksum", "scores"))
    for place, _ in wanted:
        if checksums[place] != _row_checksum(names[place], scores[place]):
            raise ValueError(f"the checksum of row {place} does not fit")
    return [(row, scores[place]) for place, row in wanted]


def _row_checksum(name: bytes, scores: np.ndarray) -> int:
    return checksum(scores.tobytes(), checksum(name))


def _write_shard(folder: Path, pixels: Sequence[str], scores: np.ndarray) -> None:
    shard = np.empty(len(pixels), dtype=_shard_dtype(scores.shape[1]))
    shard["pixel_sha256"] = np.array(pixels, dtype="S64")
    shard["scores"] = scores
    shard["checksum"] = [_row_checksum(row["pixel_sha256"], row["scores"]) for row in shard]
    data = shard.tobytes()
    with atomic_file(folder / f"{hashlib.sha256(data).hexdigest()[:32]}.rows") as temporary:
        temporary.write_bytes(data)


def _compute(
    missing: Sequence[str],
    images: Mapping[str, Path],
    row_of: Mapping[str, int],
    table: np.ndarray,
    tagger: wd14.Tagger,
    folder: Path,
    batch_size: int,
    progress: Progress,
) -> None:
    """Score the images `missing` into their rows of `table`, writing a shard every SHARD_FRAMES or a little more."""
    done = saved = 0

    def save() -> int:
        names = missing[saved:done]
        if names:
            _write_shard(folder, names, table[[row_of[pixels] for pixels in names]])
        return done

    try:
        for batch in _batches([images[pixels] for pixels in missing], tagger.size, batch_size):
            names = missing[done : done + len(batch)]
            table[[row_of[pixels] for pixels in names]] = wd14.scores(tagger, batch)
            done += len(batch)
            if done - saved >= SHARD_FRAMES:
                saved = save()
            progress(done, len(missing))
    finally:
        save()  # an interrupted run keeps what it has paid for


def _batches(paths: Sequence[Path], size: int, batch_size: int) -> Iterator[np.ndarray]:
    """Images as float32 [n, size, size, 3], n <= batch_size, in order; the next batches are decoded meanwhile.

    A batch is valid until the next one is asked for: its memory is used again, as fresh pages for each batch cost as
    much as decoding it.
    """
    ring = [np.empty((min(batch_size, len(paths)), size, size, 3), np.float32) for _ in range(BATCHES_AHEAD + 1)]
    waiting: deque[tuple[np.ndarray, list[Future[None]]]] = deque()

    def finished() -> np.ndarray:
        batch, decoded = waiting.popleft()
        for future in decoded:
            future.result()
        return batch[: len(decoded)]

    with ThreadPoolExecutor(DECODER_THREADS) as pool:
        try:
            for number, start in enumerate(range(0, len(paths), batch_size)):
                if len(waiting) > BATCHES_AHEAD:
                    yield finished()
                batch, part = ring[number % len(ring)], paths[start : start + batch_size]
                decoded = [pool.submit(_read, path, size, row) for path, row in zip(part, batch, strict=False)]
                waiting.append((batch, decoded))
            while waiting:
                yield finished()
        finally:
            pool.shutdown(cancel_futures=True)


def _read(path: Path, size: int, row: np.ndarray) -> None:
    """Decode the image into `row` (float32 [size, size, 3])."""
    try:
        rgba = np.asarray(read_png(path).convert("RGBA"))
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises SyntaxError for broken PNG chunks
        raise wd14.TaggerError(f"the frame {path} cannot be read ({error}): materialize 'frames' again.") from error
    row[:] = wd14.square(rgba, size)


def tag_table(
    frame_ids: Sequence[str],
    scores: np.ndarray,
    labels: Sequence[wd14.Label],
    limits: Mapping[wd14.Category, np.ndarray],
) -> pd.DataFrame:
    """The tags of each frame, with the columns of WD14_TAGS.

    General and character tags are rows where their score is at least the frame's threshold for their category
    (`limits`, float32 [N], from `thresholds.per_frame`); of the ratings, which are one question with one answer, the
    best is a row whatever its score. Frames in the order of `frame_ids`, in each the highest score first, equal scores
    by name. `scores` is float32 [N, T] for N frame_ids and T labels.
    """
    if scores.shape != (len(frame_ids), len(labels)):
        raise ValueError(f"scores are {list(scores.shape)} for {len(frame_ids)} frames and {len(labels)} labels")
    frames, tags = _chosen(scores, wd14.category_columns(labels), limits)
    names = np.array([label.name for label in labels], dtype=object)
    rank = np.empty(len(labels), dtype=np.int64)
    rank[np.argsort(names, kind="stable")] = np.arange(len(labels))
    values = scores[frames, tags]
    order = np.lexsort((rank[tags], -values, frames))
    frames, tags, values = frames[order], tags[order], values[order]
    categories = np.array([label.category for label in labels], dtype=object)
    table = {
        "frame_id": np.array(frame_ids, dtype=object)[frames],
        "tag": names[tags],
        "category": categories[tags],
        "score": values,
    }
    return typed(pd.DataFrame(table), WD14_TAGS)


def _chosen(
    scores: np.ndarray, columns: Mapping[wd14.Category, np.ndarray], limits: Mapping[wd14.Category, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """(frame, label) numbers (int64, int64) of the tags that count; rows are looked at some at a time, as a mask of all
    of them takes a third of a gigabyte for 30,000 frames of a full-size tagger."""
    frames, tags = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for start in range(0, len(scores), ROWS_AT_A_TIME):
        part = scores[start : start + ROWS_AT_A_TIME]
        chosen = np.zeros(part.shape, dtype=bool)
        for category, limit in limits.items():
            chosen[:, columns[category]] = part[:, columns[category]] >= limit[start : start + len(part), None]
        if len(columns["rating"]):
            best = columns["rating"][part[:, columns["rating"]].argmax(axis=1)]
            chosen[np.arange(len(part)), best] = True
        rows, found = np.nonzero(chosen)
        frames.append(rows + start)
        tags.append(found)
    return np.concatenate(frames), np.concatenate(tags)
