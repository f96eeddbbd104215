"""Frames of a character: decoded into a cache, hashed, duplicates merged."""

import hashlib
import io
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.core.caching import SEALS, intact_folder, seal_folder
from sticker_pipeline.core.files.inside import read_bytes
from sticker_pipeline.core.files.space import writing
from sticker_pipeline.core.progress import Count
from sticker_pipeline.core.schemas import Column, TableSchema, typed
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.storage import content_hash, forget, link_or_copy
from sticker_pipeline.media.crop import cropped, visible_box
from sticker_pipeline.media.decode import decode_bytes
from sticker_pipeline.media.duplicates import (
    CLOSE_TOLERANCE,
    RESIZED_TOLERANCE,
    THUMBNAIL_SIDE,
    close_difference,
    close_up,
    representatives,
)
from sticker_pipeline.media.frame import Frame, MediaError, clear_hidden_colour

# Increase when decoding, hashing, thumbnails or the reasons for dropping a frame change.
DECODER_VERSION = 4
DECODERS = ("pillow", "imagehash", "imageio-ffmpeg")  # packages whose version affects decoding
FRAMES = TableSchema(
    "each frame of each accepted file, and for each fault of a file",
    (
        Column(
            "frame_id", "str", "names the frame in all later tables: a hash of its path, and the number of the frame"
        ),
        Column("path", "str", "the file that it comes from, as in raw_media"),
        Column("group", "str", "the group of that file"),
        Column("source_id", "str", "the source: the path of the file, the same for all its frames"),
        Column("frame_index", "int64", "number of the frame in the file, from 0", low=0),
        Column("start_ms", "int64", "when it is first shown, milliseconds after the beginning"),
        Column("duration_ms", "int64", "how long it is shown, milliseconds; 0 for a still"),
        Column("width", "int64", "pixels; 0 where nothing could be decoded", low=0),
        Column("height", "int64", "pixels; 0 where nothing could be decoded", low=0),
        Column("pixel_sha256", "str", "the hash of its RGBA pixels, 64 hex digits; empty where there are none"),
        Column("phash", "str", "its perceptual hash, 64 bits as 16 hex digits: near images differ in few bits"),
        Column("kept", "bool", "whether it is used; else `reason` says why not"),
        Column("reason", "str", "why it was dropped; of a kept frame, that its caption alone kept it"),
        Column("duplicate_of", "str", "frame_id of the kept frame that shows the same image; empty for none"),
        Column("file", "str", "its PNG file in this artifact; empty for a dropped frame"),
    ),
    key=("frame_id",),
)
DECODED_COLUMNS = [
    "frame_index",
    "start_ms",
    "duration_ms",
    "width",
    "height",
    "pixel_sha256",
    "phash",
    "thumbnail",
    "preview",
    "problem",
]
TABLE = "frames.parquet"

SAME, NEARLY = "the same image as", "nearly the same image as"
APART = "kept for its own caption, though it looks like"

MIN_SIDE = 8  # pixels; below it a character is unrecognisable
MAX_ASPECT = 8.0  # longer : shorter side; beyond: sprite strips, banners
KEPT_CLOSE_UPS = 128  # in memory, at most 262 kB each
PREVIEW_SIDE = 84  # pixels of the longer side, for contact sheets


def pixel_sha256(rgba: np.ndarray) -> str:
    """Return the hex SHA-256 of uint8 [H,W,4], rows from the top.

    R=G=B=0 wherever A=0.
    """
    return hashlib.sha256(clear_hidden_colour(rgba.copy(order="C")).data).hexdigest()


def perceptual_hash(rgb: Image.Image) -> str:
    """Return an opaque image's 64-bit DCT hash (imagehash.phash), 16 hex digits."""
    from imagehash import phash

    return str(phash(rgb))


def useless_because(rgba: np.ndarray) -> str:
    """Return why an image (uint8 [H,W,4]) is useless for training, else empty."""
    height, width = rgba.shape[:2]
    if min(height, width) < MIN_SIDE:
        return f"too small: {width}×{height} pixels (a side below {MIN_SIDE})"
    if max(height, width) > MAX_ASPECT * min(height, width):
        return f"aspect ratio: {width}×{height} pixels is beyond {MAX_ASPECT:g}:1"
    if visible_box(rgba) is None:
        return "empty: nothing is visible"
    if (rgba == rgba[0, 0]).all():
        return "blank: one single colour"
    return ""


def decode_all(
    folder: Path, inventory: pd.DataFrame, cache: Path, limits: MediaSettings, roots: Sequence[Path] = ()
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield (path, decoded table) of each accepted file, in inventory order.

    `roots`: as for the inventory.
    """
    accepted = inventory[inventory["status"] == "accepted"]
    for path, digest in zip(accepted["path"], accepted["sha256"], strict=True):
        yield path, decode_to_cache(folder / path, digest, cache, limits, roots or [folder])


def decode_counting(
    folder: Path,
    inventory: pd.DataFrame,
    cache: Path,
    limits: MediaSettings,
    roots: Sequence[Path],
    count: Count,
) -> dict[str, pd.DataFrame]:
    """Return path -> table of `decode_all`; `count` each file."""
    total = int((inventory["status"] == "accepted").sum())
    decoded = {}
    for path, part in decode_all(folder, inventory, cache, limits, roots):
        decoded[path] = part
        count("files decoded", len(decoded), total)
    return decoded


def to_decode(inventory: pd.DataFrame, cache: Path, limits: MediaSettings) -> list[tuple[str, int, int, int]]:
    """Return (format, width, height, frames) of accepted files without cache entry."""
    rows = inventory[inventory["status"] == "accepted"]
    new = rows[[not cache_entry(cache, sha, limits).is_dir() for sha in rows["sha256"]]]
    return list(new[["format", "width", "height", "n_frames"]].itertuples(index=False, name=None))


def kinds_of(reasons: pd.Series) -> pd.DataFrame:
    """Count frames by reason, without other frames' names."""
    kinds = reasons.str.split(" as ").str[0]
    return kinds.value_counts().rename_axis("reason").reset_index(name="frames")


def decode_to_cache(
    path: Path, file_sha256: str, cache: Path, limits: MediaSettings, roots: Sequence[Path] = ()
) -> pd.DataFrame:
    """Return the frames of one file, decoded unless cached: DECODED_COLUMNS.

    The cache entry is a folder with the table and `<pixel_sha256>.png` for each distinct useful frame, written
    atomically. A damaged one is replaced.

    A file damaged midway keeps its whole frames, plus a row with empty pixel_sha256 and the cause as `problem`. In
    other rows, `problem` says why a frame is useless.
    """
    entry = cache_entry(cache, file_sha256, limits)
    if _is_cached(entry):
        return pd.read_parquet(entry / TABLE)
    staging = cache / f".decoding.{uuid.uuid4().hex}"
    with writing(entry):
        try:
            staging.mkdir(parents=True)
            rows = list(_decoded_rows(path, file_sha256, staging, limits, roots))
            table = pd.DataFrame(rows, columns=DECODED_COLUMNS)
            if rows[0]["pixel_sha256"]:  # else nothing was read, perhaps for a limit: retry next time
                table.to_parquet(staging / TABLE, index=False)
                seal_folder(staging)
                _publish(staging, entry)
            return table
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _is_cached(entry: Path) -> bool:
    """Tell whether an entry is intact and has checksums.

    Entries of earlier versions have none.
    """
    return (entry / SEALS).exists() and intact_folder(entry)


def cache_entry(cache: Path, file_sha256: str, settings: MediaSettings) -> Path:
    """Return a file's cache folder, named by its bytes, decoders and crop."""
    crop = [] if settings.crop == "none" else [settings.crop, settings.crop_margin]
    decoder = content_hash([DECODER_VERSION, *(version(package) for package in DECODERS), *crop])
    return cache / file_sha256[:2] / f"{file_sha256}-{decoder[:8]}"


def frame_table(
    inventory: pd.DataFrame,
    decoded: Mapping[str, pd.DataFrame],
    cache: Path,
    settings: MediaSettings,
    captions: Mapping[str, str],
) -> pd.DataFrame:
    """Return the frames of all accepted files, by path and number: FRAMES.

    `decoded`: path of each accepted file -> table from decode_all into `cache`; `captions`: path -> caption. Of frames
    with the same image and no different captions, one is kept, in this order: the larger (the other may be its
    thumbnail), a still before an animation (a still has no other frame), not a GIF (256 colours, hard edges), the
    first. The others have kept=False, a reason, and the kept one's frame_id in `duplicate_of`. Useless frames and
    decoding faults have kept=False and a reason; a frame kept only for its caption has a reason too. Raises MediaError
    for an accepted file not in `decoded`.
    """
    accepted = inventory[inventory["status"] == "accepted"].sort_values("path")
    missing = [path for path in accepted["path"] if path not in decoded]
    if missing:
        raise MediaError(f"{missing[0]} is accepted in the inventory but was not decoded")
    parts = [_lineage(decoded[row["path"]], row) for _, row in accepted.iterrows()]
    if not parts:
        return typed(pd.DataFrame(columns=FRAMES.names), FRAMES)
    table = pd.concat(parts, ignore_index=True)
    table["reason"] = table["problem"]
    table["kept"] = table["problem"] == ""
    table["duplicate_of"] = ""
    if settings.merge != "none":
        said = [captions.get(path, "") for path in table["path"]]
        distance = settings.near_duplicate_distance if settings.merge == "near" else -1
        _merge(table, distance, said, _images(accepted, cache, settings))
    table["file"] = np.where(table["kept"], "files/" + table["pixel_sha256"] + ".png", "")
    return typed(table, FRAMES)


def merging_warnings(frames: pd.DataFrame) -> list[str]:
    """Return sentences on near duplicates dropped, or kept for their captions."""
    count = frames.groupby("path")["frame_id"].transform("size")
    near = int(((count == 1) & frames["reason"].str.startswith(NEARLY)).sum())
    apart = int(frames["reason"].str.startswith(APART).sum())
    sentences = []
    if near:
        sentences.append(
            f"Images that are nearly the same as another, and are not used: {near}. Give them captions of their own, "
            "or set `media: {merge: exact}`, to keep them."
        )
    if apart:
        sentences.append(f"Frames that look like another and are kept, since their captions differ: {apart}.")
    return sentences


def write_frame_files(
    frames: pd.DataFrame, inventory: pd.DataFrame, cache: Path, settings: MediaSettings, staging: Path
) -> None:
    """Put each kept frame's PNG at `staging`/`file`, hard-linked if possible.

    `frames`: the `frame_table` of `inventory`, decoded in `cache`.
    """
    entries = _entries(inventory, cache, settings)
    kept = frames[frames["kept"]].drop_duplicates("file")  # unmerged frames may share pixels
    for path, digest, file in zip(kept["path"], kept["pixel_sha256"], kept["file"], strict=True):
        link_or_copy(entries[path] / f"{digest}.png", staging / file)


def frame_id(path: str, index: int) -> str:
    """Return an id of path (in the character's folder) and frame number."""
    return f"{hashlib.sha256(path.encode()).hexdigest()[:10]}-{index:04d}"


def _decoded_rows(
    path: Path, file_sha256: str, staging: Path, limits: MediaSettings, roots: Sequence[Path]
) -> Iterator[dict[str, object]]:
    count = 0
    try:
        with closing(decode_bytes(unchanged_bytes(path, file_sha256, limits, roots), limits)) as frames:
            for frame in frames:
                rgba = cropped(frame.rgba, limits.crop, limits.crop_margin)
                yield _decoded_row(frame, np.ascontiguousarray(rgba), staging)
                count += 1
    except MediaError as error:
        where = f"from frame {count} on" if count else ""
        problem = " ".join(filter(None, ["cannot be decoded", where])) + f": {error}"
        unknown = dict.fromkeys(("start_ms", "duration_ms", "width", "height"), 0)
        nothing = {"pixel_sha256": "", "phash": "", "thumbnail": b"", "preview": b""}
        yield {"frame_index": count, **unknown, **nothing, "problem": problem}


def unchanged_bytes(path: Path, file_sha256: str, limits: MediaSettings, roots: Sequence[Path] = ()) -> bytes:
    """Read a file below `roots`, at most `limits.max_bytes`.

    Raises MediaError for a file that is unreadable, too large, or changed since the inventory.
    """
    try:
        data = read_bytes(path, roots, limits.max_bytes)
    except OSError as error:
        raise MediaError(f"it can no longer be read ({error.strerror}): take the inventory again") from error
    if hashlib.sha256(data).hexdigest() != file_sha256:
        raise MediaError("it has changed since the inventory was made: take the inventory again")
    return data


def _decoded_row(frame: Frame, rgba: np.ndarray, staging: Path) -> dict[str, object]:
    """Return a frame's row; write `rgba` as PNG if useful and new."""
    image = Image.fromarray(rgba)
    flat = _over_white(image)
    digest, problem = pixel_sha256(rgba), useless_because(rgba)
    file = staging / f"{digest}.png"
    if not problem and not file.exists():
        image.save(file, compress_level=1)
    return {
        "frame_index": frame.index,
        "start_ms": frame.start_ms,
        "duration_ms": frame.duration_ms,
        "width": image.width,
        "height": image.height,
        "pixel_sha256": digest,
        "phash": perceptual_hash(flat),
        "thumbnail": _thumbnail(flat, image.getchannel("A")),
        "preview": _preview(image),
        "problem": problem,
    }


def _over_white(image: Image.Image) -> Image.Image:
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A"))
    return flat


def _thumbnail(flat: Image.Image, alpha: Image.Image) -> bytes:
    """Return 16×16×4 bytes: mean colour over white and mean alpha per cell."""
    side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    colours = np.asarray(flat.resize(side, Image.Resampling.BOX))
    return np.dstack([colours, np.asarray(alpha.resize(side, Image.Resampling.BOX))]).tobytes()


def _preview(image: Image.Image) -> bytes:
    """Return a small WebP, for sheets of thousands of frames."""
    small = image.copy()
    small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=80, method=2)
    return buffer.getvalue()


def _publish(staging: Path, entry: Path) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    try:
        staging.rename(entry)
    except OSError:
        # Another process wrote the same entry first, or a damaged one is there: replace it; hard links to its files
        # stay unchanged.
        if not _is_cached(entry):
            forget(entry)
            staging.rename(entry)


def _lineage(decoded: pd.DataFrame, row: pd.Series) -> pd.DataFrame:
    """Add origin and merge preference to decoded frames."""
    path = row["path"]
    return decoded.assign(
        frame_id=[frame_id(path, index) for index in decoded["frame_index"]],
        path=path,
        group=row["group"],
        source_id=path,
        animated=len(decoded) > 1,
        coarse=row["format"] == "GIF",
    )


def _entries(inventory: pd.DataFrame, cache: Path, settings: MediaSettings) -> dict[str, Path]:
    digests = zip(inventory["path"], inventory["sha256"], strict=True)
    return {path: cache_entry(cache, digest, settings) for path, digest in digests if digest}


def _images(accepted: pd.DataFrame, cache: Path, settings: MediaSettings) -> Callable[[str, str], Image.Image]:
    """Return a function from (path, pixel_sha256) to the close-up over white."""
    entries = _entries(accepted, cache, settings)

    @lru_cache(KEPT_CLOSE_UPS)
    def opened(path: str, digest: str) -> Image.Image:
        with Image.open(entries[path] / f"{digest}.png") as image:
            return close_up(_over_white(image))

    return opened


def _merge(
    table: pd.DataFrame, distance: int, captions: Sequence[str], opened: Callable[[str, str], Image.Image]
) -> None:
    """Set kept, reason and duplicate_of of merged frames, in place.

    `captions`: one per row, "" for none. `opened`: as from `_images`.
    """
    usable = table[table["kept"]]
    if usable.empty:
        return
    area = usable["width"] * usable["height"]
    order = np.lexsort((np.arange(len(usable)), usable["coarse"], usable["animated"], -area))
    hashes = np.array([int(value, 16) for value in usable["phash"]], dtype=np.uint64)
    cells = np.frombuffer(b"".join(usable["thumbnail"]), dtype=np.uint8)
    thumbnails = cells.reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE, 4)
    pixels = usable["pixel_sha256"].tolist()
    said = [captions[row] for row in usable.index]
    files = list(zip(usable["path"], pixels, strict=True))

    sizes = list(zip(usable["width"], usable["height"], strict=True))

    def close_look(one: int, other: int) -> float:
        tolerance = CLOSE_TOLERANCE if sizes[one] == sizes[other] else RESIZED_TOLERANCE
        return close_difference(opened(*files[one]), opened(*files[other])) / tolerance

    stills = (~usable["animated"]).tolist()
    chosen, apart = representatives(pixels, hashes, thumbnails, order, distance, said, stills, close_look)
    place = (usable["path"] + " (frame " + usable["frame_index"].astype(str) + ")").tolist()
    for one, other in apart.items():
        table.loc[usable.index[one], "reason"] = f"{APART} {place[other]}"
    merged = chosen != np.arange(len(usable))
    rows, kept = usable.index[merged], usable.index[chosen[merged]]
    same = table.loc[rows, "pixel_sha256"].to_numpy() == table.loc[kept, "pixel_sha256"].to_numpy()
    table.loc[rows, "kept"] = False
    table.loc[rows, "duplicate_of"] = table.loc[kept, "frame_id"].to_numpy()
    table.loc[rows, "reason"] = [
        f"{SAME if exact else NEARLY} {place[one]}" for exact, one in zip(same, chosen[merged], strict=True)
    ]
