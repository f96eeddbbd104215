"""Shipped settings of the Dagster instance: they load, and only crashes are retried."""

import logging
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
from dagster._core.instance.config import PoolGranularity
from dagster._daemon.auto_run_reexecution.auto_run_reexecution import should_retry
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration

from sticker_pipeline.dagster_kit.instance import make_home, open_instance
from sticker_pipeline.dagster_kit.run_launcher import LocalRunLauncher


def test_the_settings_load(instance: dg.DagsterInstance) -> None:
    assert isinstance(instance.run_launcher, LocalRunLauncher)
    assert (instance.run_retries_enabled, instance.run_retries_max_retries) == (True, 2)
    assert not instance.run_retries_retry_on_asset_or_op_failure
    assert instance.run_monitoring_enabled
    assert instance.freshness_enabled
    assert instance.managed_python_loggers == ["sticker_pipeline"]
    settings = instance.get_concurrency_config()
    assert settings.pool_config.default_pool_limit == 1
    assert settings.pool_config.pool_granularity == PoolGranularity.OP
    assert settings.run_queue_config is not None
    assert settings.run_queue_config.max_concurrent_runs == 4
    assert settings.run_queue_config.should_block_op_concurrency_limited_runs


def test_settings_that_are_there_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    make_home()
    assert (tmp_path / "dagster.yaml").read_text() == "telemetry: {enabled: false}\n"


def test_settings_of_a_version_before_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    old = "run_launcher: # mine\n  module: sticker_pipeline.defs.run_launcher\n  class: LocalRunLauncher\n"
    (tmp_path / "dagster.yaml").write_text(old)
    with open_instance() as instance:
        assert isinstance(instance.run_launcher, LocalRunLauncher)
    assert (tmp_path / "dagster.yaml").read_text() == old


def test_a_run_that_was_killed_is_retried_and_gives_the_gpu_back_at_once(instance: dg.DagsterInstance) -> None:
    command = [sys.executable, "-m", "sticker_pipeline_tests.dagster_kit.killed_step"]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    (run,) = instance.get_runs()
    assert run.status == dg.DagsterRunStatus.STARTED
    assert not should_retry(run, instance)
    assert instance.event_log_storage.get_concurrency_info("gpu").active_slot_count == 1

    _monitor(instance)
    (run,) = instance.get_runs()
    assert run.status == dg.DagsterRunStatus.FAILURE
    assert should_retry(run, instance)
    assert instance.event_log_storage.get_concurrency_info("gpu").active_slot_count == 0


def test_a_run_that_goes_on_is_left_alone(instance: dg.DagsterInstance) -> None:
    statuses = []

    @dg.asset
    def watched(context: dg.AssetExecutionContext) -> None:
        _monitor(context.instance)
        statuses.append(context.instance.get_run_by_id(context.run_id).status)

    assert dg.materialize([watched], instance=instance).success
    assert statuses == [dg.DagsterRunStatus.STARTED]


def test_what_raised_an_error_or_failed_a_blocking_check_is_not_retried(instance: dg.DagsterInstance) -> None:
    @dg.asset
    def raises() -> None:
        raise RuntimeError("it would raise it again")

    @dg.asset(check_specs=[dg.AssetCheckSpec("gate", asset="refused", blocking=True)])
    def refused() -> dg.MaterializeResult:
        return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=False, check_name="gate")])

    for asset in (raises, refused):
        result = dg.materialize([asset], instance=instance, raise_on_error=False)
        run = instance.get_run_by_id(result.run_id)
        assert run is not None
        assert run.status == dg.DagsterRunStatus.FAILURE
        assert not should_retry(run, instance)


def _monitor(instance: dg.DagsterInstance) -> None:
    """One look of the daemon's run monitoring."""
    assert list(execute_run_monitoring_iteration(_daemon(instance), logging.getLogger("test"))) == [None]


def _daemon(instance: dg.DagsterInstance) -> SimpleNamespace:
    return SimpleNamespace(instance=instance, create_request_context=lambda: None)
