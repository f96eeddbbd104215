"""One evaluation of the folder sensor, as in the daemon, and its report."""

from functools import cache
from typing import Any

import dagster as dg
import pytest

from sticker_pipeline.definitions import defs
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.sensors import character_folders

Reported = dg.AssetObservation | dg.AssetMaterialization


@cache
def repository() -> Any:
    return defs().get_repository_def()


def look(
    instance: dg.DagsterInstance, workspace: Workspace, cursor: str | None = None
) -> tuple[dg.SensorResult | dg.SkipReason, list[Reported]]:
    """The result of one look, and the events that it has reported."""
    reported: list[Reported] = []
    report = instance.report_runless_asset_event

    def noted(event: Any) -> None:
        reported.append(event)
        report(event)

    context = dg.build_sensor_context(
        instance, cursor=cursor, resources={"workspace": workspace}, repository_def=repository()
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instance, "report_runless_asset_event", noted)
        result: Any = character_folders(context)
    return result, reported
