"""The report of demo characters with made-up figures, made once."""

from pathlib import Path

import pytest

from sticker_pipeline.publishing.contents import gather
from sticker_pipeline.publishing.report import Report, report_page
from sticker_pipeline.storage import ArtifactStore
from sticker_pipeline_tests.publishing.example import (
    demo_character,
    example_checks,
    fill,
    fill_few_steps,
    fill_style,
    release,
)

UI = "http://127.0.0.1:3000"


@pytest.fixture(scope="session")
def example_store(tmp_path_factory: pytest.TempPathFactory) -> ArtifactStore:
    """Everything of one character, the dataset of another, nothing of the third; the style that they share, and an
    LCM-LoRA of their profile."""
    store = ArtifactStore(tmp_path_factory.mktemp("artifacts"))
    fill(store, *demo_character("bram_thistle"), clips=9, models=("base", "lora", "released", "tensorart"))
    release(store, "bram_thistle", 2)
    fill(store, *demo_character("pip_comet"), clips=6, upto="curated_tags")
    fill_style(store, "chibi", ["pip_comet", "bram_thistle"])
    fill_few_steps(store, "embedded")
    return store


@pytest.fixture(scope="session")
def example_report(example_store: ArtifactStore) -> Report:
    return report_of(example_store)


def report_of(store: ArtifactStore) -> Report:
    characters = [demo_character(name, "chibi") for name in ("velvet_moth", "pip_comet", "bram_thistle")]
    return gather(
        store,
        characters,
        checks={"bram_thistle": example_checks(), "pip_comet": example_checks(failed=True)[:3]},
        ui=UI,
        problems=["data/characters/luma: character.yaml is missing."],
    )


@pytest.fixture(scope="session")
def example_page(example_report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report_page(example_report), encoding="utf-8")
    return path
