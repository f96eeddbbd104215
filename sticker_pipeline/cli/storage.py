"""Commands on the store: fetch an artifact, remove unused files, move all."""

import shutil
import time
from functools import partial
from pathlib import Path

import click

from sticker_pipeline.core.process.output import tell


@click.command("get")
@click.argument("artifact", metavar="SCOPE/ASSET")
@click.argument("folder", type=click.Path(path_type=Path))
def get(artifact: str, folder: Path) -> None:
    """Copy an artifact, such as luma/released_lora, to the new FOLDER.

    Each file is verified by its hash.
    """
    from sticker_pipeline.core.files.space import SpaceError
    from sticker_pipeline.core.storage import StorageError, artifact_of, new_folder
    from sticker_pipeline.core.texts import counted
    from sticker_pipeline.defs.resources import workspace_from_environment

    scope, _, asset = artifact.strip("/").rpartition("/")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise click.ClickException(f"{folder} exists and is not empty. Choose a new folder.")
    try:
        found = workspace_from_environment().store.read(scope, artifact_of(asset))
        found.fetched()
        with new_folder(folder.absolute()) as staging:
            for name in found.files:
                (staging / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(found.file(name), staging / name)  # no link: people change what they got
    except (StorageError, SpaceError) as error:
        raise click.ClickException(str(error)) from error
    tell(f"{folder}: {counted(len(found.files), 'file')} of {found.uri}")


@click.command("gc")
@click.option("--remove", is_flag=True, help="Remove them; without it they are only counted.")
def gc(remove: bool) -> None:
    """Count, or remove, unused files in the object store.

    Files of the last week stay.
    """
    from sticker_pipeline.core.files.space import in_words
    from sticker_pipeline.core.object_store.collect import collect
    from sticker_pipeline.core.object_store.store import ObjectStore
    from sticker_pipeline.core.progress import counter, throttled
    from sticker_pipeline.core.storage import StorageError
    from sticker_pipeline.core.texts import counted
    from sticker_pipeline.defs.resources import workspace_from_environment

    try:
        store = workspace_from_environment().store
        if not isinstance(store, ObjectStore):
            raise click.ClickException(f"{store.root} is a folder: it has no unused files. gc is for object stores.")
        count = counter(throttled(lambda progress: tell(progress.text), 5.0, time.monotonic))
        found = collect(store.bucket, remove=remove, count=partial(count, "removed"))
    except StorageError as error:
        raise click.ClickException(str(error)) from error
    verb = "removed" if remove else "can be removed: sticker-pipeline gc --remove"
    tell(f"in use:  {counted(found.used, 'file')}, {in_words(found.used_bytes)}")
    tell(f"unused:  {counted(found.removed, 'file')}, {in_words(found.removed_bytes)} {verb if found.removed else ''}")
    tell(f"         {counted(found.young, 'file')} of the last week: a run may be about to use them")


@click.command("move-artifacts")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
def move_artifacts(source: str, target: str) -> None:
    """Copy all artifacts, releases and unfinished trainings from one store to another.

    FROM and TO are folders or addresses as s3://bucket/artifacts. Files are verified by hash, data versions stay, and
    the same command goes on after an interruption. FROM is not changed: remove it when TO is in use.
    """
    from sticker_pipeline.core.copying import copies
    from sticker_pipeline.core.files.space import SpaceError
    from sticker_pipeline.core.progress import counter, throttled
    from sticker_pipeline.core.storage import StorageError
    from sticker_pipeline.core.stores import is_address, open_store
    from sticker_pipeline.core.texts import counted
    from sticker_pipeline.defs.resources import workspace_from_environment

    scratch = workspace_from_environment().scratch
    if not is_address(source) and not Path(source).is_dir():
        raise click.ClickException(f"{source} is no folder.")
    copied, problems = 0, []
    try:
        todo = copies(open_store(source, scratch), open_store(target, scratch))
        count = counter(throttled(lambda progress: tell(progress.text), 5.0, time.monotonic))
        for number, (item, copy) in enumerate(todo.items(), start=1):
            try:
                copied += copy()
            except StorageError as error:
                problems.append(f"{item}: {error}")
            count("items", number, len(todo))
    except (StorageError, SpaceError) as error:
        raise click.ClickException(str(error)) from error
    for problem in problems:
        tell(("not copied:", "yellow"), f" {problem}")
    there = len(todo) - copied - len(problems)
    tell(f"{counted(copied, 'item')} of {len(todo):,} copied to {target}; {there:,} were there.")
    if problems:
        raise click.ClickException(f"{counted(len(problems), 'item')} not copied; see above.")
    tell(f"Use it: STICKER_ARTIFACTS={target}")
