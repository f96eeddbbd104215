"""Ends of runs in a terminal: what was made in one line, each failure with its reason and page."""

from collections.abc import Iterator

import dagster as dg
import pytest

from sticker_pipeline.core.storage import StorageError
from sticker_pipeline.dagster_kit.run_news import run_news

UI = "http://127.0.0.1:3001"
PARTITIONS = dg.StaticPartitionsDefinition(["anki", "luma", "pip"])


@dg.asset(partitions_def=PARTITIONS)
def frames() -> None:
    return None


@dg.asset(partitions_def=PARTITIONS)
def lora() -> None:
    raise StorageError("luma/frames is damaged.\nMaterialize it again.")


@dg.asset(partitions_def=PARTITIONS, check_specs=[dg.AssetCheckSpec("fine", asset="benchmark", blocking=True)])
def benchmark() -> dg.MaterializeResult:
    return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=False, check_name="fine")])


@dg.asset
def report() -> None:
    return None


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


def run(instance: dg.DagsterInstance, asset: dg.AssetsDefinition, partition: str | None = None) -> str:
    return dg.materialize([asset], partition_key=partition, instance=instance, raise_on_error=False).run_id


def ran(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, job: str, selected: list[str], name: str) -> None:
    """A run of a job, or of selected assets, that ends with `status`."""
    assets = frozenset(map(dg.AssetKey, selected)) or None
    tags = {"dagster/partition": name} if name else {}
    made = instance.add_run(dg.DagsterRun(job_name=job, asset_selection=assets, tags=tags))
    ends = {
        dg.DagsterRunStatus.SUCCESS: dg.DagsterEventType.RUN_SUCCESS,
        dg.DagsterRunStatus.CANCELED: dg.DagsterEventType.RUN_CANCELED,
    }
    event = dg.DagsterEvent(event_type_value=ends[status].value, job_name=job)
    instance.report_dagster_event(event, made.run_id)


def test_what_was_made_is_a_line_per_kind(instance: dg.DagsterInstance) -> None:
    before = run(instance, frames, "pip")
    assert before
    news = run_news(instance, UI)
    assert next(news) == [], "what had ended before"
    for name in ("anki", "luma"):
        ran(instance, dg.DagsterRunStatus.SUCCESS, "__ASSET_JOB", ["frames"], name)
    ran(instance, dg.DagsterRunStatus.SUCCESS, "__ASSET_JOB", ["leaderboard", "report"], "")
    ran(instance, dg.DagsterRunStatus.SUCCESS, "character_line", [], "anki")
    assert next(news) == ["made: frames of anki, luma", "made: leaderboard, report", "made: character_line of anki"]
    assert next(news) == [], "each is told once"
    ran(instance, dg.DagsterRunStatus.CANCELED, "character_line", [], "luma")
    assert next(news) == ["canceled: character_line of luma"]


def test_many_are_one_short_line(instance: dg.DagsterInstance) -> None:
    news = run_news(instance, UI)
    next(news)
    for number in range(40):
        ran(instance, dg.DagsterRunStatus.SUCCESS, "__ASSET_JOB", ["frames"], f"c{number:02}")
    assert next(news) == ["made: frames of c00, c01, c02, c03, c04, c05, c06, c07 and 32 more"]


def test_a_failure_has_its_reason_and_its_page(instance: dg.DagsterInstance) -> None:
    news = run_news(instance, UI)
    next(news)
    failed = run(instance, lora, "luma")
    (line,) = next(news)
    assert line.endswith(f" of luma: luma/frames is damaged. {UI}/runs/{failed}") and line.startswith("failed: ")
    refused = run(instance, benchmark, "luma")
    (line,) = next(news)
    assert line.startswith("refused by its checks: ") and line.endswith(f" of luma. {UI}/runs/{refused}")
    run(instance, report)
    (line,) = next(news)
    assert line.startswith("made: ")
