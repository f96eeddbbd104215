"""Sources of a release in the UI."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from sticker_pipeline.benchmark.releases import Release, publish
from sticker_pipeline.dagster_kit.metadata import PARTITION_ROW_COUNT
from sticker_pipeline.defs.release.released_lora import MOST_SOURCES, sources_shown
from sticker_pipeline_tests.publishing.candidates import candidate, sources_file


def release(folder: Path, **changes: Any) -> Release:
    return publish(folder / "luma" / "releases", candidate(folder, b"one", **changes), datetime.now(UTC)).release


def test_each_source_is_a_row(tmp_path: Path) -> None:
    shown = sources_shown(release(tmp_path))
    assert shown[PARTITION_ROW_COUNT] == 4
    assert [record.data for record in shown["sources"].records] == [
        {"path": "gifs/wave.gif", "split": "train", "frames": 2, "weight": 0.5},
        {"path": "stickers/hat.png", "split": "train", "frames": 1, "weight": 0.5},
        {"path": "stickers/sit.png", "split": "holdout", "frames": 1, "weight": 0.0},
    ]


def test_the_table_is_bounded(tmp_path: Path) -> None:
    rows = [
        (f"gifs/{number}.gif", "gifs", "a1" * 32, 0, str(number), "c0" * 32, "train", 1 / 500, "skv_luma")
        for number in range(500)
    ]
    shown = sources_shown(release(tmp_path, sources=sources_file(rows)))
    assert isinstance(shown["sources"], dg.TableMetadataValue)
    assert len(shown["sources"].records) == MOST_SOURCES < shown[PARTITION_ROW_COUNT] == 500


def test_a_release_without_a_table_says_why(tmp_path: Path) -> None:
    sentence = "release 1 of luma was made by an earlier version, which did not record its sources"
    assert sources_shown(release(tmp_path, sources=None)) == {"sources": sentence}
