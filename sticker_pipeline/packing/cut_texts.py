"""Texts cut to a platform's limits: titles, descriptions, names."""

from collections.abc import Iterable

from sticker_pipeline.core.texts import quoted
from sticker_pipeline.packing.pack_texts import PackTexts
from sticker_pipeline.packing.platforms import PlatformKind, Rule, TextLimit, text_length, text_within

JOINERS = "\u200d\ufe0e\ufe0f"  # they follow a letter, or join it to the next
FIELDS = {"title": "title", "author": "author", "publisher": "author", "description": "description",
          "copyright": "copyright"}  # fmt: skip
UNITS = {"characters": "characters", "bytes": "bytes", "east_asian": "columns"}  # as `text_length` counts


def cut(text: str, limit: TextLimit, reserved: str = "") -> str:
    """Return the beginning of `text` that fits, without half a word.

    It fits with `reserved` after it. A first word that is too long is cut. A text under the least length is left out
    where an empty one is accepted.
    """
    most = max(1, limit.max - text_length(reserved, limit.unit))
    if limit.empty and text_length(text, limit.unit) < limit.min:
        return ""
    if text_within(text, most, limit.unit):
        return text
    kept = text
    while not text_within(kept, most, limit.unit):
        kept = kept[:-1]
    words = kept if text[len(kept)] == " " else kept.rpartition(" ")[0] or kept
    return words.rstrip().rstrip(JOINERS)


def cut_note(what: str, text: str, limit: TextLimit, reserved: str = "") -> str:
    """Return a sentence on what `cut` takes from a text; empty if nothing."""
    kept = cut(text, limit, reserved)
    if kept == text:
        return ""
    if not kept:
        return f"the {what} {quoted(text)} is left out: it must have {limit.min} {UNITS[limit.unit]} or more."
    return f"the {what} is cut to {quoted(kept + reserved)}: at most {limit.max} {UNITS[limit.unit]} are taken."


def cut_notes(texts: PackTexts, kinds: Iterable[PlatformKind]) -> list[str]:
    """Return sentences on what `cut_texts` takes from a pack's texts."""
    notes = [
        cut_note(field, getattr(texts, field), kind.rules.texts[name].value)
        for kind in kinds
        for name, field in FIELDS.items()
        if name in kind.rules.texts
    ]
    return [note for note in dict.fromkeys(notes) if note]


def cut_texts(texts: PackTexts, kinds: Iterable[PlatformKind]) -> PackTexts:
    """Return a pack's texts as all `kinds` of a platform take them."""
    found = texts.model_dump()
    for kind in kinds:
        for name, field in FIELDS.items():
            if name in kind.rules.texts:
                found[field] = cut(found[field], kind.rules.texts[name].value)
    return PackTexts(**found)


def cut_text(text: str, name: str, kind: PlatformKind, reserved: str = "") -> str:
    """Return `text` as the rule `name` takes it; whole without one."""
    rule: Rule[TextLimit] | None = kind.rules.texts.get(name)
    return cut(text, rule.value, reserved) if rule else text


def cut_stem(prefix: str, slot: str, kind: PlatformKind, reserved: str) -> str:
    """Return prefix and slot, plain ASCII, as a sticker's name.

    It fits with `reserved` after it. The slot is kept rather than the prefix. A name under the least length begins with
    `sticker_`.
    """
    rule = kind.rules.texts.get("sticker_name")
    if rule is None:
        return f"{prefix}{slot}"
    most = rule.value.max - len(reserved)
    begun = prefix[: max(0, most - len(slot))].rstrip("_")
    stem = (f"{begun}_{slot}" if begun and len(begun) + len(slot) < most else slot)[:most].rstrip("_")
    return stem if len(stem) >= rule.value.min else f"sticker_{stem}"
