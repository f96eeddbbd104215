"""The pages of docs/reference are what `make reference` writes."""

import pytest

from sticker_pipeline_tests import reference_pages
from sticker_pipeline_tests.reference_pages import FOLDER, PAGES

REMEDY = "run `make reference` and commit docs/reference"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_that_of_the_code(name: str) -> None:
    assert (FOLDER / f"{name}.md").read_text(encoding="utf-8") == PAGES[name](), REMEDY


def test_every_setting_has_a_meaning() -> None:
    settings = PAGES["settings"]().partition("## Values of the profiles")[0]
    assert [line for line in settings.splitlines() if line.endswith("|  |")] == []


def test_there_are_no_other_pages() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == set(PAGES)


def test_the_image_of_the_embedded_base_is_that_of_its_report() -> None:
    if reference_pages.IMAGE.is_file():  # not in a copy of the code alone
        assert reference_pages.IMAGE.read_bytes() == reference_pages.IMAGE_SOURCE.read_bytes(), REMEDY
