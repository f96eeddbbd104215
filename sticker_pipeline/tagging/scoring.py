"""Batched, cached scoring of many frames, and the tag table.

All characters share the cache. For each (model, preprocessing) it holds shards `<hash of content>.rows` of rows
(pixel_sha256, checksum, float32 [T]), added by one rename and removed only when damaged, so that runs can share it. Of
a repeated frame, the first in file order is read.
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
from sticker_pipeline.core.texts import counted
from sticker_pipeline.tagging import wd14

# A killed run loses the work since its last shard. 256 frames take a full-size tagger minutes on a CPU; 30,000 frames
# are 118 files.
SHARD_FRAMES = 256
# Decoding and resizing a PNG takes a few milliseconds outside of Python's lock: two threads keep up with a model that
# needs 10 ms or more per image, without taking inference's cores.
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
            "general: content of the image; character: the character that the tagger recognises; rating: the best one",
            values=("general", "character", "rating"),
        ),
        Column("score", "float32", "the tagger's probability of the tag", low=0, high=1),
    ),
    key=("frame_id", "tag"),
)


@dataclass(frozen=True)
class Scored:
    """Scores of frames: float32 [N, T], 0–1, in frame order.

    `computed`, `cached`: distinct images.
    """

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
    """Score frames with the tagger, reading known images from `cache`.

    Args:
        files: frame_id -> (PNG file, its pixel_sha256). Equal pixels are scored once.
        tagger: from `wd14.open_tagger`.
        cache: folder for shards, e.g. `ArtifactStore.cache("wd14")`; made if needed, may be deleted at any time.
        batch_size: images per run of the model, 1 or more.
        progress: called with (computed, to compute) after each batch.
        planned: called first with the number to compute; may raise.

    Raises TaggerError, naming the file, for an unreadable frame, and for a model that breaks its contract; earlier
    scores stay cached. Frames of damaged shards are scored again.
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
    # the gather copies [N, T] (over 1 GB for 30,000 frames of a full-size tagger): only where rows repeat
    scores = table if len(rows) == len(table) else table[rows]
    return Scored(scores, computed=len(missing), cached=len(images) - len(missing))


def _shard_dtype(labels: int) -> np.dtype:
    return np.dtype([("pixel_sha256", "S64"), ("checksum", "<u4"), ("scores", "<f4", (labels,))])


def _read_cached(folder: Path, row_of: Mapping[str, int], table: np.ndarray) -> list[str]:
    """Fill `table` from shards; return the missing images in order.

    Shards are memory-mapped: only the names of other frames are read.
    """
    found = np.zeros(len(row_of), dtype=bool)
    for path in sorted(folder.glob("*.rows")):
        wanted = read_entry(path, partial(_wanted_rows, row_of=row_of, found=found, labels=table.shape[1]))
        for row, scores in wanted or ():
            table[row], found[row] = scores, True
    return [pixels for pixels, row in row_of.items() if not found[row]]


def _wanted_rows(path: Path, row_of: Mapping[str, int], found: np.ndarray, labels: int) -> list[tuple[int, np.ndarray]]:
    """Return (table row, scores) of wanted rows not `found` yet.

    Raises ValueError for a damaged shard or row.
    """
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
        save()  # an interrupted run keeps its scores


def _batches(paths: Sequence[Path], size: int, batch_size: int) -> Iterator[np.ndarray]:
    """Yield float32 [n, size, size, 3], n <= batch_size, decoding ahead.

    A batch is valid until the next: its memory is reused, as fresh pages cost as much as decoding.
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
    """Return the tags of each frame, with the columns of WD14_TAGS.

    General and character tags need the frame's threshold for their category (`limits`, float32 [N], from
    `thresholds.per_frame`); of the ratings, the best is taken at any score. Sorted by `frame_ids`, highest score, name.
    `scores` is float32 [N, T] for N frame_ids and T labels.
    """
    if scores.shape != (len(frame_ids), len(labels)):
        raise ValueError(
            f"scores are {list(scores.shape)} for {counted(len(frame_ids), 'frame')} and {len(labels)} labels"
        )
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
    """Return (frame, label) numbers of chosen tags, int64 each.

    Works in blocks, as a full mask takes a third of a gigabyte for 30,000 frames of a full-size tagger.
    """
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
