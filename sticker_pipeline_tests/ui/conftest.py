"""One server and one browser for all tests of the UI."""

from collections.abc import Iterator
from typing import Any

import pytest

from sticker_pipeline_tests.defs.conftest import SETTINGS
from sticker_pipeline_tests.small_character import add_small_character
from sticker_pipeline_tests.ui.deployment import Deployment, deployment
from sticker_pipeline_tests.ui.person import CHROMIUM, Person, browser, visit


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The UI of one small character, `luma`, without artifacts.

    Its LoRA, trained in seconds, will pass the gate.
    """
    pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    root = tmp_path_factory.mktemp("ui")
    add_small_character(root / "characters" / "luma", "bram_thistle", SETTINGS)
    with deployment(root) as there:
        yield there


@pytest.fixture(scope="module")
def chromium(ui: Deployment) -> Iterator[Any]:
    with browser() as opened:
        yield opened


@pytest.fixture
def person(ui: Deployment, chromium: Any) -> Iterator[Person]:
    with visit(chromium, ui.url) as somebody:
        yield somebody


@pytest.fixture(scope="module")
def clumsy(ui: Deployment) -> str:
    """A character with a truncated GIF, whose folder comes while the server runs."""
    folder = ui.characters / "clumsy"
    add_small_character(folder, "pip_comet", SETTINGS.replace("skv_small", "skv_clumsy"))
    (folder / "gifs" / "cut_off.gif").write_bytes(b"GIF89a\x10\x00")
    return "clumsy"


@pytest.fixture(scope="module")
def luma(ui: Deployment, clumsy: str, chromium: Any) -> str:
    """The small character, materialized from the UI: everything about it is there."""
    with visit(chromium, ui.url) as somebody:
        somebody.wait_for_partition("luma")
        somebody.job("character_line")
        run = somebody.launch("luma")
        assert somebody.follow(run) == "SUCCESS"
    return "luma"
