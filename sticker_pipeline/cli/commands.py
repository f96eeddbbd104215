"""The command line: functions that Dagster's CLI and UI lack.

Each command is a few lines over the rest of the package.
"""

import os
import platform
import re
import sys
from pathlib import Path

import click

from sticker_pipeline.cli.characters import explain_kohya, export_kohya, import_kohya, new_character
from sticker_pipeline.cli.doctor import doctor
from sticker_pipeline.cli.guarded import guarded, work
from sticker_pipeline.cli.models import check_base, fetch_models, merge_loras
from sticker_pipeline.cli.pack import pack, send_pack
from sticker_pipeline.cli.releases import releases, roll_back
from sticker_pipeline.cli.storage import gc, get, move_artifacts
from sticker_pipeline.cli.tracing import trace
from sticker_pipeline.cli.work import Commands
from sticker_pipeline.core.address import AddressError, ui_port
from sticker_pipeline.core.process import guard
from sticker_pipeline.core.process.output import note_program, tell, tell_error


def _show_version(context: click.Context, parameter: click.Parameter, is_asked: bool) -> None:
    """Print versions, as a report of a fault needs them, and exit."""
    from importlib.metadata import version

    if is_asked:
        others = ", ".join(f"{name} {version(name)}" for name in ("dagster", "torch", "diffusers"))
        tell(f"sticker-pipeline {version('sticker_pipeline')} (Python {platform.python_version()}, {others})")
        context.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show versions and exit."
)
def main() -> None:
    """Turn a character's GIFs, stickers and artwork into a sticker LoRA."""


WORKSPACE = click.option(
    "--workspace", default="workspace.yaml", show_default=True, help="The workspace file that Dagster loads."
)


@main.command()
def demo() -> None:
    """Make everything for the demo characters and print the leaderboard.

    It takes minutes on a laptop, without a GPU.
    """
    from sticker_pipeline.embedded.roster import demo_characters

    work("update", *demo_characters())


@main.command("update")
@click.argument("names", nargs=-1)
def update_command(names: tuple[str, ...]) -> None:
    """Materialize stale assets of the characters NAMES (default: all), and the leaderboard.

    Ctrl-C stops it cleanly, a second one at once; the same command resumes.
    """
    work("update", *names)


@main.command("request")
@click.argument("names", nargs=-1)
@click.option(
    "--job",
    type=click.Choice(["character_line", "dataset_line", "pack_line"]),
    default="character_line",
    show_default=True,
    help="The job to run.",
)
@click.option("--detach", is_flag=True, help="Submit, print the runs' addresses, and do not wait for them.")
@WORKSPACE
@click.pass_context
def request_command(context: click.Context, names: tuple[str, ...], job: str, detach: bool, workspace: str) -> None:
    """Have a fleet make stale assets of the characters NAMES (default: all).

    The instance of DAGSTER_HOME starts the runs, on Ray or Kubernetes if it is set up so; `update` works here. They are
    followed until they end, also those under way already. Ctrl-C ends that, and not the runs.
    """
    from sticker_pipeline.cli.request import request

    context.exit(request(names, job, Path(workspace), detach=detach))


PORT = click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="The port to listen at. Default: that of STICKER_UI, if it is an address of this machine, else 3000.",
)


@main.command("ui")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@PORT
@click.option(
    "--allow-host",
    "allowed",
    metavar="NAME[:PORT]",
    multiple=True,
    envvar="STICKER_UI_HOSTS",
    help="Another address by which browsers reach the UI, as of a proxy. STICKER_UI_HOSTS has several, with spaces.",
)
@click.option(
    "--read-only", is_flag=True, help="For viewing only: nothing can be started or changed, and no daemon runs."
)
@WORKSPACE
def ui_command(host: str, port: int | None, allowed: tuple[str, ...], read_only: bool, workspace: str) -> None:
    """Open the Dagster UI and the desk at a port, with daemon.

    Ctrl-C ends them. Requests from other pages and under other host names are refused (docs/guide/ui.md). There is no
    login.
    """
    for name in allowed:
        if not re.fullmatch(r"[\w.-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?", name, re.ASCII):
            raise click.BadParameter(f"{name!r}: write NAME or NAME:PORT, as the address bar of the browser has it.")
    others = [argument for name in allowed for argument in ("--allow-host", name)]
    if read_only:
        others.append("--read-only")
    _serve(workspace, "--host", host, "--port", str(_port(port)), *others)


@main.command("desk")
@click.argument("name", default="")
@PORT
def desk_command(name: str, port: int | None) -> None:
    """Open the desk, at the character NAME, in the browser.

    There you look at images, mend captions and start an update. Starts `ui` at this machine alone, unless it runs at
    the port already.
    """
    import webbrowser

    from sticker_pipeline.cli.door import desk_address, is_our_desk
    from sticker_pipeline.core.character import character_names, unknown_character
    from sticker_pipeline.defs.resources import workspace_from_environment

    folder = workspace_from_environment().characters_folder
    if name and name not in character_names(folder):
        raise click.ClickException(unknown_character(folder, name))
    port = _port(port)
    address = desk_address(f"127.0.0.1:{port}", name)
    if is_our_desk(address):
        tell(f"The desk is at {address}")
        webbrowser.open(address)
        return
    _serve("workspace.yaml", "--port", str(port), "--open", address)


def _port(stated: int | None) -> int:
    try:
        return stated or ui_port(os.environ)
    except AddressError as error:
        raise click.ClickException(str(error)) from error


def _serve(workspace: str, *arguments: str) -> None:
    if not Path(workspace).is_file():
        raise click.ClickException(f"{workspace} is not there: start the UI in the project's folder, or name the file.")
    guarded("sticker_pipeline.cli.ui", "--workspace", workspace, *arguments)


@main.command("report")
def report_command() -> None:
    """Open the report about all characters in the browser."""
    import webbrowser

    from sticker_pipeline.core.storage import ALL, StorageError
    from sticker_pipeline.defs.resources import workspace_from_environment

    try:
        report = workspace_from_environment().store.find(ALL, "report")
        if report is None:
            raise click.ClickException("There is no report yet: sticker-pipeline update")
        path = report.fetched() / "report.html"
    except StorageError as error:
        raise click.ClickException(str(error)) from error
    tell(str(path))
    webbrowser.open(path.as_uri())


for command in (
    new_character,
    import_kohya,
    export_kohya,
    explain_kohya,
    fetch_models,
    check_base,
    merge_loras,
    releases,
    pack,
    send_pack,
    roll_back,
    get,
    gc,
    move_artifacts,
    trace,
    doctor,
):
    main.add_command(command)


def run() -> None:
    """Run the command line; Ctrl-C: one line and exit status 130."""
    note_program(sys.argv[0])
    try:
        sys.exit(main(prog_name="sticker-pipeline", standalone_mode=False))
    except click.ClickException as error:
        tell_error(error)
        sys.exit(error.exit_code)
    except click.Abort:
        guard.say("Stopped. What was finished is kept.")
        sys.exit(130)
