"""Captions in the texts beside images: set, add, remove and replace tags."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from sticker_pipeline.core.files.inside import Entry, list_folder
from sticker_pipeline.core.texts import TextError, decoded, folded, tidy_lines, without_hidden
from sticker_pipeline.desk.edits import Edit, EditError, content, encoded_like
from sticker_pipeline.desk.rows import common_caption
from sticker_pipeline.media.sidecars import MAX_BYTES, is_caption_file, owned_captions, too_long
from sticker_pipeline.tagging.captions import format_caption, parse_caption
from sticker_pipeline.tagging.wd14 import spelled
from sticker_pipeline.tagging.written import written_caption

Change = Callable[[str], str]
"""Returns the new text of a caption."""


@dataclass(frozen=True)
class CaptionFile:
    """The text beside an image.

    `file`: relative to the character's folder, posix. `data`: its bytes now; None: no file yet. `text`: its words, or
    the caption that the image gets without any.
    """

    image: str
    file: str
    data: bytes | None
    text: str


@dataclass(frozen=True)
class Files:
    """Images of a character, and the captions of their frames in training."""

    images: Collection[str]
    by_file: Mapping[str, Sequence[str]]

    @cached_property
    def of_name(self) -> dict[str, list[str]]:
        """Folded name of a text -> images that may own it."""
        found: dict[str, list[str]] = {}
        for image in self.images:
            for name in {image, _stem(image)}:
                found.setdefault(folded(name), []).append(image)
        return found


@dataclass(frozen=True)
class Captions:
    """Captions on the disk, as they are when first asked for.

    `first`: tags that captions get anyway, by group.
    """

    folder: Path
    files: Files
    first: Mapping[str, Sequence[str]]
    _texts: dict[str, dict[str, list[str]]] = field(default_factory=dict)  # of each folder, by folded name

    def of(self, image: str) -> CaptionFile:
        """Return the text beside `image`.

        Without words, the tags common to its frames. Raises EditError for an unknown image or an unreadable text.
        """
        if image not in self.files.images:
            raise EditError(f"There is no image {image!r}.")
        file = self.file_of(image)
        data = content(self.folder, file)
        try:
            words = "\n".join(tidy_lines(decoded(data or b"")))
        except TextError as error:
            raise EditError(f"{file}: {error}.") from error
        usual = common_caption(self.files.by_file.get(image, ()), self.first_of(image))
        return CaptionFile(image, file, data, words or usual)

    def file_of(self, image: str) -> str:
        """Return the caption file of `image`, or a new path.

        A new one is fox.txt for fox.png, or fox.png.txt where fox.txt would be of another image too. Raises EditError
        where both are taken by other texts.
        """
        if file := self.found(image):
            return file
        texts = self._near(image)
        for new in (f"{_stem(image)}.txt", f"{image}.txt"):
            before, after = (owned_captions(self._rivals(image), some) for some in (texts, [*texts, new]))
            if {**before, image: new} == after and content(self.folder, new) is None:
                return new
        raise EditError(f"{image}: a text of its name is there, and is no caption: rename that text.")

    def found(self, image: str) -> str:
        """Return the caption file of `image`, "" without one."""
        return owned_captions(self._rivals(image), self._near(image)).get(image, "")

    def shared(self, image: str) -> list[str]:
        """Return other images with the same text."""
        owned = owned_captions(self._rivals(image), self._near(image))
        return [other for other, file in owned.items() if file == owned.get(image) and other != image]

    def first_of(self, image: str) -> Sequence[str]:
        return self.first.get(image.partition("/")[0], ())

    def in_training(self, image: str) -> str:
        """Return the caption with which the next update trains on `image`."""
        return written_caption(self.of(image).text, self.first_of(image)).caption

    def _rivals(self, image: str) -> list[str]:
        """Return the images that may own the same texts as `image`."""
        names = (folded(image), folded(_stem(image)))
        return sorted({other for name in names for other in self.files.of_name.get(name, ())})

    def _near(self, image: str) -> list[str]:
        """Return the texts that may belong to `image` or its rivals."""
        texts = self._listed(image.rpartition("/")[0])
        names = {folded(name) for other in self._rivals(image) for name in (other, _stem(other))}
        return [text for name in sorted(names) for text in texts.get(name, ())]

    def _listed(self, parent: str) -> dict[str, list[str]]:
        if parent not in self._texts:
            found: dict[str, list[str]] = {}
            for entry in self._entries(parent):
                if is_caption_file(entry.name) and entry.size <= MAX_BYTES:
                    path = f"{parent}/{entry.name}" if parent else entry.name
                    found.setdefault(folded(_stem(path)), []).append(path)
            self._texts[parent] = found
        return self._texts[parent]

    def _entries(self, parent: str) -> list[Entry]:
        try:
            return list_folder(self.folder / parent, [self.folder])[1]
        except OSError:  # the folder is gone, or behind a link out: it has no text that can be changed here
            return []


def _stem(path: str) -> str:
    return PurePosixPath(path).with_suffix("").as_posix()


def edited(folder: Path, caption: CaptionFile, change: Change) -> Edit | None:
    """Return the edit of a caption, None if `change` changes no word.

    Keeps encoding, mark and line ends of the file. Raises EditError for a text too long, or without words.
    """
    text = change(caption.text)
    if text == caption.text:
        return None
    if not tidy_lines(text):
        raise EditError(f"{caption.image}: no tag would be left, and a text without words counts as none.")
    end = "\n" if (caption.data or b"\n").rstrip(b"\0").endswith(b"\n") else ""  # UTF-16 ends with a zero
    after = encoded_like(text + end, caption.data)
    if len(after) > MAX_BYTES:
        raise EditError(f"{caption.file}: {too_long(len(after))}.")
    return Edit(folder, caption.file, caption.data, after)


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
    try:
        (old,), (new,) = _tags([tag]), _tags([by])
    except ValueError as error:
        raise EditError("Replace one tag by one tag: neither has a comma.") from error
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
