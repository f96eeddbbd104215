"""Dagster's private API, imported by no other module.

`test_compat.py` tests each use and fails when Dagster changes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core import events as events_of_runs
from dagster._core.asset_graph_view import asset_graph_view
from dagster._core.definitions import data_version, events, sensor_definition
from dagster._core.definitions.assets.graph import base_asset_graph
from dagster._core.errors import DagsterAssetCheckFailedError
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.execution.plan import instance_concurrency_context, objects
from dagster._core.executor import in_process, multiprocess
from dagster._core.launcher import base as launcher
from dagster._core.storage import asset_check_execution_record
from dagster._core.utils import make_new_run_id
from dagster._utils import concurrency, interrupts, schedules
from dagster_shared.record import copy

DAEMON = "dagster._daemon"
"""Module of Dagster's daemon: `python -m dagster._daemon run`."""

CODE_SERVER_LOG_LEVEL = "WARNING"

DATA_VERSION_TAG = data_version.DATA_VERSION_TAG
"""Tag of an observation with its data version."""

AssetPartition = events.AssetKeyPartitionKey
"""An asset and one of its partitions, or none."""

AssetGraphView = asset_graph_view.AssetGraphView
"""State of all assets in one evaluation of the automation."""

AssetGraph = base_asset_graph.BaseAssetGraph[Any]
"""All assets, their dependencies and checks."""

AssetNode = base_asset_graph.BaseAssetNode
"""An asset of the graph."""

SensorExecutionData = sensor_definition.SensorExecutionData
"""Result of one evaluation of a sensor."""

CheckRecord = asset_check_execution_record.AssetCheckExecutionRecord
"""One execution of a check: planned, or evaluated."""

ConcurrencyContext = instance_concurrency_context.InstanceConcurrencyContext
"""Base class: claims places in pools for the steps of a run."""

LaunchRunContext = launcher.LaunchRunContext
CheckRunHealthResult = launcher.CheckRunHealthResult
WorkerStatus = launcher.WorkerStatus

_Status = asset_check_execution_record.AssetCheckExecutionRecordStatus
_EVALUATED = {_Status.SUCCEEDED, _Status.FAILED}

BACKFILL_TAG = "dagster/backfill"
AT_A_TIME = 500  # executions of a check in one query


def provenance(tags: Mapping[str, str]) -> data_version.DataProvenance | None:
    """Return the versions in `tags` that a step noted at its start.

    None for a materialization reported by a person.
    """
    return data_version.DataProvenance.from_tags(tags)


def provenance_tags(
    version: str, code_version: str, inputs: Mapping[dg.AssetKey, tuple[str | None, int]]
) -> dict[str, str]:
    """Return a materialization's tags, as a step writes them.

    `inputs`: data version and storage id of each input's event.
    """
    tags = {
        DATA_VERSION_TAG: version,
        data_version.CODE_VERSION_TAG: code_version,
        data_version.DATA_VERSION_IS_USER_PROVIDED_TAG: "true",
    }
    for key, (of, number) in inputs.items():
        tags[data_version.get_input_data_version_tag(key)] = of or data_version.UNKNOWN_DATA_VERSION.value
        tags[data_version.get_input_event_pointer_tag(key)] = str(number)
    return tags


def note_inputs(context: dg.AssetExecutionContext) -> None:
    """Note the input versions again, as Dagster does when a step begins."""
    context.op_execution_context.get_step_execution_context().fetch_external_input_asset_version_info()


def latest_versions(
    instance: dg.DagsterInstance,
    asset: dg.AssetKey,
    kind: dg.DagsterEventType,
    partitions: set[str] | None,
    before: int | None = None,
) -> Mapping[str, Mapping[str, str]]:
    """Return the tag DATA_VERSION_TAG of each partition's last event.

    `before`: only events with a smaller storage id.
    """
    some = sorted(partitions) if partitions else None
    return instance.event_log_storage.get_latest_tags_by_partition(
        asset, kind, [DATA_VERSION_TAG], asset_partitions=some, before_cursor=before
    )


def free_places(instance: dg.DagsterInstance, run_id: str) -> None:
    """Free the run's places in pools."""
    instance.event_log_storage.free_concurrency_slots_for_run(run_id)


def runs_with_places(instance: dg.DagsterInstance) -> set[str]:
    """Return runs that hold, or wait for, a place in a pool."""
    return instance.event_log_storage.get_concurrency_run_ids()


def pools(instance: dg.DagsterInstance) -> set[str]:
    """Return all pools that were ever used."""
    return instance.event_log_storage.get_concurrency_keys()


def places(instance: dg.DagsterInstance, pool: str) -> concurrency.ConcurrencyKeyInfo:
    """Return the pool's holders and waiting steps."""
    return instance.event_log_storage.get_concurrency_info(pool)


def selected_assets(context: dg.AssetExecutionContext) -> set[dg.AssetKey]:
    """Return the assets that a person has launched together with this step's.

    Those of the backfill, else of the run, else of the job.
    """
    number = context.run.tags.get(BACKFILL_TAG)
    backfill = context.instance.get_backfill(number) if number else None
    selected = (backfill.asset_selection if backfill else None) or context.run.asset_selection
    return set(selected or context.job_def.asset_layer.executable_asset_keys)


def kept_text(instance: dg.DagsterInstance, key: str) -> str:
    """Return the text that `keep_text` stored in the history, or ""."""
    return instance.daemon_cursor_storage.get_cursor_values({key}).get(key, "")


def keep_text(instance: dg.DagsterInstance, key: str, text: str) -> None:
    """Store a text in the history, in place of an earlier one."""
    instance.daemon_cursor_storage.set_cursor_values({key: text})


def history_id(instance: dg.DagsterInstance) -> str:
    """Return the identity of the history, made with its database."""
    storage: Any = instance.run_storage
    if not hasattr(storage, "get_run_storage_id"):  # a LegacyRunStorage: one database for everything
        storage = storage._storage.run_storage
    return str(storage.get_run_storage_id())


def asset_specs(graph: AssetGraph, partitions: dg.PartitionsDefinition | None) -> list[dg.AssetSpec]:
    """Return the materializable assets with these partitions, upstream first."""
    nodes = [graph.get(key) for key in graph.toposorted_asset_keys if key in graph.materializable_asset_keys]
    return [node.assets_def.get_asset_spec(node.key) for node in nodes if node.partitions_def == partitions]


def candidates(context: dg.AutomationContext) -> Iterable[AssetPartition]:
    """Return the asset's partitions that a condition evaluates."""
    return context.candidate_subset.expensively_compute_asset_partitions()


def true_of(context: dg.AutomationContext, chosen: set[AssetPartition]) -> dg.AutomationResult:
    """Return a condition's result: true for `chosen`."""
    subset = context.asset_graph_view.get_asset_subset_from_asset_partitions(context.key, chosen)
    return dg.AutomationResult(context, subset)


def candidate_names(context: dg.AutomationContext) -> Iterable[str]:
    """Return the partition names that a condition evaluates."""
    return context.candidate_subset.expensively_compute_partition_keys()


def true_of_names(
    context: dg.AutomationContext, partitions: dg.PartitionsDefinition, chosen: set[str]
) -> dg.AutomationResult:
    """Return a condition's result: true for the partitions `chosen`."""
    subset = context.asset_graph_view.get_subset_from_partition_keys(context.key, partitions, chosen)
    return dg.AutomationResult(context, subset)


def is_cron(text: str) -> bool:
    return schedules.is_valid_cron_schedule(text)


def cron_ticks(cron: str, start: datetime) -> Iterator[datetime]:
    """Yield the schedule's ticks (UTC) from `start` on, endlessly."""
    return schedules.cron_string_iterator(start.timestamp(), cron, "UTC")


def latest_checks(
    instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey], partition: str
) -> Mapping[dg.AssetCheckKey, CheckRecord]:
    """Return each check's last execution for the partition, in one query.

    Dagster's UI uses it too; there is no public way by partition.
    """
    return instance.event_log_storage.get_latest_asset_check_execution_by_key(
        checks, partition_filter=PartitionKeyFilter(key=partition)
    )


def is_planned(check: CheckRecord) -> bool:
    """Return True for an execution without evaluation: under way, or ended early."""
    return check.status == _Status.PLANNED


def last_evaluations(
    instance: dg.DagsterInstance, check: dg.AssetCheckKey, partitions: Iterable[str]
) -> dict[str, dg.AssetCheckEvaluation]:
    """Return the last evaluation of each of `partitions` that has one.

    Reads AT_A_TIME executions per query, newest first. After a bounded number of queries, partitions are read singly.
    """
    storage = instance.event_log_storage
    known = {info.partition_key for info in storage.get_asset_check_partition_info([check])}
    missing = {name for name in partitions if name in known}
    found: dict[str, dg.AssetCheckEvaluation] = {}
    cursor: int | None = None
    for _ in range(2 + 2 * len(missing) // AT_A_TIME):
        records = storage.get_asset_check_execution_history(check, AT_A_TIME, cursor, _EVALUATED) if missing else ()
        for record in records:
            if record.partition in missing and record.evaluation is not None:
                missing.remove(record.partition)
                found[record.partition] = record.evaluation
        if len(records) < AT_A_TIME:
            return found
        cursor = records[-1].id
    return found | {name: one for name in missing if (one := _last_evaluation(instance, check, name))}


def _last_evaluation(
    instance: dg.DagsterInstance, check: dg.AssetCheckKey, partition: str
) -> dg.AssetCheckEvaluation | None:
    records = instance.event_log_storage.get_asset_check_execution_history(
        check, 1, status=_EVALUATED, partition_filter=PartitionKeyFilter(key=partition)
    )
    return records[0].evaluation if records else None


def verdicts_on(
    instance: dg.DagsterInstance, graph: AssetGraph, asset: dg.AssetKey, partition: str | None, number: int
) -> list[CheckRecord]:
    """Return the check evaluations of the materialization with this storage id."""
    if partition is None:
        return []
    checks = [key for key in graph.asset_check_keys if key.asset_key == asset]
    found = [check for check in latest_checks(instance, checks, partition).values() if not is_planned(check)]
    return [check for check in found if check.run_id and _judged(check) == number]


def _judged(check: CheckRecord) -> int | None:
    target = check.evaluation.target_materialization_data if check.evaluation else None
    return target.storage_id if target else None


def report_verdict(instance: dg.DagsterInstance, check: CheckRecord, number: int) -> None:
    """Report a check's result again, for the materialization with this storage id.

    Dagster counts only results that name a partition's latest materialization. The event belongs to the first result's
    run: Dagster stores one per check, partition and run, and a second one without a run is an error.
    """
    evaluation = check.evaluation
    assert evaluation and evaluation.target_materialization_data
    target = copy(evaluation.target_materialization_data, storage_id=number)
    event = events_of_runs.DagsterEvent(
        event_type_value=dg.DagsterEventType.ASSET_CHECK_EVALUATION.value,
        job_name="",
        event_specific_data=copy(evaluation, target_materialization_data=target),
    )
    instance.report_dagster_event(event, check.run_id)


def failed_by_checks(failure: objects.StepFailureData) -> bool:
    """Return True for a step failed by its blocking checks."""
    return failure.error is not None and failure.error.cls_name == DagsterAssetCheckFailedError.__name__


def failed_by_interrupt(failure: objects.StepFailureData) -> bool:
    return failure.error_source == objects.ErrorSource.INTERRUPT


def replace_claims(*, in_own_process: type[ConcurrencyContext], in_processes: type[ConcurrencyContext]) -> None:
    """Make this process's executors claim places in pools by these classes.

    One is for steps in the run's process, one for steps with their own.
    """
    in_process.InstanceConcurrencyContext = in_own_process  # type: ignore[attr-defined]
    multiprocess.InstanceConcurrencyContext = in_processes  # type: ignore[attr-defined]


def captured_interrupts() -> AbstractContextManager[None]:
    """Note interrupting signals in the block instead of raising KeyboardInterrupt."""
    return interrupts.capture_interrupts()


def was_interrupted() -> bool:
    """Return True once `captured_interrupts` has noted a signal."""
    return interrupts.check_captured_interrupt()


def new_run_id() -> str:
    return make_new_run_id()


@contextmanager
def code_servers(instance: dg.DagsterInstance, workspace: Path) -> Iterator[list[dict[str, Any]]]:
    """Start the workspace file's code servers; yield entries for another such file."""
    from dagster._cli.proxy_server_manager import ProxyServerManager
    from dagster._core.workspace.load_target import WorkspaceFileTarget

    target = WorkspaceFileTarget([str(workspace)])
    with ProxyServerManager(instance, target, code_server_log_level=CODE_SERVER_LOG_LEVEL) as servers:
        yield [dict(spec) for spec in servers.get_code_server_specs()]


@contextmanager
def webserver_context(instance: dg.DagsterInstance, workspace: Path, *, read_only: bool) -> Iterator[Any]:
    """Open the workspace of a webserver: for `webserver_app`, `check_specs` and `asked`."""
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster_webserver.version import __version__

    target = WorkspaceFileTarget([str(workspace)])
    with WorkspaceProcessContext(
        instance, target, version=__version__, read_only=read_only, code_server_log_level=CODE_SERVER_LOG_LEVEL
    ) as context:
        yield context


def webserver_app(context: Any, poll_milliseconds: int) -> Any:
    """Return the webserver's ASGI application."""
    from dagster_webserver.app import create_app_from_workspace_process_context

    return create_app_from_workspace_process_context(context, live_data_poll_rate=poll_milliseconds)


def asked(context: Any, query: str, variables: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Execute GraphQL in this process; return its data.

    In the workspace of `webserver_context`, as a webserver does.
    """
    from dagster_graphql.cli import execute_query

    return dict(execute_query(context, query, variables)["data"])


def schemas(instance: dg.DagsterInstance) -> Sequence[object]:
    """Return the schemas of the history and of this Dagster.

    Empty for a history without one.
    """
    return instance.run_storage.alembic_version() or ()


def seconds_since_queue_daemon(instance: dg.DagsterInstance, now: float) -> float | None:
    """Return the seconds since the queue's daemon was seen.

    0 for an instance without queue; None: never seen.
    """
    kind = "QUEUED_RUN_COORDINATOR"
    if kind not in instance.get_required_daemon_types():
        return 0.0
    seen = instance.get_daemon_statuses([kind])[kind].last_heartbeat
    return now - seen.timestamp if seen else None


def check_specs(context: Any, partitions: str) -> list[dg.AssetCheckSpec]:
    """Return the checks of assets with the dynamic `partitions`, upstream first.

    Definitions are loaded in the code server alone.
    """
    graph = context.create_request_context().asset_graph
    order = {key: place for place, key in enumerate(graph.toposorted_asset_keys)}
    snaps = [node.asset_check for node in graph.remote_asset_check_nodes_by_key.values()]
    wanted = [snap for snap in snaps if getattr(graph.get(snap.asset_key).partitions_def, "name", None) == partitions]
    return [
        dg.AssetCheckSpec(snap.name, asset=snap.asset_key, blocking=snap.blocking)
        for snap in sorted(wanted, key=lambda snap: (order[snap.asset_key], snap.name))
    ]
