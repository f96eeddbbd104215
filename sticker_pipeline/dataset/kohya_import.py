"""Import of a folder for kohya's sd-scripts as a character."""

import json
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from sticker_pipeline.core.character import CharacterError, Group, Settings, describe_problems, is_system_folder
from sticker_pipeline.core.files.inside import (
    OutsideError,
    SpecialFileError,
    is_folder,
    list_folder,
    read_bytes,
    status,
)
from sticker_pipeline.core.settings import MediaSettings
from sticker_pipeline.core.texts import counted, folded, hidden_letters, is_unicode, listed, shortened
from sticker_pipeline.dataset.kohya import (
    CONFIG,
    HOLDOUT,
    IMAGE_SUFFIXES,
    METADATA,
    RECORD,
    CaptionFile,
    FolderRecord,
    Record,
    folder_repeats,
    folder_subject,
    own_syntax,
    read_caption_file,
)
from sticker_pipeline.dataset.new_character import (
    NAME_TOO_LONG,
    Created,
    default_medium,
    fits,
    free_target,
    kohya_parents,
    left_out_note,
    left_out_notes,
    longest_name,
    settings_notes,
    settings_text,
    write_character,
    yaml_text,
)
from sticker_pipeline.media.frame import MediaError
from sticker_pipeline.media.header import Header, is_image, read_header, what_is_it
from sticker_pipeline.media.inventory import NAME_HIDES, OF_A_SYSTEM, hidden_because, left_behind
from sticker_pipeline.media.limits import read_within
from sticker_pipeline.media.other_files import beside_images
from sticker_pipeline.media.sidecars import (
    NOBODYS,
    is_caption_file,
    outdone_texts,
    owned_captions,
    thumbnails_of,
)
from sticker_pipeline.tagging.captions import is_weighted, parse_caption

LIMITS = MediaSettings()
LARGEST_RECORD = 1 << 24  # bytes
OF_EXPORTS = (RECORD, CONFIG, METADATA)  # written beside images and captions
SETTINGS = """
# Imported from a folder for kohya's sd-scripts: each share is the folder's repeats. Images are neither merged nor
# cropped, so that each counts as in that folder.
media: {merge: none, crop: none}
"""
HOLDOUT_SETTINGS = """
# Exactly the images that the export held out from training.
benchmark:
  validation: 0
  holdout:"""


@dataclass
class _Group:
    """A group being built: its source folder and accepted files."""

    source: Path
    repeats: int | None  # None: held out
    images: list[str] = field(default_factory=list)  # names
    texts: dict[str, CaptionFile] = field(default_factory=dict)  # by name
    captions: dict[str, str] = field(default_factory=dict)  # name of the image -> of its caption file
    notes: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The folder's name for messages and sticker_pipeline.json."""
        return self.source.name if self.repeats is not None else f"{HOLDOUT}/{self.source.name}"


def import_kohya(
    name: str,
    source: Path,
    characters: Path,
    trigger: str | None = None,
    *,
    link: bool = False,
    links: Sequence[Path] = (),
) -> Created:
    """Make the character `characters`/`name` from a folder for sd-scripts.

    `source`: a folder of `<repeats>_<name>` folders, or one of these. Each becomes a group of that name with its
    repeats as share: an image has the probability repeats / Σ repeats. Captions stay beside images. An export's
    `holdout/<group>` becomes the group `holdout_<group>`, listed in benchmark.holdout (empty if the export has none).
    The trigger is `trigger`, or the export's, or the tag that begins every caption. `link` makes images links to the
    originals. Links in `source` may lead into it and the folders `links`.

    Notes name files left out or read otherwise than by sd-scripts. Raises CharacterError as `new_character.create`, and
    for no images, an unreadable record, and no trigger.
    """
    target = free_target(name, source, characters)
    roots = (source, *links)
    record = _read_record(source, roots)
    ours = OF_EXPORTS if record is not None else ()
    folders, notes = _folders(source, ours, roots)
    longest = longest_name(characters)
    groups = {}
    for folder, repeats in folders:
        group = _read_group(folder, repeats, longest, ours, roots)
        notes += group.notes
        key = folder.name if repeats is not None else _holdout_name(folder)
        if not fits(Path(key), longest):
            notes.append(left_out_note([group.label], NAME_TOO_LONG))
        elif group.images:
            groups[key] = group
        else:
            notes.append(f"left out: {group.label}: it holds no image that can be read")
    if not any(group.repeats for group in groups.values()):
        raise CharacterError(f"{source} holds no image that can be trained on.\n" + "\n".join(notes))

    captions, caption_notes = _read_captions(groups)
    chosen = trigger or (record and record.trigger) or _common_trigger(source, list(captions.values()), caption_notes)
    files: dict[Path, Path | str] = {
        Path(key) / name: group.source / name for key, group in groups.items() for name in group.images
    }
    files |= {Path(key): text + "\n" for key, text in captions.items()}
    settings = {key: _settings(group, record or Record()) for key, group in groups.items()}
    holdout = [f"{key}/{name}" for key, group in groups.items() if group.repeats is None for name in group.images]
    stated = _holdout_text(holdout) if record is not None or holdout else ""
    write_character(
        target, files, settings_text(name, chosen, settings) + SETTINGS + stated, roots, link=link, say=notes.append
    )
    if not stated:
        notes.append(
            "15 % of each group is held out from training by default, of large ones 10 % more for validation, and the "
            "weights of the rest grow accordingly; name the files yourself in benchmark.holdout, or none "
            "(`holdout: []`, `validation: 0`) to train on all"
        )
    counts = {key: len(group.images) for key, group in groups.items()}
    return Created(target, chosen, counts, [*notes, *caption_notes, *settings_notes(source, roots)])


def _read_record(source: Path, roots: Sequence[Path]) -> Record | None:
    """Read the export's record in `source`; None without one."""
    path = source / RECORD
    try:
        return Record.model_validate(json.loads(read_bytes(path, roots, LARGEST_RECORD).decode("utf-8")))
    except (FileNotFoundError, OutsideError, SpecialFileError):  # then listed as left out
        return None
    except ValidationError as error:
        raise CharacterError("\n".join(describe_problems(str(path), error, Record))) from error
    except (OSError, ValueError, RecursionError) as error:
        why = shortened(str(error))
        raise CharacterError(f"{path} cannot be read: {why}. Delete it to import without it.") from error


def _folders(
    source: Path, ours: Collection[str], roots: Sequence[Path]
) -> tuple[list[tuple[Path, int | None]], list[str]]:
    """Return folders with repeats (None: held out), and notes on the rest.

    `ours` are not noted.
    """
    entries = _entries(source, ours, roots)
    chosen: list[tuple[Path, int | None]] = []
    left_out: dict[str, str] = {}
    for path in entries:
        if path.name == HOLDOUT and is_folder(path, roots):
            inside = {one: _holdout_problem(one, roots) for one in _entries(path, (), roots)}
            chosen += [(one, None) for one, problem in inside.items() if not problem]
            left_out |= {f"{HOLDOUT}/{one.name}": problem for one, problem in inside.items() if problem}
        elif problem := _folder_problem(path, roots):
            left_out[path.name] = problem
        else:
            chosen.append((path, folder_repeats(path.name)))
    if any(repeats is not None for _, repeats in chosen):
        return chosen, left_out_notes(left_out, left_out.values())
    own = folder_repeats(source.resolve().name)
    if own is not None and own >= 1 and any(_is_file(path, roots) for path in entries):
        return [(source.resolve(), own)], []
    raise CharacterError(_nothing_found(source, entries, roots))


def _folder_problem(path: Path, roots: Sequence[Path]) -> str:
    repeats = folder_repeats(path.name)
    if problem := _link_problem(path, roots):
        return problem
    if is_folder(path, roots) and is_system_folder(path.name):
        return OF_A_SYSTEM
    if not is_unicode(path.name):
        return "its name is not UTF-8: rename it"
    if hidden := hidden_letters(path.name):
        return NAME_HIDES.format(hidden)
    if path.name == CONFIG:
        return "settings of sd-scripts, such as repeats and keep_tokens, do not count here"
    if not is_folder(path, roots):
        return hidden_because(path.name) or "sd-scripts reads only files in <repeats>_<name> folders"
    if repeats is None:
        return "sd-scripts ignores folders not called <repeats>_<name>"
    return "" if repeats >= 1 else "sd-scripts ignores folders with repeats below 1"


def _holdout_problem(path: Path, roots: Sequence[Path]) -> str:
    if problem := _link_problem(path, roots):
        return problem
    if is_folder(path, roots) and is_system_folder(path.name):
        return OF_A_SYSTEM
    if not is_unicode(path.name):
        return "its name is not UTF-8: rename it"
    return "" if is_folder(path, roots) else "an export keeps held-out images in folders inside it"


def _entries(folder: Path, ours: Collection[str], roots: Sequence[Path]) -> list[Path]:
    return [folder / entry.name for entry in list_folder(folder, roots)[1] if entry.name not in ours]


def _is_file(path: Path, roots: Sequence[Path]) -> bool:
    try:
        return stat.S_ISREG(status(path, roots).st_mode)
    except OSError:
        return False


def _link_problem(path: Path, roots: Sequence[Path]) -> str:
    try:
        status(path, roots)
    except OutsideError as error:
        return left_behind(error)
    except OSError:
        return ""
    return ""


def _nothing_found(source: Path, entries: Sequence[Path], roots: Sequence[Path]) -> str:
    parents = kohya_parents(source, roots)
    hint = f" There are some in {parents[0]}: import that." if parents else ""
    if not parents and any(path.suffix in IMAGE_SUFFIXES for path in entries):
        hint = f" Put its images into a folder such as {source / ('1_' + source.resolve().name)}."
    return f"{source} has no folder called <repeats>_<name>, such as 10_luma.{hint}"


def _holdout_name(folder: Path) -> str:
    return f"{HOLDOUT}_{folder.name}"


def _read_group(
    folder: Path, repeats: int | None, longest: int, ours: Collection[str], roots: Sequence[Path]
) -> _Group:
    """Read one folder's images and captions; note all else but `ours`.

    Subfolders are skipped, as by sd-scripts.
    """
    headers, texts, left_out = _look_into(folder, ours, roots)
    sizes = {name: header.width * header.height for name, header in headers.items()}
    passed = "it is ignored here" + (", though sd-scripts would train on it" if repeats is not None else "")
    left_out |= {name: f"the thumbnail of {owner}: {passed}" for name, owner in thumbnails_of(sizes).items()}
    owned = owned_captions(headers, texts, _wordless(texts))
    names = _caption_names(owned, headers)
    too_long = (name for name in headers if not fits(Path(name, names.get(name, name)), longest))
    left_out |= dict.fromkeys(too_long, NAME_TOO_LONG)
    images = [name for name in headers if name not in left_out]
    captions = {image: text for image, text in owned.items() if image not in left_out}
    left_out |= _unused_texts(texts, headers, owned, left_out, captions)
    group = _Group(folder, repeats, images, texts, captions)
    named = {f"{group.label}/{name}": left_out[name] for name in sorted(left_out)}
    group.notes = [*_reading_notes(group, headers), *left_out_notes(named, named.values())]
    return group


def _look_into(
    folder: Path, ours: Collection[str], roots: Sequence[Path]
) -> tuple[dict[str, Header], dict[str, CaptionFile], dict[str, str]]:
    headers: dict[str, Header] = {}
    texts: dict[str, CaptionFile] = {}
    left_out: dict[str, str] = {}
    for entry in list_folder(folder, roots)[1]:
        path = folder / entry.name
        if path.name in ours:
            continue
        if reason := hidden_because(path.name):
            left_out[path.name] = reason
        elif entry.is_link and (problem := _link_problem(path, roots)):
            left_out[path.name] = problem
        elif entry.is_folder or (entry.is_link and is_folder(path, roots)):
            left_out[path.name] = "sd-scripts does not look into folders inside it"
        elif is_caption_file(path.name):
            texts[path.name] = read_caption_file(path, roots)
        else:
            try:
                headers[path.name] = _header(path, roots)
            except MediaError as error:
                left_out[path.name] = str(error)
    return headers, texts, left_out


def _wordless(texts: Mapping[str, CaptionFile]) -> set[str]:
    return {name for name, text in texts.items() if not text.line}


def _unused_texts(
    texts: Mapping[str, CaptionFile],
    images: Iterable[str],
    owned: Mapping[str, str],
    left_out: Iterable[str],
    captions: Mapping[str, str],
) -> dict[str, str]:
    """Return the reason for each of `texts` not in `captions`.

    `owned`: captions of all `images`; `left_out`: skipped files.
    """
    instead = outdone_texts(images, _wordless(texts), owned)
    nobodys = texts.keys() - owned.values()
    owners = {text: image for image, text in (owned_captions(left_out, nobodys) | dict(owned)).items()}
    unused = texts.keys() - captions.values()
    return {
        name: f"{texts[name].problem}: {instead[name]}"
        if name in instead
        else f"the caption of {owners[name]}, which is left out"
        if name in owners
        else NOBODYS
        for name in unused
    }


def _header(path: Path, roots: Sequence[Path]) -> Header:
    """Read an image's header. Raises MediaError, naming the content, for other files."""
    if not is_unicode(path.name):
        raise MediaError("its name is not UTF-8: rename it")
    data = read_within(path, LIMITS, roots)
    if not is_image(data):
        raise MediaError(beside_images(path.suffix, data) or what_is_it(data))
    return read_header(data, LIMITS)


def _caption_names(captions: Mapping[str, str], images: Iterable[str]) -> dict[str, str]:
    """Name the caption file of each image without clashes among `images`.

    Full names are unique, except where an image has that stem, see `owned_captions`.
    """
    stems = [Path(image).stem for image in images]
    counts, of_all = Counter(map(folded, stems)), set(stems)
    by_stem = {one for one in captions if counts[folded(Path(one).stem)] == 1 or one in of_all}
    return {one: f"{Path(one).stem if one in by_stem else one}.txt" for one in captions}


def _reading_notes(group: _Group, headers: Mapping[str, Header]) -> list[str]:
    notes = []
    for name in group.images:
        suffix, frames = Path(name).suffix, headers[name].n_frames
        if suffix not in IMAGE_SUFFIXES:
            notes.append(f"{group.label}/{name}: taken, though sd-scripts does not read {suffix} files")
        if frames > 1:
            notes.append(
                f"{group.label}/{name}: sd-scripts reads the first of its {counted(frames, 'frame')} only; here all "
                "of them together count as that image"
            )
    return notes


def _read_captions(groups: dict[str, _Group]) -> tuple[dict[str, str], list[str]]:
    """Return the caption texts by path in the character's folder, and notes."""
    lines: dict[str, str] = {}
    cut: list[str] = []
    notes = []
    for key, group in groups.items():
        names = _caption_names(group.captions, group.images)
        for image, name in group.captions.items():
            text = group.texts[name]
            if text.is_cut:
                cut.append(f"{group.label}/{name}")
            if text.line:
                lines[f"{key}/{names[image]}"] = text.line
            else:
                notes.append(f"left out: {group.label}/{name}: the caption of {image} cannot be read: {text.problem}")
    texts = own_syntax(lines.values())
    bare = [
        f"{missing} of {group.label}"
        + (f" (sd-scripts would call them {folder_subject(group.source.name)!r})" if group.repeats else "")
        for group in groups.values()
        if (missing := len(group.images) - sum(bool(group.texts[name].line) for name in group.captions.values()))
    ]
    if bare:
        notes.append(f"images without a caption, which get one from the tagger: {', '.join(bare)}")
    if cut:
        reads = "of which only the first is read, as by sd-scripts"
        notes.append(f"captions of more than one line, {reads}: {listed(list(dict.fromkeys(cut)))}")
    if any(map(is_weighted, texts)):
        notes.append("captions have weights: brackets that are escaped for them in other captions became plain")
    return dict(zip(lines, texts, strict=True)), notes


def _common_trigger(source: Path, captions: Sequence[str], notes: Sequence[str]) -> str:
    """Return the captions' common first tag. Raises CharacterError, with `notes`, for none."""
    first = {_first_tag(caption) for caption in captions}
    if len(first) == 1:
        reason = f"{min(first)!r}, which every caption begins with, cannot be a trigger"
        with suppress(ValidationError):
            return Settings(trigger=min(first)).trigger
    else:
        reason = "the captions do not all begin with one tag" if first else "there are no captions"
    problem = f"{source}: {reason}: give the character's made-up trigger with --trigger WORD."
    raise CharacterError("\n".join([problem, *notes]))


def _first_tag(caption: str) -> str:
    tags = parse_caption(re.split(r"\s*,", caption, maxsplit=1)[0])
    return tags[0][0] if tags else ""


def _settings(group: _Group, record: Record) -> Group:
    """Return the group settings of the record, else by folder name.

    Captions of other trainers contain their learned tags.
    """
    name = folder_subject(group.source.name) if group.repeats is not None else group.source.name
    known = record.folders.get(group.label, FolderRecord(medium=default_medium(name)))
    return Group(medium=known.medium, learned=known.learned, share=float(group.repeats or 1))


def _holdout_text(holdout: Sequence[str]) -> str:
    files = "".join(f"\n    - {yaml_text(file)}" for file in holdout)
    return HOLDOUT_SETTINGS + (files or " []") + "\n"
