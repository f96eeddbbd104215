"""The page of a pack: its contents, its policy, and names that attack it."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from sticker_pipeline.packing.page import (
    CHATS,
    PageData,
    PageSlot,
    address,
    first_candidates,
    gaps_in_words,
    ordered,
    pack_page,
)
from sticker_pipeline.packing.picks import Picks
from sticker_pipeline_tests.packing.pages import ATTACKS, NOT_UTF_8, candidate, hostile, plain


class Read(HTMLParser):
    """A page as a browser without scripts reads it: elements and texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            continue

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def state_of(read: Read) -> dict[str, object]:
    found: dict[str, object] = json.loads(read.texts["script"][0])
    return found


def test_the_chosen_candidate_is_first_and_others_have_their_reasons() -> None:
    slot = plain().slots[0]
    assert [one.id for _, one in first_candidates(slot)] == ["hello-2", "hello-1", "stickers/happy.png"]
    page = pack_page(plain())
    assert "not chosen: the subject is cut off" in page
    assert "<b>chosen</b>: the best of its slot" in page
    assert '<span class="origin">own</span>' in page


def test_gaps_are_named() -> None:
    assert gaps_in_words(plain()) == "no thanks, no sorry"
    assert "Gaps: no thanks, no sorry." in pack_page(plain())
    assert "Every slot has a sticker." in pack_page(PageData("t", (PageSlot("a", candidates=(candidate("a", True),)),)))


def test_the_order_of_the_picks_is_shown_with_its_gaps() -> None:
    data = plain(Picks(order=["sorry", "nowhere", "yes"]))
    assert [slot.name for slot in ordered(data)] == ["sorry", "yes", "hello", "thanks"]
    assert gaps_in_words(data) == "no sorry, no thanks"


def test_existing_picks_are_shown() -> None:
    picks = Picks(
        title="My Bram",
        emoji={"hello": ["😀", "👋🏽"]},
        text={"hello": "hi!"},
        keywords={"hello": ["x", "y z"]},
        motion={"hello": "shake"},
    )
    read = Read(pack_page(plain(picks)))
    values = [attributes.get("value") for attributes in read.all("input")]
    assert values[len(CHATS) : len(CHATS) + 3] == ["😀 👋🏽", "hi!", "x, y z"]
    assert values[-2:] == ["My Bram", "Mira"]
    assert re.findall(r"<option( value=\"\")? selected>([^<]+)", pack_page(plain(picks))) == [
        ("", "shake"),
        *[(' value=""', "as suggested (none)")] * 3,
    ]
    assert state_of(read)["picks"] == picks.model_dump(exclude_unset=True)


def test_the_policy_names_the_only_script_and_style() -> None:
    read = Read(pack_page(plain()))
    policy = next(one["content"] for one in read.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    hashes = re.findall(r"'sha256-([^']+)'", policy)
    inline = [read.texts["style"][0], "".join(read.texts["script"][1:])]
    assert hashes == [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inline]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_nothing_is_asked_from_elsewhere() -> None:
    page = pack_page(plain())
    read = Read(page)
    addresses = [value for _, attributes in read.elements for key in ("src", "srcset", "href", "data-file")
                 if (value := attributes.get(key))]  # fmt: skip
    assert set(addresses) == {"./images/a.png", "./images/small.png", "#slots", "data:,"}
    assert not re.search(r"https?:", page)


def test_images_are_loaded_when_they_are_near() -> None:
    images = [one for one in Read(pack_page(plain())).all("img") if "src" in one]
    assert len(images) == 12
    assert all(one["loading"] == "lazy" and one["width"] in ("200", "32") for one in images)


def test_every_background_is_there() -> None:
    page = pack_page(plain())
    assert len(CHATS) == 6
    for key in CHATS:
        assert page.count(f".chat-{key} {{ --chat:") == 1
        assert f'<div class="stage chat-{key}">' in page


def test_attacks_are_texts() -> None:
    page = pack_page(hostile())
    read = Read(page)
    harmless = Read(pack_page(replace(hostile(), slots=tuple(_harmless(slot) for slot in hostile().slots))))
    assert [tag for tag, _ in read.elements] == [tag for tag, _ in harmless.elements]
    assert [sorted(attributes) for _, attributes in read.elements] == [
        sorted(attributes) for _, attributes in harmless.elements
    ]
    state = state_of(read)
    assert [slot["name"] for slot in state["slots"]] == [*ATTACKS, NOT_UTF_8]  # type: ignore[attr-defined]
    assert read.texts["h2"].count("{{ 7 * 7 }}") == 1
    assert "\\u202eright to left" in read.texts["h2"][8], "hidden letters are shown"


def _harmless(slot: PageSlot) -> PageSlot:
    """The slot with plain texts, unless its name cannot be picked."""
    if slot.name == NOT_UTF_8:
        return slot
    candidates = tuple(
        replace(one, id="a", reason="r", measures=tuple(("m", "1") for _ in one.measures)) for one in slot.candidates
    )
    return replace(slot, name="a", text="a", keywords=("a",), candidates=candidates)


def test_a_name_that_is_not_utf_8_cannot_be_picked() -> None:
    page = pack_page(replace(hostile(), slots=hostile().slots[-1:]))
    assert "not utf-8 \\udcff" in page
    assert "This name is not UTF-8: rename its file." in page
    assert 'data-do="accept"' not in page
    assert "data-field" not in page[page.index("<main") : page.index("</main>")]


def test_equal_values_give_equal_bytes() -> None:
    assert pack_page(plain()) == pack_page(plain())


@pytest.mark.parametrize("file", ["", "/etc/passwd", "../a.png", "a/../../b.png", "\\\\host\\share\\a.png", "//host/a"])
def test_an_image_lies_below_the_page(file: str) -> None:
    with pytest.raises(ValueError, match="does not lie below the page"):
        address(file)


@pytest.mark.parametrize(
    ("file", "url"),
    [
        ("images/a b.png", "./images/a%20b.png"),
        ("images/a?b#c.png", "./images/a%3Fb%23c.png"),
        ("javascript:x", "./javascript%3Ax"),
        ("é\udcff.png", "./%C3%A9%FF.png"),
    ],
)
def test_names_of_images_are_encoded(file: str, url: str) -> None:
    assert address(file) == url
