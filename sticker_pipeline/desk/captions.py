"""Captions in the texts beside images: set, add, remove and replace tags."""

import codecs
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from sticker_pipeline.core.texts import MARKS, TextError, decoded, tidy_lines, without_hidden
from sticker_pipeline.desk.edits import Edit, EditError, content
from sticker_pipeline.desk.rows import common_caption
from sticker_pipeline.media.sidecars import MAX_BYTES, too_long
from sticker_pipeline.tagging.captions import format_caption, parse_caption
from sticker_pipeline.tagging.wd14 import spelled
from sticker_pipeline.tagging.written import written_caption

Change = Callable[[str], str]
"""Returns the new text of a caption."""


@dataclass(frozen=True)
class CaptionFile:
    """The text beside an image.

    `file`: relative to the character's folder, posix. `data`: its bytes now; None: no file yet. `text`: its words, or
    the caption that the image gets without a file.
    """

    image: str
    file: str
    data: bytes | None
    text: str


@dataclass(frozen=True)
class Captions:
    """Captions of a character's images, as they are on the disk.

    `written`: image -> its caption file in raw_media. `by_file`: image -> captions of its frames in training. `first`:
    tags that captions get anyway, by group.
    """

    folder: Path
    images: Collection[str]
    written: Mapping[str, str]
    by_file: Mapping[str, Sequence[str]]
    first: Mapping[str, Sequence[str]]

    @cached_property
    def stems(self) -> Counter[str]:
        """Number of images by path without suffix."""
        return Counter(_stem(image) for image in self.images)

    def of(self, image: str) -> CaptionFile:
        """Return the text beside `image`.

        Without one, the tags common to its frames. Raises EditError for an unknown image or an unreadable text.
        """
        if image not in self.images:
            raise EditError(f"There is no image {image!r}.")
        file = self.file_of(image)
        data = content(self.folder, file)
        if data is None:
            return CaptionFile(image, file, None, common_caption(self.by_file.get(image, ()), self.first_of(image)))
        try:
            return CaptionFile(image, file, data, "\n".join(tidy_lines(decoded(data))))
        except TextError as error:
            raise EditError(f"{file}: {error}.") from error

    def file_of(self, image: str) -> str:
        """Return the caption file of `image`, or a new path.

        A new one is fox.txt for fox.png, and fox.png.txt where fox.gif is there too.
        """
        stem = _stem(image)
        several = self.stems[stem] > 1 or stem in self.images
        return self.written.get(image) or (f"{image}.txt" if several else f"{stem}.txt")

    def first_of(self, image: str) -> Sequence[str]:
        return self.first.get(image.partition("/")[0], ())

    def in_training(self, image: str) -> str:
        """Return the caption with which the next update trains on `image`."""
        return written_caption(self.of(image).text, self.first_of(image)).caption


def _stem(image: str) -> str:
    return PurePosixPath(image).with_suffix("").as_posix()


def edited(folder: Path, caption: CaptionFile, change: Change) -> Edit | None:
    """Return the edit of a caption, None if `change` changes no word.

    Keeps encoding, mark and line ends of the file. Raises EditError for a text too long or with hidden letters.
    """
    text = change(caption.text)
    if text == caption.text and caption.data is not None:
        return None
    after = _encoded(text, caption.data)
    if len(after) > MAX_BYTES:
        raise EditError(f"{caption.file}: {too_long(len(after))}.")
    return Edit(folder, caption.file, caption.data, after)


def _encoded(text: str, before: bytes | None) -> bytes:
    """Encode `text` like `before`: encoding, mark, line ends, last line break."""
    mark, name = next(((mark, name) for mark, name in MARKS if before and before.startswith(mark)), (b"", "utf-8"))
    codec = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}.get(mark, name)
    codec = {codecs.BOM_UTF32_LE: "utf-32-le", codecs.BOM_UTF32_BE: "utf-32-be"}.get(mark, codec)
    codec = "utf-8" if codec == "utf-8-sig" else codec
    old = before[len(mark) :].decode(codec) if before else "\n"
    lines = text.replace("\n", "\r\n" if "\r\n" in old else "\n")
    end = ("\r\n" if old.endswith("\r\n") else "\n") if old.endswith("\n") else ""
    return mark + (lines + end).encode(codec)


def set_to(text: str) -> Change:
    """Return a change to exactly this text.

    Raises EditError for hidden letters, or no word.
    """
    lines = tidy_lines(_plain(text))
    if not lines:
        raise EditError("A caption needs a word. To use the tagger's tags again, delete the text beside the image.")
    return lambda before: "\n".join(lines)


def add(tags: Sequence[str]) -> Change:
    """Return a change that appends those of `tags` that a caption lacks."""
    wanted = _tags(tags)

    def change(text: str) -> str:
        return "\n".join(_with(line, wanted) for line in text.split("\n"))

    return change


def remove(tags: Sequence[str]) -> Change:
    """Return a change that removes `tags`, in any spelling."""
    unwanted = {_said(tag) for tag in _tags(tags)}
    return lambda text: _each_tag(text, lambda tag: None if _said(tag) in unwanted else tag)


def replace(tag: str, by: str) -> Change:
    """Return a change that puts `by` in the place of `tag`."""
    (old,), (new,) = _tags([tag]), _tags([by])
    return lambda text: _each_tag(text, lambda found: new if _said(found) == _said(old) else found)


def _with(line: str, wanted: Sequence[str]) -> str:
    said = {_said(tag) for tag, _ in parse_caption(line)}
    missing = [format_caption([tag], {}) for tag in wanted if _said(tag) not in said]
    return ", ".join([*([line.rstrip(" ,")] if line.strip(" ,") else []), *missing])


def _each_tag(text: str, change: Callable[[str], str | None]) -> str:
    """Apply `change` to each tag; unchanged lines stay letter for letter."""
    return "\n".join(_changed_line(line, change) for line in text.split("\n"))


def _changed_line(line: str, change: Callable[[str], str | None]) -> str:
    pairs = parse_caption(line)
    new = [(kept, weight) for tag, weight in pairs if (kept := change(tag)) is not None]
    if new == pairs:
        return line
    weights: dict[str, float] = {}
    for tag, weight in new:
        weights.setdefault(tag, weight)
    return format_caption(weights, weights)


def _tags(tags: Sequence[str]) -> list[str]:
    found = [tag.strip() for text in tags for tag in _plain(text).split(",") if tag.strip()]
    if not found:
        raise EditError("Name at least one tag.")
    return list(dict.fromkeys(found))


def _plain(text: str) -> str:
    try:
        without_hidden(text.replace("\n", " ").replace("\r", " ").replace("\t", " "))
    except ValueError as error:
        raise EditError(f"The text cannot be taken: {error}.") from error
    return text


def _said(tag: str) -> str:
    return spelled(tag).casefold()
