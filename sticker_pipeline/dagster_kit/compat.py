"""Dagster's private API: no other module of the package imports it.

Each use has a test in test_compat.py, which fails in words when Dagster changes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.asset_graph_view import asset_graph_view
from dagster._core.definitions import data_version, events, sensor_definition
from dagster._core.errors import DagsterAssetCheckFailedError
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.execution.plan import instance_concurrency_context, objects
from dagster._core.executor import in_process, multiprocess
from dagster._core.launcher import base as launcher
from dagster._core.storage import asset_check_execution_record
from dagster._core.utils import make_new_run_id
from dagster._utils import caching_instance_queryer, interrupts, log, schedules

DAEMON = "dagster._daemon"
"""The module that is started as Dagster's daemon: `python -m dagster._daemon run`."""

CODE_SERVER_LOG_LEVEL = "WARNING"

DATA_VERSION_TAG = data_version.DATA_VERSION_TAG
"""The tag of an observation that has the data version."""

AssetPartition = events.AssetKeyPartitionKey
"""An asset and one of its partitions, or none."""

AssetGraphView = asset_graph_view.AssetGraphView
"""The state of all assets at one look of the automation."""

Queryer = caching_instance_queryer.CachingInstanceQueryer
"""Reads the history, and nothing twice."""

SensorExecutionData = sensor_definition.SensorExecutionData
"""The result of a look of a sensor."""

CheckRecord = asset_check_execution_record.AssetCheckExecutionRecord
"""One execution of a check: planned, or evaluated."""

ConcurrencyContext = instance_concurrency_context.InstanceConcurrencyContext
"""Claims places in pools for the steps of a run."""

LaunchRunContext = launcher.LaunchRunContext
CheckRunHealthResult = launcher.CheckRunHealthResult
WorkerStatus = launcher.WorkerStatus

_Status = asset_check_execution_record.AssetCheckExecutionRecordStatus
_EVALUATED = {_Status.SUCCEEDED, _Status.FAILED}

AT_A_TIME = 500  # executions of a check that are read by one query


def provenance(record: dg.EventLogRecord) -> data_version.DataProvenance | None:
    """Return the versions that a step noted when it began; None for a report of a person."""
    return data_version.extract_data_provenance_from_entry(record.event_log_entry)


def version(record: dg.EventLogRecord) -> dg.DataVersion | None:
    """Return the data version of a materialization or observation."""
    return data_version.extract_data_version_from_entry(record.event_log_entry)


def queryer(view: AssetGraphView) -> Queryer:
    """Return the reader of the history that all conditions of one look share."""
    return view.get_inner_queryer_for_back_compat()


def candidates(context: dg.AutomationContext) -> Iterable[AssetPartition]:
    """Return the partitions of the asset that a condition is asked about."""
    return context.candidate_subset.expensively_compute_asset_partitions()


def true_of(context: dg.AutomationContext, chosen: set[AssetPartition]) -> dg.AutomationResult:
    """Return the result of a condition that is true of the `chosen`."""
    subset = context.asset_graph_view.get_asset_subset_from_asset_partitions(context.key, chosen)
    return dg.AutomationResult(context, subset)


def candidate_names(context: dg.AutomationContext) -> Iterable[str]:
    """Return the names of the partitions that a condition is asked about."""
    return context.candidate_subset.expensively_compute_partition_keys()


def true_of_names(
    context: dg.AutomationContext, partitions: dg.PartitionsDefinition, chosen: set[str]
) -> dg.AutomationResult:
    """Return the result of a condition that is true of the partitions with the `chosen` names."""
    subset = context.asset_graph_view.get_subset_from_partition_keys(context.key, partitions, chosen)
    return dg.AutomationResult(context, subset)


def is_cron(text: str) -> bool:
    """Return True for a cron schedule."""
    return schedules.is_valid_cron_schedule(text)


def cron_ticks(cron: str, start: datetime) -> Iterator[datetime]:
    """Yield the ticks of the schedule (UTC) from `start` on, without end."""
    return schedules.cron_string_iterator(start.timestamp(), cron, "UTC")


def latest_checks(
    instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey], partition: str
) -> Mapping[dg.AssetCheckKey, CheckRecord]:
    """Return the last execution of each check for the partition, where there is one: one query.

    Dagster has no public way to read verdicts by partition; its own UI uses these.
    """
    return instance.event_log_storage.get_latest_asset_check_execution_by_key(
        checks, partition_filter=PartitionKeyFilter(key=partition)
    )


def is_planned(check: CheckRecord) -> bool:
    """Return True for an execution that has not come to its check: its run is under way, or ended before it."""
    return check.status == _Status.PLANNED


def last_evaluations(
    instance: dg.DagsterInstance, check: dg.AssetCheckKey, partitions: Iterable[str]
) -> dict[str, dg.AssetCheckEvaluation]:
    """Return what the check found last of each of `partitions` that it was ever evaluated for.

    Executions are read newest first, many at a time, as long as that finds many; then one partition at a time.
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


def failed_by_checks(failure: objects.StepFailureData) -> bool:
    """Return True for the failure of a step by its own blocking checks."""
    return failure.error is not None and failure.error.cls_name == DagsterAssetCheckFailedError.__name__


def failed_by_interrupt(failure: objects.StepFailureData) -> bool:
    """Return True for the failure of a step that was stopped."""
    return failure.error_source == objects.ErrorSource.INTERRUPT


def replace_claims(*, in_own_process: type[ConcurrencyContext], in_processes: type[ConcurrencyContext]) -> None:
    """Make the executors of this process claim places in pools by these classes.

    `in_own_process` is for steps in the process of their run, `in_processes` for steps with a process each.
    """
    in_process.InstanceConcurrencyContext = in_own_process  # type: ignore[attr-defined]
    multiprocess.InstanceConcurrencyContext = in_processes  # type: ignore[attr-defined]


def captured_interrupts() -> AbstractContextManager[None]:
    """Note a signal that interrupts, in place of raising KeyboardInterrupt in the block."""
    return interrupts.capture_interrupts()


def was_interrupted() -> bool:
    """Return True once a signal was noted by `captured_interrupts`."""
    return interrupts.check_captured_interrupt()


def new_run_id() -> str:
    """Return an identity for a run that is to be."""
    return make_new_run_id()


def colour_logs() -> None:
    """Make Dagster's own processes log as `dagster dev` does."""
    log.configure_loggers(formatter="colored", log_level="INFO")


@contextmanager
def code_servers(instance: dg.DagsterInstance, workspace: Path) -> Iterator[list[dict[str, Any]]]:
    """Start a code server for each location of the workspace file; gives entries for another such file."""
    from dagster._cli.proxy_server_manager import ProxyServerManager
    from dagster._core.workspace.load_target import WorkspaceFileTarget

    target = WorkspaceFileTarget([str(workspace)])
    with ProxyServerManager(instance, target, code_server_log_level=CODE_SERVER_LOG_LEVEL) as servers:
        yield [dict(spec) for spec in servers.get_code_server_specs()]


@contextmanager
def webserver_app(
    instance: dg.DagsterInstance, workspace: Path, *, read_only: bool, poll_milliseconds: int
) -> Iterator[Any]:
    """Open the webserver's ASGI application for the workspace file."""
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster_webserver.app import create_app_from_workspace_process_context
    from dagster_webserver.version import __version__

    target = WorkspaceFileTarget([str(workspace)])
    with WorkspaceProcessContext(instance, target, version=__version__, read_only=read_only) as context:
        yield create_app_from_workspace_process_context(context, live_data_poll_rate=poll_milliseconds)
