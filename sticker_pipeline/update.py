"""Brings characters up to date from a terminal: materializes what is stale through Dagster, and shows progress.

The Dagster UI does the same with a click; this is for `make demo`, scripts and people without a browser at hand.
"""

import time
from collections.abc import Sequence

import dagster as dg
from rich.console import Console

from sticker_pipeline.character import Character
from sticker_pipeline.defs.making import characters_with, current_inputs, is_current
from sticker_pipeline.defs.observed import DESCRIPTIONS, observe, observe_roster, roster, section_value
from sticker_pipeline.defs.partitions import CHARACTERS
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline.profile import Profile
from sticker_pipeline.storage import ALL


def update(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    workspace: Workspace,
    characters: Sequence[tuple[Character, Profile]],
    console: Console,
    jobs: Sequence[str] = ("dataset_line", "character_line"),
) -> bool:
    """Materialize what is stale of each character, job by job, then the leaderboard. A character that fails does not
    stop the others; returns whether all went well."""
    _register(instance, workspace, characters)
    fine = True
    for number, (character, profile) in enumerate(characters, 1):
        console.print(f"[bold]{character.name}[/] ({number} of {len(characters)})")
        # By default the dataset first: where it comes out as it was, there is nothing to train.
        for job in jobs:
            stale = stale_assets(definitions, job, character.name, workspace, character, profile)
            if not _materialize(definitions, instance, job, stale, character.name, console):
                fine = False
                break
    if not characters_with(workspace, "benchmark"):
        return fine
    console.print("[bold]leaderboard[/]")
    stale = stale_assets(definitions, "leaderboard_table", ALL, workspace, None, None)
    return _materialize(definitions, instance, "leaderboard_table", stale, None, console) and fine


def stale_assets(
    definitions: dg.Definitions,
    job: str,
    scope: str,
    workspace: Workspace,
    character: Character | None,
    profile: Profile | None,
) -> list[dg.AssetKey]:
    """The assets of `job` that are missing, or made from other inputs or other code, and all that follow from them;
    in the order in which they are made."""
    graph = definitions.resolve_job_def(job).asset_layer.asset_graph
    stale: list[dg.AssetKey] = []
    for key in graph.toposorted_asset_keys:
        if key not in graph.materializable_asset_keys:
            continue
        spec = definitions.resolve_assets_def(key).get_asset_spec(key)
        behind = any(dep.asset_key in stale for dep in spec.deps)
        if behind or not is_current(
            spec, scope, workspace.store, current_inputs(spec, scope, workspace, character, profile)
        ):
            stale.append(key)
    return stale


def _register(
    instance: dg.DagsterInstance, workspace: Workspace, characters: Sequence[tuple[Character, Profile]]
) -> None:
    """Make partitions of the characters and observe their files and settings, as the sensor does."""
    instance.add_dynamic_partitions(str(CHARACTERS.name), [character.name for character, _ in characters])
    for character, profile in characters:
        store = workspace.store
        values = {section: section_value(section, character, profile, store) for section in DESCRIPTIONS}
        observe(instance, character.name, values)
    observe_roster(instance, roster(workspace))


def _materialize(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    job: str,
    stale: Sequence[dg.AssetKey],
    partition: str | None,
    console: Console,
) -> bool:
    if not stale:
        console.print(f"  {job}: up to date")
        return True
    console.print(f"  {job}: {', '.join(key.path[-1] for key in stale)}")
    started = time.monotonic()
    result = definitions.resolve_job_def(job).execute_in_process(
        instance=instance,
        partition_key=partition,
        asset_selection=list(stale),
        raise_on_error=False,
        run_config={"loggers": {"terminal": {"config": {}}}},
    )
    if result.success:
        console.print(f"  {job}: done in {time.monotonic() - started:.0f} s\n")
    return result.success
