"""A character: its folder and character.yaml, as a strict model.

Only stated values belong here; the stages derive weights, captions and model settings.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from sticker_pipeline.core import earlier_names
from sticker_pipeline.core.files.inside import DEEPEST, OutsideError, folders_in, list_folder, read_bytes, status
from sticker_pipeline.core.files.limited_files import MOST_BYTES, LimitedFileError, parse_yaml
from sticker_pipeline.core.texts import (
    MOST_QUOTED,
    TextError,
    UserError,
    are,
    closest,
    counted,
    decoded,
    hidden_letters,
    is_unicode,
    listed,
    name_finder,
    quoted,
    shortened,
    unescaped,
    without_hidden,
)

FILE_NAME = "character.yaml"
ALL_LINKS = "_all.links"  # <name>.links for all characters: none can be called _all
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]*")

REGULARISATION, RIVALS, PACK = "regularisation", "rivals", "pack"
NO_GROUPS = (REGULARISATION, RIVALS, PACK)  # folders that are not groups
SYSTEM_FOLDERS = frozenset(
    {
        *("@eadir", "#recycle", "#snapshot", "@tmp", "@recycle", "@recently-snapshot", ".@__thumb"),  # NAS systems
        *("@appdata", "@sharesnap", "~snapshot", "network trash folder", "temporary items"),
        *("$recycle.bin", "recycler", "recycled", "system volume information", "config.msi"),  # Windows
        *("__macosx", "lost+found", "lost.dir", ".thumbnails", ".trash", "__pycache__"),
    }
)
_FOUND_BY_CHKDSK = re.compile(r"found\.\d{3}")

HEAVIEST = 2.0  # weight of a tag in a caption; images break above it

MOST_PLACES = 1_000  # lines of a file of links
MOST_LED = 500  # letters about a link in a message
MOST_FAULTS = 10  # of one file in a message

Model = TypeVar("Model", bound=BaseModel)
Plain = Annotated[str, AfterValidator(without_hidden)]
Tag = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, pattern=r"^[^,\n]+$"),
    AfterValidator(without_hidden),
    AfterValidator(unescaped),
]


def _plain_lines(text: str) -> str:
    without_hidden(text.replace("\n", " ").replace("\t", " "))
    return text


def _plain_section(section: Any) -> Any:
    """Return `section`. Raises ValueError for hidden letters in it."""
    if isinstance(section, str):
        without_hidden(section)
    elif isinstance(section, dict | list):
        for part in [*section, *section.values()] if isinstance(section, dict) else section:
            _plain_section(part)
    return section


Prompt = Annotated[str, AfterValidator(_plain_lines)]
Overrides = Annotated[dict[str, Any], AfterValidator(_plain_section)]


class CharacterError(UserError):
    """An unusable character folder or character.yaml; the message has the remedy."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Group(Strict):
    learned: list[Tag] = Field(default_factory=list, description="tags after the trigger in every caption of the group")
    medium: Literal["sticker", "art"] = Field("sticker", description="prompts and results are split by it")
    share: float = Field(
        1.0,
        gt=0,
        allow_inf_nan=False,
        description="weight of a source of this group relative to a source of another group",
    )


class Curation(Strict):
    """Settings of captions.

    `inherent: auto` finds the character's own traits by frequency.
    """

    blacklist: list[Tag] = Field(default_factory=list, description="tags that are never written")
    inherent: Literal["auto"] | list[Tag] = Field(
        "auto", description="traits that the character always has: captions omit them, so that they bind to the trigger"
    )
    aliases: dict[Tag, Tag] = Field(default_factory=dict, description="a tag, and the tag that replaces it")
    weights: dict[Tag, Annotated[float, Field(gt=0, le=HEAVIEST)]] = Field(
        default_factory=dict, description="a tag, and its weight in captions"
    )
    min_images: int = Field(2, ge=1, description="a tag on fewer images than this cannot be learned and is dropped")
    written: Literal["keep", "ignore"] = Field(
        "keep", description="keep the caption in a text file beside an image as it is, or ignore it"
    )


OUR_MODELS = ("base", "lora", "released", "reference", "chance")  # names in the benchmark's tables


class Rival(Strict):
    """A LoRA by others, measured beside ours.

    `lora`: relative to the character's folder; in it or below allowed_links.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")] = Field(description="its name in tables")
    lora: Plain = Field(description="its file, relative to the character's folder")
    trigger: Plain = Field(description="its trigger, with which its prompts begin")
    strength: float = Field(1.0, gt=0, le=2, description="the weight with which it is applied")


class Gate(Strict):
    """Limits for a LoRA's release; `benchmark/gate.py` has rules and sources."""

    gain: float = Field(
        0.2,
        ge=0,
        le=1,
        description="the LoRA's similarity must be this share of the way from the base model's to that of holdout "
        "images among themselves",
    )
    copies: float = Field(
        0.2,
        ge=0,
        le=1,
        description="at most this share of its images may be nearer to a training image "
        "than 95 % of the holdout ones are",
    )
    copies_beyond_references: float = Field(
        0.15, ge=0, le=1, description="and at most this much more than of the holdout images themselves"
    )
    diversity: float = Field(
        0.5, ge=0, description="at least this share of the diversity that holdout sources have among themselves"
    )
    one_source: float = Field(
        0.5,
        gt=0,
        le=1,
        description="at most this share of its images may be nearest to one source; with few images or sources, the "
        "limit is the upper end of the interval for chance, if that is higher",
    )
    identity: float = Field(
        0.8, ge=0, le=1, description="at least this share of its images must be nearest to this character among all"
    )
    fidelity: float = Field(
        0.5,
        ge=0,
        le=1,
        description="the share of prompted tags that the tagger finds must be at least this share of the base model's; "
        "0: it may ignore its prompts",
    )
    loss_of_gain: float = Field(
        0.1,
        ge=0,
        le=1,
        description="at most this share of the baseline release's gain in similarity over the base "
        "model may be lost, and the interval must show it",
    )
    more_copies: float = Field(
        0.1, ge=0, le=1, description="the share of copies may be this much above the baseline release's"
    )
    less_diversity: float = Field(
        0.25, ge=0, le=1, description="the diversity may be lower than the baseline release's by this share of it"
    )
    unmeasured: Literal["refuse", "release"] = Field(
        "refuse",
        description="refuse or release a LoRA when a rule cannot be checked for lack of holdout images",
    )


LAXER_BELOW = frozenset({"gain", "diversity", "identity", "fidelity"})  # lower limits; the others are upper limits


def laxer_than_default(gate: Gate) -> list[str]:
    """Return a sentence per limit that is laxer than the default."""
    sentences = []
    for name, field in Gate.model_fields.items():
        stated, usual = getattr(gate, name), field.default
        if name == "unmeasured":
            is_laxer = stated != usual
        else:
            is_laxer = stated < usual if name in LAXER_BELOW else stated > usual
        if is_laxer:
            sentences.append(f"benchmark.gate.{name} is {stated}, laxer than the default {usual}: {field.description}.")
    return sentences


class Benchmark(Strict):
    """Settings of the benchmark."""

    holdout: Annotated[Annotated[float, Field(gt=0, lt=0.9)] | list[str], AfterValidator(_plain_section)] = Field(
        0.15, description="share of the sources of each group, or the files themselves, that are never trained on"
    )
    validation: float = Field(
        0.1,
        ge=0,
        lt=0.9,
        description="share of the sources of each group of eight or more that is neither trained on nor compared with: "
        "their loss helps to choose the epoch, in which holdout sources play no part; 0: none",
    )
    patience: int = Field(
        3,
        ge=1,
        description="after so many epochs without a lower validation loss, later epochs are not chosen",
    )
    prompts: list[Prompt] = Field(
        default_factory=list, max_length=1_000, description="free attributes, e.g. 'smile, arms up'"
    )
    rivals: list[Rival] = Field(default_factory=list, max_length=50, description="LoRAs of others")
    gate: Gate = Gate()

    @field_validator("rivals")
    @classmethod
    def _names_are_their_own(cls, rivals: list[Rival]) -> list[Rival]:
        names = [rival.name for rival in rivals]
        if taken := sorted({name for name in names if name in OUR_MODELS or names.count(name) > 1}):
            raise ValueError(f"rivals need names of their own, and these are taken: {', '.join(taken)}")
        return rivals


SLOT_PATTERN = r"^[a-z0-9][a-z0-9_]{0,47}$"
Slot = Annotated[str, StringConstraints(pattern=SLOT_PATTERN)]
Platform = Literal[
    "telegram", "whatsapp", "line", "discord", "signal", "imessage", "slack", "matrix", "mastodon", "misskey", "kakao"
]


DEFAULT_PLATFORMS: list[Platform] = ["telegram", "whatsapp", "line", "discord", "signal"]


class Pack(Strict):
    """The character's sticker pack.

    A person's choices are in `pack/picks.yaml` of its folder, not here.
    """

    title: Plain | None = Field(None, description="title of the pack; without it, the character's name")
    author: Plain = Field("", description="who publishes it; WhatsApp and Signal show it")
    platforms: list[Platform] = Field(DEFAULT_PLATFORMS, min_length=1, description="packs are made for these")
    size: int = Field(40, ge=1, le=200, description="most stickers in the pack, the character's own included")
    slots: list[Slot] | None = Field(
        None, description="what is said with the stickers, in their order, such as hello or thanks; without it, all"
    )
    prompts: dict[Slot, Prompt] = Field(
        default_factory=dict, description="a slot, and the tags to generate it with; also slots of your own"
    )
    seeds: int = Field(4, ge=0, le=64, description="images generated for each slot, to choose from; 0: none")
    own: Literal["first", "last", "none"] = Field(
        "first",
        description="the character's own stickers and GIFs: preferred to generated ones, used where no generated one "
        "will do, or left out",
    )
    outline: float = Field(
        8.0, ge=0, le=32, description="width of the white outline in pixels of a sticker of 512 pixels; 0: none"
    )
    shadow: bool = Field(False, description="a soft shadow below the outline")
    motion: Literal["none", "bounce", "shake", "pulse"] = Field("none", description="how stills move")

    @field_validator("platforms", "slots")
    @classmethod
    def _each_once(cls, names: list[str] | None) -> list[str] | None:
        if names and (twice := [name for name, times in Counter(names).items() if times > 1]):
            raise ValueError(f"each may occur once, and these are there twice: {', '.join(twice)}")
        return names


class Settings(Strict):
    trigger: Annotated[
        str, StringConstraints(strip_whitespace=True, pattern=r"^[^\s,():\\]+$"), AfterValidator(without_hidden)
    ] = Field(description="the word that begins every caption; a made-up one works best")
    profile: Plain | None = Field(None, description="without it STICKER_PROFILE, else `embedded`")
    style: Annotated[str, StringConstraints(pattern=rf"^{NAME_PATTERN.pattern}$")] | None = Field(
        None,
        description="the manner of drawing that it shares with other characters: when two or more characters name it, "
        "a LoRA of the style alone is trained on all of them",
    )
    groups: dict[Plain, Group] = Field(
        default_factory=dict, description="the subfolders of media that are used, by name; without it all of them"
    )
    curation: Curation = Curation()
    media: Overrides = Field(default_factory=dict, description="overrides of the profile's media settings")
    sampling: Overrides = Field(default_factory=dict, description="overrides of the profile's sampling settings")
    buckets: Overrides = Field(default_factory=dict, description="overrides of the profile's bucket settings")
    tagging: Overrides = Field(default_factory=dict, description="overrides of the profile's tagging settings")
    training: Overrides = Field(default_factory=dict, description="overrides of the profile's training settings")
    sampling_grid: Overrides = Field(
        default_factory=dict, description="overrides of the profile's sampling_grid settings"
    )
    benchmark: Benchmark = Benchmark()
    pack: Pack | None = Field(None, description="a sticker pack; the line `pack:` alone asks for one")

    @model_validator(mode="before")
    @classmethod
    def _empty_sections_are_defaults(cls, data: Any) -> Any:
        """Read null sections as defaults; `pack:` alone asks for a pack.

        A section is null where all its lines are commented out.
        """
        if not isinstance(data, dict):
            return data
        sections = set(cls.model_fields) - {"trigger"}
        kept = {key: value for key, value in data.items() if value is not None or key not in sections}
        if "pack" in data and data["pack"] is None:
            kept["pack"] = {}
        if isinstance(kept.get("groups"), dict):
            kept["groups"] = {name: {} if group is None else group for name, group in kept["groups"].items()}
        return kept


@dataclass(frozen=True)
class Character:
    """A character on disk.

    `groups`: those stated, else one for each subfolder of media.
    """

    name: str
    folder: Path
    settings: Settings
    groups: dict[str, Group]
    links: tuple[Path, ...] = ()  # further folders for links and paths

    @property
    def roots(self) -> tuple[Path, ...]:
        """The folders that hold everything of the character (`core/files/inside.py`)."""
        return (self.folder, *self.links)

    @property
    def trigger(self) -> str:
        return self.settings.trigger

    @property
    def taught(self) -> list[str]:
        """The trigger and all groups' learned tags, each once."""
        learned = (tag for group in self.groups.values() for tag in group.learned)
        return list(dict.fromkeys([self.trigger, *learned]))


def load_character(folder: Path) -> Character:
    """Read `folder`/character.yaml.

    Raises CharacterError, with file and key, for an invalid folder name, a missing or malformed file, an unknown key,
    groups without or with the same folder, or no media.
    """
    check_name(folder.name)
    path = folder / FILE_NAME
    links = allowed_links(folder)
    roots = (folder, *links)
    settings = read_settings(path, roots)
    subfolders = _media_folders(folder, roots)
    folders = _folders_of(settings.groups, subfolders, path, roots)
    count = Counter(folders.values())
    if twice := sorted(name for name, one in folders.items() if count[one] > 1):
        same = shortened(", ".join(twice))
        raise CharacterError(f"{path}: groups: {same} are the same folder: keep one of them.")
    stated = {folders[name]: group for name, group in settings.groups.items()}
    groups = stated or {name: Group(medium="art" if name == "art" else "sticker") for name in subfolders}
    if not groups:
        for name, why in _links_out(folder, roots).items():
            raise CharacterError(
                f"{folder}: no media folder that can be used: {shortened(name)} is {shortened(why, MOST_LED)}: "
                f"{may_lead(folder)}"
            )
        raise CharacterError(
            f"{folder}: no media folder. Put GIFs and images into subfolders, e.g. {folder / 'gifs'} "
            f"and {folder / 'stickers'}."
        )
    return Character(folder.name, folder, settings, groups, links)


def _folders_of(groups: Iterable[str], subfolders: list[str], path: Path, roots: Sequence[Path]) -> dict[str, str]:
    """Return the subfolder of each of `groups`. Raises CharacterError for none."""
    find, folders = name_finder(subfolders), {}
    for group in groups:
        found = find(group)
        if found is None and group.lower() in NO_GROUPS:
            raise CharacterError(f"{path}: groups.{group}: a folder of this name is never a group: rename it.")
        if found is None:
            leaving = _links_out(path.parent, roots)
            if link := name_finder(leaving)(group):
                raise CharacterError(
                    f"{path}: groups.{shortened(group)}: {path.parent / shortened(link)} is "
                    f"{shortened(leaving[link], MOST_LED)}: {may_lead(path.parent)}"
                )
            hint = closest(group, subfolders)
            raise CharacterError(
                f"{path}: groups.{shortened(group)}: there is no folder {path.parent / shortened(group)}.{hint}"
            )
        folders[group] = found
    return folders


def _links_out(folder: Path, roots: Sequence[Path]) -> dict[str, str]:
    """Return the links out of `roots` that could be groups.

    Name -> description with the target.
    """
    found = {}
    for entry in list_folder(folder, roots)[1]:
        if entry.is_link and not is_system_folder(entry.name) and entry.name not in NO_GROUPS:
            try:
                status(folder / entry.name, roots)
            except OutsideError as error:
                found[entry.name] = str(error.strerror)
            except OSError:  # a link to nothing
                continue
    return found


def _media_folders(folder: Path, roots: Sequence[Path]) -> list[str]:
    try:
        entries = [name for name in folders_in(folder, roots) if is_unicode(name)]
    except OSError as error:
        raise CharacterError(f"{folder} cannot be read: {error.strerror}.") from error
    found = sorted(name for name in entries if not is_system_folder(name) and name not in NO_GROUPS)
    if hidden := [name for name in found if hidden_letters(name)]:
        raise CharacterError(
            f"{folder}: the name of the folder {quoted(hidden[0])} holds invisible characters "
            f"({shortened(hidden_letters(hidden[0]), 40)}): rename it."
        )
    return found


def links_file(folder: Path) -> Path:
    """Return the file beside `folder` with the allowed targets of its links."""
    return folder.with_name(f"{folder.name}.links")


def allowed_links(folder: Path) -> tuple[Path, ...]:
    """Return further folders to which a character's links and paths may lead.

    They are listed, one per line, in links_file(folder) and ALL_LINKS beside the folder: nothing inside a folder
    extends its rights. Raises CharacterError for an unreadable file or more than MOST_PLACES lines.
    """
    found: list[Path] = []
    for path in (links_file(folder), folder.with_name(ALL_LINKS)):
        try:
            found += [folder.parent / Path(line).expanduser() for line in places_in(read_bytes(path, most=MOST_BYTES))]
        except FileNotFoundError:
            continue
        except (OSError, TextError, RuntimeError) as error:  # RuntimeError: the home of an unknown user
            raise CharacterError(f"{path} cannot be read: {getattr(error, 'strerror', error)}.") from error
    return tuple(dict.fromkeys(found))


def places_in(data: bytes) -> list[str]:
    """Return the folders in a file of links.

    Raises TextError for invalid text or more than MOST_PLACES lines. Names may contain anything but line feeds and
    surrounding spaces and tabs.
    """
    lines = decoded(data).split("\n")
    if len(lines) > MOST_PLACES:
        raise TextError(f"it has more than {MOST_PLACES:,} lines: name a folder that holds the others")
    stated = [line.strip(" \t\r") for line in lines]
    return [line for line in stated if line and not line.startswith("#")]


def rights(character: Character) -> list[str]:
    """Return sentences on unusual rights: laxer gate limits, and allowed links."""
    path = character.folder / FILE_NAME
    laxer = [f"{path}: {sentence}" for sentence in laxer_than_default(character.settings.benchmark.gate)]
    places = listed([str(link) for link in character.links])
    return [*laxer, f"{character.name}: links may lead into {places}."] if places else laxer


def may_lead(folder: Path) -> str:
    """Return the remedy for a path out of a character's `folder`."""
    own = links_file(folder).name
    return f"copy it into the folder, or write its folder into {own} beside {folder}, for all into {ALL_LINKS}."


def is_system_folder(name: str) -> bool:
    """Tell whether `name` is hidden or a system's (thumbnails, deleted files)."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS or bool(_FOUND_BY_CHKDSK.fullmatch(name.lower()))


def check_name(name: str) -> None:
    """Raise CharacterError for a name unfit for a character's folders and files."""
    if not NAME_PATTERN.fullmatch(name):
        raise CharacterError(
            f"{name!r} cannot be a character's name: use lower-case letters, digits, '-' and '_', "
            "beginning with a letter or digit."
        )


def unknown_character(root: Path, name: str) -> str:
    """Return the message for a `name` without a folder in `root`."""
    return f"There is no character {quoted(name)} in {root}.{closest(name, character_names(root))}"


def character_names(root: Path) -> list[str]:
    return sorted(folder.name for folder in character_folders(root) if NAME_PATTERN.fullmatch(folder.name))


def character_folders(root: Path) -> Iterator[Path]:
    """Yield sorted folders under `root` whose character.yaml exists or is uncheckable."""
    try:
        folders = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    except OSError:  # no folder yet
        return
    yield from (folder for folder in folders if _may_exist(folder / FILE_NAME))


def _may_exist(path: Path) -> bool:
    """Tell whether `path` exists, be it a broken link, or cannot be checked."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def folders_of_nobody(root: Path) -> list[Path]:
    """Return sorted folders under `root` with files but no character.yaml."""
    if not root.is_dir():
        return []
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not is_system_folder(path.name))
    without = [folder for folder in folders if not _may_exist(folder / FILE_NAME)]
    return [folder for folder in without if _holds_files(folder)]


def _holds_files(folder: Path) -> bool:
    """Tell whether `folder` holds files, or links to files, within DEEPEST subfolder levels."""
    level = [folder]
    for _ in range(DEEPEST + 1):
        inner: list[Path] = []
        for each in level:
            with suppress(OSError):
                entries = list_folder(each, [folder])[1]
                others = [entry for entry in entries if not entry.is_folder]
                if not all(entry.is_link and (each / entry.name).is_dir() for entry in others):
                    return True
                inner += [each / entry.name for entry in entries if entry.is_folder]
        level = inner
    return False


def read_settings(path: Path, roots: Sequence[Path]) -> Settings:
    """Read a character.yaml below `roots`. Raises CharacterError, with file and key."""
    try:
        return read_model(path, Settings, CharacterError, "keys such as `trigger: <a made-up word>`", roots=roots)
    except OutsideError as error:
        raise CharacterError(f"{path} is {error.strerror}: put the file itself there.") from error
    except FileNotFoundError as error:
        raise CharacterError(f"{path} is missing. It needs at least one line: `trigger: <a made-up word>`.") from error


def read_model(
    path: Path,
    model: type[Model],
    fault: type[UserError],
    example: str,
    *,
    parse: Callable[[str], Any] = parse_yaml,
    roots: Sequence[Path] = (),
    most: int = MOST_BYTES,
) -> Model:
    """Read a file of settings below `roots` into a strict model.

    `parse`: of YAML or JSON; None of an empty file is invalid. `example`: what the file must hold. Raises `fault` with
    file and key, and OutsideError and FileNotFoundError, for which callers know the remedy.
    """
    try:
        data = parse(decoded(read_bytes(path, roots, most)))
    except (OutsideError, FileNotFoundError):
        raise
    except OSError as error:
        raise fault(f"{path} cannot be read: {error.strerror}.") from error
    except TextError as error:
        raise fault(f"{path} cannot be read: {error}.") from error
    except LimitedFileError as error:
        language = "JSON" if path.suffix == ".json" else "YAML"
        raise fault(f"{path} is not valid {language}: {error}.") from error
    if not isinstance(data, dict):
        raise fault(f"{path} must hold {example}; it holds {quoted(data)}.")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise fault("\n".join(describe_problems(str(path), error, model))) from error


def describe_problems(source: str, error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Return a sentence per fault of pydantic in `source`.

    Above MOST_FAULTS: the first and the number of others. A misspelt key gets the nearest field of `model` and its
    nested models.
    """
    faults = error.errors(include_url=False)
    shown = faults if len(faults) <= MOST_FAULTS else faults[:1]
    sentences = [f"{source}: {_describe(fault, model)}" for fault in shown]
    more = len(faults) - len(sentences)
    return [*sentences, f"{source}: {counted(more, 'more value')} {are(more)} wrong."] if more else sentences


def _describe(fault: Any, model: type[BaseModel]) -> str:
    key = shortened(".".join(shortened(str(part)) for part in fault["loc"] if part != "[key]"))
    if fault["type"] == "extra_forbidden":
        known = _field_names(model, fault["loc"][:-1])
        renamed = earlier_names.KEYS.get(fault["loc"][-1])
        if renamed in known:
            return f"'{key}' is called '{renamed}' now."
        meant = closest(str(fault["loc"][-1])[:MOST_QUOTED], known)
        return f"unknown key '{key}'.{meant or f' Known here: {listed(known)}.'}"
    if fault["type"] == "missing":
        example = " Add a line such as `trigger: my_made_up_word`." if key == "trigger" else ""
        return f"'{key}' is missing.{example}"
    if fault["type"] == "string_type" and isinstance(fault["input"], date | int | float):
        kind = "a date" if isinstance(fault["input"], date) else "a number, or yes or no"
        return f"'{key}': {shortened(str(fault['input']))} is read as {kind}: put it into quotes if it is text."
    if fault["type"] == "literal_error" and (str(fault["loc"][-1]), str(fault["input"])) in earlier_names.VALUES:
        renamed = earlier_names.VALUES[str(fault["loc"][-1]), str(fault["input"])]
        return f"'{key}': '{fault['input']}' is called '{renamed}' now."
    return f"'{key}' = {quoted(fault['input'])}: {shortened(fault['msg'].removeprefix('Value error, '), 200)}."


def _field_names(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """Return field names of the model at `location`, skipping keys and indices."""
    for part in location:
        field = model.model_fields.get(str(part))
        nested = _nested_model(field.annotation) if field else None
        model = nested or model
    return sorted(model.model_fields)


def _nested_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        nested = _nested_model(argument)
        if nested:
            return nested
    return None
