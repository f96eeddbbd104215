"""The folder layout of kohya's sd-scripts: folder names, caption files, record.

Behaviour of sd-scripts is from its source (library/config_util.py, train_util.py and custom_train_functions.py,
February 2026).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from sticker_pipeline.core.earlier_names import record_of_today
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.texts import TextError, tidy
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.limits import read_within
from sticker_pipeline.media.other_files import caption_text
from sticker_pipeline.media.sidecars import MAX_BYTES, too_long
from sticker_pipeline.tagging.captions import format_caption, is_weighted, parse_caption

HOLDOUT = "holdout"  # sd-scripts ignores folders that do not begin with a number
RECORD = "sticker_pipeline.json"
CONFIG = "dataset.toml"
METADATA = "metadata.json"
# train_util.IMAGE_EXTENSIONS and its Pillow plug-ins, in all lower or all upper case.
_READ = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".avif", ".jxl")
IMAGE_SUFFIXES = frozenset(_READ) | {suffix.upper() for suffix in _READ}

_LINE_END = re.compile(r"\r\n|\r|\n")
_MEANT = re.compile(r"[\\()\[\]]")  # special in custom_train_functions.parse_prompt_attention
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_BRACKET = re.compile(r"\\.|[\[\]]", re.DOTALL)


class FolderRecord(BaseModel):
    """The group settings of one folder in sticker_pipeline.json."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    medium: Literal["sticker", "art"] = "sticker"
    learned: list[str] = []

    @model_validator(mode="before")
    @classmethod
    def _of_today(cls, data: Any) -> Any:
        return record_of_today(data)


class Record(BaseModel):
    """The part of sticker_pipeline.json that an import uses.

    The rest documents the origin of images.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    trigger: str | None = None
    folders: dict[str, FolderRecord] = {}


def folder_repeats(name: str) -> int | None:
    """Read repeats from a folder's name: the number before the first `_`.

    None without a number. sd-scripts ignores such folders, and those below 1
    (generate_dreambooth_subsets_config_by_subdirs).
    """
    try:
        return int(name.split("_")[0])
    except ValueError:
        return None


def folder_subject(name: str) -> str:
    """Return the part after the repeats, sd-scripts' caption for uncaptioned images."""
    return name.partition("_")[2]


@dataclass(frozen=True)
class CaptionFile:
    """A caption file as sd-scripts reads it without wildcards.

    `line`: its first line, tidy; `problem`: reason for no line; `is_cut`: words follow that line; `is_unreadable`: not
    text.
    """

    line: str = ""
    problem: str = ""
    is_cut: bool = False
    is_unreadable: bool = False


def read_caption_file(path: Path, roots: Sequence[Path] = ()) -> CaptionFile:
    """Read the caption of a file below `roots` (`core/files/inside.py`).

    A byte order mark, which sd-scripts would keep, is removed.
    """
    try:
        lines = [tidy(line) for line in _LINE_END.split(caption_text(read_within(path, MediaSettings(), roots)))]
    except (MediaError, TextError) as error:
        return CaptionFile(problem=str(error), is_unreadable=True)
    first, *others = (line if line.strip(" ,") else "" for line in lines)
    if (size := len(first.encode())) > MAX_BYTES:
        return CaptionFile(problem=too_long(size))
    return CaptionFile(first, "" if first else "its first line is empty", any(others))


def shared_syntax(captions: Iterable[str]) -> tuple[list[str], bool]:
    """Return captions in sd-scripts' syntax, and the need for --weighted_captions.

    That option applies to all captions: if one is weighted, literal brackets are escaped in all, else none is changed.
    `own_syntax` is the inverse.
    """
    texts = list(captions)
    if not any(map(is_weighted, texts)):
        return texts, False
    return [_escaped_brackets(text) if is_weighted(text) else _MEANT.sub(r"\\\g<0>", text) for text in texts], True


def own_syntax(captions: Iterable[str]) -> list[str]:
    """Return captions of one kohya folder in our syntax.

    Captions without weights or ambiguous brackets lose their escapes.
    """
    return [_unescaped(text) if is_weighted(text) else text for text in captions]


def _unescaped(caption: str) -> str:
    pairs = parse_caption(caption)
    plain = format_caption([tag for tag, _ in pairs], {})
    return plain if parse_caption(plain) == pairs else _plain_brackets(caption)


def _escaped_brackets(caption: str) -> str:
    """Escape `[` and `]`, emphasis to sd-scripts only, in a weighted caption."""
    return _BRACKET.sub(lambda match: match[0] if match[0][0] == "\\" else "\\" + match[0], caption)


def _plain_brackets(caption: str) -> str:
    return _ESCAPED.sub(lambda match: match[1] if match[1] in "[]" else match[0], caption)
