"""Captions beside images: matching texts to images, and reading."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from sticker_pipeline.core.schemas import Column, TableSchema, typed
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.texts import folded, tidy_lines
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.frames import unchanged_bytes
from sticker_pipeline.media.other_files import caption_text

WRITTEN_CAPTIONS = TableSchema(
    "each image that has a caption beside it",
    (
        Column("path", "str", "the image, as in raw_media"),
        Column("caption_file", "str", "the text that its caption was read from, a path in the character's folder"),
        Column("caption", "str", "its words, lines without surplus spaces"),
    ),
    key=("path",),
    file="captions.parquet",
)
SUFFIXES = (".txt", ".caption")  # usual caption_extension of sd-scripts, in this order
NOBODYS = "text that is no image's caption: no such name, or another is taken"
THUMBNAIL = re.compile(r"(.+)[._ -]thumb(?:nail)?\.(?:jpe?g|png|webp|gif|avif)", re.IGNORECASE)
EXCLUDED = "excluded by media.exclude in character.yaml"  # the reason of a file
NO_WORD = "it holds no word"  # the remark of a text
EMPTY = "an empty text"
MAX_BYTES = 20_000  # of one caption; longer: licences, stories
OF_CAPTIONS = MediaSettings(max_bytes=MAX_BYTES)


def too_long(size: int) -> str:
    """Return why a text of `size` bytes is no caption."""
    return f"text of {size} bytes: no caption, which has {MAX_BYTES} at most"


def is_caption_file(path: str) -> bool:
    """Tell whether `path` has a caption's suffix, in any case."""
    return path.lower().endswith(SUFFIXES)


def owned_captions(
    images: Iterable[str], texts: Iterable[str], wordless: Collection[str] = frozenset()
) -> dict[str, str]:
    """Return image path -> its caption's path among `texts`, if any (posix).

    `fox.txt` and `fox.caption` belong to every image called fox, whatever its suffix. `fox.png.txt` belongs to fox.png
    alone and takes precedence, unless an image is called fox.png, such as `fox.png.jpg`: then that has it. Without an
    exact match, a name that differs only in case or composition matches, unless several images or texts share it. Texts
    of `wordless` (no words, or unreadable) are used only for images without another.
    """
    names, known = list(images), set(texts)
    found = _owned_by_name(names, known & set(wordless)) | _owned_by_name(names, known - set(wordless))
    return {name: found[name] for name in names if name in found}


def outdone_texts(images: Iterable[str], wordless: Iterable[str], owned: Mapping[str, str]) -> dict[str, str]:
    """Return `wordless` texts replaced by another caption -> sentence on it.

    `owned`: from `owned_captions`.
    """
    meant = _owned_by_name(list(images), set(wordless))
    return {
        text: f"the caption of {image} is {owned[image]}" for image, text in meant.items() if text not in owned.values()
    }


def _owned_by_name(images: Sequence[str], known: Set[str]) -> dict[str, str]:
    """Return `owned_captions` by name alone; `known`: the texts."""
    by_fold = defaultdict[str, list[str]](list)
    for text in sorted(known):
        by_fold[_key(text)].append(text)
    names = _names(images)
    found = {image: _exact(stems, known) for image, stems in names.items()}
    spellings = Counter(_key(stem) for stem in {stem for stems in names.values() for stem in stems})
    used = set(found.values())
    for image, stems in names.items():
        if not found[image]:
            found[image] = next((text for stem in stems if (text := _alike(stem, by_fold, spellings, used))), "")
    return {image: text for image, text in found.items() if text}


def _names(images: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return image -> possible caption names without suffix, best first."""
    stems = {image: PurePosixPath(image).with_suffix("").as_posix() for image in images}
    of_all = set(stems.values())
    return {image: (stem,) if image in of_all else (image, stem) for image, stem in stems.items()}


def thumbnails_of(sizes: Mapping[str, int]) -> dict[str, str]:
    """Return path of each thumbnail (by name) -> its larger image.

    `sizes`: pixels. Telegram writes `a.webp_thumb.jpg` beside `a.webp`, others `a_thumb.jpg` or `a-thumbnail.png`
    beside `a.png`.
    """
    known = {_key(PurePosixPath(path).with_suffix("").as_posix()): path for path in sizes}
    known |= {_key(path): path for path in sizes}
    matches = ((path, THUMBNAIL.fullmatch(path)) for path in sizes)
    found = {path: known[_key(match[1])] for path, match in matches if match and _key(match[1]) in known}
    return {path: owner for path, owner in found.items() if sizes[path] < sizes[owner]}


def _key(path: str) -> str:
    """Return a key equal for similar names in one folder."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{folded(name)}"


def _exact(stems: Iterable[str], known: Set[str]) -> str:
    return next((stem + suffix for stem in stems for suffix in SUFFIXES if stem + suffix in known), "")


def _alike(stem: str, by_fold: dict[str, list[str]], spellings: Counter[str], used: set[str]) -> str:
    """Return the only text matching `stem` in another spelling, else ""."""
    if spellings[_key(stem)] > 1:
        return ""
    of_each = ([text for text in by_fold.get(_key(stem + suffix), ()) if text not in used] for suffix in SUFFIXES)
    return next((texts[0] for texts in of_each if len(texts) == 1), "")


def captions_of(inventory: pd.DataFrame) -> dict[str, str]:
    """Return each accepted image -> its caption with words, if any."""
    texts = _texts(inventory)
    wordless = _wordless(texts)
    return {image: text for image, text in _owned(inventory, texts).items() if text not in wordless}


def name_captions(inventory: pd.DataFrame) -> pd.DataFrame:
    """Return the inventory with captions' owners in `reason`."""
    texts = _texts(inventory)
    owned = _owned(inventory, texts)
    owners = {caption: path for path, caption in reversed(owned.items())}
    unused = _captions_of_others(inventory, texts.loc[~texts["path"].isin(owners), "path"])
    unused |= outdone_texts(_accepted(inventory), _wordless(texts), owned)
    table = inventory.copy()
    table.loc[texts.index, "reason"] = [_reason(text, owners, unused) for text in texts.itertuples()]
    return table


def _captions_of_others(inventory: pd.DataFrame, texts: Iterable[str]) -> dict[str, str]:
    """Return those of `texts` matching unused images -> sentence on the image."""
    is_refused = (inventory["status"] == "rejected") & ~inventory["path"].map(is_caption_file)
    is_excluded = inventory["reason"] == EXCLUDED
    is_thumbnail = (inventory["status"] == "ignored") & (inventory["width"] > 0)
    sentences = {}
    of_others = (
        (is_excluded, "which is excluded"),
        (is_thumbnail, "which is ignored"),
        (is_refused, "which is refused"),
    )
    for rows, what in of_others:
        for image, text in owned_captions(inventory.loc[rows, "path"], texts).items():
            sentences[text] = f"the caption of {image}, {what}"
    return sentences


def _reason(text: Any, owners: Mapping[str, str], unused: Mapping[str, str]) -> str:
    """Return the reason of a caption file; `text` is its row.

    `owners`: images by caption. `unused`: sentences on texts without accepted image.
    """
    owner, is_refused = owners.get(text.path, ""), text.status == "rejected"
    if text.bytes > MAX_BYTES and not is_refused:
        return too_long(text.bytes)
    problem = text.reason if is_refused else text.remark and EMPTY
    if text.path in unused:
        return f"{problem}: {unused[text.path]}" if problem else unused[text.path]
    if is_refused:
        return f"the caption of {owner} cannot be read: {problem}" if owner else problem
    if owner and problem:
        return f"{problem}: {owner} has no caption"
    return f"the caption of {owner}" if owner else NOBODYS


def _owned(inventory: pd.DataFrame, texts: pd.DataFrame) -> dict[str, str]:
    short = texts.loc[texts["bytes"] <= MAX_BYTES, "path"]
    return owned_captions(_accepted(inventory), short, _wordless(texts))


def _accepted(inventory: pd.DataFrame) -> list[str]:
    return inventory.loc[inventory["status"] == "accepted", "path"].tolist()


def _texts(inventory: pd.DataFrame) -> pd.DataFrame:
    """Return rows with a caption's suffix, unless ignored unread."""
    has_verdict = (inventory["status"] == "rejected") | (
        (inventory["status"] == "ignored") & (inventory["sha256"] != "")
    )
    return inventory[has_verdict & inventory["path"].map(is_caption_file)]


def _wordless(texts: pd.DataFrame) -> set[str]:
    return set(texts.loc[(texts["status"] == "rejected") | (texts["remark"] == NO_WORD), "path"])


def read_captions(folder: Path, inventory: pd.DataFrame, roots: Sequence[Path] = ()) -> pd.DataFrame:
    """Return the captions of accepted images below `folder`: table WRITTEN_CAPTIONS.

    In inventory order; `roots` as there. Lines with words are tidied (`core/texts.py`) and joined by line breaks; a
    file without words is no caption. Raises MediaError, naming the file, if it changed since the inventory.
    """
    digests = dict(zip(inventory["path"], inventory["sha256"], strict=True))
    rows = []
    for path, caption_file in captions_of(inventory).items():
        caption = _read(folder / caption_file, digests[caption_file], roots or [folder])
        if caption:
            rows.append((path, caption_file, caption))
    return typed(pd.DataFrame(rows, columns=WRITTEN_CAPTIONS.names), WRITTEN_CAPTIONS)


def _read(path: Path, digest: str, roots: Sequence[Path]) -> str:
    try:
        return "\n".join(tidy_lines(caption_text(unchanged_bytes(path, digest, OF_CAPTIONS, roots))))
    except MediaError as error:
        raise MediaError(f"{path}: {error}") from error
