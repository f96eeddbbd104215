"""Slots of a pack: the uses of stickers in chats, of slots.yaml."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from sticker_pipeline.benchmark.fidelity import asked_tags
from sticker_pipeline.core.character import Pack
from sticker_pipeline.core.texts import UserError, closest, folded, quoted

SHORT = 3  # letters of a word that is looked for inside longer ones; shorter ones must stand alone
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")


class SlotError(UserError):
    """A slot that nobody described; the message has the nearest known."""


@dataclass(frozen=True)
class Slot:
    """Something to say with a sticker.

    `text`: its alternative text. `prompts`: free attributes, in the order of preference. `words`: of file names and
    tags that show it.
    """

    name: str
    text: str
    emoji: tuple[str, ...]
    keywords: tuple[str, ...]
    prompts: tuple[str, ...]
    words: tuple[str, ...]


@cache
def known_slots() -> Mapping[str, Slot]:
    """Return the slots of slots.yaml by name, in a pack's order."""
    table = yaml.safe_load(files("sticker_pipeline.packing").joinpath("slots.yaml").read_text(encoding="utf-8"))
    return {name: _slot(name, entry) for name, entry in table.items()}


def _slot(name: str, entry: Mapping[str, object]) -> Slot:
    lists = {key: tuple(map(str, entry[key])) for key in ("emoji", "keywords", "prompts", "words")}  # type: ignore[call-overload]
    return Slot(name, str(entry["text"]), **lists)


def slots_of(pack: Pack) -> list[Slot]:
    """Return the pack's slots in order, with the prompts of character.yaml.

    A slot of a person's own needs a prompt. Raises SlotError for an unknown one without.
    """
    known = known_slots()
    names = pack.slots if pack.slots is not None else [*known, *(name for name in pack.prompts if name not in known)]
    return [_stated(name, pack.prompts.get(name)) for name in names]


def _stated(name: str, prompt: str | None) -> Slot:
    slot = known_slots().get(name)
    if prompt is None:
        if slot is None:
            raise SlotError(
                f"pack.slots: there is no slot {quoted(name)}.{closest(name, list(known_slots()))} A slot of your own "
                f"needs tags in pack.prompts: {{{name}: 'smile, waving'}}."
            )
        return slot
    words = name.replace("_", " ")
    if slot is None:
        return Slot(name, words, (), (words,), (prompt,), (words, name))
    return Slot(name, slot.text, slot.emoji, slot.keywords, (prompt,), slot.words)


def prompt_for(slot: Slot, known_tags: Collection[str]) -> str:
    """Return the first prompt with only known tags, else the last.

    `known_tags`: the tagger's, spelled with spaces. The tagger's words are those of the base model's training too.
    """
    tags = set(known_tags)
    return next((prompt for prompt in slot.prompts if tags.issuperset(asked_tags(prompt))), slot.prompts[-1])


def words_in(name: str) -> list[str]:
    """Split a file's name without suffix into lower-case words.

    At digits, signs and capitals: "Ankitan_02_cryLoud" gives "ankitan", "cry", "loud".
    """
    return [folded(part) for part in _PARTS.findall(name)]


def common_prefix(names: Sequence[str]) -> str:
    """Return the letters that most of the names begin with.

    A character's name is such a beginning. At least half of three names or more, and three letters.
    """
    joined = ["".join(words_in(name)) for name in names]
    if len(joined) < 3:
        return ""
    best = ""
    for word in joined:
        for end in range(3, len(word)):
            begins = sum(other.startswith(word[:end]) for other in joined)
            if 2 * begins < len(joined):
                break
            best = max(best, word[:end], key=len)
    return best


def slot_of_name(name: str, slots: Sequence[Slot], prefix: str = "") -> Slot | None:
    """Return the slot that a file's name speaks of; None without any.

    `prefix`: letters at the beginning of all names, which say nothing. The longest word found decides, then the order
    of slots. Words of up to SHORT letters must be words of the name, longer ones may begin at any of its words, and
    anywhere in a name of one word.
    """
    words = words_in(name)
    rest = "".join(words).removeprefix(prefix)
    begun = [rest] if len(words) == 1 else ["".join(words[first:]).removeprefix(prefix) for first in range(len(words))]
    found = [
        (len(plain), -number, slot)
        for number, slot in enumerate(slots)
        for plain in {"".join(words_in(word)) for word in (slot.name, *slot.words)}
        if (plain == rest or plain in words)
        or (len(plain) > SHORT and (plain in rest if len(words) == 1 else any(map(_begins(plain), begun))))
    ]
    return max(found, key=lambda each: each[:2])[2] if found else None


def _begins(word: str) -> Callable[[str], bool]:
    return lambda text: text.startswith(word)


def slot_of_tags(tags: Collection[str], slots: Sequence[Slot]) -> Slot | None:
    """Return the slot with the longest prompt of only `tags`.

    None without one; prompts of a single tag say too little.
    """
    found = [
        (len(asked), -number, slot)
        for number, slot in enumerate(slots)
        for asked in map(asked_tags, slot.prompts)
        if len(asked) >= 2 and set(asked) <= set(tags)
    ]
    return max(found, key=lambda each: each[:2])[2] if found else None
