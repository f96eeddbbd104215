"""State between requests: rows in memory, and edits to undo."""

from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from typing import Any, Protocol

import numpy as np

from sticker_pipeline.core.character import Character, check_name, load_character
from sticker_pipeline.core.profile import Profile, character_profile
from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline.desk import edits, rows, settings_file
from sticker_pipeline.desk.captions import Captions, Change, Files, edited
from sticker_pipeline.desk.edits import Conflict, Edit, EditError
from sticker_pipeline.desk.rows import Rows
from sticker_pipeline.publishing.report import Check

IN_MEMORY = 4  # characters
MOST_UNDONE = 50  # steps back for each character
MOST_EXAMPLES = 5  # in a preview


class Runs(Protocol):
    """Dagster's runs of characters."""

    def state(self, name: str) -> Mapping[str, Any] | None:
        """Return the character's newest run; None without any."""

    def update(self, name: str) -> None:
        """Start to bring the character up to date."""

    def roll_back(self, name: str, number: int, reason: str) -> None:
        """Make release `number` current, and the assets that show it. Raises ReleaseError."""

    def cancel(self, name: str) -> bool:
        """Ask the character's run to stop; False if there is none."""

    def checks(self, name: str) -> Sequence[Check]:
        """Return the last results of the character's checks."""


class Session:
    """Characters in memory, with locks for edits."""

    def __init__(self, characters: Path, models: Path, store: ArtifactStore, runs: Runs) -> None:
        self.characters, self.models, self.store, self.runs = characters, models, store, runs
        self._memory: OrderedDict[str, _Known] = OrderedDict()
        self._undo: dict[str, list[list[Edit]]] = defaultdict(list)
        self._lock = RLock()

    def character(self, name: str) -> Character:
        """Return the character. Raises CharacterError."""
        check_name(name)
        return load_character(self.characters / name)

    def profile(self, character: Character) -> Profile:
        return character_profile(character, self.models)

    def rows(self, name: str) -> Rows:
        """Return the character's frames, read again when an artifact has changed."""
        return self._known(name).shown

    def is_in_memory(self, name: str) -> bool:
        """Tell whether `rows` answers at once: reading 30,000 frames takes about a second."""
        return name in self._memory

    def pending(self, name: str) -> list[str]:
        """Return images with a caption that no update has read."""
        return sorted(self._known(name).edited)

    def steps_back(self, name: str) -> int:
        return len(self._undo[name])

    def captions(self, name: str) -> Captions:
        """Return the captions of the character's images on the disk."""
        return self._captions(name, self._known(name).files)

    def plan(self, name: str, found: np.ndarray, change: Change) -> tuple[list[Edit], list[str]]:
        """Return the edits of these rows' captions, and sentences on problems."""
        texts, planned, problems = self.captions(name), [], []
        for path in rows.files_of(self.rows(name), found):
            try:
                edit = edited(texts.folder, texts.of(path), change)
                planned += [edit] if edit else []
            except EditError as error:
                problems.append(str(error))
        return list({edit.file: edit for edit in planned}.values()), problems  # images of one stem share a text

    def write(self, name: str, planned: Sequence[Edit]) -> tuple[int, list[str]]:
        """Write edits; return their number and sentences on the others."""
        with self._lock:
            made, problems = edits.apply(planned)
            self._remember(name, [edit.undone() for edit in made])
            self._refresh(name, made)
            return len(made), problems

    def undo(self, name: str) -> tuple[int, list[str]]:
        """Undo the last step.

        Files that changed since stay as they are, and can be tried again.
        """
        with self._lock:
            if not self._undo[name]:
                return 0, ["There is nothing to undo."]
            made, problems = edits.apply(self._undo[name][-1])
            left = [edit for edit in self._undo[name].pop() if edit not in made]
            self._remember(name, left)
            self._refresh(name, made)
            return len(made), problems

    def settings_edit(self, name: str, changes: Sequence[Mapping[str, Any]]) -> Edit:
        return settings_file.edited(self.character(name).folder, self.models, changes)

    def write_settings(self, name: str, edit: Edit, seen: str) -> None:
        """Write a change of character.yaml whose difference was `seen`. Raises Conflict."""
        with self._lock:
            if "\n".join(settings_file.difference(edit)) != seen:
                raise Conflict("character.yaml was changed meanwhile: look at the change again.")
            edits.apply_one(edit)
            self._remember(name, [edit.undone()])

    def _remember(self, name: str, step: list[Edit]) -> None:
        if step:
            self._undo[name] = [*self._undo[name], step][-MOST_UNDONE:]

    def _known(self, name: str) -> "_Known":
        with self._lock:
            known = self._memory.get(name)
            if known is None or known.read.stamp != rows.stamp_of(self.store, name):
                read = rows.read_rows(self.store, name)
                files = Files(frozenset(read.table["path"]), rows.captions_by_file(read))
                self._memory[name] = self._with_edits(name, _Known(read, read, files, self._newer(name, files)))
            self._memory.move_to_end(name)
            while len(self._memory) > IN_MEMORY:
                self._memory.popitem(last=False)
            return self._memory[name]

    def _captions(self, name: str, files: Files) -> Captions:
        character = self.character(name)
        first = {group: [character.trigger, *one.learned] for group, one in character.groups.items()}
        return Captions(character.folder, files, first)

    def _newer(self, name: str, files: Files) -> frozenset[str]:
        """Return the images with a text younger than the inventory."""
        inventory = self.store.find(name, "raw_media")
        if inventory is None:
            return frozenset()
        read_at, texts = self.store.published_at(inventory), Captions(self.characters / name, files, {})
        found = ((image, texts.folder / texts.found(image)) for image in files.images if texts.found(image))
        return frozenset(image for image, path in found if _time(path) > read_at)

    def _refresh(self, name: str, made: Sequence[Edit]) -> None:
        """Show new captions before an update has read them."""
        known, changed = self._known(name), {edit.file for edit in made}
        texts = self._captions(name, known.files)
        touched = {image for image in known.files.images if texts.found(image) in changed}
        gone = {image for image in known.edited if not texts.found(image)}
        self._memory[name] = self._with_edits(name, replace(known, edited=known.edited | touched | gone))

    def _with_edits(self, name: str, known: "_Known") -> "_Known":
        """Return `known` with edited captions that no update has read.

        A text that cannot be read shows what was read before.
        """
        if not known.edited:
            return replace(known, shown=known.read)
        before, texts = rows.written_captions(self.store, name), self._captions(name, known.files)
        new: dict[str, str] = {}
        for image in known.edited:
            try:
                now = texts.of(image)
                written = now.text if now.data is not None else ""
                if written != before.get(image, ("", ""))[1]:
                    new[image] = texts.in_training(image)
            except EditError:
                continue
        return replace(known, shown=rows.with_captions(known.read, new), edited=frozenset(new))


@dataclass(frozen=True)
class _Known:
    """A character in memory: rows as read, and as shown.

    Shown are the captions of `edited` images on the disk.
    """

    read: Rows
    shown: Rows
    files: Files
    edited: frozenset[str]


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # removed meanwhile
        return 0.0
