"""Emoji: suggestions for a sticker (emoji.csv), names, and sequences counted as one.

Sources: Unicode Technical Standard 51; the property Emoji of Unicode 18.0, whatever version Python has.
"""

import csv
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files

FALLBACK = "🙂"
MOST_SUGGESTED = 3
TEXT_STYLE, EMOJI_STYLE, JOINER = "\ufe0e", "\ufe0f", "\u200d"

# Code points with the property Emoji, without the digits, # and * of key caps, and without the letters of flags.
_EMOJI = """
A9 AE 203C 2049 2122 2139 2194-2199 21A9-21AA 231A-231B 2328 23CF 23E9-23F3 23F8-23FA 24C2 25AA-25AB 25B6 25C0 25FB-25FE
2600-2604 260E 2611 2614-2615 2618 261D 2620 2622-2623 2626 262A 262E-262F 2638-263A 2640 2642 2648-2653 265F-2660 2663
2665-2666 2668 267B 267E-267F 2692-2697 2699 269B-269C 26A0-26A1 26A7 26AA-26AB 26B0-26B1 26BD-26BE 26C4-26C5 26C8
26CE-26CF 26D1 26D3-26D4 26E9-26EA 26F0-26F5 26F7-26FA 26FD 2702 2705 2708-270D 270F 2712 2714 2716 271D 2721 2728
2733-2734 2744 2747 274C 274E 2753-2755 2757 2763-2764 2795-2797 27A1 27B0 27BF 2934-2935 2B05-2B07 2B1B-2B1C 2B50 2B55
3030 303D 3297 3299 1F004 1F0CF 1F170-1F171 1F17E-1F17F 1F18E 1F191-1F19A 1F201-1F202 1F21A 1F22F 1F232-1F23A
1F250-1F251 1F300-1F321 1F324-1F393 1F396-1F397 1F399-1F39B 1F39E-1F3F0 1F3F3-1F3F5 1F3F7-1F4FD 1F4FF-1F53D 1F549-1F54E
1F550-1F567 1F56F-1F570 1F573-1F57A 1F587 1F58A-1F58D 1F590 1F595-1F596 1F5A4-1F5A5 1F5A8 1F5B1-1F5B2 1F5BC 1F5C2-1F5C4
1F5D1-1F5D3 1F5DC-1F5DE 1F5E1 1F5E3 1F5E8 1F5EF 1F5F3 1F5FA-1F64F 1F680-1F6C5 1F6CB-1F6D2 1F6D5-1F6D9 1F6DC-1F6E5 1F6E9
1F6EB-1F6EC 1F6F0 1F6F3-1F6FC 1F7E0-1F7EB 1F7F0 1F90C-1F93A 1F93C-1F945 1F947-1F9FF 1FA70-1FA7C 1FA80-1FAC6 1FAC8
1FACC-1FADD 1FADF-1FAEB 1FAEF-1FAFA
"""
_TONES = "\U0001f3fb-\U0001f3ff"
_LETTERS = "\U0001f1e6-\U0001f1ff"  # regional indicators; two are a flag
_TAGS = "[\U000e0020-\U000e007e]+\U000e007f"  # in flags such as Scotland's
_KEY_CAP = f"[0-9#*]{EMOJI_STYLE}?\u20e3"


@cache
def emoji_pattern() -> str:
    """Return the pattern of one emoji, for Python and JavaScript.

    For `re`, and JavaScript with the flag `u`. It is that of a possible emoji in UTS 51, 1.4.9, but stricter for single
    characters. Letters stand for themselves: Python and JavaScript escape them differently.
    """
    ranges = [part.partition("-") for part in _EMOJI.split()]
    base = "".join(f"{chr(int(a, 16))}{dash}{chr(int(b, 16)) if b else ''}" for a, dash, b in ranges)
    one = f"[{base}](?:{EMOJI_STYLE}?[{_TONES}]|{EMOJI_STYLE})?(?:{_TAGS})?"
    return f"{_KEY_CAP}|[{_LETTERS}]{{2}}|{one}(?:{JOINER}{one})*"


def is_emoji(text: str) -> bool:
    """Tell if `text` is one emoji.

    Skin tones and joined sequences are parts of one. Two letters of flags are one, even if there is no such region.
    """
    return re.fullmatch(emoji_pattern(), text) is not None


def suggest(slot: str, tags: Sequence[str], most: int = MOST_SUGGESTED) -> tuple[str, ...]:
    """Return 1 to `most` emoji for a sticker, the best one first.

    The slot's whole name counts first, then its words, then the tags in order. Without a match: FALLBACK.
    """
    words = [slot, *re.split(r"[\s_\-]+", slot), *tags]
    found = dict.fromkeys(emoji for word in words for emoji in _by_tag().get(_plain(word), ()))
    return tuple(found)[: max(1, most)] or (FALLBACK,)


def emoji_name(emoji: str) -> str:
    """Return the name of an emoji in chats, such as `thumbsup`.

    Names missing in emoji.csv are made from Unicode's, of the first character that has one; else `emoji`.
    """
    known = _names()
    bare = _bare(emoji)
    if bare in known:
        return known[bare]
    names = (unicodedata.name(one, "") for one in bare if one != JOINER)
    return next((_plain(name.replace("-", " ")) for name in names if name), "emoji")


@cache
def _rows() -> tuple[Mapping[str, str], ...]:
    text = files("sticker_pipeline.packing").joinpath("emoji.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))


@cache
def _by_tag() -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for row in _rows():
        for tag in tags_of(row["tags"]):
            found[tag] = (*found.get(tag, ()), row["emoji"])
    return found


@cache
def _names() -> Mapping[str, str]:
    return {_bare(row["emoji"]): row["name"] for row in _rows()}


def tags_of(text: str) -> Iterable[str]:
    """Return the tags of a row of emoji.csv."""
    return [_plain(tag) for tag in text.split(";") if tag.strip()]


def _plain(word: str) -> str:
    return re.sub(r"\s+", "_", word.strip().lower())


def _bare(emoji: str) -> str:
    """Return the emoji without skin tones and styles."""
    return re.sub(f"[{_TONES}{TEXT_STYLE}{EMOJI_STYLE}]", "", emoji)
