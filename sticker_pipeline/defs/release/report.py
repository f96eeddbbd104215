"""Asset of the stage `publishing`: the report about all characters."""

import os
from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from sticker_pipeline.core.address import ui_address
from sticker_pipeline.core.markdown import letters
from sticker_pipeline.core.storage import ALL, ArtifactStore, StorageError
from sticker_pipeline.core.texts import counted
from sticker_pipeline.dagster_kit.checks import UNMEASURED
from sticker_pipeline.dagster_kit.compat import last_evaluations
from sticker_pipeline.dagster_kit.metadata import SUMMARY
from sticker_pipeline.dagster_kit.step import code_version, open_step
from sticker_pipeline.defs.automation import ACROSS_CHARACTERS, NIGHT_IS_DONE
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.defs.scopes import all_made_from, of_all
from sticker_pipeline.publishing.report import Check
from sticker_pipeline.publishing.report_folder import INDEX_PAGE, PAGES, Before, report_before, write_report
from sticker_pipeline.roots.across import RELEASED_LORA


@dg.asset(
    **all_made_from("leaderboard", RELEASED_LORA, uses=["shared"]),
    code_version="6",
    automation_condition=ACROSS_CHARACTERS,
    freshness_policy=NIGHT_IS_DONE,
    group_name="publishing",
    kinds={"html"},
    description="An index of all characters and a page for each, in files without network requests: leaderboard, "
    "images beside held-out ones, curves, tags, weights, lineage; pages of their styles, and of generating in a few "
    "steps. Missing parts of a character are named.",
)
def report(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """Publish the report, with current check results.

    Check results have no data version, so they are not inputs: if only they change, the report is not stale.
    """
    with open_step(context, workspace, of_all, also_current=True) as work:
        valid = work.subject.valid
        checks = latest_verdicts(context.instance, check_specs(), [character.name for character, _ in valid])
        before = _before(work.store, code_version(context))
        written = write_report(
            work.store,
            work.staging,
            valid,
            checks=checks,
            ui=ui_address(os.environ),
            problems=work.subject.problems,
            before=before,
        )
        return work.publish(
            {
                SUMMARY: f"{counted(len(valid), 'character')}, index of {written.index_bytes / 1e6:.2f} MB; "
                f"{counted(written.made, 'page')} made, {written.taken_over} taken over",
                "page": dg.MetadataValue.path(f"{work.store.uri(ALL, 'report')}/{INDEX_PAGE}"),
                "to_open_it": "sticker-pipeline report; a click on the path copies it, as browsers open no "
                "file from here",
            },
            content=lambda name: name != PAGES,  # its content is in the pages
        )


def _before(store: ArtifactStore, version: str) -> Before:
    try:
        return report_before(store.find(ALL, "report"), version)
    except StorageError:  # damaged manifest: made anew
        return Before()


def check_specs() -> list[dg.AssetCheckSpec]:
    """Return every check of a character, upstream first.

    They are read from all definitions, like definitions.py: the job's context has only its own assets.
    """
    graph = dg.load_from_defs_folder(path_within_project=Path(__file__).parents[1]).resolve_asset_graph()
    order = {asset: place for place, asset in enumerate(graph.toposorted_asset_keys)}
    specs = [graph.get_check_spec(check) for check in graph.asset_check_keys]
    return sorted(
        (spec for spec in specs if spec.partitions_def == CHARACTERS),
        key=lambda spec: (order[spec.asset_key], spec.name),
    )


def latest_verdicts(
    instance: dg.DagsterInstance, specs: Sequence[dg.AssetCheckSpec], characters: Sequence[str]
) -> dict[str, list[Check]]:
    """Return each character's last result of every check (None: never evaluated).

    Takes a few queries per check.
    """
    found = [last_evaluations(instance, spec.key, characters) for spec in specs]
    return {
        name: [_check(spec, of_check.get(name)) for spec, of_check in zip(specs, found, strict=True)]
        for name in characters
    }


def _check(spec: dg.AssetCheckSpec, found: dg.AssetCheckEvaluation | None) -> Check:
    return Check(
        asset=spec.asset_key.path[-1],
        name=spec.name,
        verdict=found.passed if found else None,
        summary=letters(found.description or "") if found else "",
        blocking=spec.blocking,
        unmeasured=found is not None and UNMEASURED in found.metadata,
    )
