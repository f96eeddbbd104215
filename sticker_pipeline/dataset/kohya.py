"""The folder layout of kohya's sd-scripts, as both directions know it: names of folders, caption files, our own record.

Writing such a folder is in kohya_export.py, reading one in kohya_import.py. What sd-scripts does is stated as its
source has it (library/config_util.py, library/train_util.py and library/custom_train_functions.py, February 2026).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.texts import TextError, tidy
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.limits import read_within
from sticker_pipeline.media.other_files import caption_text
from sticker_pipeline.media.sidecars import MAX_BYTES, too_long
from sticker_pipeline.tagging.captions import format_caption, is_weighted, parse_caption

HOLDOUT = "holdout"  # sd-scripts passes over folders that do not begin with a number
RECORD = "sticker_pipeline.json"
CONFIG = "dataset.toml"
METADATA = "metadata.json"
# train_util.IMAGE_EXTENSIONS, with what its plug-ins for Pillow add. It knows them in lower and in upper case only.
_READ = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".avif", ".jxl")
IMAGE_SUFFIXES = frozenset(_READ) | {suffix.upper() for suffix in _READ}

_LINE_END = re.compile(r"\r\n|\r|\n")
_MEANT = re.compile(r"[\\()\[\]]")  # custom_train_functions.parse_prompt_attention gives these a meaning
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_BRACKET = re.compile(r"\\.|[\[\]]", re.DOTALL)


class FolderRecord(BaseModel):
    """What sticker_pipeline.json says of one folder beyond its name: what its group is here."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    style: Literal["sticker", "art"] = "sticker"
    learned: list[str] = []


class Record(BaseModel):
    """The part of sticker_pipeline.json that an import uses; the rest tells people where the images come from."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    trigger: str | None = None
    folders: dict[str, FolderRecord] = {}


def folder_repeats(name: str) -> int | None:
    """The repeats that sd-scripts reads off a folder's name: the number before the first `_`; None where there is
    none, and sd-scripts ignores the folder, as it does below 1 (generate_dreambooth_subsets_config_by_subdirs)."""
    try:
        return int(name.split("_")[0])
    except ValueError:
        return None


def folder_subject(name: str) -> str:
    """What follows the repeats in a folder's name: the caption of its images that have no caption file."""
    return name.partition("_")[2]


@dataclass(frozen=True)
class CaptionFile:
    """A caption file as sd-scripts reads it, unless wildcards are on: `line` is its first line, tidy; `problem` says
    why there is none. `is_cut`: words follow that line. `is_unreadable`: it is no text."""

    line: str = ""
    problem: str = ""
    is_cut: bool = False
    is_unreadable: bool = False


def read_caption_file(path: Path, roots: Sequence[Path] = ()) -> CaptionFile:
    """The caption in a file below `roots` (see inside.py), without a byte order mark, which sd-scripts would keep."""
    try:
        lines = [tidy(line) for line in _LINE_END.split(caption_text(read_within(path, MediaSettings(), roots)))]
    except (MediaError, TextError) as error:
        return CaptionFile(problem=str(error), is_unreadable=True)
    first, *others = (line if line.strip(" ,") else "" for line in lines)
    if (size := len(first.encode())) > MAX_BYTES:
        return CaptionFile(problem=too_long(size))
    return CaptionFile(first, "" if first else "its first line is empty", any(others))


def shared_syntax(captions: Iterable[str]) -> tuple[list[str], bool]:
    """The captions as sd-scripts has to read them, and whether that is with --weighted_captions.

    That option holds for all captions: when one of ours is weighted, brackets that stand for themselves are escaped in
    every caption. Otherwise all stay as they are. `own_syntax` is the inverse.
    """
    texts = list(captions)
    if not any(map(is_weighted, texts)):
        return texts, False
    return [_escaped_brackets(text) if is_weighted(text) else _MEANT.sub(r"\\\g<0>", text) for text in texts], True


def own_syntax(captions: Iterable[str]) -> list[str]:
    """Captions of one kohya folder as we write them: without escapes where none has a weight or could be misread."""
    return [_unescaped(text) if is_weighted(text) else text for text in captions]


def _unescaped(caption: str) -> str:
    pairs = parse_caption(caption)
    plain = format_caption([tag for tag, _ in pairs], {})
    return plain if parse_caption(plain) == pairs else _plain_brackets(caption)


def _escaped_brackets(caption: str) -> str:
    """A weighted caption of ours, in which `[` and `]`, emphasis to sd-scripts but not to us, are escaped too."""
    return _BRACKET.sub(lambda match: match[0] if match[0][0] == "\\" else "\\" + match[0], caption)


def _plain_brackets(caption: str) -> str:
    return _ESCAPED.sub(lambda match: match[1] if match[1] in "[]" else match[0], caption)
