"""Images of the base model's kind: the trigger alone carries the character.

Read from a folder into rows like the training set's; `training/step.py` weighs their loss.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from sticker_pipeline.core.caching import file_hashes, read_memo, write_memo
from sticker_pipeline.core.files.inside import sha256
from sticker_pipeline.core.settings import BucketSettings, MediaSettings
from sticker_pipeline.core.storage import content_hash
from sticker_pipeline.core.texts import counted, is_unicode
from sticker_pipeline.dataset.buckets import BucketError, assign_buckets
from sticker_pipeline.dataset.kohya import CaptionFile, read_caption_file
from sticker_pipeline.dataset.manifest import TRAIN
from sticker_pipeline.media.decode import decode_bytes
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.frames import DECODER_VERSION, useless_because
from sticker_pipeline.media.header import is_image, what_is_it
from sticker_pipeline.media.inventory import media_files, unopened_files
from sticker_pipeline.media.limits import read_within
from sticker_pipeline.media.other_files import beside_images
from sticker_pipeline.media.sidecars import MAX_BYTES, is_caption_file, outdone_texts, owned_captions
from sticker_pipeline.training.spec import SpecError

SHOWN = 20  # reasons shown for images left out; then only their number
LIMITS = MediaSettings()

Size = tuple[int, int]  # width, height in pixels


@dataclass(frozen=True)
class _Found:
    """A file's image size, or the reason for none; neither for text."""

    size: Size | None = None
    reason: str = ""


def read_regularisation(
    folder: Path,
    cache: Path,
    resolution: int,
    buckets: BucketSettings,
    *,
    share: float,
    roots: Sequence[Path] = (),
    note: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Images in `folder`, recursively, as rows of data.read_training_set.

    Sampled equally often, with `share` (0..1) of all samples; of an animation, the first frame. Files and links must
    lie below `roots` (see `core/files/inside.py`), by default `folder`. The caption is the first line of the .txt or
    .caption beside the image, as in sd-scripts, else empty. Broken and useless images, and those with an unreadable
    caption, are left out; `note` reports them, with reasons, and how many have no caption. Each image is decoded once;
    `cache` keeps usable ones' sizes by content. Raises SpecError without a folder or usable image.
    """
    if not folder.is_dir():
        raise SpecError(f"regularisation: there is no folder {folder}.")
    roots = roots or [folder.absolute()]
    sizes = _usable(folder, cache, roots, note)
    if not sizes:
        raise SpecError(f"regularisation: {folder} has no usable image.")
    by_name = {path.relative_to(folder.absolute()).as_posix(): path for path in sizes}
    captions = _captions(folder.absolute(), list(by_name), roots, note)
    names = [name for name in by_name if name in captions]
    if not names:
        raise SpecError(f"regularisation: {folder} has no usable image.")
    sizes = {by_name[name]: sizes[by_name[name]] for name in names}
    if missing := list(captions.values()).count(""):
        note(f"regularisation: {missing} of {counted(len(captions), 'image')} without a caption, taken as empty")
    sides = np.array(list(sizes.values()), dtype=np.int64)
    try:
        chosen = assign_buckets(sides[:, 0], sides[:, 1], resolution, buckets)
    except BucketError as error:
        raise SpecError(f"regularisation: {error}.") from error
    columns = {
        "frame_id": [f"regularisation/{name}" for name in names],
        "file": names,
        "caption": [captions[name] for name in names],
        "probability": share / len(names),
        "bucket_width": chosen[:, 0],
        "bucket_height": chosen[:, 1],
        "split": TRAIN,
        "path": [str(path) for path in sizes],
        "width": sides[:, 0],
        "height": sides[:, 1],
        "regularisation": True,
    }
    return pd.DataFrame(columns)


def _usable(folder: Path, cache: Path, roots: Sequence[Path], note: Callable[[str], None]) -> dict[Path, Size]:
    files = media_files(folder.absolute(), roots)
    memos = cache / "regularisation"
    name = content_hash(os.fspath(folder.absolute()))[:16]
    hashes = file_hashes(files, memos / f"hashes-{name}.json", partial(sha256, roots=roots))
    memo = memos / f"sizes-{name}-{DECODER_VERSION}.json"
    known: dict[str, list[int]] = read_memo(memo) or {}

    def look(path: Path) -> _Found:
        size = known.get(hashes.get(path, ""))
        return _Found(size=(size[0], size[1])) if size else _judge(path, roots)

    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(files, pool.map(look, files), strict=True))
    unopened = unopened_files(folder.absolute(), roots)
    found |= {path: _Found(reason=why) if why else _judge(path, roots) for path, why in unopened.items()}
    broken = {path: one.reason for path, one in sorted(found.items()) if one.reason}
    for path in list(broken)[:SHOWN]:
        shown = path.relative_to(folder.absolute()).as_posix().encode("utf-8", "backslashreplace").decode()
        note(f"regularisation: left out {shown}: {broken[path]}")
    if len(broken) > SHOWN:
        note(f"regularisation: left out {len(broken) - SHOWN} more")
    sizes = {path: one.size for path, one in found.items() if one.size}
    fresh = {hashes[path]: list(size) for path, size in sizes.items() if path in hashes}
    if fresh != known:
        write_memo(memo, fresh)
    return sizes


def _judge(path: Path, roots: Sequence[Path]) -> _Found:
    """Decode one file for its size, or the reason against it."""
    if not is_unicode(os.fspath(path)):
        return _Found(reason="its name is not UTF-8: rename it")
    try:
        data = read_within(path, LIMITS, roots)
        if not is_image(data):
            is_beside = is_caption_file(path.name) or beside_images(path.suffix, data)
            return _Found(reason="" if is_beside else what_is_it(data))
        with closing(decode_bytes(data, LIMITS)) as frames:
            rgba = next(frames).rgba
    except MediaError as error:
        return _Found(reason=str(error))
    reason = useless_because(rgba)
    return _Found(reason=reason) if reason else _Found(size=(rgba.shape[1], rgba.shape[0]))


def _captions(
    folder: Path, images: Sequence[str], roots: Sequence[Path], note: Callable[[str], None]
) -> dict[str, str]:
    """Caption of each of `images`, found as a character's; "" for none.

    Relative to `folder`. Images with an unreadable caption are left out. `note` reports that, and a text without words
    replaced by another.
    """
    texts = {
        path.relative_to(folder).as_posix(): read_caption_file(path, roots)
        for path in media_files(folder, roots)
        if is_caption_file(path.name) and path.stat().st_size <= MAX_BYTES
    }
    wordless = {name for name, text in texts.items() if not text.line}
    owned = owned_captions(images, texts, wordless)
    for name, instead in outdone_texts(images, wordless, owned).items():
        note(f"regularisation: passed over {name}: {texts[name].problem}: {instead}")
    captions = {}
    for image in images:
        text = texts.get(owned.get(image, ""), CaptionFile())
        if text.is_unreadable:
            note(f"regularisation: left out {image}: its caption {owned[image]} cannot be read: {text.problem}")
        else:
            captions[image] = text.line
    return captions
