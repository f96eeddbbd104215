"""Images for the desk: frames, samples, and small versions.

No path of a request is opened: a frame is found by its id, a file by its entry in the artifact's manifest.
"""

import io
from contextlib import suppress
from pathlib import Path

from PIL import Image

from sticker_pipeline.core.caching import read_cached, write_cached
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.storage import ArtifactStore, StorageError
from sticker_pipeline.desk.rows import Rows
from sticker_pipeline.media.frames import cache_entry

SMALL = 192  # pixels of the longer side
QUALITY = 82  # of WebP
SHOWN = (".png", ".webp", ".jpg")


class NoImage(LookupError):
    """No image under this name."""


def frame_file(store: ArtifactStore, name: str, rows: Rows, frame_id: str, limits: MediaSettings) -> Path:
    """Return the PNG of a frame.

    A dropped frame's is in the cache of decoded files. Raises NoImage for an unknown frame, or pixels that are gone.
    """
    found = rows.table[rows.table["frame_id"] == frame_id]
    if not frame_id or found.empty:
        raise NoImage(f"there is no frame {frame_id}")
    row = found.iloc[0]
    if row["file"]:
        return artifact_file(store, name, "frames", str(row["file"]))
    entry = cache_entry(store.cache("media"), str(row["sha256"]), limits)
    path = entry / f"{row['pixel_sha256']}.png"
    if not row["pixel_sha256"] or not path.is_file():
        raise NoImage(f"{row['path']}: this frame is shown after the next update")
    return path


def artifact_file(store: ArtifactStore, name: str, asset: str, file: str) -> Path:
    """Return an image's path if the manifest names it. Raises NoImage."""
    try:
        artifact = store.find(name, asset)
    except StorageError as error:
        raise NoImage(str(error)) from error
    if artifact is None or file not in artifact.files or not file.endswith(SHOWN):
        raise NoImage(f"{asset} of {name} has no image {file}")
    return artifact.fetched([file]) / file


def small(store: ArtifactStore, path: Path, key: str) -> bytes:
    """Return a WebP of at most SMALL pixels.

    Cached under `key`, a hash of the content. Raises NoImage for a file that is gone or cannot be decoded.
    """
    entry = store.root / "_cache" / "desk" / key[:2] / f"{key}-{SMALL}.webp"
    if (cached := read_cached(entry)) is not None:
        return cached
    try:
        with Image.open(path) as image:
            image.thumbnail((SMALL, SMALL), Image.Resampling.LANCZOS, reducing_gap=2.0)
            buffer = io.BytesIO()
            image.save(buffer, "WEBP", quality=QUALITY, method=2)
    except (OSError, ValueError, SyntaxError) as error:
        raise NoImage(f"{path.name} cannot be shown: {error}") from error
    with suppress(OSError):  # a cache that cannot be written costs time alone
        write_cached(entry, buffer.getvalue())
    return buffer.getvalue()
