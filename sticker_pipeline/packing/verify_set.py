"""Check of a written set: numbers, texts, emoji, archives, and each file."""

import hashlib
import io
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sticker_pipeline.core.files.limited_files import LimitedFileError, parse_json
from sticker_pipeline.core.texts import TextError, counted, decoded, quoted, shortened
from sticker_pipeline.packing.emoji import is_emoji
from sticker_pipeline.packing.facts import facts
from sticker_pipeline.packing.pack_record import FILE_NAME, PackRecord, StickerRecord, read_pack
from sticker_pipeline.packing.pack_texts import PackTexts
from sticker_pipeline.packing.platforms import (
    Count,
    PlatformKind,
    Rule,
    TextLimit,
    platform_kind,
    text_length,
    text_within,
)
from sticker_pipeline.packing.verify import Fault, range_text, verify

Files = Mapping[str, bytes]
# File in the set's folder: kind of the set -> kind of the file.
PARTS = {
    "whatsapp": {"tray.png": {"static": "tray", "animated": "tray"}},
    "line": {
        "main.png": {"static": "main", "animated": "animated_main"},
        "tab.png": {"static": "tab", "animated": "tab"},
    },
}
CONTENTS = "contents.json"


def verify_folder(folder: Path, texts: PackTexts) -> list[Fault]:
    """Return the rules that a written set breaks.

    `folder`: of one set, in that of its platform. Raises PackError for a missing or damaged pack.json, OSError.
    """
    record = read_pack(folder)
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
    found = verify_set(record, files, texts)
    if record.platform == "whatsapp":
        path = folder.parent / CONTENTS
        found += _contents_faults(record, path.read_bytes() if path.is_file() else b"")
    return found


def verify_set(record: PackRecord, files: Files, texts: PackTexts) -> list[Fault]:
    """Return the rules that a set breaks, those of its files included.

    `files`: those of the set's folder. Raises PlatformError for an unknown platform or kind.
    """
    kind = platform_kind(record.platform, record.kind)
    return [
        *_number_faults(record, files, kind),
        *_text_faults(record, texts, kind),
        *_file_faults(record, files, kind),
        *_part_faults(record, files, kind),
        *_archive_faults(record, files, kind, texts),
        *_policy_faults(record, kind),
    ]


def _number_faults(record: PackRecord, files: Files, kind: PlatformKind) -> Iterator[Fault]:
    rules, number = kind.rules, len(record.stickers)
    if rules.count and not _accepted(number, rules.count.value):
        allowed = rules.count.value.allowed
        limit = " or ".join(map(str, allowed)) if allowed else range_text(rules.count.value)
        yield _fault("count", kind, rules.count, counted(number, "sticker"), limit)
    moving = sum(_is_animated(files.get(one.file, b"")) for one in record.stickers)
    mixed = rules.mixed is not None and rules.mixed.value
    if kind.takes_stills and kind.takes_animations and not mixed and 0 < moving < number:
        yield _fault(
            "mixed", kind, rules.canvas, f"{counted(moving, 'animation')} of {number}", "all stills, or all animations"
        )
    if rules.animations_in_set and moving != rules.animations_in_set.value:
        limit = str(rules.animations_in_set.value)
        yield _fault("animations_in_set", kind, rules.animations_in_set, counted(moving, "animation"), limit)


def _accepted(number: int, count: Count) -> bool:
    if count.allowed:
        return number in count.allowed
    return count.min <= number and (count.max is None or number <= count.max)


def _is_animated(data: bytes) -> bool:
    try:
        return facts(data).animated
    except ValueError:  # damaged: `verify` says so
        return False


def _text_faults(record: PackRecord, texts: PackTexts, kind: PlatformKind) -> Iterator[Fault]:
    of_set = {**texts.named(), "name": record.name, "title": record.title}
    for name, rule in kind.rules.texts.items():
        if name in ("text", "sticker_name"):
            for one in record.stickers:
                value = one.text if name == "text" else one.file.rpartition(".")[0]
                yield from _text_fault(name, value, kind, rule, one.file)
        else:
            yield from _text_fault(name, of_set.get(name, ""), kind, rule)
    for one in record.stickers:
        yield from _emoji_faults(one, kind)
        yield from _keyword_faults(one, kind)


def _text_fault(name: str, text: str, kind: PlatformKind, rule: Rule[TextLimit], file: str = "") -> Iterator[Fault]:
    limit, length = rule.value, text_length(text, rule.value.unit)
    if limit.empty and not text:
        return
    shown = f"{shortened(text, 60)} ({length} {limit.unit})"
    if length < limit.min or not text_within(text, limit.max, limit.unit):
        yield _fault(f"texts.{name}", kind, rule, shown, f"{limit.min} to {limit.max} {limit.unit}", file)
    elif limit.pattern and not re.fullmatch(limit.pattern, text):
        yield _fault(f"texts.{name}", kind, rule, quoted(text, 60), f"as {limit.pattern}", file)


def _emoji_faults(one: StickerRecord, kind: PlatformKind) -> Iterator[Fault]:
    rule = kind.rules.emoji
    if rule is None:
        return
    number, wanted = len(one.emoji), rule.value
    if not (wanted.min <= number and (wanted.max is None or number <= wanted.max)):
        yield _fault("emoji", kind, rule, f"{number} emoji", range_text(wanted), one.file)
    if wrong := [text for text in one.emoji if not is_emoji(text)]:
        yield _fault("emoji", kind, rule, quoted(wrong[0], 40), "an emoji", one.file)


def _keyword_faults(one: StickerRecord, kind: PlatformKind) -> Iterator[Fault]:
    rule = kind.rules.keywords
    if rule is None:
        return
    length = sum(map(len, one.keywords))
    if len(one.keywords) > rule.value.max or length > rule.value.max_characters:
        limit = f"at most {rule.value.max}, with {counted(rule.value.max_characters, 'character')} in all"
        yield _fault(
            "keywords", kind, rule, f"{len(one.keywords)}, with {counted(length, 'character')}", limit, one.file
        )


def _file_faults(record: PackRecord, files: Files, kind: PlatformKind) -> Iterator[Fault]:
    for one in record.stickers:
        data = files.get(one.file)
        if data is None:
            yield _fault("missing", kind, kind.rules.canvas, "no such file", "in the folder", one.file)
            continue
        if hashlib.sha256(data).hexdigest() != one.sha256:
            yield _fault("changed", kind, kind.rules.canvas, "another SHA-256", f"as in {FILE_NAME}", one.file)
        yield from (replace(fault, file=one.file) for fault in verify(data, kind))


def _part_faults(record: PackRecord, files: Files, kind: PlatformKind) -> Iterator[Fault]:
    for file, kinds in PARTS.get(record.platform, {}).items():
        part = platform_kind(record.platform, kinds[record.kind])
        if file not in files:
            yield _fault("missing", part, part.rules.canvas, "no such file", "in the folder", file)
        else:
            yield from (replace(fault, file=file) for fault in verify(files[file], part))


def _archive_faults(record: PackRecord, files: Files, kind: PlatformKind, texts: PackTexts) -> Iterator[Fault]:
    """Yield faults of archives: size, and contents unlike the folder's."""
    stickers = {one.file: files.get(one.file, b"") for one in record.stickers}
    parts = {file: files.get(file, b"") for file in PARTS.get(record.platform, {})}
    if record.platform == "whatsapp":
        about = {"title.txt": record.title.encode(), "author.txt": texts.author.encode()}
        yield from _archive_fault(f"{record.name}.wastickers", {**about, **parts, **stickers}, files, kind)
    elif record.platform == "line":
        yield from _archive_fault(f"{record.name}.zip", {**parts, **stickers}, files, kind)
    elif record.platform == "mastodon":
        yield from _archive_fault("emoji.tar.gz", stickers, files, kind)
    elif record.platform == "misskey":
        yield from _archive_fault("emoji.zip", stickers, files, kind, others=("meta.json",))


def _archive_fault(
    name: str, wanted: Files, files: Files, kind: PlatformKind, others: tuple[str, ...] = ()
) -> Iterator[Fault]:
    rule = kind.rules.max_zip_bytes
    if name not in files:
        yield _fault("missing", kind, kind.rules.canvas, "no such file", "in the folder", name)
        return
    if rule and len(files[name]) > rule.value:
        yield _fault("max_zip_bytes", kind, rule, f"{len(files[name]):,} bytes", f"at most {rule.value:,}", name)
    held = members(files[name], sum(map(len, wanted.values())) + (1 << 20))
    if held is None:
        yield _fault("damaged", kind, kind.rules.canvas, "no archive", "a whole archive", name)
        return
    wrong = sorted(one for one in set(held) ^ set(wanted) if one not in others)
    wrong += sorted(one for one in set(held) & set(wanted) if held[one] != wanted[one])
    wrong += [one for one in others if one not in held]
    if wrong:
        yield _fault("contents", kind, kind.rules.canvas, f"{wrong[0]} differs", "as in the folder", name)


def members(archive: bytes, most: int) -> dict[str, bytes] | None:
    """Return the files in a zip or gzipped tar.

    None if it is damaged, or they have more than `most` bytes.
    """
    try:
        if archive.startswith(b"\x1f\x8b"):
            plain = zlib.decompressobj(wbits=31).decompress(archive, most + (1 << 20))
            with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
                opened = [(one.name, tar.extractfile(one)) for one in tar.getmembers() if one.isfile()]
                return {name: file.read() for name, file in opened if file}
        with zipfile.ZipFile(io.BytesIO(archive)) as packed:
            if sum(one.file_size for one in packed.infolist()) > most:
                return None
            return {one.filename: packed.read(one) for one in packed.infolist()}
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, ValueError, RuntimeError, EOFError, NotImplementedError):
        return None


def _contents_faults(record: PackRecord, data: bytes) -> Iterator[Fault]:
    """Yield a fault if WhatsApp's contents.json does not describe the set."""
    kind = platform_kind(record.platform, record.kind)
    wanted = [(one.file, list(one.emoji), one.text) for one in record.stickers]
    held: Any = None
    try:
        parsed = parse_json(decoded(data))
        packs = [one for one in parsed["sticker_packs"] if one["identifier"] == record.name]
        held = [(one["image_file"], one["emojis"], one.get("accessibility_text", "")) for one in packs[0]["stickers"]]
        same = packs[0]["animated_sticker_pack"] is (record.kind == "animated") and packs[0]["name"] == record.title
    except (LimitedFileError, TextError, LookupError, TypeError, AttributeError):
        same = False
    if held != wanted or not same:
        yield _fault("contents", kind, kind.rules.canvas, "another set", "as in pack.json", CONTENTS)


def _policy_faults(record: PackRecord, kind: PlatformKind) -> Iterator[Fault]:
    generated = sum(one.generated for one in record.stickers)
    if generated and kind.rules.policy.value.level == "error":
        yield _fault("policy", kind, kind.rules.policy, counted(generated, "generated sticker"), "none generated")


def _fault(code: str, kind: PlatformKind, rule: Rule[Any], value: str, limit: str, file: str = "") -> Fault:
    return Fault(code, value, limit, kind.source(rule), file)
