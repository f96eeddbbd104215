"""Report pages in a real browser without network, with and without JavaScript, on any screen."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sticker_pipeline.publishing.report import CharacterReport, MetricEstimate, character_page
from sticker_pipeline.publishing.report_index import character_line, index_page
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


@pytest.fixture(params=["report.html", "characters/bram_thistle.html", "styles/chibi.html", "profiles/embedded.html"])
def page(example_folder: Path, request: pytest.FixtureRequest) -> Path:
    """One page of each kind."""
    return example_folder / str(request.param)


@pytest.fixture
def character(example_folder: Path) -> Path:
    return example_folder / "characters" / "bram_thistle.html"


def test_it_opens_without_a_network_and_without_complaints(browser: Any, page: Path) -> None:
    with Opened(browser, page) as opened:
        assert len(opened.visible("h1")) == 1
        assert opened.page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
        assert not opened.complaints
        assert [url for url in opened.requests if not url.startswith("data:")] == [page.as_uri()]


def test_the_browser_itself_forbids_the_network(browser: Any, page: Path) -> None:
    with Opened(browser, page) as opened:
        asked = opened.page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'allowed', () => 'refused')")
        assert asked == "refused"
        assert any("Content Security Policy" in complaint for complaint in opened.complaints)


@pytest.mark.parametrize("script", [True, False])
def test_a_name_leads_to_its_page_and_back(browser: Any, example_index: Path, script: bool) -> None:
    with Opened(browser, example_index, java_script_enabled=script) as opened:
        for name, heading in (("pip_comet", "pip_comet"), ("chibi", "Style chibi")):
            opened.page.locator("main a", has_text=name).first.click()
            assert opened.visible("h1") == [heading]
            opened.page.locator("nav a", has_text="All characters").click()
            assert opened.page.url == example_index.as_uri()
        assert not opened.complaints


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("COMET skv", ["pip_comet"]),
        ("chibi passed", ["bram_thistle"]),
        ("embedded", ["bram_thistle", "pip_comet", "velvet_moth"]),
        ("not measured yet", ["pip_comet", "velvet_moth"]),
        ("failed", ["pip_comet"]),
        ("nobody", []),
    ],
)
def test_search_shows_what_fits(browser: Any, example_index: Path, words: str, names: list[str]) -> None:
    with Opened(browser, example_index) as opened:
        opened.page.fill("#search", words)
        assert opened.visible("#board tbody b:not([class])") == names
        assert opened.page.inner_text("#found") == f"{len(names)} of 3 characters"
        opened.page.fill("#search", "")
        assert len(opened.visible("#board tbody th")) == 3
        assert opened.page.inner_text("#found") == ""
        assert not opened.complaints


GAINS = {"a": -0.2, "b": 0.3, "c": None, "d": 0.1, "e10": None, "e9": -0.05}


@pytest.fixture
def sortable(tmp_path: Path) -> Path:
    """An index of characters with GAINS."""
    path = tmp_path / "report.html"
    reports = [measured(name, gain) for name, gain in GAINS.items()]
    path.write_text(index_page([character_line(report) for report in reports]), encoding="utf-8")
    return path


def measured(name: str, gain: float | None) -> CharacterReport:
    estimates = {"clip_similarity": 0.5, "clip_similarity_gain": gain}
    found = [
        MetricEstimate("lora", "all", metric, mean, mean, mean, 8)
        for metric, mean in estimates.items()
        if mean is not None
    ]
    return CharacterReport(name, "t", "p", estimates=tuple(found))


def test_the_leaderboard_is_sorted_by_keyboard(browser: Any, sortable: Path) -> None:
    with Opened(browser, sortable) as opened:
        head = opened.page.locator("#board thead th", has_text="gain")
        head.locator("button").focus()
        for direction, names in (("descending", "bdea"), ("ascending", "aedb")):
            opened.page.keyboard.press("Enter")
            assert head.get_attribute("aria-sort") == direction
            found = opened.visible("#board tbody b:not([class])")
            assert [name[0] for name in found[:4]] == list(names)
            assert sorted(found[4:]) == ["c", "e10"], "what has no number is last, whichever way"


def test_names_are_sorted_as_people_count(browser: Any, sortable: Path) -> None:
    with Opened(browser, sortable) as opened:
        name = opened.page.locator("#board thead th", has_text="character")
        for direction, names in (("ascending", ["a", "b", "c", "d", "e9", "e10"]), ("descending", ["e10", "e9", "d"])):
            name.locator("button").click()
            assert name.get_attribute("aria-sort") == direction
            assert opened.visible("#board tbody b:not([class])")[: len(names)] == names
        assert opened.page.locator("#board [aria-sort]").count() == 1
        opened.page.fill("#search", "e1")
        assert opened.visible("#board tbody b:not([class])") == ["e10"]


def test_one_prompt_is_enlarged_for_all_models(browser: Any, character: Path) -> None:
    with Opened(browser, character) as opened:
        prompts = opened.visible("table.grid >> nth=0 >> thead th")
        opened.page.locator("table.grid .enlarge").first.focus()
        opened.page.keyboard.press("Enter")
        assert opened.visible("#closer figcaption") == ["base model", "new LoRA", "baseline release", "tensorart"]
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


def test_the_first_key_leads_to_the_content(browser: Any, page: Path) -> None:
    with Opened(browser, page) as opened:
        opened.page.keyboard.press("Tab")
        assert opened.page.evaluate("document.activeElement.className") == "skip"
        opened.page.keyboard.press("Enter")
        assert opened.page.evaluate("document.activeElement.id") == "main"


def test_it_is_whole_without_javascript(browser: Any, example_index: Path, character: Path) -> None:
    with Opened(browser, example_index, java_script_enabled=False) as opened:
        assert opened.visible("#board tbody b:not([class])") == ["bram_thistle", "pip_comet", "velvet_moth"]
        assert opened.visible(".finder") == [] == opened.visible("#board button")
    with Opened(browser, character, java_script_enabled=False) as opened:
        assert len(opened.visible("article h2")) == 8
        assert not opened.page.locator("#closer").is_visible()


@pytest.mark.parametrize("width", [390, 860, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_any_screen(browser: Any, page: Path, width: int, scheme: str) -> None:
    with Opened(browser, page, viewport={"width": width, "height": 800}, color_scheme=scheme) as opened:
        assert opened.page.evaluate("document.documentElement.scrollWidth") == width
        paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == {"light": "rgb(246, 245, 250)", "dark": "rgb(18, 17, 25)"}[scheme]


def test_it_prints_light_and_whole(browser: Any, character: Path) -> None:
    with Opened(browser, character, color_scheme="dark") as opened:
        opened.page.emulate_media(media="print")
        assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert opened.visible("nav.index") == []
        assert opened.page.locator(".captions").first.evaluate("(part) => part.getBoundingClientRect().height") > 0


def test_hostile_words_run_nothing_and_break_nothing(browser: Any, tmp_path: Path) -> None:
    reports = [everything(HOSTILE), everything("x" * 300)]
    pages = [index_page([character_line(report) for report in reports], problems=[HOSTILE])]
    for number, page in enumerate([*pages, *map(character_page, reports)]):
        path = tmp_path / f"{number}.html"
        path.write_text(page, encoding="utf-8")
        with Opened(browser, path, viewport={"width": 390, "height": 800}) as opened:
            if number == 0:
                opened.page.fill("#search", HOSTILE)
                opened.page.locator("#board thead button").first.click()
                assert len(opened.visible("#board tbody tr")) == 1
            else:
                opened.page.locator("table.grid .enlarge").first.click()
            assert opened.page.evaluate("typeof window.hacked") == "undefined"
            assert opened.page.evaluate("document.querySelectorAll('img[onerror], main script').length") == 0
            assert opened.page.evaluate("document.documentElement.scrollWidth") == 390
            assert not opened.complaints
            assert [url for url in opened.requests if not url.startswith("data:")] == [path.as_uri()]
