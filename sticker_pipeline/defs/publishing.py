"""Asset of the stage `publishing`: the page about all characters."""

import dagster as dg

from sticker_pipeline.defs.loggers import SUMMARY
from sticker_pipeline.defs.making import code_version, reported
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.publishing.contents import gather
from sticker_pipeline.publishing.report import report_page
from sticker_pipeline.storage import ALL

PAGE = "report.html"
UI = "http://127.0.0.1:3000"  # where `make ui` is found


@dg.asset(
    deps=["leaderboard"],
    code_version="1",
    group_name="publishing",
    kinds={"html"},
    owners=["team:training"],
    description="One page about all characters, in a single file that asks the network for nothing: leaderboard, "
    "pictures beside held-out ones, curves, tags, weights, lineage. What is not there yet says so.",
)
def report(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    store = workspace.store
    valid, problems = workspace.valid_characters()
    page = report_page(gather(store, valid, ui=UI, problems=problems))
    with store.writing(ALL, "report") as staging:
        (staging / PAGE).write_text(page, encoding="utf-8")
        artifact = store.publish(
            staging,
            ALL,
            "report",
            code_version=code_version(context),
            inputs={"leaderboard": store.read(ALL, "leaderboard").data_version},
            settings={},
        )
    path = artifact.folder / PAGE
    return reported(
        artifact,
        {
            SUMMARY: f"{len(valid)} characters, {len(page) / 1e6:.1f} MB",
            "page": dg.MetadataValue.path(path.absolute()),
            "to_open_it": "a click on the path copies it: browsers follow no link from here to a file",
        },
    )
