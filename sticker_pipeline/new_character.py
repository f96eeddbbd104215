"""Makes a character folder from a folder of media: sorts the files into groups and writes a commented character.yaml.

Nothing that exists is overwritten, and the given folder is only read.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sticker_pipeline.character import FILE_NAME, CharacterError, Group, check_name, load_character
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.header import is_picture, read_header
from sticker_pipeline.media.inventory import media_files
from sticker_pipeline.media.limits import read_within
from sticker_pipeline.media.sidecars import SUFFIXES
from sticker_pipeline.settings import MediaSettings
from sticker_pipeline.space import Say, SpaceError, enough
from sticker_pipeline.storage import new_folder

GIFS, STICKERS = "gifs", "stickers"
BLOCK = 4096  # bytes that most file systems give at a time

TEMPLATE = """\
# {name}: what this character is called, and how its pictures are used.
# Only `trigger` is required. A made-up word works best: one that the base model does not know yet.
trigger: {trigger}

# profile: embedded     # embedded (tiny models, any laptop) or sd15 (needs model files and a GPU)
# style: chibi          # a manner of drawing shared with other characters: one LoRA of it, once two name it

# Each subfolder is a source group. `learned` tags follow the trigger in every caption of the group;
# `style` is sticker or art; `share` is how much a clip counts beside a clip of another group.
groups:
{groups}
# curation:
#   blacklist: []       # tags that are never written
#   inherent: auto      # or a list: what the character always has, and the trigger should come to mean
#   aliases: {{}}         # e.g. {{serafuku: school uniform}}
#   weights: {{}}         # e.g. {{smile: 1.2}}
#   min_images: 2       # a tag on fewer images is dropped
#   written: keep       # captions in text files beside pictures are taken as they are; or `ignore`

# media: {{}}             # e.g. {{crop: alpha}} cuts frames to what is visible; {{merge: none}} keeps like ones apart
# sampling: {{}}          # e.g. {{mode: effective_size}}
# tagging: {{}}           # e.g. {{general_threshold: 0.4}}
# training: {{}}          # any training setting, e.g. {{epochs: 12, rank: 32}}

# benchmark:
#   holdout: 0.15       # share of each group's clips (or a list of files) that is never trained on
#   validation: 0.1     # share of large groups that is kept for choosing the epoch, and not trained on either
#   prompts: []         # free attributes, e.g. ["smile, arms up", "crying"]
#   gate: {{}}            # limits that a LoRA must keep to be released, e.g. {{copies: 0.1}}
"""


@dataclass(frozen=True)
class Created:
    """What was made: the character's folder, how many files each group has, and remarks for the person."""

    folder: Path
    trigger: str
    groups: dict[str, int]
    notes: list[str]

    @property
    def files(self) -> int:
        return sum(self.groups.values())


def create(name: str, source: Path, characters: Path, trigger: str, *, link: bool = False) -> Created:
    """Make `characters`/`name` from the media in `source`.

    Subfolders of `source` become groups; loose files go to `gifs` when they move and to `stickers` when they do not.
    With `link`, the files are symbolic links to the originals. The folder appears whole or not at all.
    Raises CharacterError for a bad name or trigger, a character that exists, or a folder without media.
    """
    target = free_target(name, source, characters)
    plan, notes = _plan(source)
    if not plan:
        raise CharacterError(f"{source} holds no picture or video that can be read.")
    counts = _count_groups(plan)
    groups = {group: Group(style=default_style(group)) for group in counts}
    files = _loose_captions(source, plan) | {relative: original for original, relative in plan.items()}
    write_character(target, files, settings_text(name, trigger, groups), link=link, say=notes.append)
    return Created(target, trigger, counts, notes)


def free_target(name: str, source: Path, characters: Path) -> Path:
    """The folder of a new character. Raises CharacterError for a bad name, one that exists, or one inside `source`."""
    check_name(name)
    target = characters / name
    if target.exists():
        raise CharacterError(f"{target} exists already; nothing was changed. Choose another name, or add files to it.")
    if target.resolve().is_relative_to(source.resolve()):
        raise CharacterError(f"{source} contains {characters}: choose a folder that holds only the character's media.")
    return target


def write_character(target: Path, files: Mapping[Path, Path | str], settings: str, *, link: bool, say: Say) -> None:
    """Make the character's folder `target` of `files` (path in it -> the original, or a text) and character.yaml.

    With `link`, originals are linked to instead of copied. The folder appears whole or not at all. Raises
    CharacterError, leaving nothing behind, when `settings` are not valid, SpaceError where the copies would not fit;
    `say` is told where they just fit.
    """
    enough(target.parent, _bytes(files.values(), link=link), f"the new character {target.name}", say)
    with new_folder(target) as staging:
        for relative, content in files.items():
            if isinstance(content, str):
                (staging / relative).parent.mkdir(parents=True, exist_ok=True)
                (staging / relative).write_text(content, encoding="utf-8")
            else:
                _place(content, staging / relative, link=link)
        (staging / FILE_NAME).write_text(settings, encoding="utf-8")
    try:
        load_character(target)
    except CharacterError:
        shutil.rmtree(target)
        raise


def _bytes(contents: Iterable[Path | str], *, link: bool) -> int:
    """What the files take; a text, and a link, take a block."""
    sizes = (0 if link or isinstance(content, str) else content.stat().st_size for content in contents)
    return sum(BLOCK + -(-size // BLOCK) * BLOCK for size in sizes)


def default_style(group: str) -> Literal["sticker", "art"]:
    return "art" if group == "art" else "sticker"


def _plan(source: Path) -> tuple[dict[Path, Path], list[str]]:
    """Where each usable file goes, relative to the character's folder; and a note for each file left out."""
    plan: dict[Path, Path] = {}
    notes = []
    limits = MediaSettings()
    # Files of subfolders first: they keep their names, and a loose file of the same name gets a number.
    for path in sorted(media_files(source), key=lambda path: path.parent == source):
        relative = path.relative_to(source)
        try:
            data = read_within(path, limits)
            if not is_picture(data):
                if len(relative.parts) > 1:
                    plan[path] = relative  # a caption, a licence: stays beside its picture; the inventory judges it
                continue
            header = read_header(data, limits)
        except SpaceError:
            raise
        except (MediaError, OSError) as error:
            notes.append(f"left out: {relative}: {error}")
            continue
        loose = Path(GIFS if header.n_frames > 1 else STICKERS) / relative
        plan[path] = relative if len(relative.parts) > 1 else _free(loose, plan.values())
    return {path: relative for path, relative in plan.items() if _has_pictures(relative.parts[0], plan)}, notes


def _loose_captions(source: Path, plan: Mapping[Path, Path]) -> dict[Path, Path]:
    """Captions that lie beside loose pictures: path in the character's folder -> the original. A picture that gets
    another name there takes its caption along under that name."""
    captions = {}
    for picture, relative in plan.items():
        if picture.parent != source:
            continue
        for suffix in SUFFIXES:
            for beside, target in (
                (picture.with_name(picture.name + suffix), relative.with_name(relative.name + suffix)),
                (picture.with_suffix(suffix), relative.with_suffix(suffix)),
            ):
                if beside.is_file():
                    captions[target] = beside
    return captions


def _free(target: Path, taken: Iterable[Path]) -> Path:
    """`target`, numbered where a file system that ignores case would take it for one of `taken`."""
    names = {path.as_posix().casefold() for path in taken}
    free, number = target, 2
    while free.as_posix().casefold() in names:
        free, number = target.with_stem(f"{target.stem}_{number}"), number + 1
    return free


def _has_pictures(group: str, plan: dict[Path, Path]) -> bool:
    def pictures() -> Iterator[bool]:
        for path, relative in plan.items():
            if relative.parts[0] == group:
                with path.open("rb") as file:
                    yield is_picture(file.read(64))

    return any(pictures())


def _place(original: Path, target: Path, *, link: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        target.symlink_to(original.resolve())
    else:
        shutil.copy2(original, target)


def _count_groups(plan: dict[Path, Path]) -> dict[str, int]:
    names = sorted({relative.parts[0] for relative in plan.values()})
    return {name: sum(relative.parts[0] == name for relative in plan.values()) for name in names}


def settings_text(name: str, trigger: str, groups: Mapping[str, Group]) -> str:
    """A commented character.yaml; a share is written where it is not 1."""
    lines = "".join(f"  {yaml_text(key)}: {_group_text(group)}\n" for key, group in groups.items())
    return TEMPLATE.format(name=name, trigger=yaml_text(trigger), groups=lines)


def yaml_text(value: object) -> str:
    """`value` (text, or a list of texts) in one line of YAML, which JSON is too."""
    return json.dumps(value, ensure_ascii=False)


def _group_text(group: Group) -> str:
    share = int(group.share) if group.share.is_integer() else group.share
    return f"{{learned: {yaml_text(group.learned)}, style: {group.style}{f', share: {share}' if share != 1 else ''}}}"
