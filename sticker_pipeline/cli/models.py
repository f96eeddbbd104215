"""Commands on base models and LoRA files."""

import math
from pathlib import Path

import click

from sticker_pipeline.cli.work import BadInput, check_folders
from sticker_pipeline.core.process.output import tell
from sticker_pipeline.core.texts import counted


@click.command("fetch-models")
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
    from sticker_pipeline.core.texts import closest
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
    for name, source in zip(wanted, sources, strict=True):  # a failure does not stop the others
        try:
            if isinstance(source, Source):
                fetch(source, models, memos, update=update, say=tell)
            else:
                fetch_single(source, models, memos, place=place, sha256=sha256, judge=_bad_base, say=tell)
        except FetchError as error:
            failed = True
            hint = "" if name in known_models() else closest(name, list(known_models()))
            tell(("problem:", "red"), f" {error}{hint}")
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
    """Return why the file cannot be `place`'s base model, or None.

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


@click.command("check-base")
@click.argument("base", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--family", type=click.Choice(["sd15", "sdxl"]), required=True, help="The family that the base model must have."
)
def check_base(base: Path, family: str) -> None:
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


@click.command("merge-loras")
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("files", metavar="FILE:WEIGHT...", nargs=-1, required=True)
@click.option(
    "--rank", type=click.IntRange(1), help="Keep this rank only: the nearest LoRA of it. Default: exact, ranks add up."
)
def merge_loras(out: Path, files: tuple[str, ...], rank: int | None) -> None:
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
    tell(f"{out}: {counted(len(merged.adapters), 'module')} of rank {highest} or less, {kept}.")


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
