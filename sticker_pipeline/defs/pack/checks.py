"""Checks of a character's sticker pack, by its step's verdicts."""

from collections.abc import Iterator

import dagster as dg

from sticker_pipeline.dagster_kit.checks import check_result, check_specs
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.packing.checks import CHECKS, ERRORS, read_verdicts
from sticker_pipeline.packing.pack import VERDICTS


@dg.multi_asset_check(specs=check_specs("sticker_pack", CHARACTERS, CHECKS))
def sticker_pack_checks(context: dg.AssetCheckExecutionContext, workspace: Workspace) -> Iterator[dg.AssetCheckResult]:
    """Report the verdicts as errors or warnings.

    A broken rule of a platform is an error, everything else a warning.
    """
    artifact = workspace.store.read(context.op_execution_context.partition_key, "sticker_pack")
    found = read_verdicts(artifact.content(VERDICTS).decode("utf-8"))
    for name in CHECKS:
        yield check_result("sticker_pack", name, found[name], error=name in ERRORS)
