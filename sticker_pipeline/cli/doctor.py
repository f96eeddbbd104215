"""The command that looks for problems, and mends what killed runs left."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sticker_pipeline.cli.work import check_folders, no_character
from sticker_pipeline.core.process.output import tell

if TYPE_CHECKING:
    import dagster as dg

    from sticker_pipeline.core.character import Character
    from sticker_pipeline.core.profile import Profile
    from sticker_pipeline.defs.resources import Workspace

MOST_LINKS = 8  # listed per character


@click.command()
@click.option(
    "--mend", is_flag=True, help="End dead runs, free their places in pools, and remove folders that they left."
)
@click.option("--gone", metavar="MACHINE", help="Another machine that no longer exists: --mend ends its runs, too.")
def doctor(mend: bool, gone: str | None) -> None:
    """Check folders, characters, models and work under way; print problems with remedies."""
    from sticker_pipeline.core.character import FILE_NAME, folders_of_nobody, rights
    from sticker_pipeline.core.texts import are, counted, shortened
    from sticker_pipeline.dagster_kit.instance import open_instance
    from sticker_pipeline.defs.resources import workspace_from_environment
    from sticker_pipeline.generation.check import prompt_notes
    from sticker_pipeline.generation.ready import unready
    from sticker_pipeline.media.inventory import refused_links
    from sticker_pipeline.models.lock import problems as model_problems

    if gone and not mend:
        raise click.UsageError("--gone names the machine of the runs that --mend ends: give both.")
    workspace = workspace_from_environment()
    check_folders(workspace)
    for label, place in (("characters", workspace.characters_folder), ("artifacts", workspace.store.address)):
        tell(f"{label:12} {place}")
    with open_instance() as instance:  # makes the run history's tables, before two processes try at once
        tell(f"{'history':12} {instance.root_directory} ({counted(instance.get_runs_count(), 'run')})")
        problems = _mended(instance, workspace, gone) if mend else _left_behind(instance, workspace)
    valid, of_characters = workspace.valid_characters()
    problems += [*of_characters, *workspace.store.damaged()]
    problems += model_problems(Path(workspace.models).absolute(), workspace.store.cache("hashes"))
    for character, profile in valid:
        problem = unready(character, profile)
        if problem:
            problems.append(problem)
        else:
            tell(("ok", "green"), f"           {character.name} (profile {profile.name})")
            problems += [f"{character.name}: {sentence}" for sentence in _rivals_left_out(character, profile)]
        of_links = refused_links(character.folder, character.roots)
        problems += [f"{character.folder / link}: {why}." for link, why in list(of_links.items())[:MOST_LINKS]]
        if len(of_links) > MOST_LINKS:
            more = len(of_links) - MOST_LINKS
            problems.append(f"{character.name}: {counted(more, 'more link')} {are(more)} refused.")
        for note in [*prompt_notes(character), *rights(character)]:
            tell(("note", "yellow"), f"         {note}")
    for problem in problems:
        tell(("problem", "red"), f"      {problem}")
    for folder in folders_of_nobody(Path(workspace.characters).absolute()):
        remedy = f"move it away and run `sticker-pipeline new-character NAME FOLDER`, or write a {FILE_NAME} into it"
        tell(f"{'left aside':12} {shortened(str(folder), 300)} has no {FILE_NAME}: {remedy}")
    if not valid and not problems:
        tell(no_character(workspace.characters))


def _rivals_left_out(character: "Character", profile: "Profile") -> list[str]:
    """Return a sentence per unusable rival, or why none can be checked."""
    from sticker_pipeline.generation.rivals import usable_rivals

    try:
        return usable_rivals(character, profile)[1]
    except ValueError as error:  # no tokenizer or prompts, which stops the character too
        return [str(error)]


def _left_behind(instance: "dg.DagsterInstance", workspace: "Workspace") -> list[str]:
    """Print work under way; return the remains of killed runs."""
    from sticker_pipeline.dagster_kit.dead_runs import dead_runs, described, elsewhere, other_machine, unheld_claims
    from sticker_pipeline.dagster_kit.patience import pools_in_use

    for line in pools_in_use(instance):
        tell(f"{'under way':12} {line}")
    for run in elsewhere(instance):
        line = f"{described(run)} on {other_machine(run)}; is that gone? --mend --gone MACHINE"
        tell(f"{'under way':12} {line}")
    problems = [f"{described(run)} is dead: {why}" for run, why in dead_runs(instance)]
    problems += [f"run {run_id[:8]} has ended, but holds a place in a pool" for run_id in unheld_claims(instance)]
    problems += [f"{folder} was left behind by a killed run" for folder in workspace.store.abandoned()]
    return [f"{problem}: `sticker-pipeline doctor --mend`" for problem in problems]


def _mended(instance: "dg.DagsterInstance", workspace: "Workspace", gone: str | None) -> list[str]:
    """Remove and print killed runs' remains; return what is left, as `_left_behind`."""
    from sticker_pipeline.dagster_kit.dead_runs import end_dead_runs

    for line in [
        *end_dead_runs(instance, gone),
        *(f"removed {folder}" for folder in workspace.store.remove_abandoned()),
    ]:
        tell(f"{'mended':12} {line}")
    return _left_behind(instance, workspace)
