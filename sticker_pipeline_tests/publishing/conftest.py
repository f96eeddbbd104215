"""The report of demo characters with made-up metrics, made once."""

from pathlib import Path

import pytest

from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline.publishing.contents import character_report, sources_of
from sticker_pipeline.publishing.report import CharacterReport
from sticker_pipeline.publishing.report_folder import INDEX_PAGE, write_report
from sticker_pipeline_tests.publishing.example import (
    demo_character,
    example_checks,
    fill,
    fill_few_steps,
    fill_style,
    release,
)

UI = "http://127.0.0.1:3000"
NAMES = ("velvet_moth", "pip_comet", "bram_thistle")
CHECKS = {"bram_thistle": example_checks(), "pip_comet": example_checks(failed=True)[:3]}
PROBLEM = "data/characters/luma: character.yaml is missing."


@pytest.fixture(scope="session")
def example_store(tmp_path_factory: pytest.TempPathFactory) -> ArtifactStore:
    """A store with characters at three stages, their shared style, and an LCM-LoRA.

    Everything of one character, the dataset of another, nothing of the third. The LCM-LoRA is of their profile.
    """
    store = ArtifactStore(tmp_path_factory.mktemp("artifacts"))
    fill(store, *demo_character("bram_thistle"), sources=9, models=("base", "lora", "released", "tensorart"))
    release(store, "bram_thistle", 2)
    fill(store, *demo_character("pip_comet"), sources=6, upto="curated_tags")
    fill_style(store, "chibi", ["pip_comet", "bram_thistle"])
    fill_few_steps(store, "embedded")
    return store


@pytest.fixture(scope="session")
def example_characters(example_store: ArtifactStore) -> dict[str, CharacterReport]:
    return {
        name: character_report(sources_of(example_store, *demo_character(name, "chibi"), CHECKS.get(name, ())))
        for name in NAMES
    }


@pytest.fixture(scope="session")
def example_folder(example_store: ArtifactStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report as it is published."""
    folder = tmp_path_factory.mktemp("report")
    write_report(
        example_store,
        folder,
        [demo_character(name, "chibi") for name in NAMES],
        checks=CHECKS,
        ui=UI,
        problems=[PROBLEM],
    )
    return folder


@pytest.fixture(scope="session")
def example_index(example_folder: Path) -> Path:
    return example_folder / INDEX_PAGE
