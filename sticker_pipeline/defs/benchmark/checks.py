"""Checks of a character's benchmark: the release gate."""

from collections.abc import Iterator

import dagster as dg

from sticker_pipeline.benchmark.gate import CHECKS
from sticker_pipeline.benchmark.gate_checks import gate_checks
from sticker_pipeline.dagster_kit.checks import UNMEASURED, check_result, check_specs
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import of_character


@dg.multi_asset_check(specs=check_specs("benchmark", CHARACTERS, CHECKS, blocking=True))
def benchmark_checks(context: dg.AssetCheckExecutionContext, workspace: Workspace) -> Iterator[dg.AssetCheckResult]:
    """Check the gate: a failure prevents a release."""
    own = of_character(workspace, context.op_execution_context.partition_key).load()
    for check in gate_checks(workspace.store.read(own.character.name, "benchmark"), own.character):
        extra = {UNMEASURED: True} if check.unmeasured and not check.broken else None
        yield check_result("benchmark", check.name, check.verdict, error=True, extra=extra)
