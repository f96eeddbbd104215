"""Folders of packs as platforms take them, with pack.json and instructions.

What the files of each platform are made of stands in `packing/handing_over.py`.
"""

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sticker_pipeline.core.files.space import writing
from sticker_pipeline.core.texts import counted, listed, shortened
from sticker_pipeline.packing.cut_texts import cut_note, cut_notes, cut_stem, cut_text, cut_texts
from sticker_pipeline.packing.errors import PackError
from sticker_pipeline.packing.handing_over import SetFiles, platform_files, set_files
from sticker_pipeline.packing.pack_record import FILE_NAME, PackRecord, StickerRecord, pack_json
from sticker_pipeline.packing.pack_texts import PackTexts
from sticker_pipeline.packing.platforms import PlatformKind, platform_kinds, split

INSTRUCTIONS = "INSTRUCTIONS.md"
SET_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
ENDINGS = ((b"\x89PNG", "png"), (b"GIF8", "gif"), (b"RIFF", "webp"), (b"\x1aE\xdf\xa3", "webm"))
MOST_SLOT = 48  # letters of a slot in a file's name; tar takes 100 in all
BY_NUMBER = ("line", "kakao")  # file names are numbers


@dataclass(frozen=True)
class PackFile:
    """A finished file of one sticker for one kind of a platform.

    `emoji`, `keywords`: the most important first. `text`: a description. `generated`: by a model.
    """

    slot: str
    data: bytes
    kind: str
    emoji: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    text: str = ""
    animated: bool = False
    generated: bool = True

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Bundle:
    """A written folder of a platform, its sets, and stickers left out.

    `notes`: sentences on texts that were cut.
    """

    folder: Path
    sets: tuple[Path, ...]
    left_out: tuple[tuple[PackFile, str], ...]
    notes: tuple[str, ...]


def write_bundle(
    folder: Path,
    platform: str,
    texts: PackTexts,
    stickers: Sequence[PackFile],
    parts: Mapping[str, bytes] | None = None,
) -> Bundle:
    """Write a platform's folder: a folder for each set, and INSTRUCTIONS.md.

    `folder` must be new or empty. `parts`: kind -> file, such as WhatsApp's `tray`, LINE's `main`. Texts are cut to the
    platform's limits, with a note. The result has equal bytes for equal input. Raises PackError for an unknown kind, a
    missing part, an unusable name, generated art where the platform refuses it, and a folder with files; SpaceError.
    """
    kinds = {kind.kind: kind for kind in platform_kinds().values() if kind.platform == platform}
    _check(folder, platform, texts, stickers, kinds)
    notes, texts = cut_notes(texts, kinds.values()), cut_texts(texts, kinds.values())
    records: list[tuple[PackRecord, PlatformKind, SetFiles]] = []
    left_out: list[tuple[PackFile, str]] = []
    for kind in kinds.values():
        found = split([one for one in stickers if one.kind == kind.kind], kind)
        left_out += found.left_out
        for number, members in enumerate(found.sets, 1):
            record = _record(texts, kind, number, members)
            files = {one.file: sticker.data for one, sticker in zip(record.stickers, members, strict=True)}
            records.append((record, kind, set_files(record, files, texts, parts or {})))
            notes += _set_notes(texts, kind, number, members)
    with writing(folder):
        _write(folder, {record.name: _with_record(record, files) for record, _, files in records})
        top = platform_files(platform, [(record, files) for record, _, files in records], texts)
        _write(folder, {"": {**top, INSTRUCTIONS: _instructions(kinds, texts, records, left_out, notes).encode()}})
    return Bundle(folder, tuple(folder / record.name for record, _, _ in records), tuple(left_out), tuple(notes))


def _check(
    folder: Path,
    platform: str,
    texts: PackTexts,
    stickers: Sequence[PackFile],
    kinds: Mapping[str, PlatformKind],
) -> None:
    usable = [name for name, kind in kinds.items() if not kind.part]
    if not kinds:
        raise PackError(f"There is no platform '{platform}'.")
    if unknown := sorted({one.kind for one in stickers} - set(usable)):
        raise PackError(f"{platform} has no stickers of the kind {unknown[0]!r}: it has {listed(usable)}.")
    if not SET_NAME.fullmatch(texts.name):
        raise PackError(f"The pack's name {texts.name!r} must be small letters, digits and single _, a letter first.")
    generated = sorted(
        {one.slot for one in stickers if one.generated and kinds[one.kind].rules.policy.value.level == "error"}
    )
    if generated:
        policy = kinds[usable[0]].rules.policy
        raise PackError(
            f"{policy.value.text} Generated are: {listed(generated)}. Source: {kinds[usable[0]].source(policy)}."
        )
    if folder.exists() and any(folder.iterdir()):
        raise PackError(f"{folder} has files already: choose a new folder.")


def _record(texts: PackTexts, kind: PlatformKind, number: int, members: Sequence[PackFile]) -> PackRecord:
    """Return the record of a set.

    Its name stays when other sets come or go.
    """
    more = f"_{number}" if number > 1 else ""
    name, title = f"{texts.name}_{kind.kind}{more}", _title(texts, kind, number)
    files = _file_names(texts.name, kind, members)
    return PackRecord(
        platform=kind.platform,
        kind=kind.kind,
        name=name,
        title=title,
        stickers=tuple(
            StickerRecord(
                file=file,
                slot=one.slot,
                emoji=_first_emoji(one, kind),
                keywords=_fitting_keywords(one, kind),
                text=cut_text(one.text, "text", kind),
                sha256=one.sha256,
                generated=one.generated,
            )
            for file, one in zip(files, members, strict=True)
        ),
    )


def _title(texts: PackTexts, kind: PlatformKind, number: int) -> str:
    return cut_text(texts.title, "title", kind, _more(number)) + _more(number)


def _more(number: int) -> str:
    return f" {number}" if number > 1 else ""


def _set_notes(texts: PackTexts, kind: PlatformKind, number: int, members: Sequence[PackFile]) -> list[str]:
    """Return sentences on the cut title and texts of one set."""
    limits, notes = kind.rules.texts, list[str]()
    if "title" in limits:
        notes.append(cut_note(f"title of set {number}", texts.title, limits["title"].value, _more(number)))
    if "text" in limits:
        notes += [cut_note(f"text of {shortened(one.slot)}", one.text, limits["text"].value) for one in members]
    return [note for note in notes if note]


def _file_names(name: str, kind: PlatformKind, members: Sequence[PackFile]) -> list[str]:
    """Return file names: numbers, names of stickers, or both."""
    named = "sticker_name" in kind.rules.texts
    prefix = f"{name}_" if kind.kind in ("emoji", "emoticon") or kind.platform == "matrix" else ""
    digits = max(2, len(str(len(members))))
    names: list[str] = []
    for number, one in enumerate(members, 1):
        slot = plain_name(one.slot)[:MOST_SLOT].rstrip("_")
        count = f"{number:0{digits}d}"
        stem = (
            cut_stem(prefix, slot, kind, f"_{count}")
            if named
            else count
            if kind.platform in BY_NUMBER
            else f"{count}_{slot}"
        )
        ending = next((ending for start, ending in ENDINGS if one.data.startswith(start)), "bin")
        taken = {other.rpartition(".")[0] for other in names}
        names.append(f"{stem if stem not in taken else f'{stem}_{count}'}.{ending}")
    return names


def plain_name(text: str) -> str:
    """Return `text` as small ASCII letters, digits and single _; never empty."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "_", ascii_text.lower()).strip("_") or "sticker"


def _first_emoji(one: PackFile, kind: PlatformKind) -> tuple[str, ...]:
    return one.emoji[: kind.rules.emoji.value.max] if kind.rules.emoji else one.emoji


def _fitting_keywords(one: PackFile, kind: PlatformKind) -> tuple[str, ...]:
    """Return the keywords that fit together, the first ones preferred."""
    if kind.rules.keywords is None:
        return one.keywords
    limit, kept, length = kind.rules.keywords.value, list[str](), 0
    for word in dict.fromkeys(one.keywords):
        if len(kept) < limit.max and length + len(word) <= limit.max_characters:
            kept, length = [*kept, word], length + len(word)
    return tuple(kept)


def _with_record(record: PackRecord, files: SetFiles) -> dict[str, bytes]:
    return {**files, FILE_NAME: pack_json(record)}


def _write(folder: Path, folders: Mapping[str, Mapping[str, bytes]]) -> None:
    for name, files in folders.items():
        for file, data in files.items():
            path = folder / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def _instructions(
    kinds: Mapping[str, PlatformKind],
    texts: PackTexts,
    records: Sequence[tuple[PackRecord, PlatformKind, SetFiles]],
    left_out: Sequence[tuple[PackFile, str]],
    notes: Sequence[str],
) -> str:
    first = next(iter(kinds.values()))
    policy = first.rules.policy
    lines = [f"# {texts.title}: {first.title}", "", first.handing_over.rstrip(), ""]
    lines += ["## Sets", "", "| folder | kind | title | stickers |", "|---|---|---|---|"]
    lines += [f"| {one.name} | {one.kind} | {_cell(one.title)} | {len(one.stickers)} |" for one, _, _ in records]
    if left_out:
        lines += ["", "## Left out", ""]
        lines += [f"- {_cell(one.slot)}: {reason}" for one, reason in left_out]
    if notes:
        lines += ["", "## Cut texts", "", *(f"- {_cell(note)}" for note in notes)]
    generated = sum(one.generated for record, _, _ in records for one in record.stickers)
    lines += ["", "## Generated art", ""]
    lines += [f"{counted(generated, 'sticker')} of this pack: generated by a model. {policy.value.text}", ""]
    lines += [f"Source: {first.source(policy)}."]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
