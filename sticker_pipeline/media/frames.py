"""The frames of a character: decoded once per file into a cache, hashed, and merged where they show the same image.

How files are decoded is in decode.py, when two frames are the same in duplicates.py.
"""

import hashlib
import io
import shutil
import time
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

# Raised whenever decoding, hashing, thumbnails or the reasons for dropping a frame change.
DECODER_VERSION = 4
SECONDS_BETWEEN_LINES = 5.0
DECODERS = ("pillow", "imagehash", "imageio-ffmpeg")  # packages whose version decides what is decoded
FRAMES = TableSchema(
    "each frame of each accepted file, and for each fault of a file",
    (
        Column(
            "frame_id", "str", "names the frame in all later tables: a hash of its path, and the number of the frame"
        ),
        Column("path", "str", "the file that it comes from, as in raw_media"),
        Column("group", "str", "the group of that file"),
        Column("source_id", "str", "what counts as one image: all frames of a file have its path here"),
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

MIN_SIDE = 8  # pixels; below this nobody recognises a character
MAX_ASPECT = 8.0  # longer : shorter side; beyond it an image is a sprite strip or a banner
KEPT_CLOSE_UPS = 128  # in memory, at most 262 kB each
PREVIEW_SIDE = 84  # pixels of the longer side of what contact sheets show


def pixel_sha256(rgba: np.ndarray) -> str:
    """Hex SHA-256 of width·height·4 bytes RGBA (uint8 [H,W,4]), rows top to bottom, with R=G=B=0 wherever A=0."""
    return hashlib.sha256(clear_hidden_colour(rgba.copy(order="C")).data).hexdigest()


def perceptual_hash(rgb: Image.Image) -> str:
    """The 64-bit DCT hash of an opaque image as 16 hex digits (imagehash.phash)."""
    from imagehash import phash

    return str(phash(rgb))


def useless_because(rgba: np.ndarray) -> str:
    """Why nothing can be learned from the image (uint8 [H,W,4]); empty for a useful one."""
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
    """(path, decoded table) of each accepted file of the inventory, in its order: `dict(decode_all(…))` is what
    frame_table takes. Files that are in the cache are not decoded again. `roots`: as for the inventory."""
    accepted = inventory[inventory["status"] == "accepted"]
    for path, digest in zip(accepted["path"], accepted["sha256"], strict=True):
        yield path, decode_to_cache(folder / path, digest, cache, limits, roots or [folder])


def decode_saying(
    folder: Path,
    inventory: pd.DataFrame,
    cache: Path,
    limits: MediaSettings,
    roots: Sequence[Path],
    say: Callable[[str], object],
) -> dict[str, pd.DataFrame]:
    """Path -> table of `decode_all`. `say` takes a line about the progress every SECONDS_BETWEEN_LINES."""
    total = int((inventory["status"] == "accepted").sum())
    decoded, said = {}, time.monotonic()
    for path, part in decode_all(folder, inventory, cache, limits, roots):
        decoded[path] = part
        if time.monotonic() - said > SECONDS_BETWEEN_LINES:
            say(f"{len(decoded)} of {total} files decoded")
            said = time.monotonic()
    return decoded


def to_decode(inventory: pd.DataFrame, cache: Path, limits: MediaSettings) -> list[tuple[str, int, int, int]]:
    """(format, width, height, frames) of each accepted file that is not in the cache."""
    rows = inventory[inventory["status"] == "accepted"]
    new = rows[[not cache_entry(cache, sha, limits).is_dir() for sha in rows["sha256"]]]
    return list(new[["format", "width", "height", "n_frames"]].itertuples(index=False, name=None))


def kinds_of(reasons: pd.Series) -> pd.DataFrame:
    """How many frames each kind of reason dropped: what a reason says before it names another frame."""
    kinds = reasons.str.split(" as ").str[0]
    return kinds.value_counts().rename_axis("reason").reset_index(name="frames")


def decode_to_cache(
    path: Path, file_sha256: str, cache: Path, limits: MediaSettings, roots: Sequence[Path] = ()
) -> pd.DataFrame:
    """The frames of one file with the columns DECODED_COLUMNS, decoded unless the cache has them.

    The cache entry is a folder with the table and one PNG, `<pixel_sha256>.png`, for each distinct useful frame. It
    appears whole or not at all, and is checked when it is found: one that is damaged is decoded again.

    A file that breaks off in the middle keeps its whole frames; its fault is one more row,
    with an empty pixel_sha256 and the cause as `problem`. `problem` of other rows says why a frame is useless.
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
            if rows[0]["pixel_sha256"]:  # else nothing could be read, perhaps because of a limit: try again next time
                table.to_parquet(staging / TABLE, index=False)
                seal_folder(staging)
                _publish(staging, entry)
            return table
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _is_cached(entry: Path) -> bool:
    """Return True for an entry that is as it was written. One without checksums, of an earlier version, is none."""
    return (entry / SEALS).exists() and intact_folder(entry)


def cache_entry(cache: Path, file_sha256: str, settings: MediaSettings) -> Path:
    """The folder of a file's decoded frames: named by the file's bytes, by what decodes them and by what is cut off."""
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
    """The frames of all accepted files, with the columns of FRAMES, in the order of path and frame number.

    `decoded` maps the path of each accepted file to its table, as decode_all made it into `cache`; `captions` the
    paths that have one to it. Of frames that show the same image, and have no different captions, the one kept is, in
    this order: the larger (the other may be its thumbnail), of a still before one of an animation (a still has no other
    frame to stand for it), not of a GIF (which has 256 colours and hard edges), the first by path and number. The
    others have kept=False, the kept one's frame_id in `duplicate_of`, and a reason; so have frames that are useless,
    and files that could not be decoded. A kept frame has a reason where it was kept for its caption alone. Raises
    MediaError for an accepted file that is not in `decoded`.
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
    """Sentences on what a person may not expect of merging: images that went although they differ a little, and
    images that stayed for their captions. `frames` as from `frame_table`."""
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
    """Put the PNG of each kept frame at `staging`/`file`, as a hard link to the cache where that is possible.

    `frames` is the table made of `inventory` by frame_table, with every file decoded into `cache`.
    """
    entries = _entries(inventory, cache, settings)
    kept = frames[frames["kept"]].drop_duplicates("file")  # without merging, several frames may have the same pixels
    for path, digest, file in zip(kept["path"], kept["pixel_sha256"], kept["file"], strict=True):
        link_or_copy(entries[path] / f"{digest}.png", staging / file)


def frame_id(path: str, index: int) -> str:
    """A name that depends on nothing but the file's path in the character's folder and the frame's number."""
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
    """Read a file below `roots` that is as the inventory saw it: a cache entry must never lie.

    Raises MediaError for one that is another by now, or beyond `limits`.
    """
    try:
        data = read_bytes(path, roots, limits.max_bytes)
    except OSError as error:
        raise MediaError(f"it cannot be read any more ({error.strerror}): take the inventory again") from error
    if hashlib.sha256(data).hexdigest() != file_sha256:
        raise MediaError("it has changed since the inventory was made: take the inventory again")
    return data


def _decoded_row(frame: Frame, rgba: np.ndarray, staging: Path) -> dict[str, object]:
    """The row of one frame, of which `rgba` is kept; writes its PNG unless it is useless or was written for an earlier
    frame."""
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
    """`image` (RGBA), opaque."""
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A"))
    return flat


def _thumbnail(flat: Image.Image, alpha: Image.Image) -> bytes:
    """16×16×4 bytes: mean colour over white and mean alpha of each cell."""
    side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    colours = np.asarray(flat.resize(side, Image.Resampling.BOX))
    return np.dstack([colours, np.asarray(alpha.resize(side, Image.Resampling.BOX))]).tobytes()


def _preview(image: Image.Image) -> bytes:
    """A small WebP of the frame, for sheets that show thousands of them."""
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
        # Another process was faster and wrote the same, or what is there is no entry: it is exchanged, and what is
        # linked to its files elsewhere stays as it is.
        if not _is_cached(entry):
            forget(entry)
            staging.rename(entry)


def _lineage(decoded: pd.DataFrame, row: pd.Series) -> pd.DataFrame:
    """The decoded frames with where they come from, and what decides which of two equal ones is kept."""
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
    """Path of each file that was read -> the folder of its decoded frames."""
    digests = zip(inventory["path"], inventory["sha256"], strict=True)
    return {path: cache_entry(cache, digest, settings) for path, digest in digests if digest}


def _images(accepted: pd.DataFrame, cache: Path, settings: MediaSettings) -> Callable[[str, str], Image.Image]:
    """A function of path and pixel_sha256 that gives the close-up of a decoded frame, over white."""
    entries = _entries(accepted, cache, settings)

    @lru_cache(KEPT_CLOSE_UPS)
    def opened(path: str, digest: str) -> Image.Image:
        with Image.open(entries[path] / f"{digest}.png") as image:
            return close_up(_over_white(image))

    return opened


def _merge(
    table: pd.DataFrame, distance: int, captions: Sequence[str], opened: Callable[[str, str], Image.Image]
) -> None:
    """Set kept, reason and duplicate_of of the frames that show the same image as another; changes `table`.

    `captions`: of each row, "" for none. `opened`: as from `_images`.
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
