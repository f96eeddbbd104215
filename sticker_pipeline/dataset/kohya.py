"""The folder layout of kohya's sd-scripts, as both directions know it: names of folders, caption files, our own record.

Writing such a folder is in kohya_export.py, reading one in kohya_import.py. What sd-scripts does is stated as its
source has it (library/config_util.py, library/train_util.py and library/custom_train_functions.py, February 2026).
"""

import re
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from sticker_pipeline.media.other_files import caption_text
from sticker_pipeline.tagging.captions import format_caption, is_weighted, parse_caption
from sticker_pipeline.texts import tidy

HOLDOUT = "holdout"  # sd-scripts passes over folders that do not begin with a number
RECORD = "sticker_pipeline.json"
CONFIG = "dataset.toml"
METADATA = "metadata.json"
# train_util.IMAGE_EXTENSIONS, with what its plug-ins for Pillow add. It knows them in lower and in upper case only.
_READ = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".avif", ".jxl")
PICTURE_SUFFIXES = frozenset(_READ) | {suffix.upper() for suffix in _READ}

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
    """The part of sticker_pipeline.json that an import uses; the rest tells people where the pictures come from."""

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
    """What follows the repeats in a folder's name: the caption of its pictures that have no caption file."""
    return name.partition("_")[2]


def caption_line(data: bytes) -> str:
    """The caption in a caption file: its first line, tidy, as sd-scripts reads it unless wildcards are on. A byte order
    mark, which sd-scripts would take for a letter, is dropped. Raises TextError as `caption_text` does."""
    return tidy(_LINE_END.split(caption_text(data), maxsplit=1)[0])


def has_more_lines(data: bytes) -> bool:
    """Tell whether words follow the first line of a caption file. Raises TextError as `caption_text` does."""
    return any(tidy(line).strip(" ,") for line in _LINE_END.split(caption_text(data))[1:])


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
