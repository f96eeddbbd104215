"""pack.json: the stickers of one set, in order, beside its files."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, StrictBool, StringConstraints, field_validator

from sticker_pipeline.core.character import read_model
from sticker_pipeline.core.files.inside import OutsideError, read_bytes
from sticker_pipeline.core.files.limited_files import parse_json
from sticker_pipeline.core.settings import Strict
from sticker_pipeline.core.storage import atomic_file
from sticker_pipeline.packing.errors import PackError

FILE_NAME = "pack.json"
MOST_BYTES = 1 << 20
# A name in the set's folder: no separators, not hidden, and no characters that Windows refuses.
FileName = Annotated[
    str, StringConstraints(pattern=r"^[^\x00-\x1f/\\:*?\"<>|.][^\x00-\x1f/\\:*?\"<>|]*$", max_length=200)
]


class StickerRecord(Strict):
    """One sticker's file and texts.

    `file`: in the set's folder. `emoji`: in the order of importance. `text`: a description for people who do not see
    it. `sha256`: of the file, in hex. `generated`: made by a model, not by the character's artist.
    """

    file: FileName
    slot: str = Field(min_length=1)
    emoji: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    text: str = ""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    generated: StrictBool


class PackRecord(Strict):
    """A set of stickers for one platform and kind.

    `platform`, `kind`: such as `telegram` and `static`. `name`: short, for addresses and files. `title`: shown to
    people. `stickers`: in the order of the set.
    """

    platform: str = Field(min_length=1)
    kind: str = Field(min_length=1)
    name: str = Field(min_length=1)
    title: str = Field(min_length=1)
    stickers: tuple[StickerRecord, ...]

    @field_validator("stickers")
    @classmethod
    def _named_once(cls, stickers: tuple[StickerRecord, ...]) -> tuple[StickerRecord, ...]:
        for what, names in (("file", [one.file for one in stickers]), ("slot", [one.slot for one in stickers])):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"the {what} {twice[0]!r} occurs twice")
        return stickers


def read_pack(folder: Path) -> PackRecord:
    """Read a set's pack.json. Raises PackError with file and key."""
    path, example = folder / FILE_NAME, "an object with 'platform', 'stickers' and others"
    try:
        return read_model(path, PackRecord, PackError, example, parse=parse_json, most=MOST_BYTES)
    except FileNotFoundError as error:
        raise PackError(f"{path} is missing: build the pack again.") from error
    except OutsideError as error:
        raise PackError(f"{path} is {error.strerror}: put the file itself there.") from error


def pack_json(record: PackRecord) -> bytes:
    """Return the bytes of pack.json: equal for equal records."""
    return (record.model_dump_json(indent=2) + "\n").encode()


def write_pack(record: PackRecord, folder: Path) -> Path:
    """Write pack.json into a set's folder. Raises SpaceError."""
    with atomic_file(folder / FILE_NAME) as staging:
        staging.write_bytes(pack_json(record))
    return folder / FILE_NAME


def read_stickers(folder: Path, record: PackRecord) -> Sequence[bytes]:
    """Return the bytes of each sticker's file, in order.

    Raises PackError for a missing file, and for one that was changed since it was packed.
    """
    return [_read_sticker(folder / sticker.file, sticker) for sticker in record.stickers]


def _read_sticker(path: Path, sticker: StickerRecord) -> bytes:
    try:
        data = read_bytes(path)
    except OSError as error:
        raise PackError(f"{path} cannot be read: {error.strerror}. Build the pack again.") from error
    if hashlib.sha256(data).hexdigest() != sticker.sha256:
        raise PackError(f"{path} is not the file that was packed (its SHA-256 differs): build the pack again.")
    return data
