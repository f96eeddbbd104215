"""The page of a pack in a browser: decisions become a picks.yaml that is read back."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sticker_pipeline.packing.emoji import emoji_pattern, is_emoji
from sticker_pipeline.packing.page import PageData
from sticker_pipeline.packing.picks import Picks, load_picks
from sticker_pipeline_tests.packing.pages import ATTACKS, hostile, many, plain, write_page
from sticker_pipeline_tests.packing.test_emoji import EMOJI, OTHERS
from sticker_pipeline_tests.ui.person import CHROMIUM, browser

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DESKTOP = {"viewport": {"width": 1440, "height": 900}}
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    with browser() as opened:
        yield opened


@pytest.fixture
def open_page(chromium: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens a page of `data` from its file, without a network; at the end it must not have complained."""
    contexts, complaints = [], []

    def opened(data: PageData, **settings: Any) -> Any:
        context = chromium.new_context(offline=True, **(settings or DESKTOP))
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: complaints.append(request.url) if ":" in far(request.url) else None)
        page.goto(write_page(data, tmp_path / "page").as_uri())
        return page

    def far(url: str) -> str:
        return "" if url.startswith(("file://" + str(tmp_path), "data:")) else url

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def read_back(page: Any, folder: Path) -> Picks:
    """The page's picks.yaml, saved and read as the pipeline does."""
    path = folder / "character" / "pack" / "picks.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(page.input_value("#yaml").encode())
    return load_picks(path.parents[1])


def card(page: Any, name: str) -> Any:
    return page.locator(".card").filter(has=page.get_by_text(name, exact=True))


def slot(page: Any, name: str) -> Any:
    return page.locator("section.slot").filter(has=page.get_by_role("heading", name=name, exact=True))


def names(page: Any) -> list[str]:
    return [str(name) for name in page.locator("main h2").all_inner_texts()]


def test_decisions_become_picks(open_page: Open, tmp_path: Path) -> None:
    page = open_page(plain())
    assert read_back(page, tmp_path) == Picks()
    card(page, "thanks-1").get_by_role("button", name="Accept").click()
    assert page.inner_text("#gaps") == "Gaps: no sorry."
    card(page, "hello-2").get_by_role("button", name="Reject").click()
    assert page.inner_text("#gaps") == "Gaps: no sorry."
    assert slot(page, "hello").locator("[data-state]").inner_text() == "the next pack looks for another"
    card(page, "stickers/happy.png").get_by_role("button", name="Accept").click()
    slot(page, "hello").get_by_label("Emoji").fill("👋🏽❤️‍🔥 👋🏽 smile 1️⃣")
    assert slot(page, "hello").locator("[data-wrong]").inner_text() == "smile is no emoji, and is left out."
    slot(page, "hello").get_by_label("Text").fill(" says\u200b: “hi”  # now")
    slot(page, "hello").get_by_label("Keywords").fill("hey, you there,, hey")
    slot(page, "yes").get_by_label("Motion").select_option("bounce")
    slot(page, "sorry").get_by_role("button", name="Move sorry up").click()
    page.get_by_label("Title").fill("Bram: the “best”")
    assert names(page) == ["hello", "sorry", "thanks", "yes"]
    assert read_back(page, tmp_path) == Picks(
        title="Bram: the “best”",
        accept={"thanks": "thanks-1", "hello": "stickers/happy.png"},
        reject=["hello-2"],
        order=["hello", "sorry", "thanks", "yes"],
        emoji={"hello": ["👋🏽", "❤️‍🔥", "1️⃣"]},
        text={"hello": "says: “hi” # now"},
        keywords={"hello": ["hey", "you there"]},
        motion={"yes": "bounce"},
    )


def test_decisions_are_taken_back(open_page: Open, tmp_path: Path) -> None:
    page = open_page(plain())
    for name in ("Accept", "Accept", "Reject", "Reject"):
        card(page, "hello-1").get_by_role("button", name=name).click()
    slot(page, "hello").get_by_label("Text").fill("other")
    slot(page, "hello").get_by_label("Text").fill("waving hello")
    slot(page, "thanks").get_by_role("button", name="Move thanks up").click()
    slot(page, "thanks").get_by_role("button", name="Move thanks down").click()
    assert read_back(page, tmp_path) == Picks()


def test_a_slot_without_any_candidate_left_is_a_gap(open_page: Open) -> None:
    page = open_page(plain())
    for name in ("hello-1", "hello-2", "stickers/happy.png"):
        card(page, name).get_by_role("button", name="Reject").click()
    assert page.inner_text("#gaps") == "Gaps: no hello, no thanks, no sorry."
    page.get_by_role("link", name="no sorry").click()
    assert slot(page, "sorry").evaluate("(one) => one.id === location.hash.slice(1)")


def test_earlier_picks_stay_also_those_of_candidates_that_are_gone(open_page: Open, tmp_path: Path) -> None:
    picks = Picks(
        author="me",
        accept={"thanks": "thanks-0", "gone": "gone-1"},
        reject=["hello-1", "old"],
        order=["sorry", "gone"],
        emoji={"yes": ["👌"]},
        text={"thanks": ""},
        keywords={"thanks": []},
        motion={"gone": "pulse"},
    )
    page = open_page(plain(picks))
    assert read_back(page, tmp_path) == picks
    assert "thanks-0, which is no candidate any more, is accepted" in slot(page, "thanks").inner_text()
    assert slot(page, "thanks").get_by_label("Text").input_value() == ""
    slot(page, "yes").get_by_role("button", name="Move yes up").click()
    assert read_back(page, tmp_path).order == ["sorry", "hello", "yes", "thanks", "gone"]
    card(page, "hello-1").get_by_role("button", name="Accept").click()
    assert read_back(page, tmp_path).reject == ["old"]


@pytest.mark.parametrize("screen", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_names_that_attack_are_shown_and_picked(open_page: Open, tmp_path: Path, screen: dict[str, Any]) -> None:
    page = open_page(hostile(), **screen)
    sections = page.locator("section.slot")
    for number in range(len(ATTACKS)):
        cards = sections.nth(number).locator(".card")
        cards.nth(1).get_by_role("button", name="Accept").click()
        cards.nth(0).get_by_role("button", name="Reject").click()
        sections.nth(number).get_by_label("Motion").select_option("shake")
    found = read_back(page, tmp_path)
    assert found.accept == {name: f"{name}2" for name in ATTACKS}
    assert found.reject == [f"{name}1" for name in ATTACKS]
    assert found.motion == dict.fromkeys(ATTACKS, "shake")
    assert page.evaluate("window.attacked") is None
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("field", ["Emoji", "Text", "Keywords"])
def test_what_is_typed_is_always_readable(open_page: Open, tmp_path: Path, field: str) -> None:
    page = open_page(plain())
    for text in (*ATTACKS, "a\u200db", "\u200d", "😀\u0301", "\U000e0067", "👩‍🚀\u2066", "x" * 300):
        slot(page, "hello").get_by_label(field).fill(text.encode("utf-8", "replace").decode())
        page.get_by_label("Title").fill(text.encode("utf-8", "replace").decode())
        read_back(page, tmp_path)


def test_python_and_the_browser_agree_on_emoji(chromium: Any) -> None:
    letters = [chr(code) for code in range(0x20, 0x1FB00) if not 0xD800 <= code < 0xE000]
    texts = [*EMOJI, *OTHERS, *letters, *(f"{one}\ufe0f" for one in letters), " ".join(EMOJI), "".join(EMOJI)]
    page = chromium.new_page()
    whole = "([pattern, texts]) => texts.map((text) => new RegExp(`^(?:${pattern})$`, 'u').test(text))"
    parts = "([pattern, texts]) => texts.map((text) => [...text.matchAll(new RegExp(pattern, 'gu'))].map(String))"
    asked = [emoji_pattern(), texts]
    assert page.evaluate(whole, asked) == [is_emoji(text) for text in texts]
    assert page.evaluate(parts, asked) == [re.findall(emoji_pattern(), text) for text in texts]
    page.close()


def test_it_is_used_by_keyboard(open_page: Open, tmp_path: Path) -> None:
    page = open_page(plain())
    card(page, "hello-2").get_by_role("button", name="Accept").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert read_back(page, tmp_path).accept == {"hello": "hello-1"}
    for _ in range(2):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("#all").is_visible()
    assert page.locator("#all .stage").count() == 6
    page.keyboard.press("Escape")
    assert not page.locator("#all").is_visible()
    slot(page, "thanks").get_by_role("button", name="Move thanks down").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert names(page) == ["hello", "sorry", "yes", "thanks"]


def test_six_backgrounds_differ(open_page: Open) -> None:
    page = open_page(plain())
    shown = []
    for choice in page.get_by_role("radio").all():
        choice.check()
        style = "(stage) => getComputedStyle(stage).backgroundColor + getComputedStyle(stage).backgroundImage"
        shown.append(page.locator(".card .stage").first.evaluate(style))
    assert len(set(shown)) == 6
    sizes = page.locator(".card").first.locator("img").evaluate_all("(all) => all.map((one) => one.clientWidth)")
    assert sizes == [200, 32]


def test_it_is_copied_and_downloaded(open_page: Open, tmp_path: Path) -> None:
    page = open_page(plain())
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    card(page, "thanks-1").get_by_role("button", name="Accept").click()
    assert page.inner_text("#said") == "Not saved yet."
    with page.expect_download() as download:
        page.get_by_role("button", name="Download picks.yaml").click()
    path = tmp_path / "character" / "pack" / "picks.yaml"
    download.value.save_as(path)
    assert download.value.suggested_filename == "picks.yaml"
    assert load_picks(tmp_path / "character").accept == {"thanks": "thanks-1"}
    page.get_by_role("button", name="Copy").click()
    page.get_by_text("Copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == path.read_text()


def test_a_phone_scrolls_only_down(open_page: Open) -> None:
    page = open_page(plain(), **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    card(page, "hello-1").get_by_role("button", name="All chats").tap()
    assert page.locator("#all").evaluate("(dialog) => dialog.scrollWidth <= dialog.clientWidth")
    assert page.locator("#all").bounding_box()["width"] <= 390


def test_hundreds_of_candidates_load_few_images_and_answer(open_page: Open, tmp_path: Path) -> None:
    page = open_page(many(40, 8))
    assert page.locator(".card").count() == 320
    laid_out = page.locator(".large").evaluate_all("(all) => all.filter((one) => one.complete).length")
    assert laid_out < 320
    last = page.locator(".card").last.get_by_role("button", name="Accept")
    last.click()
    assert read_back(page, tmp_path).accept == {"slot_39": "39-7"}
    page.wait_for_function("[...document.querySelectorAll('.card:last-child .large')].at(-1).naturalWidth > 0")


def test_the_browser_itself_forbids_the_network(chromium: Any, tmp_path: Path) -> None:
    page = chromium.new_page()
    page.goto(write_page(plain(), tmp_path).as_uri())
    assert page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'allowed', () => 'refused')") == "refused"
    page.evaluate(
        "const one = document.createElement('script'); one.textContent = 'window.attacked = 1';"
        "document.body.append(one)"
    )
    assert page.evaluate("window.attacked") is None
    page.close()
