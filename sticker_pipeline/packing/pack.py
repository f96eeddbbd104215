"""Folder of a pack: a sheet, sets for each platform, their table."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sticker_pipeline.core.character import Pack
from sticker_pipeline.core.progress import Count
from sticker_pipeline.core.schemas import Column, TableSchema, typed
from sticker_pipeline.core.texts import counted
from sticker_pipeline.packing.build import Encoded, Sticker, assigned, encode_all
from sticker_pipeline.packing.bundle import Bundle, write_bundle
from sticker_pipeline.packing.cut_texts import cut_texts
from sticker_pipeline.packing.errors import PackError
from sticker_pipeline.packing.finish import Look, finished
from sticker_pipeline.packing.pack_record import read_pack
from sticker_pipeline.packing.pack_texts import PackTexts
from sticker_pipeline.packing.parts import part_files
from sticker_pipeline.packing.picks import Picks
from sticker_pipeline.packing.platforms import PlatformKind, platform_kinds
from sticker_pipeline.packing.quality import BACKGROUNDS
from sticker_pipeline.packing.verify import Fault
from sticker_pipeline.packing.verify_set import verify_folder

VERDICTS = "verdicts.json"
MOST_NAME = 40  # letters of a pack's name: Telegram takes 64, with the kind and the bot's name
SHEET, SHEET_SIDE, SHEET_ACROSS = "sheet.png", 128, 8

PACK = TableSchema(
    "each file of each set",
    (
        Column("platform", "str", "the platform that takes it"),
        Column("set", "str", "the folder of the set"),
        Column("kind", "str", "the kind of file, such as static or animated"),
        Column("file", "str", "the file, in this artifact"),
        Column("slot", "str", "what is said with it"),
        Column("candidate", "str", "the candidate that it was made from"),
        Column("origin", "str", "generated, own, or override: a person's file"),
        Column("release", "int64", "the release that generated it; 0 if it was not generated", low=0),
        Column("prompt", "str", "the whole prompt; empty if it was not generated"),
        Column("seed", "int64", "of the noise; 0 if it was not generated", low=0),
        Column("sha256", "str", "of the file, 64 hex digits"),
        Column("bytes", "int64", "size of the file", low=1),
        Column("settings", "str", "the encoder's settings, as JSON"),
        Column("error_db", "float64", "PSNR at chat size against the finished sticker; empty without error", True),
    ),
    key=("file",),
)


@dataclass(frozen=True)
class Origin:
    """Origin of a sticker's image; a generated one has release, prompt, seed."""

    origin: str
    release: int = 0
    prompt: str = ""
    seed: int = 0


@dataclass(frozen=True)
class PackOf:
    """A written pack.

    `index`: rows of PACK. `left_out`: platform -> sentences on stickers without a place. `faults`: platform -> broken
    rules. `opaque`: files that have lost their alpha channel. `notes`: sentences on texts that were cut.
    """

    index: pd.DataFrame
    left_out: dict[str, list[str]]
    faults: dict[str, list[Fault]]
    opaque: list[str]
    notes: list[str]


def set_name(name: str) -> str:
    """Return a character's or folder's name as names of sets allow.

    A letter first, small letters, digits, single _; MOST_NAME at most.
    """
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:MOST_NAME].rstrip("_")
    return plain if plain[:1].isalpha() else f"pack_{plain}".rstrip("_")


def texts_of(name: str, picks: Picks, pack: Pack) -> PackTexts:
    """Return the texts of a pack.

    A person's in picks.yaml, else those of character.yaml, else by the name.
    """
    title = picks.title or pack.title or name.replace("_", " ").title()
    author = picks.author or pack.author or title
    return PackTexts(
        name=set_name(name), title=title, author=author, description=f"Stickers of {title}.", copyright=f"© {author}"
    )


def write_pack(
    folder: Path,
    stickers: Sequence[Sticker],
    origins: Mapping[str, Origin],
    platforms: Sequence[str],
    texts: PackTexts,
    look: Look,
    cache: Path,
    count: Count,
    stop: Callable[[], None] = lambda: None,
) -> PackOf:
    """Write a sheet, and a folder for each platform into `folder`.

    origins: by slot. Generated stickers are left out where a platform refuses them; so is what fits no limit, with
    its whole platform if it is a cover. Raises SpaceError.
    """
    sheet(stickers, look).save(folder / SHEET)
    rows: list[dict[str, object]] = []
    left_out: dict[str, list[str]] = {}
    faults: dict[str, list[Fault]] = {}
    opaque: list[str] = []
    notes: list[str] = []
    wanted = {platform: _wanted(stickers, platform) for platform in platforms}
    files = iter(encode_all([pair for plan in wanted.values() for pair in plan.pairs], look, cache, count, stop))
    for platform, plan in wanted.items():
        found = [next(files) for _ in plan.pairs]
        made = [one for one in found if isinstance(one, Encoded)]
        left_out[platform] = [*plan.left_out, *(str(one) for one in found if isinstance(one, PackError))]
        if not made:
            continue
        try:
            parts = part_files(platform, [one.sticker for one in made], look)
            bundle = write_bundle(folder / platform, platform, texts, [one.file for one in made], parts)
        except PackError as error:  # of a cover or of the whole set: the other platforms go on
            left_out[platform].append(str(error))
            continue
        left_out[platform] += [f"{file.slot}: {why}" for file, why in bundle.left_out]
        notes += [f"{platform}: {note}" for note in bundle.notes]
        own_texts = cut_texts(texts, [kind for (name, _), kind in platform_kinds().items() if name == platform])
        faults[platform] = [fault for each in bundle.sets for fault in verify_folder(each, own_texts)]
        rows += _rows(folder, bundle, made, origins)
        opaque += [f"{platform} {one.kind.kind}: {one.sticker.slot}" for one in made if not one.is_cut_out]
    return PackOf(typed(pd.DataFrame(rows, columns=PACK.names), PACK), left_out, faults, opaque, notes)


@dataclass(frozen=True)
class _Plan:
    pairs: list[tuple[Sticker, PlatformKind]]
    left_out: list[str]


def _wanted(stickers: Sequence[Sticker], platform: str) -> _Plan:
    """Return stickers with their kinds, and sentences on the others."""
    kind = next(kind for (name, _), kind in platform_kinds().items() if name == platform)
    policy = kind.rules.policy.value
    refused = [one for one in stickers if one.generated and policy.level == "error"]
    sentences = [f"{counted(len(refused), 'generated sticker')} left out: {policy.text}"] if refused else []
    pairs: list[tuple[Sticker, PlatformKind]] = []
    for own_kind, division in assigned([one for one in stickers if one not in refused], platform):
        pairs += [(one, own_kind) for group in division.sets for one in group]
        sentences += [f"{one.slot}: {why}" for one, why in division.left_out]
    return _Plan(pairs, sentences)


def _rows(
    folder: Path, bundle: Bundle, made: Sequence[Encoded], origins: Mapping[str, Origin]
) -> Iterator[dict[str, object]]:
    of_file = {(one.kind.kind, one.sticker.slot): one for one in made}
    for place in bundle.sets:
        record = read_pack(place)
        for sticker in record.stickers:
            one, origin = of_file[record.kind, sticker.slot], origins[sticker.slot]
            yield {
                "platform": record.platform,
                "set": record.name,
                "kind": record.kind,
                "file": (place / sticker.file).relative_to(folder).as_posix(),
                "slot": sticker.slot,
                "candidate": one.sticker.candidate,
                **vars(origin),
                "sha256": sticker.sha256,
                "bytes": len(one.data),
                "settings": json.dumps(one.settings, sort_keys=True),
                "error_db": float("nan") if one.error_db is None else one.error_db,
            }


def sheet(stickers: Sequence[Sticker], look: Look) -> Image.Image:
    """Return an image of all stickers on two chats.

    The left half of each is on a dark chat, the right half on a light one.
    """
    across = max(1, min(SHEET_ACROSS, len(stickers)))
    down = max(1, -(-len(stickers) // across))
    image = Image.new("RGB", (across * SHEET_SIDE, down * SHEET_SIDE), BACKGROUNDS[-1])
    for number, one in enumerate(stickers):
        shown = Image.fromarray(finished(replace(one, animated=False).master(), SHEET_SIDE, look).frames[0], "RGBA")
        cell = _two_backgrounds(SHEET_SIDE)
        cell.paste(shown, (0, 0), shown)
        image.paste(cell, (number % across * SHEET_SIDE, number // across * SHEET_SIDE))
    return image


def _two_backgrounds(side: int) -> Image.Image:
    pixels = np.empty((side, side, 3), np.uint8)
    pixels[:, : side // 2], pixels[:, side // 2 :] = BACKGROUNDS
    return Image.fromarray(pixels, "RGB")
