"""Base models of releases, named so that other people can get them."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sticker_pipeline.benchmark.releases import Record
from sticker_pipeline.core.known_models import FetchError, known_models
from sticker_pipeline.core.markdown import code
from sticker_pipeline.core.profile import Profile, base_note
from sticker_pipeline.models.lock import Locked, read_lock

INDEX = "model_index.json"  # of a base model in the diffusers layout
FAMILY_NAMES = {"sd15": "Stable Diffusion 1.5", "sdxl": "Stable Diffusion XL"}


@dataclass(frozen=True)
class BaseName:
    """Names of a base model; empty where it has none.

    - `family`: sd15 or sdxl.
    - `place`: its path below STICKER_MODELS.
    - `hub`: its repository on the Hugging Face hub.
    - `file`: the file that ComfyUI and A1111 open.
    - `origin`: where the file is from, if not from the hub: civitai:VERSION, or an address.
    - `toy`: the note of `profile.base_note`.
    """

    family: str
    place: str
    hub: str = ""
    file: str = ""
    origin: str = ""
    toy: str = ""

    @property
    def title(self) -> str:
        return "the embedded base model" if self.toy else FAMILY_NAMES[self.family]

    @property
    def words(self) -> str:
        """The base model as markdown, without a full stop."""
        if self.toy:
            return f"{code(self.place)} of sticker_pipeline"
        file = code(self.file)
        if self.hub:
            return f"{code(self.hub)} on the Hugging Face hub{self.file and f', in one file {file}'}"
        if self.file:
            return f"{file}{self.origin and f' from {code(self.origin)}'}"
        return f"the {FAMILY_NAMES[self.family]} that it was trained with, which has no public name"

    @property
    def checkpoint(self) -> str:
        """The file name in workflows, else one for a person to replace."""
        return self.file or f"{PurePosixPath(self.place).parts[0]}.safetensors"

    @property
    def warning(self) -> str:
        """A sentence where `checkpoint` is no file of the base model, else ""."""
        return self.toy or ("" if self.file else "Choose your base model in its box: the LoRA's has no public name.")


def base_of_release(record: Record, models: Path) -> BaseName:
    """Return the name of a release's base model; `models`: STICKER_MODELS."""
    return base_name(record.base_model, record.family, models)


def base_of_profile(profile: Profile, models: Path) -> BaseName:
    """Return the name of a profile's base model; `models`: STICKER_MODELS."""
    return base_name(place_of(profile, models), profile.family, models)


def place_of(profile: Profile, models: Path) -> str:
    """Return the path of the profile's base model below `models`."""
    return profile.base.relative_to(models.absolute()).as_posix()


def base_name(place: str, family: str, models: Path) -> BaseName:
    """Return the name of the base model at `place` below `models`.

    A fetched one is named by models.lock.json, another file by its file name.
    """
    if toy := base_note(models / place):
        return BaseName(family, place, toy=toy)
    path = PurePosixPath(place)
    own = path.name if path.suffix == ".safetensors" else ""
    name, locked = _locked(path if own else path / INDEX, models)
    if locked is None or locked.repo.startswith("file:"):
        return BaseName(family, place, file=own)
    if own:
        return BaseName(family, place, file=own, origin=locked.repo)
    known = known_models().get(name)
    return BaseName(family, place, hub=locked.repo, file=known.file if known and known.repo == locked.repo else "")


def how_to_use(record: Record, base: BaseName) -> str:
    """Return where to put the LoRA and how to prompt, as markdown."""
    if base.toy:
        return (
            f"Neither ComfyUI nor A1111 opens its base model, {base.words}. To generate with it, write prompts into "
            f"`benchmark.prompts` of character.yaml and run `sticker-pipeline update {record.character}`: the images "
            f"are in `artifacts/{record.character}/samples`."
        )
    return (
        f"Put {code(record.file)} into ComfyUI's `models/loras` or A1111's `models/Lora`, begin the prompt with "
        f"{code(record.trigger)}, and use its base model: {base.words}."
    )


def _locked(file: PurePosixPath, models: Path) -> tuple[str, Locked | None]:
    """Return name and entry of the locked model with `file`, if any."""
    try:
        entries = read_lock(models)
    except FetchError:  # `doctor` and `fetch-models` report it
        return "", None
    for name, entry in entries.items():
        if any(file == PurePosixPath(name, one) for one in entry.files):
            return name, entry
    return "", None
