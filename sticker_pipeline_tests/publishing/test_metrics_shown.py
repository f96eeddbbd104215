"""Each metric appears in comparison, leaderboard, report, model card and docs/reference/metrics.md."""

from datetime import UTC, datetime
from html import escape
from pathlib import Path

import pytest

from sticker_pipeline.benchmark.metrics import METRICS
from sticker_pipeline.benchmark.releases import publish
from sticker_pipeline.benchmark.side_by_side import comparisons
from sticker_pipeline.benchmark.tables import BenchmarkResult, leaderboard, leaderboard_markdown, leaderboard_text
from sticker_pipeline.publishing.base_name import BaseName
from sticker_pipeline.publishing.contents import differences, estimates
from sticker_pipeline.publishing.model_card import card_text
from sticker_pipeline.publishing.report import CharacterReport, character_page
from sticker_pipeline_tests.benchmark.measured import full
from sticker_pipeline_tests.publishing.candidates import candidate
from sticker_pipeline_tests.reference_pages import FOLDER


@pytest.fixture(scope="module")
def measured() -> BenchmarkResult:
    return full()


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_in_the_tables(measured: BenchmarkResult, name: str) -> None:
    row, compared = METRICS[name], comparisons(measured)
    assert name in set(measured.table["metric"])
    assert (name in set(compared["metric"])) == (not row.over_base)
    board = leaderboard({"kai": measured.table})
    assert sum(line.startswith(f"{row.title}  ") for line in leaderboard_text(board).splitlines()) == 1
    assert sum(line.startswith(f"| {row.title} | ") for line in leaderboard_markdown(board).splitlines()) == 1


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_on_the_pages(measured: BenchmarkResult, name: str, tmp_path: Path) -> None:
    row = METRICS[name]
    character = CharacterReport(
        "kai", "t", "p", estimates=estimates(measured.table), differences=differences(comparisons(measured))
    )
    legend = f"<dt>{escape(row.title)}</dt><dd>{escape(row.meaning, quote=False)}</dd>"
    assert character_page(character).replace("&#39;", "'").count(legend) == 1

    made = candidate(tmp_path / "made", b"one", metrics=measured.table)
    card = card_text(
        publish(tmp_path / "releases", made, datetime(2026, 3, 1, tzinfo=UTC)).release, BaseName("sd15", "sd15/base")
    )
    assert f"\n| {row.title} | all | " in card and f"\n- {row.title}: {row.meaning}" in card
    assert f"| {row.title} | `{name}` | {row.meaning} |" in (FOLDER / "metrics.md").read_text(encoding="utf-8")
