"""Commands that make characters, and exchange them with kohya's programs."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sticker_pipeline.cli.work import check_folders
from sticker_pipeline.core.process.output import tell
from sticker_pipeline.core.texts import are, counted

if TYPE_CHECKING:  # commands import what they need: help must be fast
    from sticker_pipeline.dataset.new_character import Created


def link_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --link and --follow-links to a command that takes a FOLDER."""
    for option in (
        click.option(
            "--follow-links",
            is_flag=True,
            help="Also take files outside FOLDER that its links lead to; without it they are refused.",
        ),
        click.option("--link", is_flag=True, help="Link to the files instead of copying them."),
    ):
        command = option(command)
    return command


@click.command("new-character")
@click.argument("name")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--trigger", help="The trigger, a made-up word for the character. Default: NAME_char.")
@link_options
def new_character(name: str, folder: Path, trigger: str | None, link: bool, follow_links: bool) -> None:
    """Make the character NAME from a FOLDER of GIFs and images."""
    from sticker_pipeline.core.character import CharacterError, check_name
    from sticker_pipeline.core.files.inside import ANYWHERE
    from sticker_pipeline.dataset.new_character import create

    try:
        check_name(name)
        links = ANYWHERE if follow_links else ()
        created = create(name, folder, _workspace_characters(), trigger or f"{name}_char", link=link, links=links)
    except (CharacterError, OSError) as error:
        raise click.ClickException(str(error)) from error
    _print_created(created)


@click.command("export-kohya")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--max-error",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Allowed total variation of whole repeats from the probabilities; a smaller one makes longer epochs.",
)
def export_kohya(name: str, folder: Path, max_error: float) -> None:
    """Write NAME's training set to the new FOLDER, for kohya's sd-scripts."""
    from sticker_pipeline.core.character import CharacterError, check_name
    from sticker_pipeline.core.profile import ProfileError
    from sticker_pipeline.core.storage import StorageError
    from sticker_pipeline.dataset.kohya_export import export_kohya
    from sticker_pipeline.dataset.manifest import DatasetError
    from sticker_pipeline.defs.resources import workspace_from_environment

    workspace = workspace_from_environment()
    try:
        check_name(name)
        character = workspace.character(name)
        rows, frames = (workspace.store.find(name, asset) for asset in ("training_set", "frames"))
        if rows is None or frames is None:
            raise click.ClickException(f"{name} has no training set yet: sticker-pipeline update {name}")
        profile = workspace.profile(character)
        exported = export_kohya(
            rows.table(),
            frames.table(),
            frames.fetched(),
            character,
            folder,
            batch_size=profile.training.batch_size,
            resolution=profile.resolution,
            buckets=profile.buckets,
            max_error=max_error,
            say=tell,
        )
    except (CharacterError, ProfileError, StorageError, DatasetError, OSError) as error:
        raise click.ClickException(str(error)) from error
    shown = str(exported.folder)
    tell(
        (shown, "bold"),
        f" has {counted(exported.images, 'image')}, and {exported.holdout} held out in holdout/.\n"
        f"An epoch is {counted(exported.images_per_epoch, 'image')}. Total variation from the probabilities: "
        f"{exported.error:.4f} (one number of repeats for each group: {exported.one_number_error:.4f}; "
        f"no repeats: {exported.uniform_error:.4f}).",
    )
    if exported.weighted_captions:
        tell("Captions have weights: run sd-scripts with --weighted_captions.")
    tell(f"Next, in sd-scripts: --dataset_config {shown}/dataset.toml, or --train_data_dir {shown}")


@click.command("import-kohya")
@click.argument("name")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--trigger", help="The trigger, a made-up word for the character. Default: the beginning of all captions."
)
@link_options
def import_kohya(name: str, folder: Path, trigger: str | None, link: bool, follow_links: bool) -> None:
    """Make the character NAME from a training FOLDER of kohya's sd-scripts.

    FOLDER has folders named <repeats>_<name>.
    """
    from sticker_pipeline.core.character import CharacterError
    from sticker_pipeline.core.files.inside import ANYWHERE
    from sticker_pipeline.dataset.kohya_import import import_kohya

    try:
        links = ANYWHERE if follow_links else ()
        created = import_kohya(name, folder, _workspace_characters(), trigger, link=link, links=links)
    except (CharacterError, OSError) as error:
        raise click.ClickException(str(error)) from error
    _print_created(created)


@click.command("explain-kohya")
@click.argument("path", metavar="FILE", type=click.Path(exists=True, path_type=Path))
@click.option("--profile", "name", help="The character's profile. Default: sd15 or sdxl, by the file.")
def explain_kohya(path: Path, name: str | None) -> None:
    """Explain each key of a kohya_ss FILE: effect in sd-scripts and here.

    FILE was saved by kohya_ss's LoRA tab (.json), or is a --config_file of sd-scripts (.toml). The effective settings
    of a character trained like it are shown too. Such a character has FILE in its folder, and in its character.yaml:
    training: {preset: kohya_import, kohya_json: FILE}. If keys are refused, the settings of the other keys are shown,
    and the exit status is 1. For a folder, each such file in it is listed as taken over, or refused with the reason.
    """
    from sticker_pipeline.core.kohya_settings.form import KohyaSettingsError
    from sticker_pipeline.core.profile import ProfileError

    try:
        _explain_kohya_folder(path, name) if path.is_dir() else _explain_kohya_file(path, name)
    except (KohyaSettingsError, ProfileError) as error:
        raise click.ClickException(str(error)) from error


def _explain_kohya_file(file: Path, name: str | None) -> None:
    from sticker_pipeline.core.kohya_settings.read import examine_kohya_settings, family_of
    from sticker_pipeline.core.profile import kohya_target, load_profile

    profile = load_profile(name or family_of(file), Path())
    imported = examine_kohya_settings(file, kohya_target(profile))
    for verdict in sorted(dict.fromkeys(line.verdict for line in imported.report), key="refused".__eq__):
        tell((verdict, "bold"))
        for line in imported.report:
            if line.verdict == verdict:
                tell(f"  {line.key:34} {line.value or '(empty)':24} {line.effect}")
    would = ", were it not for what is refused" if imported.refusals else ""
    tell(("effective settings", "bold"), f" of the profile {profile.name} (*: the file's){would}")
    for section, settings, taken in (
        ("training", profile.training, {"preset": "kohya_import", "kohya_json": file.name, **imported.training}),
        ("buckets", profile.buckets, imported.buckets),
    ):
        for setting, value in {**settings.model_dump(), **taken}.items():
            star = "*" if setting in taken else " "
            tell(f"{star} {section + '.' + setting:34} {value}")
    if imported.refusals:
        raise click.ClickException("\n".join(f"{file}: {refusal}" for refusal in imported.refusals))


def _explain_kohya_folder(folder: Path, name: str | None) -> None:
    from sticker_pipeline.core.kohya_settings.form import KohyaSettingsError
    from sticker_pipeline.core.kohya_settings.read import family_of, read_kohya_settings
    from sticker_pipeline.core.profile import kohya_target, load_profile

    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".json", ".toml"))
    count = 0
    for file in files:
        try:
            imported = read_kohya_settings(file, kohya_target(load_profile(name or family_of(file), Path())))
        except KohyaSettingsError as error:
            tell(("refused", "bold"))
            tell("\n".join(f"  {line}" for line in str(error).splitlines()))
            continue
        count += 1
        tell(("taken over", "bold"))
        tell(f"  {file}")
        for line in imported.report:
            if line.verdict == "differs here":
                tell(f"    differs here: {line.key}: {line.effect}")
    tell(f"{count} of {counted(len(files), 'file')} {are(count)} taken over.")


def _print_created(created: "Created") -> None:
    tell((str(created.folder), "bold"), f" has {counted(created.files, 'file')} in {', '.join(created.groups)}.")
    for note in created.notes:
        tell(f"  {note}")
    tell(
        "\nNext:\n  1. look over ",
        (f"{created.folder}/character.yaml", "bold"),
        f" (the trigger is {created.trigger!r})\n"
        f"  2. sticker-pipeline update {created.folder.name}\n"
        "     or `make ui`, choose the job character_line, and materialize the partition of that name",
    )


def _workspace_characters() -> Path:
    """Return the folder of characters, checked to be writable."""
    from sticker_pipeline.core.files.places import check_writable
    from sticker_pipeline.defs.resources import workspace_from_environment

    workspace = workspace_from_environment()
    check_folders(workspace)
    check_writable("STICKER_CHARACTERS", workspace.characters_folder)
    return workspace.characters_folder
