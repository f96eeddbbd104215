"""Creation of a character folder with groups and a commented character.yaml.

Nothing existing is overwritten; the source is only read.
"""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sticker_pipeline.core.character import (
    FILE_NAME,
    CharacterError,
    Group,
    check_name,
    is_system_folder,
    laxer_than_default,
    links_file,
    load_character,
    places_in,
    read_settings,
)
from sticker_pipeline.core.files.inside import (
    OutsideError,
    SpecialFileError,
    copy_file,
    folders_in,
    is_folder,
    list_folder,
    real_path,
    status,
)
from sticker_pipeline.core.files.limited_files import MOST_BYTES
from sticker_pipeline.core.files.space import Say, enough
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.storage import atomic_file, new_folder
from sticker_pipeline.core.texts import MOST_LETTERS, TextError, counted, folded, listed, shortened
from sticker_pipeline.media.inventory import scan
from sticker_pipeline.media.sidecars import captions_of, is_caption_file

LIMITS = MediaSettings()
GIFS, STICKERS = "gifs", "stickers"
# Folders of a kohya project, as on kohya_ss' page; other names are common.
KOHYA_IMAGES = "img"
KOHYA_REGULARISATION = re.compile(r"reg(?:s|ulari[sz]ation)?(?:[ _-].*)?", re.IGNORECASE)
KOHYA_FOLDER = re.compile(r"\d+_.")  # <repeats>_<name>
BLOCK = 4096  # bytes, the usual allocation unit of file systems
NAME_TOO_LONG = "its name, or that of its caption, is too long for this file system: rename it shorter"

TEMPLATE = """\
# {name}: what this character is called, and how its images are used.
# Only `trigger` is required. A made-up word works best: one that the base model does not know yet.
trigger: {trigger}

# profile: embedded     # embedded (tiny models, any laptop), or sd15 or sdxl (need model files and a GPU)
# style: chibi          # a manner of drawing shared with other characters: one LoRA for all that name it, from two on

# Each subfolder is a source group. `learned` tags follow the trigger in every caption of the group;
# `medium` is sticker or art; `share` is the weight of a source relative to a source of another group.
groups:
{groups}
# curation:
#   blacklist: []       # tags that are never written
#   inherent: auto      # or a list: traits that the character always has, which captions omit
#   aliases: {{}}         # e.g. {{serafuku: school uniform}}
#   weights: {{}}         # e.g. {{smile: 1.2}}
#   min_images: 2       # a tag on fewer images is dropped
#   written: keep       # captions in text files beside images are kept as they are; or `ignore`

# media: {{}}             # e.g. {{crop: alpha}} crops frames to visible pixels; {{merge: none}} keeps duplicates
# sampling: {{}}          # e.g. {{mode: effective_size}}
# tagging: {{}}           # e.g. {{general_threshold: 0.4}}
# training: {{}}          # any training setting, e.g. {{epochs: 12, rank: 32}}

# benchmark:
#   holdout: 0.15       # share of each group's sources (or a list of files) that is never trained on
#   validation: 0.1     # share of large groups that is kept for choosing the epoch, and not trained on either
#   prompts: []         # free attributes, e.g. ["smile, arms up", "crying"]
#   gate: {{}}            # limits that a LoRA must keep to be released, e.g. {{copies: 0.1}}
"""


@dataclass(frozen=True)
class Created:
    """The created character: folder, media files per group, notes for the user."""

    folder: Path
    trigger: str
    groups: dict[str, int]
    notes: list[str]

    @property
    def files(self) -> int:
        return sum(self.groups.values())


def create(
    name: str, source: Path, characters: Path, trigger: str, *, link: bool = False, links: Sequence[Path] = ()
) -> Created:
    """Make `characters`/`name` from the media in `source`.

    Subfolders become groups; loose files go to `gifs` if animated, else to `stickers`, with their captions. `link`
    makes symbolic links to the originals. Links in `source` may lead into it and the folders `links`. The folder is
    written atomically. Notes name the first skipped files for each reason. Raises CharacterError for a bad name or
    trigger, an existing character, a kohya project, or no media.
    """
    target = free_target(name, source, characters)
    roots = (source, *links)
    _check_no_project(source, roots)
    plan = _plan(source, longest_name(characters), roots)
    if not plan.groups:
        raise CharacterError("\n".join([f"{source} holds no image or video that can be read.", *plan.notes]))
    groups = {group: Group(medium=default_medium(group)) for group in plan.groups}
    write_character(target, plan.files, settings_text(name, trigger, groups), roots, link=link, say=plan.notes.append)
    return Created(target, trigger, plan.groups, [*plan.notes, *settings_notes(source, roots)])


def free_target(name: str, source: Path, characters: Path) -> Path:
    """Return the folder of a new character.

    Raises CharacterError for a bad name, an existing folder or file of links, or a folder inside `source`.
    """
    check_name(name)
    target = characters / name
    if target.exists():
        raise CharacterError(f"{target} exists already; nothing was changed. Choose another name, or add files to it.")
    if links_file(target).exists():
        raise CharacterError(
            f"{links_file(target)} says where links of an earlier character of that name may lead; nothing was "
            "changed. Delete it, or choose another name."
        )
    if target.resolve().is_relative_to(source.resolve()):
        raise CharacterError(f"{source} contains {characters}: choose a folder that holds only the character's media.")
    return target


def settings_notes(source: Path, roots: Sequence[Path]) -> list[str]:
    """Note an unused character.yaml in `source`: gate limits it would loosen."""
    path = source / FILE_NAME
    try:
        laxer = laxer_than_default(read_settings(path, roots).benchmark.gate)
    except CharacterError as error:
        is_there = any(entry.name == FILE_NAME for entry in list_folder(source, roots)[1])
        return [f"{FILE_NAME} in the given folder is not taken, and could not be used: {error}"] if is_there else []
    return [f"{FILE_NAME} in the given folder would let more LoRAs through, and is not taken: {each}" for each in laxer]


def write_character(
    target: Path, files: Mapping[Path, Path | str], settings: str, roots: Sequence[Path], *, link: bool, say: Say
) -> None:
    """Make the folder `target` from `files` and character.yaml.

    `files`: path inside -> original or text. Originals lie below `roots` (`core/files/inside.py`), the given folder
    first. `link` links them instead, and lists their folders in links_file(target). Atomic. Raises CharacterError for
    invalid `settings`, a changed original, or a folder that this file cannot name; SpaceError where copies do not fit.
    `say` receives a warning where they just fit.
    """
    originals = [content for content in files.values() if isinstance(content, Path)] if link else []
    real = {original: _real(original, roots) for original in originals}
    places = _links_text(target, roots[0].resolve(), real.values()) if link else b""
    enough(target.parent, _bytes(files.values(), roots, link=link), f"the new character {target.name}", say)
    with new_folder(target) as staging:
        for relative, content in files.items():
            path = staging / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                path.write_text(content, encoding="utf-8")
            elif link:
                path.symlink_to(real[content])
            else:
                _copy(content, path, roots)
        (staging / FILE_NAME).write_text(settings, encoding="utf-8")
    try:
        if link:
            with atomic_file(links_file(target)) as path:
                path.write_bytes(places)
        load_character(target)
    except (CharacterError, OSError):
        shutil.rmtree(target)
        links_file(target).unlink(missing_ok=True)
        raise


def longest_name(folder: Path) -> int:
    """Return the byte limit of file names in `folder`, existing or not."""
    return os.pathconf(next(one for one in (folder, *folder.absolute().parents) if one.exists()), "PC_NAME_MAX")


def fits(path: Path, longest: int) -> bool:
    """Tell whether every name in `path` has at most `longest` bytes."""
    return all(len(os.fsencode(name)) <= longest for name in path.parts)


def _links_text(target: Path, source: Path, originals: Iterable[Path]) -> bytes:
    """Return the file of allowed link targets: `source`, and other originals' folders.

    Raises CharacterError for a folder that would be misread.
    """
    elsewhere = sorted({path.parent for path in originals if not path.is_relative_to(source)})
    outermost: list[Path] = []
    for path in elsewhere:  # subfolders sort right after their folder
        if not outermost or not path.is_relative_to(outermost[-1]):
            outermost.append(path)
    places = [str(source), *map(str, outermost)]
    file = links_file(target).name
    for place in places:
        if not _reads_as([place], os.fsencode(place)):
            raise CharacterError(
                f"the name of the folder {shortened(place, MOST_LETTERS)} cannot stand in {file}, one a line (it holds "
                "a line break or another control character, ends in a space, or is not UTF-8): rename the folder, or "
                "copy instead of --link."
            )
    says = f"# Links in the folder {target.name} may lead into these folders, one a line, and nowhere else."
    text = os.fsencode("\n".join([says, *places, ""]))
    if len(text) > MOST_BYTES or not _reads_as(places, text):
        raise CharacterError(
            f"the files lie in {counted(len(places), 'folder')} elsewhere, too many for {file}: copy instead of --link."
        )
    return text


def _reads_as(places: list[str], text: bytes) -> bool:
    try:
        return places_in(text) == places
    except TextError:
        return False


def _bytes(contents: Iterable[Path | str], roots: Sequence[Path], *, link: bool) -> int:
    """Return the files' size; a text or link takes a block."""
    sizes = (0 if link or isinstance(content, str) else _size(content, roots) for content in contents)
    return sum(BLOCK + -(-size // BLOCK) * BLOCK for size in sizes)


def _size(original: Path, roots: Sequence[Path]) -> int:
    try:
        return status(original, roots).st_size
    except (OutsideError, FileNotFoundError) as error:
        raise _changed(original, error) from error


def default_medium(group: str) -> Literal["sticker", "art"]:
    return "art" if group == "art" else "sticker"


@dataclass(frozen=True)
class _Plan:
    """Accepted files (target path -> original), images per group, notes on others."""

    files: dict[Path, Path]
    groups: dict[str, int]
    notes: list[str]


def _plan(source: Path, longest: int, roots: Sequence[Path]) -> _Plan:
    table = scan(source, None, LIMITS, roots)
    images = [path for path in table.loc[table["status"] == "accepted", "path"] if fits(Path(path), longest)]
    captions = captions_of(table)
    animated = set(table.loc[table["n_frames"] > 1, "path"])
    groups = Counter(path.partition("/")[0] for path in images if "/" in path)
    texts = [captions[path] for path in images if path in captions]
    files = {Path(path): source / path for path in [*images, *texts] if path.partition("/")[0] in groups}
    files = {path: original for path, original in files.items() if fits(path, longest)}
    loose = [path for path in images if "/" not in path]
    for placed in _loose(source, loose, animated, captions, set(files)):
        if all(fits(path, longest) for path in placed):
            files |= placed
            groups[min(placed).parent.name] += 1
    left_out = table[~table["path"].isin({path.relative_to(source).as_posix() for path in files.values()})]
    reasons = left_out["reason"].where(left_out["status"] != "accepted", NAME_TOO_LONG)
    notes = left_out_notes(left_out["path"], reasons)
    return _Plan(files, dict(sorted(groups.items())), notes + _kohya_note(source, groups, roots))


def _loose(
    source: Path, images: Iterable[str], animated: Container[str], captions: Mapping[str, str], files: Iterable[Path]
) -> Iterator[dict[Path, Path]]:
    """Yield for each loose image {place: original}, with its caption.

    `files`: places already taken in groups.
    """
    owners = {path.with_suffix("") for path in files if is_caption_file(path.name)}  # possible owners of the captions
    taken = set(map(_place_key, {*files, *owners}))
    stems = {_place_key(path.with_suffix("")) for path in files}
    numbers: dict[str, int] = {}
    for path in images:
        target = _free(Path(GIFS if path in animated else STICKERS) / path, taken, stems, numbers)
        placed = {target: source / path}
        if caption := captions.get(path):
            # The full name makes it this image's only.
            placed[target.with_name(target.name + Path(caption).suffix.lower())] = source / caption
        yield placed


def _place_key(path: Path) -> str:
    """Return a key equal for places that differ in case."""
    return folded(path.as_posix())


def _free(target: Path, taken: set[str], stems: set[str], numbers: dict[str, int]) -> Path:
    """Number `target` until no caption is ambiguous, and record it.

    `taken`: places; `stems`: places without suffix; `numbers`: last numbers used.
    """
    key, free = _place_key(target), target
    while {_place_key(free), _place_key(free.with_suffix(""))} & taken or _place_key(free) in stems:
        numbers[key] = numbers.get(key, 1) + 1
        free = target.with_stem(f"{target.stem}_{numbers[key]}")
    taken.add(_place_key(free))
    stems.add(_place_key(free.with_suffix("")))
    return free


def left_out_notes(names: Iterable[str], reasons: Iterable[str]) -> list[str]:
    """Write one note per reason, with the first of its names."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in zip(names, reasons, strict=True):
        by_reason.setdefault(reason, []).append(name)
    return [left_out_note(found, reason) for reason, found in by_reason.items()]


def left_out_note(names: Sequence[str], reason: str) -> str:
    return f"left out: {listed(names)}: {reason}"


def kohya_parents(source: Path, roots: Sequence[Path]) -> list[Path]:
    """Return folders in `source` with <repeats>_<name> folders, regularisation last."""
    names = [name for name in folders_in(source, roots) if not is_system_folder(name)]
    return sorted(
        (path for path in _each_once([source / name for name in names], roots) if _holds_kohyas(path, roots)),
        key=lambda path: (_is_regularisation(path), path),
    )


def _each_once(folders: Iterable[Path], roots: Sequence[Path]) -> list[Path]:
    """Remove folders that links repeat under other names."""
    found: dict[tuple[int, int], Path] = {}
    for folder in folders:
        with suppress(OSError):  # the inventory says that it cannot be read
            about = status(folder, roots)
            found.setdefault((about.st_dev, about.st_ino), folder)
    return list(found.values())


def _check_no_project(source: Path, roots: Sequence[Path]) -> None:
    """Raise CharacterError for a kohya project, which also holds base-model images."""
    parents = kohya_parents(source, roots)
    images = [path for path in parents if not _is_regularisation(path)]
    if images and (len(images) < len(parents) or images[0].name.lower() == KOHYA_IMAGES):
        raise CharacterError(
            f"{source} is a project of kohya's. Its images are in {images[0]}: "
            f"take that, with `sticker-pipeline import-kohya NAME {images[0]}`."
        )


def _kohya_note(source: Path, groups: Iterable[str], roots: Sequence[Path]) -> list[str]:
    named = [group for group in groups if _is_kohya(source / group, roots)]
    parents = [path.name for path in kohya_parents(source, roots) if path.name in groups]
    said = [
        (named, "called as kohya's folders are, and their repeats do not count here"),
        (parents, "folders in it are called as kohya's are, and their repeats do not count here"),
    ]
    return [
        f"{', '.join(sorted(names))}: {what}: `sticker-pipeline import-kohya` makes shares of them"
        for names, what in said
        if names
    ]


def _is_regularisation(folder: Path) -> bool:
    return bool(KOHYA_REGULARISATION.fullmatch(folder.name))


def _holds_kohyas(folder: Path, roots: Sequence[Path]) -> bool:
    try:
        return any(map(KOHYA_FOLDER.match, folders_in(folder, roots)))
    except OSError:  # the inventory says that it cannot be read
        return False


def _is_kohya(folder: Path, roots: Sequence[Path]) -> bool:
    return bool(KOHYA_FOLDER.match(folder.name)) and is_folder(folder, roots)


def _real(original: Path, roots: Sequence[Path]) -> Path:
    try:
        return real_path(original, roots)
    except OutsideError as error:
        raise _changed(original, error) from error


def _copy(original: Path, target: Path, roots: Sequence[Path]) -> None:
    try:
        copy_file(original, target, roots, LIMITS.max_bytes)
    except (OutsideError, SpecialFileError, FileNotFoundError) as error:
        raise _changed(original, error) from error


def _changed(original: Path, error: OSError) -> CharacterError:
    return CharacterError(f"{original} changed while it was taken ({error.strerror}): nothing was made. Try again.")


def settings_text(name: str, trigger: str, groups: Mapping[str, Group]) -> str:
    """Return a commented character.yaml; a share of 1 is omitted."""
    lines = "".join(f"  {yaml_text(key)}: {_group_text(group)}\n" for key, group in groups.items())
    return TEMPLATE.format(name=name, trigger=yaml_text(trigger), groups=lines)


def yaml_text(value: object) -> str:
    """Write text, or a list of texts, as one line of YAML.

    JSON is YAML; unprintable characters are escaped.
    """
    letters = json.dumps(value, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in letters)


def _escaped(letter: str) -> str:
    return f"\\u{ord(letter):04X}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08X}"


def _group_text(group: Group) -> str:
    share = int(group.share) if group.share.is_integer() else group.share
    return f"{{learned: {yaml_text(group.learned)}, medium: {group.medium}{f', share: {share}' if share != 1 else ''}}}"
