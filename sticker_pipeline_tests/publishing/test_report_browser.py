"""The page in a real browser that has no network: what it shows, with and without JavaScript, on any screen."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sticker_pipeline.publishing.report import Report, report_page
from sticker_pipeline_tests.publishing.test_report import HOSTILE, everything

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Opened:
    """A page without a network, with all that it asked for and complained about."""

    def __init__(self, browser: Any, path: Path, **settings: Any) -> None:
        self.context = browser.new_context(offline=True, **settings)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def visible(self, selector: str) -> list[str]:
        """The texts of the elements that are shown, in their order on the page."""
        return [" ".join(part.inner_text().split()) for part in self.page.locator(selector).all() if part.is_visible()]

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


def test_it_opens_without_a_network_and_without_complaints(browser: Any, example_page: Path) -> None:
    with Opened(browser, example_page) as opened:
        assert opened.visible("article h2") == ["bram_thistle", "pip_comet", "velvet_moth"]
        assert opened.page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
        assert not opened.complaints
        assert [url for url in opened.requests if not url.startswith("data:")] == [example_page.as_uri()]


def test_the_browser_itself_forbids_the_network(browser: Any, example_page: Path) -> None:
    with Opened(browser, example_page) as opened:
        asked = opened.page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'allowed', () => 'refused')")
        assert asked == "refused"
        assert any("Content Security Policy" in complaint for complaint in opened.complaints)


def test_search_shows_what_fits(browser: Any, example_page: Path) -> None:
    with Opened(browser, example_page) as opened:
        opened.page.fill("#search", "COMET skv")
        assert opened.visible("#characters .name") == ["pip_comet"]
        assert opened.visible("article h2") == ["pip_comet"]
        assert opened.visible("#board tbody th") == ["pip_comet"]
        assert opened.page.inner_text("#found") == "1 of 3 characters"
        opened.page.fill("#search", "nobody")
        assert opened.visible("article h2") == []
        opened.page.fill("#search", "")
        assert len(opened.visible("article h2")) == 3
        assert not opened.complaints


def test_the_index_is_sorted(browser: Any, example_page: Path) -> None:
    with Opened(browser, example_page) as opened:
        opened.page.select_option("#order", "failed")
        assert opened.visible("#characters .name") == ["pip_comet", "bram_thistle", "velvet_moth"]
        assert opened.visible("article h2") == ["pip_comet", "bram_thistle", "velvet_moth"]
        opened.page.select_option("#order", "gain")
        assert opened.visible("#characters .name") == ["bram_thistle", "pip_comet", "velvet_moth"]
        assert opened.visible("article h2") == ["bram_thistle", "pip_comet", "velvet_moth"]


def test_the_leaderboard_is_sorted_by_keyboard(browser: Any, example_page: Path) -> None:
    with Opened(browser, example_page) as opened:
        head = opened.page.locator("#board thead th", has_text="new LoRA")
        head.locator("button").focus()
        values = []
        for direction in ("descending", "ascending"):
            opened.page.keyboard.press("Enter")
            assert head.get_attribute("aria-sort") == direction
            cells = [
                row.locator("td").nth(2).get_attribute("data-value")
                for row in opened.page.locator("#board tbody tr").all()
            ]
            assert cells[3:] == ["", ""], "what has no number is last, whichever way"
            values.append([float(cell) for cell in cells[:3]])
        assert values[0] == sorted(values[0], reverse=True)
        assert values[1] == values[0][::-1]
        name = opened.page.locator("#board thead th", has_text="character")
        name.locator("button").click()
        assert opened.visible("#board tbody th")[0] == "bram_thistle"
        assert opened.page.locator("#board [aria-sort]").count() == 1
        name.locator("button").click()
        assert opened.visible("#board tbody th")[0] == "velvet_moth"


def test_one_prompt_is_enlarged_for_all_models(browser: Any, example_page: Path) -> None:
    with Opened(browser, example_page) as opened:
        prompts = opened.visible("table.grid >> nth=0 >> thead th")
        opened.page.locator("table.grid .enlarge").first.focus()
        opened.page.keyboard.press("Enter")
        assert opened.visible("#closer figcaption") == ["base model", "new LoRA", "release before", "tensorart"]
        assert opened.visible("#closer-prompt") == [prompts[0]]
        opened.page.keyboard.press("ArrowLeft")
        assert opened.visible("#closer-prompt") == [prompts[-1]]
        opened.page.keyboard.press("ArrowRight")
        opened.page.keyboard.press("ArrowRight")
        assert opened.visible("#closer-prompt") == [prompts[1]]
        opened.page.keyboard.press("Escape")
        assert not opened.page.locator("#closer").is_visible()
        assert opened.page.evaluate("document.activeElement.className") == "enlarge"
        assert not opened.complaints


def test_the_first_key_leads_past_the_index(browser: Any, example_page: Path) -> None:
    with Opened(browser, example_page) as opened:
        opened.page.keyboard.press("Tab")
        assert opened.page.evaluate("document.activeElement.className") == "skip"
        opened.page.keyboard.press("Enter")
        assert opened.page.evaluate("document.activeElement.id") == "main"


def test_it_is_whole_without_javascript(browser: Any, example_page: Path) -> None:
    with Opened(browser, example_page, java_script_enabled=False) as opened:
        assert opened.visible("article h2") == ["bram_thistle", "pip_comet", "velvet_moth"]
        assert len(opened.visible("#board tbody tr")) == 5
        assert opened.visible(".finder") == [] == opened.visible("#board button")
        assert not opened.page.locator("#closer").is_visible()


@pytest.mark.parametrize("width", [390, 860, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_any_screen(browser: Any, example_page: Path, width: int, scheme: str) -> None:
    with Opened(browser, example_page, viewport={"width": width, "height": 800}, color_scheme=scheme) as opened:
        assert opened.page.evaluate("document.documentElement.scrollWidth") == width
        paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == {"light": "rgb(246, 245, 250)", "dark": "rgb(18, 17, 25)"}[scheme]


def test_it_prints_light_and_whole(browser: Any, example_page: Path) -> None:
    with Opened(browser, example_page, color_scheme="dark") as opened:
        opened.page.emulate_media(media="print")
        assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert opened.visible("nav.index") == []
        assert opened.page.locator(".captions").first.evaluate("(part) => part.getBoundingClientRect().height") > 0


def test_hostile_words_run_nothing_and_break_nothing(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(
        report_page(Report((everything(HOSTILE), everything("x" * 300)), problems=(HOSTILE,))), encoding="utf-8"
    )
    with Opened(browser, path, viewport={"width": 390, "height": 800}) as opened:
        opened.page.fill("#search", HOSTILE)
        opened.page.select_option("#order", "failed")
        opened.page.locator("#board thead button").first.click()
        opened.page.locator("table.grid .enlarge").first.click()
        assert opened.page.evaluate("typeof window.hacked") == "undefined"
        assert opened.page.evaluate("document.querySelectorAll('img[onerror], article script').length") == 0
        assert opened.page.evaluate("document.documentElement.scrollWidth") == 390
        assert not opened.complaints
        assert [url for url in opened.requests if not url.startswith("data:")] == [path.as_uri()]
