"""Dagster's private API: the names, parameters and behaviour that the package uses."""

import ast
import inspect
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sticker_pipeline.dagster_kit import compat
from sticker_pipeline_tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "sticker_pipeline"
WORKSPACE = "workspace.yaml"
COMPAT = Path("dagster_kit/compat.py")
PRIVATE = re.compile(r"\bdagster\._|\bdagster_webserver\b")

# module, name in it, parameters that we pass, where it is used
USES = [
    ("dagster._core.definitions.data_version", "DATA_VERSION_TAG", None, "observed roots (history.py)"),
    ("dagster._core.definitions.data_version", "CODE_VERSION_TAG", None, "what is reported anew (restored.py)"),
    (
        "dagster._core.definitions.data_version",
        "DATA_VERSION_IS_USER_PROVIDED_TAG",
        None,
        "what is reported anew (restored.py)",
    ),
    ("dagster._core.definitions.data_version", "UNKNOWN_DATA_VERSION.value", None, "restored.py"),
    ("dagster._core.definitions.data_version", "DataProvenance.from_tags", ["tags"], "staleness.py"),
    ("dagster._core.definitions.data_version", "get_input_event_pointer_tag", ["input_key"], "restored.py"),
    (
        "dagster._core.execution.context.system",
        "StepExecutionContext.fetch_external_input_asset_version_info",
        ["self"],
        "roots that are observed by a step (step.py)",
    ),
    (
        "dagster._core.storage.event_log.base",
        "EventLogStorage.get_latest_tags_by_partition",
        ["self", "asset_key", "event_type", "tag_keys", "asset_partitions", "before_cursor", "after_cursor"],
        "versions by partition (history.py)",
    ),
    ("dagster._core.storage.runs.sql_run_storage", "SqlRunStorage.get_run_storage_id", ["self"], "history.py"),
    ("dagster._core.storage.legacy_storage", "LegacyRunStorage", None, "history.py"),
    ("dagster._core.definitions.assets.graph.base_asset_graph", "BaseAssetGraph", None, "staleness.py"),
    ("dagster._core.definitions.assets.graph.base_asset_graph", "BaseAssetNode", None, "staleness.py"),
    ("dagster_shared.record", "copy", None, "verdicts that are reported anew (restored.py)"),
    ("dagster._core.events", "DagsterEvent", None, "verdicts that are reported anew (restored.py)"),
    ("dagster._utils.concurrency", "ConcurrencyKeyInfo", None, "waiting for a pool (patience.py)"),
    *(
        ("dagster._core.storage.event_log.base", f"EventLogStorage.{name}", parameters, "pools (patience.py)")
        for name, parameters in (
            ("free_concurrency_slots_for_run", ["self", "run_id"]),
            ("get_concurrency_run_ids", ["self"]),
            ("get_concurrency_keys", ["self"]),
            ("get_concurrency_info", ["self", "concurrency_key"]),
        )
    ),
    (
        "dagster._core.definitions.events",
        "AssetKeyPartitionKey",
        ["asset_key", "partition_key"],
        "automation.py",
    ),
    ("dagster._core.definitions.sensor_definition", "SensorExecutionData", None, "the sensor `automation`"),
    (
        "dagster._core.events",
        "DagsterEvent",
        ["event_type_value", "job_name", "event_specific_data"],
        "verdicts that are reported again (restored.py)",
    ),
    (
        "dagster._core.asset_graph_view.asset_graph_view",
        "AssetGraphView.get_asset_subset_from_asset_partitions",
        ["self", "key", "asset_partitions"],
        "automation.py",
    ),
    (
        "dagster._core.asset_graph_view.asset_graph_view",
        "AssetGraphView.get_subset_from_partition_keys",
        ["self", "key", "partitions_def", "partition_keys"],
        "automation.py (OnlyWarned)",
    ),
    (
        "dagster._core.asset_graph_view.entity_subset",
        "EntitySubset.expensively_compute_asset_partitions",
        ["self"],
        "automation.py",
    ),
    (
        "dagster._core.asset_graph_view.entity_subset",
        "EntitySubset.expensively_compute_partition_keys",
        ["self"],
        "automation.py (OnlyWarned)",
    ),
    ("dagster._core.event_api", "PartitionKeyFilter", None, "verdicts of a partition (checks.py, publishing.py)"),
    (
        "dagster._core.storage.event_log.base",
        "EventLogStorage.get_latest_asset_check_execution_by_key",
        ["self", "check_keys", "partition_filter"],
        "verdicts of a partition (checks.py, publishing.py)",
    ),
    (
        "dagster._core.storage.event_log.base",
        "EventLogStorage.get_asset_check_execution_history",
        ["self", "check_key", "limit", "status", "partition_filter"],
        "verdicts of a partition (publishing.py)",
    ),
    (
        "dagster._core.storage.asset_check_execution_record",
        "AssetCheckExecutionRecordStatus.PLANNED",
        None,
        "checks of runs that died (checks.py)",
    ),
    ("dagster._core.errors", "DagsterAssetCheckFailedError", None, "failures in a terminal (loggers.py)"),
    ("dagster._core.execution.plan.objects", "ErrorSource.INTERRUPT", None, "failures in a terminal (loggers.py)"),
    (
        "dagster._core.execution.plan.instance_concurrency_context",
        "InstanceConcurrencyContext",
        ["instance", "dagster_run"],
        "waiting for a pool (patience.py)",
    ),
    (
        "dagster._core.execution.plan.instance_concurrency_context",
        "InstanceConcurrencyContext.claim",
        ["self", "concurrency_key", "step_key", "step_priority"],
        "waiting for a pool (patience.py)",
    ),
    ("dagster._core.executor.in_process", "InstanceConcurrencyContext", None, "waiting for a pool (patience.py)"),
    ("dagster._core.executor.multiprocess", "InstanceConcurrencyContext", None, "waiting for a pool (patience.py)"),
    ("dagster._utils.interrupts", "capture_interrupts", [], "stopping a command (work.py)"),
    ("dagster._utils.interrupts", "check_captured_interrupt", [], "stopping a step that waits (patience.py)"),
    ("dagster._core.utils", "make_new_run_id", [], "runs of a command (update.py)"),
    ("dagster._core.launcher.base", "LaunchRunContext.dagster_run", None, "run_launcher.py"),
    ("dagster._core.launcher.base", "CheckRunHealthResult", ["status", "msg"], "run_launcher.py"),
    ("dagster._core.launcher.base", "WorkerStatus.RUNNING", None, "run_launcher.py"),
    ("dagster._core.launcher.base", "WorkerStatus.NOT_FOUND", None, "run_launcher.py"),
    ("dagster._utils.schedules", "is_valid_cron_schedule", ["cron_schedule"], "STICKER_RETRAIN (automation.py)"),
    (
        "dagster._utils.schedules",
        "cron_string_iterator",
        ["start_timestamp", "cron_string", "execution_timezone"],
        "STICKER_RETRAIN (automation.py)",
    ),
    (
        "dagster._cli.proxy_server_manager",
        "ProxyServerManager",
        ["instance", "workspace_load_target", "code_server_log_level"],
        "`sticker-pipeline ui` (ui.py)",
    ),
    (
        "dagster._cli.proxy_server_manager",
        "ProxyServerManager.get_code_server_specs",
        ["self"],
        "`sticker-pipeline ui` (ui.py)",
    ),
    ("dagster._core.workspace.load_target", "WorkspaceFileTarget", None, "`sticker-pipeline ui` (ui.py)"),
    (
        "dagster._core.workspace.context",
        "WorkspaceProcessContext",
        ["instance", "workspace_load_target", "version", "read_only", "code_server_log_level"],
        "`sticker-pipeline ui` (ui.py)",
    ),
    (
        "dagster_webserver.app",
        "create_app_from_workspace_process_context",
        ["workspace_process_context", "live_data_poll_rate"],
        "`sticker-pipeline ui` (ui.py)",
    ),
    (
        "dagster_graphql.cli",
        "execute_query",
        ["workspace_process_context", "query", "variables"],
        "`sticker-pipeline request` (request.py)",
    ),
    ("dagster._core.storage.runs.base", "RunStorage.alembic_version", ["self"], "request.py"),
    ("dagster._core.instance", "DagsterInstance.get_required_daemon_types", ["self"], "request.py"),
    ("dagster._core.instance", "DagsterInstance.get_daemon_statuses", ["self", "daemon_types"], "request.py"),
    ("dagster_webserver.version", "__version__", None, "`sticker-pipeline ui` (ui.py)"),
]


def changed(what: str, where: str) -> str:
    return f"Dagster has changed: {what}, which {where} uses by way of dagster_kit/compat.py."


def test_no_other_module_names_private_modules_of_dagster() -> None:
    found = [
        f"{file.relative_to(PACKAGE)}:{line}: {name}"
        for file in sorted(PACKAGE.rglob("*.py"))
        if file.relative_to(PACKAGE) != COMPAT
        for line, name in named(ast.parse(file.read_text(encoding="utf-8")))
        if PRIVATE.search(name)
    ]
    assert not found, f"Only {COMPAT} names private modules of Dagster, each with a row in USES: {found}"


def test_every_private_module_that_is_imported_has_a_row() -> None:
    tree = ast.parse((PACKAGE / COMPAT).read_text(encoding="utf-8"))
    imported = {name for _, name in imports(tree) if PRIVATE.search(name)}
    known = {module for module, *_ in USES} | {f"{module}.{name}" for module, name, *_ in USES}
    without = {name for name in imported if name not in known and not any(row.startswith(name) for row in known)}
    assert not without, f"These imports of {COMPAT} have no row in USES: {sorted(without)}"


def test_private_modules_are_found_in_every_way_to_name_one() -> None:
    ways = ["import dagster._core.x", "from dagster import _core", "from dagster._core import x", "a = '-m dagster._x'"]
    assert all(any(PRIVATE.search(name) for _, name in named(ast.parse(way))) for way in ways)
    assert not any(
        PRIVATE.search(name) for _, name in named(ast.parse("import dagster as dg; dg.asset; a = 'dagster'"))
    )


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def named(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The modules that are imported, and every text."""
    yield from imports(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


@pytest.mark.parametrize(("module", "name", "parameters", "where"), USES, ids=[f"{row[0]}:{row[1]}" for row in USES])
def test_it_is_there_and_takes_what_we_pass(module: str, name: str, parameters: list[str] | None, where: str) -> None:
    try:
        found: Any = import_module(module)
    except ImportError:
        pytest.fail(changed(f"there is no module {module} any more", where))
    for part in name.split("."):
        assert hasattr(found, part), changed(f"{module} has no {name} any more", where)
        found = getattr(found, part)
    if parameters is None:
        return
    known = inspect.signature(found).parameters
    missing = [one for one in parameters if one not in known]
    assert not missing, changed(f"{module}.{name} takes no {', '.join(missing)} any more", where)
    required = {one.name for one in known.values() if one.default is one.empty and one.kind not in (2, 4)}
    assert required <= {*parameters}, changed(f"{module}.{name} wants {sorted(required - {*parameters})}", where)


def test_the_daemon_is_a_module_to_start() -> None:
    assert find_spec(f"{compat.DAEMON}.__main__"), changed(f"there is no {compat.DAEMON} to start", "ui.py")
    told = subprocess.run(
        [sys.executable, "-m", compat.DAEMON, "run", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for option in ("--log-level", "--workspace"):
        assert option in told, changed(f"{compat.DAEMON} run has no option {option}", "ui.py")


def test_a_workspace_file_names_its_code_locations() -> None:
    target = import_module("dagster._core.workspace.load_target").WorkspaceFileTarget([str(REPOSITORY / WORKSPACE)])
    names = [origin.location_name for origin in target.create_origins()]
    assert names == ["sticker_pipeline"], changed("WorkspaceFileTarget reads a workspace file otherwise", "ui.py")


def test_loading_it_does_not_load_the_webserver() -> None:
    code = (
        "import sys, sticker_pipeline.dagster_kit.compat;"
        "bad = {'dagster_webserver', 'dagster._cli.proxy_server_manager', 'dagster_graphql'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_executors_take_their_claims_from_their_own_modules() -> None:
    """Else `replace_claims` would replace nothing, and waiting would take a core again."""
    for name, function in (("in_process", "inprocess_execution_iterator"), ("multiprocess", "MultiprocessExecutor")):
        module = import_module(f"dagster._core.executor.{name}")
        assert hasattr(module, function), changed(f"{name} has no {function}", "patience.py")
        source = inspect.getsource(getattr(module, function))
        assert "InstanceConcurrencyContext(" in source, changed(
            f"the executor of {name} claims places in another way", "patience.py"
        )


def test_claims_have_the_parts_that_ours_change(instance: dg.DagsterInstance) -> None:
    claims = compat.ConcurrencyContext(instance, dg.DagsterRun("job"))
    for part in ("_instance", "_pending_timeouts"):
        assert hasattr(claims, part), changed(f"InstanceConcurrencyContext has no {part}", "patience.py")
    with claims:
        assert claims.claim("gpu", "first")
    with compat.ConcurrencyContext(instance, dg.DagsterRun("job")) as others:
        assert not others.claim("gpu", "second"), changed("a pool has more than its places", "patience.py")
        assert "second" in others._pending_timeouts, changed("a refused claim has no time to ask again", "patience.py")


@pytest.mark.skipif(os.name != "posix", reason="signals as Unix has them")
def test_an_interrupt_is_noted_in_place_of_raised() -> None:
    code = (
        "import os, signal; from sticker_pipeline.dagster_kit import compat\n"
        "with compat.captured_interrupts():\n"
        "    assert not compat.was_interrupted()\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    assert compat.was_interrupted()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, changed("capture_interrupts notes no signal", "work.py") + ended.stderr
    assert signal.getsignal(signal.SIGINT) is not None


def test_cron_schedules() -> None:
    assert compat.is_cron("0 3 * * *")
    assert not compat.is_cron("tonight"), changed("any text is a cron schedule", "automation.py")
    start = datetime(2025, 1, 1, tzinfo=UTC)
    ticks = [tick.astimezone(UTC) for tick in islice(compat.cron_ticks("0 3 * * *", start), 2)]
    assert ticks == [start.replace(hour=3), start.replace(day=2, hour=3)], changed("ticks are others", "automation.py")


def test_the_versions_that_a_step_noted(instance: dg.DagsterInstance) -> None:
    @dg.asset(code_version="7")
    def given() -> dg.MaterializeResult:
        return dg.MaterializeResult(data_version=dg.DataVersion("one"))

    @dg.asset(deps=[given], code_version="8")
    def made() -> dg.MaterializeResult:
        return dg.MaterializeResult(data_version=dg.DataVersion("two"))

    assert dg.materialize([given, made], instance=instance).success
    upstream, record = (instance.fetch_materializations(asset, limit=1).records[0] for asset in (given.key, made.key))
    tags = record.event_log_entry.tags or {}
    assert tags[compat.DATA_VERSION_TAG] == "two"
    noted = compat.provenance(tags)
    assert noted is not None, changed("a step notes no versions when it begins", "staleness.py")
    assert noted.code_version == "8"
    assert noted.input_storage_ids == {given.key: upstream.storage_id}, changed(
        "a step does not note the events of its inputs", "staleness.py"
    )
    inputs = {given.key: ("one", upstream.storage_id)}
    assert compat.provenance_tags("two", "8", inputs) == dict(tags), changed("a step has other tags", "restored.py")
    assert compat.provenance({}) is None


def test_a_step_can_note_its_inputs_again(instance: dg.DagsterInstance) -> None:
    root = dg.AssetSpec("root")

    @dg.asset(deps=[root], code_version="1")
    def made(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        instance.report_runless_asset_event(dg.AssetObservation("root", tags={compat.DATA_VERSION_TAG: "new"}))
        compat.note_inputs(context)
        return dg.MaterializeResult()

    assert dg.materialize([made, root], selection=[made], instance=instance).success
    noted = compat.provenance(instance.fetch_materializations(made.key, limit=1).records[0].event_log_entry.tags or {})
    assert noted is not None
    assert noted.input_data_versions == {root.key: dg.DataVersion("new")}, changed(
        "a step does not note what is observed in it", "step.py"
    )


def test_the_assets_of_a_graph() -> None:
    @dg.asset(deps=[dg.AssetSpec("root")], metadata={"uses": ["one"]})
    def second() -> None: ...

    @dg.asset(deps=[second], partitions_def=dg.StaticPartitionsDefinition(["moth"]))
    def other() -> None: ...

    @dg.asset(deps=[second])
    def third() -> None: ...

    specs = compat.asset_specs(dg.Definitions([third, second, other]).resolve_asset_graph(), None)
    found = [(spec.key.to_user_string(), spec.metadata.get("uses")) for spec in specs]
    assert found == [("second", ["one"]), ("third", None)], changed("a graph has other assets", "restored.py")


def test_versions_by_partition(instance: dg.DagsterInstance) -> None:
    root, kind = dg.AssetKey("root"), dg.DagsterEventType.ASSET_OBSERVATION
    numbers = []
    for partition, version in (("moth", "1"), ("kai", "2"), ("moth", "3")):
        tags = {compat.DATA_VERSION_TAG: version}
        instance.report_runless_asset_event(dg.AssetObservation(root, partition=partition, tags=tags))
        numbers.append(instance.fetch_observations(root, limit=1).records[0].storage_id)

    def versions(partitions: set[str] | None, before: int | None = None) -> dict[str, str]:
        found = compat.latest_versions(instance, root, kind, partitions, before)
        return {name: tags[compat.DATA_VERSION_TAG] for name, tags in found.items()}

    why = changed("versions are not kept by partition", "history.py")
    assert versions(None) == {"moth": "3", "kai": "2"}, why
    assert versions({"moth"}) == {"moth": "3"}, why
    assert versions(None, before=numbers[2]) == {"moth": "1", "kai": "2"}, why


def test_a_text_is_kept_in_the_history(instance: dg.DagsterInstance) -> None:
    assert compat.kept_text(instance, "ours") == ""
    for text in ("first", "second"):
        compat.keep_text(instance, "ours", text)
        assert compat.kept_text(instance, "ours") == text, changed("it keeps no texts of others", "sensors.py")
    assert compat.kept_text(instance, "other") == ""


def test_a_history_is_told_from_others(tmp_path: Path) -> None:
    for kind in ("folders", "one database"):
        found = []
        for name in ("a", "b"):
            folder = tmp_path / kind / name
            folder.mkdir(parents=True)
            of_one = {"storage": {"sqlite": {"base_dir": str(folder)}}}
            settings = of_one if kind == "one database" else {}
            with dg.DagsterInstance.local_temp(str(folder), overrides=settings) as instance:
                found += [compat.history_id(instance), compat.history_id(instance)]
        assert found[0] == found[1] != found[2] == found[3], changed(f"a history of {kind} has no id", "history.py")


def test_verdicts_by_partition(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    partitions = dg.StaticPartitionsDefinition(["moth", "kai"])

    @dg.asset(partitions_def=partitions)
    def drawing() -> None: ...

    def judged(passed: Callable[[], bool]) -> dg.AssetChecksDefinition:
        @dg.asset_check(asset=drawing, partitions_def=partitions, name="round")
        def check() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=passed())

        return check

    def run(partition: str, passed: Callable[[], bool]) -> None:
        dg.materialize([drawing, judged(passed)], partition_key=partition, instance=instance, raise_on_error=False)

    def dies() -> bool:
        raise RuntimeError("out of memory")

    key = dg.AssetCheckKey(drawing.key, "round")
    assert compat.latest_checks(instance, [key], "moth") == {}
    run("moth", lambda: True)
    run("kai", lambda: False)
    run("moth", dies)
    found = {name: compat.latest_checks(instance, [key], name)[key] for name in ("moth", "kai")}
    planned = {name: compat.is_planned(record) for name, record in found.items()}
    assert planned == {"moth": True, "kai": False}, changed("a check of a run that died is not planned", "checks.py")

    def passed() -> dict[str, bool]:
        verdicts = compat.last_evaluations(instance, key, ["moth", "kai", "nobody"])
        return {name: verdict.passed for name, verdict in verdicts.items()}

    wrong = changed("verdicts are not kept by partition", "publishing.py")
    assert passed() == {"moth": True, "kai": False}, wrong
    monkeypatch.setattr(compat, "AT_A_TIME", 1)
    assert passed() == {"moth": True, "kai": False}, wrong
    for _ in range(6):  # so that the last of kai is further back than is read at once
        run("moth", lambda: False)
    assert passed() == {"moth": False, "kai": False}, wrong


def test_verdicts_can_be_kept_for_another_materialization(instance: dg.DagsterInstance) -> None:
    partitions = dg.StaticPartitionsDefinition(["moth", "kai"])

    @dg.asset(partitions_def=partitions)
    def drawing() -> None: ...

    @dg.asset_check(asset=drawing, partitions_def=partitions)
    def round() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, description="it is square")

    graph, key = dg.Definitions([drawing], asset_checks=[round]).resolve_asset_graph(), drawing.key
    check = dg.AssetCheckKey(key, "round")

    def judged() -> bool:
        """Return whether the verdict is on the latest materialization."""
        (info,) = instance.event_log_storage.get_asset_check_partition_info([check], partition_keys=["moth"])
        return info.is_current

    dg.materialize([drawing, round], partition_key="moth", instance=instance)
    for _ in range(2):
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition="moth"))
        assert not judged()
        after, before = (record.storage_id for record in instance.fetch_materializations(key, limit=2).records)
        assert compat.verdicts_on(instance, graph, key, "moth", after) == []
        (verdict,) = compat.verdicts_on(instance, graph, key, "moth", before)
        compat.report_verdict(instance, verdict, after)
        assert judged(), changed("a verdict that is reported again is not kept", "restored.py")
    found = compat.last_evaluations(instance, check, ["moth"])["moth"]
    assert (found.passed, found.description) == (False, "it is square")


def test_failures_of_steps(instance: dg.DagsterInstance) -> None:
    @dg.asset(check_specs=[dg.AssetCheckSpec("gate", asset="refused", blocking=True)])
    def refused() -> dg.MaterializeResult:
        return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=False, check_name="gate")])

    @dg.asset
    def stopped() -> None:
        raise dg.DagsterExecutionInterruptedError

    @dg.asset
    def raises() -> None:
        raise RuntimeError("no")

    def kinds(asset: dg.AssetsDefinition) -> tuple[bool, bool]:
        result = dg.materialize([asset], instance=instance, raise_on_error=False)
        (failure,) = (event.step_failure_data for event in result.all_node_events if event.is_step_failure)
        return compat.failed_by_checks(failure), compat.failed_by_interrupt(failure)

    assert kinds(refused) == (True, False), changed("a blocking check raises another error", "loggers.py")
    assert kinds(stopped) == (False, True), changed("a stopped step has another source of its error", "loggers.py")
    assert kinds(raises) == (False, False)


def test_run_ids_are_new() -> None:
    assert compat.new_run_id() != compat.new_run_id()


def test_the_api_of_the_ui_answers_without_a_ui(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text("load_from: []\n")
    with compat.webserver_context(instance, workspace, read_only=False) as context:
        found = compat.asked(context, "query ($name: String!) {version __type(name: $name) {name}}", {"name": "Run"})
    expected = {"version": dg.__version__, "__type": {"name": "Run"}}
    assert found == expected, changed("GraphQL cannot be executed in a process", "request.py")


def test_a_history_has_a_schema(instance: dg.DagsterInstance) -> None:
    found = compat.schemas(instance)
    assert len(found) == 2 and len(set(found)) == 1, changed("a new history has an old schema", "request.py")


def test_the_daemon_of_the_queue_is_seen(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    heartbeat = import_module("dagster._daemon.types").DaemonHeartbeat
    assert compat.seconds_since_queue_daemon(instance, 100.0) is None
    instance.add_daemon_heartbeat(heartbeat(40.0, "QUEUED_RUN_COORDINATOR", "id", errors=[]))
    seen = compat.seconds_since_queue_daemon(instance, 100.0)
    assert seen == 60.0, changed("a heartbeat of the queue's daemon is not found", "request.py")
    (tmp_path / "plain").mkdir()
    plain = {"run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"}}
    with dg.DagsterInstance.local_temp(str(tmp_path / "plain"), overrides=plain) as without_queue:
        assert compat.seconds_since_queue_daemon(without_queue, 100.0) == 0.0
