"""Plans of changes that make a sticker set in Telegram a pack."""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sticker_pipeline.core.settings import Strict
from sticker_pipeline.core.texts import counted, quoted
from sticker_pipeline.packing.bot_api import TelegramError
from sticker_pipeline.packing.pack_record import PackRecord, StickerRecord
from sticker_pipeline.packing.platforms import platform_kind, text_within

PLATFORM = "telegram"
MOST_AT_CREATION = 50  # stickers; source: core.telegram.org/bots/api#createnewstickerset
MOST_NAME = 64  # letters of a set's name; as above

Method = Literal[
    "createNewStickerSet",
    "addStickerToSet",
    "replaceStickerInSet",
    "deleteStickerFromSet",
    "setStickerPositionInSet",
    "setStickerEmojiList",
    "setStickerKeywords",
    "setStickerSetTitle",
]


class SentSticker(Strict):
    """A sticker of ours in a set, as it was sent.

    `sha256`: of its file.
    """

    sha256: str
    slot: str
    emoji: tuple[str, ...]
    keywords: tuple[str, ...]


@dataclass(frozen=True)
class SetState:
    """A set's title and stickers in order: key and sticker.

    The key is its SHA-256. Of others' stickers (None) it is the unique id.
    """

    title: str
    stickers: tuple[tuple[str, SentSticker | None], ...]


@dataclass(frozen=True)
class Step:
    """A request that changes a set.

    `text`: for people. `stickers`: to send. `key`: of the sticker concerned, as in SetState. `value`: the new position
    or title.
    """

    method: Method
    text: str
    stickers: tuple[StickerRecord, ...] = ()
    key: str = ""
    value: int | str = 0


def set_name(name: str, bot: str) -> str:
    """Return the set's name for the bot's username, `<name>_by_<bot>`.

    1–64 of [A-Za-z0-9_], a letter first, no two underscores. Source: createNewStickerSet. Raises TelegramError for a
    username without room for a name.
    """
    suffix = f"_by_{bot}"
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
    begun = plain if re.match(r"[A-Za-z]", plain) else f"pack_{plain}".rstrip("_")
    kept = begun[: max(0, MOST_NAME - len(suffix))].rstrip("_")
    found = kept + suffix
    if not kept or not re.fullmatch(r"[A-Za-z](_?[A-Za-z0-9])*", found):
        raise TelegramError(f"{quoted(found)} cannot be a set's name: use a bot with a shorter name, without '__'.")
    return found


def check_record(record: PackRecord) -> None:
    """Raise TelegramError for a set that Telegram would refuse."""
    if record.platform != PLATFORM:
        raise TelegramError(f"The pack {record.name} is for {record.platform}, not for Telegram.")
    rules = platform_kind(PLATFORM, record.kind).rules
    problems = []
    if (title := rules.texts.get("title")) and not text_within(record.title, title.value.max):
        problems.append(f"the title has more than {counted(title.value.max, 'letter')}: change it in pack/picks.yaml")
    if rules.count and not rules.count.value.min <= len(record.stickers) <= (rules.count.value.max or 0):
        most = rules.count.value.max
        problems.append(f"there are {counted(len(record.stickers), 'sticker')}, and a set has 1 to {most}")
    if twice := [sha for sha, count in Counter(one.sha256 for one in record.stickers).items() if count > 1]:
        slots = ", ".join(one.slot for one in record.stickers if one.sha256 == twice[0])
        problems.append(f"{slots} are the same file: keep one")
    for sticker in record.stickers:
        if rules.emoji and not rules.emoji.value.min <= len(sticker.emoji) <= (rules.emoji.value.max or 0):
            most = rules.emoji.value.max
            problems.append(f"{sticker.slot} has {len(sticker.emoji)} emoji, and must have 1 to {most}")
        if (limit := rules.keywords) and (
            len(sticker.keywords) > limit.value.max or sum(map(len, sticker.keywords)) > limit.value.max_characters
        ):
            most, letters = limit.value.max, counted(limit.value.max_characters, "letter")
            problems.append(f"the keywords of {sticker.slot} are more than {most}, or have more than {letters}")
    if problems:
        raise TelegramError("\n".join(f"The pack {record.name}: {problem}." for problem in problems))


def plan(record: PackRecord, state: SetState | None, set_name: str) -> list[Step]:
    """Return the steps that change the set `state` (None: none yet) into `record`.

    A changed sticker is replaced at its place, also by one of another slot: only the rest is added or deleted. Others'
    stickers stay, behind ours. As few as possible are moved.
    """
    if state is None:
        first, rest = record.stickers[:MOST_AT_CREATION], record.stickers[MOST_AT_CREATION:]
        text = f"create the set {set_name}, {quoted(record.title)}, with {counted(len(first), 'sticker')}"
        return [Step("createNewStickerSet", text, first, value=record.title), *map(_addition, rest)]
    wanted = {sticker.sha256: sticker for sticker in record.stickers}
    ours = {key: sent for key, sent in state.stickers if sent is not None}
    old = [key for key in ours if key not in wanted]
    new = [sticker for key, sticker in wanted.items() if key not in ours]
    replaced = _replaced(new, old, ours)
    added = [sticker for sticker in new if sticker not in replaced.values()]
    gone = [key for key in old if key not in replaced]
    return [
        *([] if state.title == record.title else [_title(record.title)]),
        *(
            Step("replaceStickerInSet", f"replace {ours[key].slot} by {_shown(sticker)}", (sticker,), key)
            for key, sticker in replaced.items()
        ),
        *map(_addition, added),
        *(Step("deleteStickerFromSet", f"delete {ours[key].slot}", key=key) for key in gone),
        *(step for key, sticker in wanted.items() if key in ours for step in _texts(sticker, ours[key])),
        *_sorting(state, replaced, added, gone, wanted),
    ]


def _replaced(
    new: Sequence[StickerRecord], old: Sequence[str], ours: Mapping[str, SentSticker]
) -> dict[str, StickerRecord]:
    """Return old key -> new sticker: of its slot, else in order."""
    found: dict[str, StickerRecord] = {}
    for sticker in new:
        if key := next((key for key in old if ours[key].slot == sticker.slot and key not in found), None):
            found[key] = sticker
    left = [key for key in old if key not in found]
    others = [sticker for sticker in new if sticker not in found.values()]
    return found | dict(zip(left, others, strict=False))  # the rest is added or deleted


def _sorting(
    state: SetState,
    replaced: Mapping[str, StickerRecord],
    added: Sequence[StickerRecord],
    gone: Sequence[str],
    wanted: Mapping[str, StickerRecord],
) -> list[Step]:
    held = [replaced[key].sha256 if key in replaced else key for key, _ in state.stickers if key not in gone]
    others = [key for key, sent in state.stickers if sent is None]
    found = moves([*held, *(sticker.sha256 for sticker in added)], [*wanted, *others])
    return [
        Step("setStickerPositionInSet", f"move {_name(key, wanted)} to place {place + 1}", (), key, place)
        for key, place in found
    ]


def _name(key: str, wanted: Mapping[str, StickerRecord]) -> str:
    return wanted[key].slot if key in wanted else "a sticker of others"


def _title(title: str) -> Step:
    return Step("setStickerSetTitle", f"call the set {quoted(title)}", value=title)


def _addition(sticker: StickerRecord) -> Step:
    return Step("addStickerToSet", f"add {_shown(sticker)}", (sticker,))


def _shown(sticker: StickerRecord) -> str:
    return f"{sticker.slot} ({sticker.file}, {' '.join(sticker.emoji)})"


def _texts(sticker: StickerRecord, sent: SentSticker) -> list[Step]:
    steps, key = [], sticker.sha256
    if sticker.emoji != sent.emoji:
        text = f"set the emoji of {sticker.slot}: {' '.join(sticker.emoji)}"
        steps.append(Step("setStickerEmojiList", text, (sticker,), key))
    if sticker.keywords != sent.keywords:
        text = f"set the keywords of {sticker.slot}: {', '.join(sticker.keywords) or 'none'}"
        steps.append(Step("setStickerKeywords", text, (sticker,), key))
    return steps


def moves(held: Sequence[str], wanted: Sequence[str]) -> list[tuple[str, int]]:
    """Return moves (key, new place) that sort `held` as `wanted`.

    Both have the same keys. Only those outside of a longest increasing subsequence
    are moved, each behind its predecessor.
    """
    rank = {key: place for place, key in enumerate(wanted)}
    staying = {wanted[place] for place in _increasing([rank[key] for key in held])}
    now, found = list(held), []
    for place, key in enumerate(wanted):
        if key in staying:
            continue
        now.remove(key)
        to = now.index(wanted[place - 1]) + 1 if place else 0
        now.insert(to, key)
        found.append((key, to))
    return found


def _increasing(numbers: Sequence[int]) -> list[int]:
    """Return a longest increasing subsequence of distinct numbers (patience sorting)."""
    tops: list[int] = []
    before: dict[int, int | None] = {}
    for number in numbers:
        pile = bisect_left(tops, number)
        before[number] = tops[pile - 1] if pile else None
        tops[pile : pile + 1] = [number]
    chain: list[int] = []
    at = tops[-1] if tops else None
    while at is not None:
        chain.append(at)
        at = before[at]
    return chain[::-1]
