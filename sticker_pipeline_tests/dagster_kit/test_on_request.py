"""Assets on request: made alone or together, left out of every other launch."""

from collections.abc import Iterator, Sequence

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from sticker_pipeline.dagster_kit.on_request import on_request, skipped

PARTITIONS = dg.StaticPartitionsDefinition(["anki"])
ASKED_FOR = [dg.AssetKey("grid"), dg.AssetKey(["profile", "few_steps"])]


class Values(dg.Config):
    steps: int = 4


@dg.asset(partitions_def=PARTITIONS)
def lora() -> None:
    return None


@dg.asset(partitions_def=PARTITIONS, deps=[lora], output_required=False)
@on_request(ASKED_FOR)
def grid(context: dg.AssetExecutionContext, config: Values, folder: dg.ResourceParam[str]) -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"steps": config.steps, "folder": folder})


@dg.asset(key=ASKED_FOR[1], partitions_def=PARTITIONS, output_required=False)
@on_request(ASKED_FOR)
def few_steps(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    return dg.MaterializeResult()


@pytest.fixture
def definitions() -> dg.Definitions:
    jobs = [dg.define_asset_job("grid_alone", ["grid"]), dg.define_asset_job("everything", "*")]
    return dg.Definitions([lora, grid, few_steps], resources={"folder": "here"}, jobs=jobs)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


def launched(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    selection: Sequence[dg.AssetKey] | None,
    job: str = "everything",
    **tags: str,
) -> tuple[list[str], list[str]]:
    """The materialized assets, and the warnings, of a run that succeeds."""
    result = definitions.resolve_job_def(job).execute_in_process(
        instance=instance, partition_key="anki", asset_selection=selection, tags=tags
    )
    assert result.success
    made = [event.asset_key.to_user_string() for event in result.get_asset_materialization_events() if event.asset_key]
    logs = [log.user_message for log in instance.all_logs(result.run_id) if log.level == 30]
    return sorted(made), logs


def test_all_leaves_it_out_and_says_why(definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    made, said = launched(definitions, instance, None)
    assert made == ["lora"]
    assert sorted(said) == [skipped(key, ["lora"]) for key in ASKED_FOR]
    assert sorted(said)[0] == (
        "grid is made on request alone, and this launch is of lora too: it is not made now. To have it, materialize "
        "nothing else."
    )


def test_beside_another_it_is_left_out(definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    made, said = launched(definitions, instance, [dg.AssetKey("lora"), dg.AssetKey("grid")])
    assert (made, said) == (["lora"], [skipped(ASKED_FOR[0], ["lora"])])


@pytest.mark.parametrize("selection", [ASKED_FOR[:1], ASKED_FOR])
def test_on_request_it_is_made(
    definitions: dg.Definitions, instance: dg.DagsterInstance, selection: list[dg.AssetKey]
) -> None:
    expected = sorted(key.to_user_string() for key in selection)
    assert launched(definitions, instance, selection) == (expected, [])


def test_by_its_job_it_is_made(definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    assert launched(definitions, instance, None, job="grid_alone") == (["grid"], [])


@pytest.mark.parametrize(("others", "made"), [([dg.AssetKey("lora")], []), ([ASKED_FOR[1]], ["grid"])])
def test_of_a_backfill_all_assets_count_not_those_of_one_run(
    definitions: dg.Definitions, instance: dg.DagsterInstance, others: list[dg.AssetKey], made: list[str]
) -> None:
    backfill = PartitionBackfill(
        backfill_id="b", status=BulkActionStatus.REQUESTED, from_failure=False, tags={}, backfill_timestamp=0.0,
        asset_selection=[ASKED_FOR[0], *others],
    )  # fmt: skip
    instance.add_backfill(backfill)
    found, _ = launched(definitions, instance, ASKED_FOR[:1], **{"dagster/backfill": "b"})
    assert found == made
