"""Pages of a pack: candidates on chats, and a form for picks.yaml.

The page is offline: its images lie beside it, the Content-Security-Policy forbids everything else, and picks.yaml is
copied or downloaded by the person. Equal values give equal bytes.
"""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from sticker_pipeline.core.texts import is_unicode, visible
from sticker_pipeline.packing.emoji import emoji_pattern
from sticker_pipeline.packing.picks import FILE, MOST_EMOJI, Picks

CHATS = {  # CSS class -> name; pack.css has the colours
    "telegram-dark": "Telegram, dark",
    "telegram-light": "Telegram, light",
    "whatsapp-dark": "WhatsApp, dark",
    "whatsapp-light": "WhatsApp, light",
    "discord-dark": "Discord, dark",
    "photo": "a photo",
}
PAGE = "pack.html"
MOTIONS = ("bounce", "shake", "pulse", "none")
SCRIPTS = ("yaml.js", "pack.js")


@dataclass(frozen=True)
class PageCandidate:
    """A candidate of a slot.

    `file`, `thumbnail`: images, relative to the page, with "/"; the thumbnail is a small still. `chosen`: by picks and
    pipeline together. `reason`: why it was chosen or not. `measures`: name and value, as shown.
    """

    id: str
    file: str
    thumbnail: str
    origin: Literal["generated", "own", "override"]
    chosen: bool
    reason: str
    measures: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class PageSlot:
    """A slot with its candidates.

    Emoji, text, keywords and motion are the pipeline's suggestions, which picks.yaml replaces. `wanted`: without a
    sticker it is a gap; an own file's slot is none.
    """

    name: str
    emoji: tuple[str, ...] = ()
    text: str = ""
    keywords: tuple[str, ...] = ()
    motion: str = "none"
    candidates: tuple[PageCandidate, ...] = ()
    wanted: bool = True


@dataclass(frozen=True)
class PageData:
    """A pack with all candidates.

    `title`, `author`: suggestions, as of a slot. `slots`: in the pipeline's order, without the picks' order. `picks`:
    as read from `picks_file`, which is only shown. `problems`: sentences about picks, images and texts.
    `meanings`: names of measures and marks, and what they mean.
    """

    title: str
    slots: tuple[PageSlot, ...]
    author: str = ""
    picks: Picks = field(default_factory=Picks)
    picks_file: str = FILE
    problems: tuple[str, ...] = ()
    meanings: tuple[tuple[str, str], ...] = ()


def pack_page(data: PageData) -> str:
    """Return the page as HTML text, to be written as UTF-8.

    All names are escaped, also those that UTF-8 cannot encode. Raises ValueError for an image that is not below the
    page's folder.
    """
    slots = ordered(data)
    css, code = _text("pack.css"), "\n".join(map(_text, SCRIPTS))
    text = (
        _environment()
        .get_template("pack.html.jinja")
        .render(
            data=data,
            slots=slots,
            picks=data.picks,
            gaps=gaps_in_words(data),
            state=_state(data, slots),
            first=first_candidates,
            address=address,
            can_be_picked=is_unicode,
            chats=CHATS,
            motions=MOTIONS,
            css=Markup(css),
            css_hash=_hash(css),
            script=Markup(code),
            script_hash=_hash(code),
        )
    )
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def ordered(data: PageData) -> list[PageSlot]:
    """Return the slots as the pack has them: the picks' order first."""
    places = {name: place for place, name in enumerate(data.picks.order)}
    return sorted(data.slots, key=lambda slot: places.get(slot.name, len(places)))


def first_candidates(slot: PageSlot) -> list[tuple[int, PageCandidate]]:
    """Return the slot's numbered candidates, the chosen first."""
    return sorted(enumerate(slot.candidates), key=lambda each: not each[1].chosen)


def gaps_in_words(data: PageData) -> str:
    """Return the slots without a sticker in words: `no thanks, no sorry`; empty without gaps."""
    wanted = [slot for slot in ordered(data) if slot.wanted]
    empty = [slot.name for slot in wanted if not any(one.chosen for one in slot.candidates)]
    return ", ".join(f"no {name}" for name in empty)


def address(file: str) -> str:
    """Return the relative URL of an image.

    Raises ValueError for a path that is not below the page.
    """
    path = PurePosixPath(file)
    if not file or path.is_absolute() or ".." in path.parts or "\\" in file or file.startswith("/"):
        raise ValueError(f"{file!r} does not lie below the page: an image of the page must.")
    return "./" + quote(file.encode("utf-8", "surrogateescape"))


def _state(data: PageData, slots: list[PageSlot]) -> Markup:
    """Return the script's values as JSON without markup."""
    stated: dict[str, Any] = {
        "title": data.title,
        "author": data.author,
        "slots": [
            {
                "name": slot.name,
                "emoji": slot.emoji,
                "text": slot.text,
                "keywords": slot.keywords,
                "motion": slot.motion,
                "wanted": slot.wanted,
                "candidates": [{"id": one.id, "chosen": one.chosen, "origin": one.origin} for one in slot.candidates],
            }
            for slot in slots
        ],
        "order": [slot.name for slot in data.slots],
        "picks": data.picks.model_dump(exclude_unset=True),
        "mostEmoji": MOST_EMOJI,
        "emoji": emoji_pattern(),
    }
    text = json.dumps(stated)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _text(name: str) -> str:
    return (files("sticker_pipeline.packing") / "page_files" / name).read_text(encoding="utf-8")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    return environment
