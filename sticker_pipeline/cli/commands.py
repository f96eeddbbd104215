"""Commands for functions that Dagster's CLI and UI lack."""

import math
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sticker_pipeline.cli.work import BadInput, Commands, check_artifacts, check_folders, no_character
from sticker_pipeline.core.process import guard
from sticker_pipeline.core.process.output import tell, tell_error

if TYPE_CHECKING:  # commands import what they need: a guard must start fast and stay small
    import dagster as dg

    from sticker_pipeline.benchmark.releases import Record
    from sticker_pipeline.core.character import Character
    from sticker_pipeline.core.profile import Profile
    from sticker_pipeline.dataset.new_character import Created
    from sticker_pipeline.defs.resources import Workspace

MOST_LINKS = 8  # listed by doctor per character


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Turn a character's GIFs, stickers and artwork into a LoRA for new stickers."""


@main.command()
def demo() -> None:
    """Make everything for the demo characters and print the leaderboard.

    It takes minutes on a laptop, without a GPU.
    """
    from sticker_pipeline.embedded.roster import demo_characters

    _work("update", *demo_characters())


@main.command("update")
@click.argument("names", nargs=-1)
def update_command(names: tuple[str, ...]) -> None:
    """Materialize stale assets of the characters NAMES (default: all), and the leaderboard.

    Ctrl-C stops it cleanly, a second one at once; the same command resumes.
    """
    _work("update", *names)


@main.command("ui")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True)
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
@click.option("--workspace", default="workspace.yaml", show_default=True, help="The workspace file that Dagster loads.")
def ui_command(host: str, port: int, allowed: tuple[str, ...], read_only: bool, workspace: str) -> None:
    """Open the Dagster UI at a port of this machine, with its daemon.

    Ctrl-C ends both. Requests from other pages and under other host names are refused (docs/guide/ui.md). There is no
    login.
    """
    if not Path(workspace).is_file():
        raise click.ClickException(f"{workspace} is not there: start the UI in the project's folder, or name the file.")
    for name in allowed:
        if not re.fullmatch(r"[\w.-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?", name, re.ASCII):
            raise click.BadParameter(f"{name!r}: write NAME or NAME:PORT, as the address bar of the browser has it.")
    others = [argument for name in allowed for argument in ("--allow-host", name)]
    if read_only:
        others.append("--read-only")
    _guarded("sticker_pipeline.cli.ui", "--host", host, "--port", str(port), "--workspace", workspace, *others)


def _work(*arguments: str) -> None:
    _guarded("sticker_pipeline.cli.work", *arguments)


def _guarded(module: str, *arguments: str) -> None:
    """Run a module under a guard; exit with its status."""
    warned = [f"-W{option}" for option in sys.warnoptions]
    sys.exit(guard.run([sys.executable, "-P", *warned, "-m", module, *arguments]))


@main.command("new-character")
@click.argument("name")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--trigger", help="The trigger, a made-up word for the character. Default: NAME_char.")
@click.option("--link", is_flag=True, help="Link to the files instead of copying them.")
@click.option(
    "--follow-links",
    is_flag=True,
    help="Also take files outside FOLDER that its links lead to; without it they are refused.",
)
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


@main.command("export-kohya")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--max-error",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Allowed total variation of whole repeats from the probabilities; a smaller one makes longer epochs.",
)
def export_kohya_command(name: str, folder: Path, max_error: float) -> None:
    """Write the training set of NAME to the new FOLDER, as kohya's sd-scripts read it."""
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
            frames.folder,
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
        f" has {exported.images} images, and {exported.holdout} held out in holdout/.\n"
        f"An epoch is {exported.images_per_epoch} images. Total variation from the probabilities: "
        f"{exported.error:.4f} (one number of repeats for each group: {exported.one_number_error:.4f}; "
        f"no repeats: {exported.uniform_error:.4f}).",
    )
    if exported.weighted_captions:
        tell("Captions have weights: run sd-scripts with --weighted_captions.")
    tell(f"Next, in sd-scripts: --dataset_config {shown}/dataset.toml, or --train_data_dir {shown}")


@main.command("import-kohya")
@click.argument("name")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--trigger", help="The trigger, a made-up word for the character. Default: the beginning of all captions."
)
@click.option("--link", is_flag=True, help="Link to the images instead of copying them.")
@click.option(
    "--follow-links",
    is_flag=True,
    help="Also take files outside FOLDER that its links lead to; without it they are refused.",
)
def import_kohya_command(name: str, folder: Path, trigger: str | None, link: bool, follow_links: bool) -> None:
    """Make the character NAME from a FOLDER of <repeats>_<name> folders, as kohya's sd-scripts train on."""
    from sticker_pipeline.core.character import CharacterError
    from sticker_pipeline.core.files.inside import ANYWHERE
    from sticker_pipeline.dataset.kohya_import import import_kohya

    try:
        links = ANYWHERE if follow_links else ()
        created = import_kohya(name, folder, _workspace_characters(), trigger, link=link, links=links)
    except (CharacterError, OSError) as error:
        raise click.ClickException(str(error)) from error
    _print_created(created)


@main.command("merge-loras")
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("files", metavar="FILE:WEIGHT...", nargs=-1, required=True)
@click.option(
    "--rank", type=click.IntRange(1), help="Keep this rank only: the nearest LoRA of it. Default: exact, ranks add up."
)
def merge_loras_command(out: Path, files: tuple[str, ...], rank: int | None) -> None:
    """Merge LoRA files into the new file OUT, each with its WEIGHT.

    For programs that load one file only. Example: merge-loras both.safetensors style.safetensors:0.7
    character.safetensors:1
    """
    from sticker_pipeline.diffusion.lora.file import LoraError
    from sticker_pipeline.diffusion.lora.merge import merge_files

    if out.suffix != ".safetensors":
        raise click.ClickException(f"{out}: name a file that ends in .safetensors.")
    try:
        merged, lost = merge_files(out, [_weighted(text) for text in files], rank)
    except (LoraError, OSError) as error:
        raise click.ClickException(str(error)) from error
    highest = max(adapter.rank for adapter in merged.adapters.values())
    kept = f"{100 * lost:.2f} % of the change is lost" if rank else "nothing is lost"
    tell(f"{out}: {len(merged.adapters)} modules of rank {highest} or less, {kept}.")


def _weighted(text: str) -> tuple[Path, float]:
    """Parse FILE:WEIGHT; raises ClickException if malformed or not finite."""
    file, _, weight = text.rpartition(":")
    try:
        number = float(weight)
    except ValueError:
        number = math.nan
    if not file or not math.isfinite(number):
        raise click.ClickException(f"{text!r}: write FILE:WEIGHT, such as style.safetensors:0.8")
    return Path(file), number


@main.command("check-base")
@click.argument("base", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--family", type=click.Choice(["sd15", "sdxl"]), required=True, help="The family that the base model must have."
)
def check_base_command(base: Path, family: str) -> None:
    """Say whether the file or folder BASE can be trained on.

    BASE is a .safetensors file or a diffusers folder; headers are read, no weights. If it cannot, one sentence says
    why, and the exit status is 2.
    """
    from sticker_pipeline.diffusion.base_model import BaseModelError, base_noise, check_base

    try:
        check_base(base, family)
        noise = base_noise(base)
    except (BaseModelError, OSError) as error:
        raise BadInput(str(error)) from error
    predicts = "v" if noise.v_prediction else "noise (epsilon)"
    zero = ", its last level is pure noise (zero terminal SNR)" if noise.zero_snr else ""
    tell(f"{base}: a base model of family {family}; it predicts {predicts}{zero}.")


@main.command("explain-kohya")
@click.argument("path", metavar="FILE", type=click.Path(exists=True, path_type=Path))
@click.option("--profile", "name", help="The character's profile. Default: sd15 or sdxl, by the file.")
def explain_kohya_command(path: Path, name: str | None) -> None:
    """Explain each key of a kohya_ss FILE: its effect in sd-scripts, and here.

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
    tell(f"{count} of {len(files)} files are taken over.")


@main.command("releases")
@click.argument("name")
def releases_command(name: str) -> None:
    """List the releases of the character NAME, and its roll-backs with reasons."""
    from sticker_pipeline.benchmark.releases import ReleaseError, all_releases, current, events

    folder = _releases(name)
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
            f"{_similarity(record)}  {release.lora}"
        )
    for event in events(folder):
        if event.action == "roll back":
            why = f": {event.reason}" if event.reason else ""
            tell(f"{event.time:%Y-%m-%d %H:%M}  back from {event.before} to {event.number}{why}")
    if chosen:
        tell(f"* is the current one. The prompt begins with {chosen.record.trigger}")


@main.command("roll-back")
@click.argument("name")
@click.argument("number", type=click.IntRange(1))
@click.option("--reason", default="", help="The fault of the current release; kept with the releases.")
def roll_back_command(name: str, number: int, reason: str) -> None:
    """Make release NUMBER of the character NAME the current one.

    Later releases are kept, and not published again automatically; roll-back to their number brings them back.
    """
    from sticker_pipeline.benchmark.releases import ReleaseError, roll_back
    from sticker_pipeline.core.storage import MANIFEST
    from sticker_pipeline.defs.resources import workspace_from_environment

    folder = _releases(name)
    try:
        release = roll_back(folder, number, reason, datetime.now(UTC))
    except (ReleaseError, OSError) as error:
        raise click.ClickException(str(error)) from error
    tell(f"Release {number} of {name} is the current one: {release.lora}")
    tell(f"Its prompt begins with {release.record.trigger}")
    if (workspace_from_environment().store.folder(name, "released_lora") / MANIFEST).is_file():
        _work("release", name, str(number))


def _releases(name: str) -> Path:
    """Return the character's folder of releases, which may outlive it."""
    from sticker_pipeline.benchmark.releases import releases_folder
    from sticker_pipeline.core.character import CharacterError, check_name
    from sticker_pipeline.core.storage import StorageError
    from sticker_pipeline.defs.resources import workspace_from_environment

    try:
        check_name(name)
        folder = releases_folder(workspace_from_environment().store, name)
    except (CharacterError, StorageError) as error:
        raise click.ClickException(str(error)) from error
    if not folder.is_dir():
        raise click.ClickException(f"{name} has no release yet: sticker-pipeline update {name}")
    return folder


def _similarity(record: "Record") -> str:
    from sticker_pipeline.benchmark.measure import LORA, OVERALL
    from sticker_pipeline.benchmark.metrics import SIMILARITY

    found = [
        figure.mean
        for figure in record.metrics
        if (figure.model, figure.medium, figure.metric) == (LORA, OVERALL, SIMILARITY) and figure.mean is not None
    ]
    return f"similarity {found[0]:.3f}" if found else "similarity –"


@main.command("report")
def report_command() -> None:
    """Open the report about all characters in the browser."""
    import webbrowser

    from sticker_pipeline.core.storage import ALL, ArtifactStore
    from sticker_pipeline.defs.resources import workspace_from_environment

    artifacts = workspace_from_environment().artifacts
    check_artifacts(artifacts)
    path = ArtifactStore(artifacts).folder(ALL, "report") / "report.html"
    if not path.is_file():
        raise click.ClickException("There is no report yet: sticker-pipeline update")
    tell(str(path))
    webbrowser.open(path.as_uri())


@main.command("fetch-models")
@click.argument("names", nargs=-1)
@click.option("--profile", help="Fetch the models of this profile, e.g. sd15.")
@click.option("--as", "place", metavar="PLACE", help="The place of a single file: sd15/base or sdxl/base.")
@click.option("--sha256", help="The required SHA-256 of the single file at an address or path.")
@click.option(
    "--update", is_flag=True, help="Move on to the newest revision (or to owner/repo@revision) and lock that."
)
def fetch_models(
    names: tuple[str, ...], profile: str | None, place: str | None, sha256: str | None, update: bool
) -> None:
    """Download models into STICKER_MODELS, verified, at the revisions of models.lock.json there.

    Without NAMES, the command lists them. Another WD14 tagger on the hub is owner/repo[@revision]. A base model may
    also be one file: civitai:VERSION (the number of the model version), or with --sha256 an https address or the path
    of a .safetensors file.
    """
    from sticker_pipeline.core.files.places import check_writable
    from sticker_pipeline.core.known_models import FetchError, Source, known_models, source_of
    from sticker_pipeline.core.profile import PROFILES, ProfileError, profile_models
    from sticker_pipeline.defs.resources import workspace_from_environment
    from sticker_pipeline.models.fetch import fetch
    from sticker_pipeline.models.lock import locked_origin
    from sticker_pipeline.models.single import fetch_single, is_single

    workspace = workspace_from_environment()
    check_folders(workspace)
    models = Path(workspace.models).absolute()
    places = [PROFILES[name]["base"] for name in PROFILES if PROFILES[name]["base"] in known_models()]
    if place and place not in places:
        raise click.UsageError(f"--as {place}: a base model is one of {', '.join(places)}.")
    if (place or sha256) and not (len(names) == 1 and is_single(names[0])):
        raise click.UsageError("--as and --sha256 are about one single file: give its address, or its path, alone.")
    try:
        of_profile = _still_wanted(models, profile_models(profile)) if profile else []
        wanted = dict.fromkeys(locked_origin(models, name) for name in (*names, *of_profile))
        sources = [name if is_single(name) else source_of(name) for name in wanted]
    except (FetchError, ProfileError) as error:
        raise click.ClickException(str(error)) from error
    if not sources:
        if profile:
            tell(f"No model of the profile {profile} has to be fetched.")
        else:
            _list_models(models)
        return
    check_writable("STICKER_MODELS", models)
    failed, memos = False, workspace.store.cache("hashes")
    for source in sources:  # a failure does not stop the others
        try:
            if isinstance(source, Source):
                fetch(source, models, memos, update=update, say=tell)
            else:
                fetch_single(source, models, memos, place=place, sha256=sha256, judge=_bad_base, say=tell)
        except FetchError as error:
            failed = True
            tell(("problem:", "red"), f" {error}")
    if failed:
        raise click.ClickException("Not every model could be fetched; see above.")


def _still_wanted(models: Path, names: list[str]) -> list[str]:
    """Return `names` without base models replaced by a user's file."""
    there = {name: models / f"{name}.safetensors" for name in names}
    for name, path in there.items():
        if path.is_file():
            tell(f"{name}: {path} is there, and is used")
    return [name for name in names if not there[name].is_file()]


def _bad_base(path: Path, place: str) -> str | None:
    """Return why the file cannot be the base model at `place`, or None.

    `place`: sd15/base or sdxl/base.
    """
    from sticker_pipeline.core.profile import PROFILES
    from sticker_pipeline.diffusion.base_model import BaseModelError, check_base

    (family,) = {profile["family"] for profile in PROFILES.values() if profile["base"] == place}
    try:
        check_base(path, family)
    except BaseModelError as error:
        return str(error).removeprefix(str(path)).lstrip(": ")
    return None


def _list_models(models: Path) -> None:
    from sticker_pipeline.core.known_models import FetchError, known_models
    from sticker_pipeline.models.lock import missing_files, read_lock

    try:
        locked = read_lock(models)
    except FetchError as error:
        raise click.ClickException(str(error)) from error
    for name, source in known_models().items():
        entry = locked.get(name)
        here = f"at {entry.revision[:12]}" if entry and not missing_files(models, name, entry) else ""
        tell(f"{name:32} {source.kind.partition('_')[0]:7} {entry.repo if here and entry else source.repo:50} {here}")
    tell(f"Into {models}:  sticker-pipeline fetch-models NAME  or  --profile sd15  or  civitai:VERSION")


@main.command()
@click.option(
    "--mend", is_flag=True, help="End dead runs, free their places in pools, and remove folders that they left."
)
@click.option("--gone", metavar="MACHINE", help="Another machine that no longer exists: --mend ends its runs, too.")
def doctor(mend: bool, gone: str | None) -> None:
    """Check folders, characters, models and work under way; print problems with remedies."""
    from sticker_pipeline.core.character import FILE_NAME, folders_of_nobody, rights
    from sticker_pipeline.core.texts import shortened
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
    for label, path in (("characters", workspace.characters), ("artifacts", workspace.artifacts)):
        tell(f"{label:12} {Path(path).absolute()}")
    with open_instance() as instance:  # makes the run history's tables, before two processes try at once
        tell(f"{'history':12} {instance.root_directory} ({instance.get_runs_count()} runs)")
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
            problems.append(f"{character.name}: {len(of_links) - MOST_LINKS} more links are refused.")
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


def _print_created(created: "Created") -> None:
    tell((str(created.folder), "bold"), f" has {created.files} files in {', '.join(created.groups)}.")
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


def run() -> None:
    """Run the command line; Ctrl-C ends it with one line and exit status 130."""
    try:
        main(standalone_mode=False)
    except click.ClickException as error:
        tell_error(error)
        sys.exit(error.exit_code)
    except click.Abort:
        guard.say("Stopped. What was finished is kept.")
        sys.exit(130)
