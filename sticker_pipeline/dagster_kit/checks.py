"""Checks of artifacts: specs, results, and unfinished evaluations."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from sticker_pipeline.core.markdown import literal
from sticker_pipeline.core.verdict import Verdict
from sticker_pipeline.dagster_kit.compat import is_planned, latest_checks
from sticker_pipeline.dagster_kit.metadata import table

UNMEASURED = "unmeasured"  # metadata of a check that no measured value decided


def check_specs(
    asset: str, partitions: dg.PartitionsDefinition, conditions: Mapping[str, str], *, blocking: bool = False
) -> list[dg.AssetCheckSpec]:
    """Return specs of an asset's checks; `conditions`: name -> condition for passing."""
    return [
        dg.AssetCheckSpec(name, asset=asset, description=description, blocking=blocking, partitions_def=partitions)
        for name, description in conditions.items()
    ]


def check_result(
    asset: str, name: str, verdict: Verdict, *, error: bool, extra: Mapping[str, Any] | None = None
) -> dg.AssetCheckResult:
    """Return a check's result; with `error` a failure stops later steps, else warns."""
    return dg.AssetCheckResult(
        passed=verdict.passed,
        asset_key=dg.AssetKey(asset),
        check_name=name,
        severity=dg.AssetCheckSeverity.ERROR if error else dg.AssetCheckSeverity.WARN,
        description=literal(verdict.summary),  # rendered as markdown by the UI, read by `letters`
        metadata={"evidence": table(verdict.evidence), **(extra or {})},
    )


def cut_off(instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey], partition: str) -> set[dg.AssetKey]:
    """Return assets with a planned check that an ended run never evaluated.

    No other rule repeats these checks: the assets are not out of date.
    """
    latest = latest_checks(instance, checks, partition)
    planned = {key: record.run_id for key, record in latest.items() if is_planned(record)}
    runs = {run_id: instance.get_run_by_id(run_id) for run_id in set(planned.values())}
    ended = {run_id for run_id, run in runs.items() if run is None or run.is_finished}
    return {key.asset_key for key, run_id in planned.items() if run_id in ended}
