"""Asset of the stage `benchmark`: the leaderboard of all characters."""

import dagster as dg

from sticker_pipeline.benchmark import tables
from sticker_pipeline.benchmark.side_by_side import by_character
from sticker_pipeline.character import character_folders
from sticker_pipeline.dagster_kit.metadata import SUMMARY, described, picture, table
from sticker_pipeline.dagster_kit.step import open_step
from sticker_pipeline.defs.automation import ACROSS_CHARACTERS, NIGHT_IS_DONE
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import all_made_from, of_all
from sticker_pipeline.pictures import grouped_intervals
from sticker_pipeline.storage import StorageError, write_table


@dg.asset(
    **all_made_from("benchmark", uses=["roster"]),
    code_version="1",
    automation_condition=ACROSS_CHARACTERS,
    freshness_policy=NIGHT_IS_DONE,
    group_name="benchmark",
    kinds={"parquet"},
    owners=["team:training"],
    description="The benchmark tables of all characters that have one, side by side.",
)
def leaderboard(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    with open_step(context, workspace, of_all, also_current=True) as work:
        measured = {}
        for entry, found in list(work.inputs.items()):
            name = entry.partition("/")[0]
            try:
                measured[name] = found.table()
            except StorageError as error:
                context.log.warning(f"{name} is left out: {error}")
                del work.inputs[entry]
        rows = tables.leaderboard(measured)
        write_table(rows, work.staging)
        (work.staging / "leaderboard.md").write_text(tables.leaderboard_markdown(rows) + "\n", encoding="utf-8")
        without = sorted({folder.name for folder in character_folders(workspace.characters_folder)} - measured.keys())
        return work.publish(
            {
                SUMMARY: f"{len(measured)} characters" + (f", {len(without)} not measured yet" if without else ""),
                "similarity": picture(
                    grouped_intervals(
                        by_character(rows),
                        title="CLIP similarity to held-out pictures, over all styles, 95 % intervals",
                        unit="mean cosine",
                    ),
                    "similarity of all characters",
                ),
                "not_measured_yet": _told_of(without),
                "leaderboard": table(rows[rows["metric"] == "clip_similarity"], most=len(rows)),
                **described(rows),
            }
        )


def _told_of(without: list[str]) -> str:
    if not without:
        return "Every character has a benchmark."
    return f"{len(without)} without a benchmark: {', '.join(without)}. Materialize `benchmark` of each to add it."
