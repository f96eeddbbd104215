"""A new folder, from the desk to a release: mend captions, exclude a file, update, compare, update again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sticker_pipeline_tests.defs.conftest import SETTINGS
from sticker_pipeline_tests.small_character import add_small_character
from sticker_pipeline_tests.ui.deployment import Deployment, deployment
from sticker_pipeline_tests.ui.person import CHROMIUM, MINUTE, browser

pytestmark = pytest.mark.timeout(1800)  # two lines are made
NAME = "luma"
SHOWS = "(group) => [...document.querySelectorAll('.cell')].every((cell) => cell.title.startsWith(group + '/'))"


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    root = tmp_path_factory.mktemp("desk")
    add_small_character(root / "characters" / NAME, "bram_thistle", SETTINGS)
    with deployment(root) as there:
        yield there


@pytest.fixture(scope="module")
def page(ui: Deployment) -> Iterator[Any]:
    with browser() as chromium:
        opened = chromium.new_page(viewport={"width": 1440, "height": 900})
        opened.set_default_timeout(2 * MINUTE)
        yield opened


def update(page: Any, minutes: float = 15) -> None:
    """Press the button, see progress, wait for the end."""
    page.get_by_role("button", name="Bring up to date").click()
    page.locator("#run progress").wait_for()
    page.get_by_role("button", name="Bring up to date").wait_for(timeout=minutes * MINUTE)
    page.get_by_text("last run: ").wait_for()


def open_tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def test_a_folder_becomes_a_release_that_the_desk_shows(ui: Deployment, page: Any) -> None:
    page.goto(f"{ui.url}/desk/")
    page.get_by_text(NAME).click()
    page.get_by_text("0 of 0").wait_for()
    update(page)
    page.wait_for_selector(".cell img")
    mended = [mend(page, ui.characters / NAME, group) for group in ("gifs", "stickers", "art")]
    excluded = exclude(page)
    open_tab(page, "Compare")
    assert page.locator(".comparison tbody th").all_inner_texts()[:2] == ["base", "lora"]
    open_tab(page, "Gate")
    page.locator(".gate .passed").first.wait_for()
    open_tab(page, "Releases")
    page.locator(".releases .current", has_text="release 1").wait_for()

    update(page)  # the new LoRA may be refused
    table = ui.store.read(NAME, "frames").table().merge(ui.store.read(NAME, "curated_tags").table(), on="frame_id")
    for path in mended:
        assert set(table.loc[table["path"] == path, "caption"].str.contains("wearing a crown")) == {True}
    inventory = ui.store.read(NAME, "raw_media").table().set_index("path")
    assert inventory.loc[excluded, "status"] == "ignored"
    assert excluded not in set(table["path"])
    settings = yaml.safe_load((ui.characters / NAME / "character.yaml").read_text())
    assert settings["media"] == {"exclude": [excluded]}
    page.get_by_role("tab", name="Images").click()
    page.get_by_label("State").select_option("excluded")
    page.wait_for_function("() => document.getElementById('count').textContent.startsWith('1 of')")


def mend(page: Any, folder: Path, group: str) -> str:
    """Write a caption for the first image of the group; return its path."""
    page.get_by_label("Group").select_option(group)
    page.wait_for_function(SHOWS, arg=group)
    page.locator(".cell:has(img)").first.click()
    page.locator("#detail h2", has_text=f"{group}/").wait_for()
    path = str(page.locator("#detail h2").inner_text())
    text = page.locator("#caption")
    text.fill(f"{text.input_value()}, wearing a crown")
    page.get_by_role("button", name="Save caption").click()
    page.get_by_text(f"Caption of {path.rpartition('.')[0]}").wait_for()
    assert "wearing a crown" in next(folder.glob(f"{path.rpartition('.')[0]}*.txt")).read_text()
    return path


def exclude(page: Any) -> str:
    """Exclude the last sticker; return its path."""
    page.get_by_label("Group").select_option("stickers")
    page.wait_for_function(SHOWS, arg="stickers")
    page.locator(".cell:has(img)").last.click()
    page.get_by_role("button", name="Exclude this file").click()
    page.locator("dialog").get_by_role("button", name="Write").click()
    page.wait_for_selector(".cell.excluded")
    return str(page.locator(".cell.excluded").first.get_attribute("title"))
