"""The process of `update`, `demo` and `roll-back`, guarded by `cli/commands.py`."""

import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sticker_pipeline.core.files.space import FULL, SpaceError, refusal
from sticker_pipeline.core.process.guard import GO_ON
from sticker_pipeline.core.process.output import CONSOLE, Output, speak_when_quiet, tell, tell_error, watch_over
from sticker_pipeline.core.process.quiet import quiet
from sticker_pipeline.core.process.stopping import Stopped, Stopping, obey_the_guard

if TYPE_CHECKING:
    import dagster as dg

    from sticker_pipeline.core.storage import ArtifactStore
    from sticker_pipeline.defs.resources import Workspace


MADE, FAILED, BAD_INPUT, REFUSED = 0, 1, 2, 3
EXIT_STATUSES = {
    MADE: "done: what was asked for is there, or was already",
    FAILED: "failed: the last line says why; parts that do not depend on it are done",
    BAD_INPUT: "not begun: wrong usage of the command, or a base model that cannot be trained on",
    REFUSED: "all is made, and the gate refuses a LoRA: it is not released, earlier releases stay",
    130: "stopped by Ctrl-C; 128 and the signal's number for others, such as 143 for SIGTERM",
}
OUTCOME = {  # asset -> title, file
    "samples": ("Images:", ""),
    "released_lora": ("LoRA:", "{name}.safetensors"),
    "comfyui_workflow": ("ComfyUI:", ""),
    "sticker_pack": ("Pack:", "sheet.png"),
}


class BadInput(click.ClickException):
    """An unusable input: the exit status of a usage error."""

    exit_code = BAD_INPUT


MOST_LETTERS = 500  # of a command's line in the help


class Commands(click.Group):
    """Commands that frameworks do not interrupt, with messages about disks."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, each with its whole first sentence."""
        rows = [(name, command.get_short_help_str(MOST_LETTERS)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the named command.

        Raises ClickException for SpaceError, UserError, and errors of a full or read-only disk or of SQLite.
        """
        quiet()
        try:
            return super().invoke(ctx)
        except SpaceError as error:
            raise click.ClickException(str(error)) from error
        except Exception as error:
            from sticker_pipeline.core.texts import UserError
            from sticker_pipeline.dagster_kit.instance import home

            is_ours = not isinstance(error, OSError) or error.errno in FULL
            sentence = refusal(home(), error) if is_ours else None
            if isinstance(error, UserError):
                sentence = str(error)
            if sentence is None:
                raise
            raise click.ClickException(sentence) from error


@click.group(cls=Commands)
def main() -> None:
    """Do the work that a command has started under a guard."""


@main.command("update")
@click.argument("names", nargs=-1)
@click.pass_context
def update_command(context: click.Context, names: tuple[str, ...]) -> None:
    """Materialize stale assets of the characters NAMES (default: all), and the leaderboard."""
    from sticker_pipeline.cli.update import update
    from sticker_pipeline.core.character import rights
    from sticker_pipeline.definitions import defs
    from sticker_pipeline.defs.resources import workspace_from_environment
    from sticker_pipeline.generation.ready import base_problem, unready
    from sticker_pipeline.roots.across import toys_of

    workspace = workspace_from_environment()
    check_folders(workspace)
    valid, problems = workspace.valid_characters()
    check_known(names, [character.name for character, _ in valid], problems, workspace.characters_folder)
    wanted = [(character, profile) for character, profile in valid if not names or character.name in names]
    missing = {character.name: unready(character, profile) for character, profile in wanted}
    chosen = [(character, profile) for character, profile in wanted if not missing[character.name]]
    left_out = [*([] if names else problems), *filter(None, missing.values())]
    for problem in left_out:
        tell(("left out:", "red"), f" {problem}")
    for note in [note for character, _ in chosen for note in rights(character)]:
        tell(("note:", "yellow"), f" {note}")
    if not chosen:
        bad_base = any(base_problem(profile) for _, profile in wanted)
        raise (BadInput if bad_base else click.ClickException)(
            "No character can be worked on; see above." if left_out else no_character(workspace.characters)
        )
    with _opened() as instance:
        updated = update(defs(), instance, workspace, chosen, CONSOLE, stopping=context.obj or Stopping())
    _print_outcome(workspace.store, [character.name for character, _ in chosen])
    for name, note in sorted(toys_of(chosen).items()):
        tell((f"Profile {name}:", "yellow"), f" {note}")
    if updated.refused:
        tell(f"Not released, see above: {', '.join(updated.refused)}. Earlier releases, if any, stay.")
    if updated.failed or left_out:
        raise click.ClickException("Not every character went through; see above.")
    if updated.refused:
        context.exit(REFUSED)


def check_known(names: Sequence[str], valid: Sequence[str], problems: Sequence[str], folder: Path) -> None:
    """Raise ClickException for a name that is no valid character's."""
    from sticker_pipeline.core.character import character_names, unknown_character

    for name in names:
        if name in valid:
            continue
        if name not in character_names(folder):
            raise click.ClickException(unknown_character(folder, name))
        for problem in problems:
            tell(("problem:", "red"), f" {problem}")
        raise click.ClickException(f"{name!r} is not a valid character of {folder}; see above.")


@main.command("release")
@click.argument("name")
@click.argument("number", type=int)
@click.pass_obj
def release_command(stopping: Stopping | None, name: str, number: int) -> None:
    """Materialize assets that show release NUMBER, now current, of the character NAME."""
    from sticker_pipeline.benchmark.releases import current, releases_folder
    from sticker_pipeline.cli.update import follow_roll_back
    from sticker_pipeline.definitions import defs
    from sticker_pipeline.defs.resources import workspace_from_environment

    with _opened() as instance:
        store = workspace_from_environment().store
        if not follow_roll_back(defs(), instance, store, name, CONSOLE, stopping=stopping or Stopping()):
            raise click.ClickException(f"released_lora of {name} does not show it yet: see above, and materialize it.")
        counts = current(releases_folder(store, name))
        if counts is None or counts.record.number != number:
            raise click.ClickException(
                f"Another release of {name} was published meanwhile and is current now: "
                f"`sticker-pipeline releases {name}` lists them, and roll-back {name} {number} makes this one current."
            )


PLATFORMS = click.option("--platform", "platforms", multiple=True)


@main.command("pack")
@click.argument("name")
@PLATFORMS
@click.pass_obj
def pack_command(stopping: Stopping | None, name: str, platforms: tuple[str, ...]) -> None:
    """Materialize the dataset and the pack of the character NAME."""
    from sticker_pipeline.cli.update import make_pack
    from sticker_pipeline.definitions import defs
    from sticker_pipeline.defs.resources import workspace_from_environment

    workspace = workspace_from_environment()
    check_folders(workspace)
    valid, problems = workspace.valid_characters()
    check_known([name], [character.name for character, _ in valid], problems, workspace.characters_folder)
    character = next(one for one, _ in valid if one.name == name)
    if workspace.store.find(name, "released_lora") is None:
        tell(
            ("note:", "yellow"),
            f" {name} has no release: the pack is of its own stickers. sticker-pipeline update {name}",
        )
    with _opened() as instance:
        made = make_pack(defs(), instance, workspace, character, platforms, CONSOLE, stopping or Stopping())
    if not made:
        raise click.ClickException("The pack was not made; see above.")
    _tell_pack(workspace.store.read(name, "sticker_pack").fetched())


@main.command("pack-folder")
@click.argument("source", type=click.Path(path_type=Path))
@PLATFORMS
@click.option("--out", type=click.Path(path_type=Path))
@click.pass_obj
def pack_folder_command(stopping: Stopping | None, source: Path, platforms: tuple[str, ...], out: Path | None) -> None:
    """Pack the images in the folder SOURCE."""
    import time

    from sticker_pipeline.core.character import CharacterError, Pack
    from sticker_pipeline.core.progress import counter, throttled
    from sticker_pipeline.core.settings import MediaSettings
    from sticker_pipeline.core.texts import UserError
    from sticker_pipeline.defs.resources import workspace_from_environment
    from sticker_pipeline.packing.folder import pack_folder, target_of

    workspace = workspace_from_environment()
    check_folders(workspace)
    count = counter(throttled(lambda progress: tell(f"  {progress.text}"), 5.0, time.monotonic))
    settings = Pack.model_validate({"platforms": list(platforms)} if platforms else {})
    target, stop = out or target_of(source), stopping or Stopping()
    try:
        made = pack_folder(
            source, target, settings, MediaSettings(), workspace.store.cache("stickers"), count, stop.check
        )
    except (UserError, CharacterError) as error:
        raise click.ClickException(str(error)) from error
    for problem in made.problems:
        tell(("note:", "yellow"), f" {problem}")
    _tell_pack(target)


def _tell_pack(folder: Path) -> None:
    """Print the sets, failed checks and places of a pack."""
    import pandas as pd

    from sticker_pipeline.core.texts import counted
    from sticker_pipeline.packing.checks import read_verdicts
    from sticker_pipeline.packing.pack import SHEET, VERDICTS
    from sticker_pipeline.packing.page import PAGE

    index = pd.read_parquet(folder / "index.parquet")
    for (platform, name), files in index.groupby(["platform", "set"], sort=False)["file"]:
        place = folder / str(platform) / str(name)
        tell((f"{platform:<10}", "bold"), f" {counted(len(files), 'sticker'):>12}  {place}")
    for name, verdict in read_verdicts((folder / VERDICTS).read_text(encoding="utf-8")).items():
        if not verdict.passed:
            tell((f"{name}:", "yellow"), f" {verdict.summary}")
    tell(f"Look at it: {folder / SHEET}")
    tell(f"Choose:     {folder / PAGE}")


def check_artifacts(workspace: "Workspace") -> None:
    """Raise ClickException if STICKER_ARTIFACTS is unusable."""
    from sticker_pipeline.core.storage import StorageError
    from sticker_pipeline.core.stores import open_store

    try:
        open_store(workspace.artifacts, workspace.scratch)
    except StorageError as error:
        raise click.ClickException(str(error)) from error


def check_folders(workspace: "Workspace") -> None:
    """Raise ClickException, in one sentence, for unusable folders."""
    from sticker_pipeline.core.files.places import check_places

    check_artifacts(workspace)
    try:
        check_places(workspace.places)
    except SpaceError as error:
        raise click.ClickException(str(error)) from error


def no_character(folder: str) -> str:
    """Return the message for no character yet."""
    return f"No character in {Path(folder).absolute()} yet: sticker-pipeline new-character NAME FOLDER"


@contextmanager
def _opened() -> "Iterator[dg.DagsterInstance]":
    from sticker_pipeline.dagster_kit.compat import captured_interrupts
    from sticker_pipeline.dagster_kit.dead_runs import end_dead_runs, steps_under_way
    from sticker_pipeline.dagster_kit.instance import open_instance

    with open_instance() as instance, captured_interrupts():  # a stop is checked between runs, and ends a step
        for sentence in end_dead_runs(instance):
            tell(sentence)
        if isinstance(sys.stdout, Output):
            speak_when_quiet(sys.stdout, lambda: steps_under_way(instance))
        yield instance


def _print_outcome(store: "ArtifactStore", names: Sequence[str]) -> None:
    """Print the leaderboard, and the places of what there is."""
    from sticker_pipeline.benchmark.tables import leaderboard_text
    from sticker_pipeline.core.address import ui_address
    from sticker_pipeline.core.storage import ALL, StorageError

    try:
        artifact = store.find(ALL, "leaderboard")
        if artifact is None:
            return
        text = leaderboard_text(artifact.table())
    except StorageError as error:
        raise click.ClickException(str(error)) from error
    tell(text)
    tell("")
    for asset, (title, file) in OUTCOME.items():
        made = [name for name in names if store.stamp(name, asset)]
        if made:
            who = made[0] if len(made) == 1 else "<character>"
            tell(f"{title:<10} {store.address}/{who}/{asset}/{file.format(name=who)}")
    tell(f"Report:    {store.address}/{ALL}/report/report.html  (sticker-pipeline report opens it)")
    tell("Look at it: ", (f"sticker-pipeline desk {names[0] if len(names) == 1 else ''}".strip(), "bold"))
    tell("See it all in the Dagster UI:  ", ("make ui", "bold"), f"  then open {ui_address(os.environ)}")


def _show_waiting() -> None:
    """Print the holders that a step waits for.

    Dagster passes on this package's other log lines (python_logs).
    """

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            tell(f"      {record.getMessage()}", style="dim")

    ours, waiting = logging.getLogger("sticker_pipeline"), logging.getLogger("sticker_pipeline.dagster_kit.patience")
    ours.setLevel(logging.INFO)
    waiting.addHandler(Handler())
    ours.propagate = waiting.propagate = False  # else frameworks' handlers would print it too


def run(arguments: list[str]) -> int:
    """Do the work; return the exit status (`128 + n` for signal n)."""
    stopping = Stopping()
    try:
        watch_over()
        obey_the_guard(stopping)
        _show_waiting()
        status: int | None = main(arguments, standalone_mode=False, obj=stopping)
    except click.ClickException as error:
        tell_error(error)
        return error.exit_code
    except Stopped as stopped:
        number = stopped.number
    except (click.Abort, KeyboardInterrupt):
        number = stopping.number or signal.SIGINT
    except Exception:
        if stopping.number is None:
            raise
        number = stopping.number  # an error during the stop would recur, and nobody waits for it
    else:
        return status or MADE
    tell(f"Stopped. {GO_ON}")
    return 128 + number


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
