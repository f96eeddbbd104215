"""Commands on the releases of a character."""

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sticker_pipeline.cli.guarded import work
from sticker_pipeline.cli.listing import tell_sources
from sticker_pipeline.core.process.output import tell

if TYPE_CHECKING:
    from sticker_pipeline.benchmark.releases import Record


@click.command("releases")
@click.argument("name")
@click.option("--sources", "number", type=click.IntRange(1), help="List the files that release NUMBER was made from.")
def releases(name: str, number: int | None) -> None:
    """List the releases of the character NAME, and its roll-backs with reasons."""
    folder = _releases(name)
    _list_releases(name, folder) if number is None else _list_sources(folder, number)


def _list_sources(folder: Path, number: int) -> None:
    from sticker_pipeline.benchmark.releases import ReleaseError, read
    from sticker_pipeline.benchmark.tracing import sources_of

    try:
        release = read(folder, number)
        sources = sources_of(release)
    except ReleaseError as error:
        raise click.ClickException(str(error)) from error
    tell_sources(sources, f"all: sticker-pipeline trace --json {shlex.quote(str(release.lora))}")


def _list_releases(name: str, folder: Path) -> None:
    from sticker_pipeline.benchmark.releases import ReleaseError, all_releases, current, events

    try:
        found, chosen = all_releases(folder), current(folder)
    except ReleaseError as error:
        raise click.ClickException(str(error)) from error
    if not found:
        tell(f"{name} has no release yet: sticker-pipeline update {name}")
    for release in found:
        record, mark = release.record, "*" if chosen == release else " "
        tell(
            f"{mark} {record.number:4}  {record.published:%Y-%m-%d %H:%M}  epoch {record.epoch:<3} "
            f"{_similarity(record)}  {release.lora if release.lora.is_file() else 'not on this machine'}"
        )
    for event in events(folder):
        if event.action == "roll back":
            why = f": {event.reason}" if event.reason else ""
            tell(f"{event.time:%Y-%m-%d %H:%M}  back from {event.before} to {event.number}{why}")
    if chosen:
        tell(f"* is the current one. The prompt begins with {chosen.record.trigger}")


@click.command("roll-back")
@click.argument("name")
@click.argument("number", type=click.IntRange(1))
@click.option("--reason", default="", help="The fault of the current release; kept with the releases.")
def roll_back(name: str, number: int, reason: str) -> None:
    """Make release NUMBER of the character NAME the current one.

    Later releases are kept, and not published again automatically; roll-back to their number brings them back.
    """
    from sticker_pipeline.benchmark.releases import FOLDER, read, releases_folder, roll_back, whole
    from sticker_pipeline.core.storage import StorageError
    from sticker_pipeline.defs.resources import workspace_from_environment

    _releases(name)
    store = workspace_from_environment().store
    try:
        store.change(name, FOLDER, lambda folder: roll_back(folder, number, reason, datetime.now(UTC)))
        release = whole(store, read(releases_folder(store, name), number))
    except (StorageError, OSError) as error:
        raise click.ClickException(str(error)) from error
    tell(f"Release {number} of {name} is the current one: {release.lora}")
    tell(f"Its prompt begins with {release.record.trigger}")
    if store.stamp(name, "released_lora"):
        work("release", name, str(number))


def _releases(name: str) -> Path:
    """Return the character's folder of releases, which may outlive it."""
    from sticker_pipeline.benchmark.releases import releases_folder
    from sticker_pipeline.core.character import CharacterError, character_names, check_name, unknown_character
    from sticker_pipeline.core.storage import StorageError
    from sticker_pipeline.defs.resources import workspace_from_environment

    workspace = workspace_from_environment()
    try:
        check_name(name)
        folder = releases_folder(workspace.store, name)
    except (CharacterError, StorageError) as error:
        raise click.ClickException(str(error)) from error
    if not folder.is_dir() and name not in character_names(workspace.characters_folder):
        raise click.ClickException(unknown_character(workspace.characters_folder, name))
    if not folder.is_dir():
        raise click.ClickException(f"{name} has no release yet: sticker-pipeline update {name}")
    return folder


def _similarity(record: "Record") -> str:
    from sticker_pipeline.benchmark.measure import LORA, OVERALL
    from sticker_pipeline.benchmark.metrics import SIMILARITY

    found = [
        row.mean
        for row in record.metrics
        if (row.model, row.medium, row.metric) == (LORA, OVERALL, SIMILARITY) and row.mean is not None
    ]
    return f"similarity {found[0]:.3f}" if found else "similarity –"
