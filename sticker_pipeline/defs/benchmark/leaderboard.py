"""Asset of the stage `benchmark`: the leaderboard of all characters."""

import dagster as dg

from sticker_pipeline.benchmark import tables
from sticker_pipeline.benchmark.metrics import SIMILARITY
from sticker_pipeline.benchmark.side_by_side import by_character, shown_characters, similarity_image
from sticker_pipeline.core.character import character_folders
from sticker_pipeline.core.markdown import bullets
from sticker_pipeline.core.storage import StorageError, write_table
from sticker_pipeline.core.texts import counted
from sticker_pipeline.dagster_kit.metadata import ROW_COUNT, SUMMARY, columns, described, inline_image, table
from sticker_pipeline.dagster_kit.step import open_step
from sticker_pipeline.defs.automation import ACROSS_CHARACTERS, NIGHT_IS_DONE
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import all_made_from, of_all

MOST_ROWS, MOST_NAMES = 500, 50  # shown in the event log


@dg.asset(
    **all_made_from("benchmark", uses=["roster"]),
    code_version="2",
    automation_condition=ACROSS_CHARACTERS,
    freshness_policy=NIGHT_IS_DONE,
    group_name="benchmark",
    kinds={"parquet"},
    metadata=columns(tables.LEADERBOARD),
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
                work.leave_out(entry)
        rows = tables.leaderboard(measured)
        write_table(rows, work.staging, tables.LEADERBOARD)
        similarity = by_character(rows)
        shown = rows[rows["character"].isin(shown_characters(similarity))]
        left_out = _left_out(len(measured), shown["character"].nunique())
        text = "\n\n".join([tables.leaderboard_markdown(shown), *left_out])
        (work.staging / "leaderboard.md").write_text(text + "\n", encoding="utf-8")
        without = sorted({folder.name for folder in character_folders(workspace.characters_folder)} - measured.keys())
        return work.publish(
            {
                SUMMARY: f"{counted(len(measured), 'character')}"
                + (f", {len(without)} not measured yet" if without else ""),
                "similarity": inline_image(similarity_image(similarity), "similarity of all characters"),
                "not_measured_yet": _told_of(without),
                "leaderboard": table(shown[shown["metric"] == SIMILARITY], most=MOST_ROWS),
                "left_out": dg.MetadataValue.md(bullets(left_out)),
                **described(rows, tables.LEADERBOARD, ROW_COUNT),
            }
        )


def _told_of(without: list[str]) -> str:
    if not without:
        return "Every character has a benchmark."
    names = ", ".join(without[:MOST_NAMES]) + (f" and {len(without) - MOST_NAMES} more" * (len(without) > MOST_NAMES))
    return f"{len(without)} without a benchmark: {names}. Materialize `benchmark` of each to add it."


def _left_out(measured: int, shown: int) -> list[str]:
    """Return a note if fewer than all `measured` characters are shown."""
    if shown == measured:
        return []
    return [
        f"The best and the worst {shown} of {counted(measured, 'character')} by the new LoRA's similarity. "
        "index.parquet has all, and so has the report."
    ]
