"""Report as a folder: index, and pages of characters, styles and profiles.

Unchanged pages are hard links into the report before. `pages.json` has each page's content hash and index line. One
character is read at a time.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sticker_pipeline.core.character import Character, check_name
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.storage import (
    Artifact,
    ArtifactStore,
    StorageError,
    content_hash,
    link_or_copy,
    profile_scope,
    style_scope,
)
from sticker_pipeline.publishing.contents import (
    Sources,
    character_report,
    few_steps,
    published,
    shown,
    sources_of,
    style_report,
)
from sticker_pipeline.publishing.report import Check, character_page, few_steps_page, style_page, templates_hash
from sticker_pipeline.publishing.report_index import (
    CharacterLine,
    FewStepsLine,
    StyleLine,
    character_line,
    few_steps_line,
    index_page,
    page_file,
    style_line,
)
from sticker_pipeline.roots.across import LCM_LORA, SELECTED_STYLE_LORA, STYLE_SET, profiles_of, styles_of, toys_of

INDEX_PAGE = "report.html"
PAGES = "pages.json"  # page -> content hash ("": to be made again), and index line


@dataclass(frozen=True)
class Made:
    """A page and its index line; not `whole` after unreadable sources."""

    page: str
    line: CharacterLine | StyleLine | FewStepsLine
    whole: bool = True


@dataclass(frozen=True)
class Before:
    """The previous report's artifact and PAGES, for unchanged pages."""

    artifact: Artifact | None = None
    pages: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Written:
    """Index size in bytes, and numbers of made and reused pages."""

    index_bytes: int
    made: int
    taken_over: int


def report_before(artifact: Artifact | None, code_version: str) -> Before:
    """Return the reusable part of `artifact`.

    It is empty if the artifact is damaged or made by other code.
    """
    if artifact is None or artifact.code_version != code_version or PAGES not in artifact.files:
        return Before()
    try:
        return Before(artifact, json.loads(artifact.content(PAGES)))
    except StorageError:
        return Before()


def write_report(
    store: ArtifactStore,
    folder: Path,
    characters: Sequence[tuple[Character, Profile]],
    *,
    checks: Mapping[str, Sequence[Check]] | None = None,
    ui: str = "",
    problems: Sequence[str] = (),
    before: Before | None = None,
) -> Written:
    """Write the report about `characters`, their styles and profiles into `folder`.

    `checks`: last results by character. `problems`: sentences about invalid characters. Raises CharacterError for a
    name that cannot be a file's.
    """
    shelf = _Shelf(folder, before or Before(), content_hash([templates_hash(), ui]))
    lines = [
        _add_character(shelf, sources_of(store, character, profile, (checks or {}).get(character.name, ())), ui)
        for character, profile in sorted(characters, key=lambda pair: pair[0].name)
    ]
    damaged: list[str] = []
    toys = toys_of(characters)
    of_style = {character.settings.style: toys.get(profile.name, "") for character, profile in characters}
    styles = [_add_style(shelf, store, name, ui, of_style[name], damaged) for name in styles_of(characters)]
    profiles = [_add_profile(shelf, store, name, ui, toys.get(name, ""), damaged) for name in profiles_of(characters)]
    index = index_page(lines, list(filter(None, styles)), list(filter(None, profiles)), [*problems, *damaged], toys)
    data = index.encode("utf-8")
    (folder / INDEX_PAGE).write_bytes(data)
    (folder / PAGES).write_text(json.dumps(shelf.pages, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return Written(len(data), len(shelf.pages) - shelf.taken_over, shelf.taken_over)


@dataclass
class _Shelf:
    """Pages being written; `common`: hash of their common content."""

    folder: Path
    before: Before
    common: str
    pages: dict[str, Any] = field(default_factory=dict)
    taken_over: int = 0

    def add(self, file: str, content: Any, make: Callable[[], Made]) -> Any:
        """Reuse or `make` the page of `content` (JSON types); return its index line."""
        key = content_hash([self.common, content])
        found = self._take_over(file, key)
        if found is None:
            found = self._write(file, key, make())
        self.pages[file] = found
        return found["line"]

    def _take_over(self, file: str, key: str) -> Any:
        known, artifact = self.before.pages.get(file), self.before.artifact
        if known is None or artifact is None or known["shows"] != key:
            return None
        try:
            link_or_copy(artifact.file(file), self.folder / file)
        except StorageError:  # damaged: made again
            return None
        self.taken_over += 1
        return known

    def _write(self, file: str, key: str, made: Made) -> Any:
        target = self.folder / file
        target.parent.mkdir(exist_ok=True)
        target.write_text(made.page, encoding="utf-8")
        return {"shows": key if made.whole else "", "line": asdict(made.line)}


def _add_character(shelf: _Shelf, sources: Sources, ui: str) -> CharacterLine:
    def make() -> Made:
        report = character_report(sources)
        return Made(character_page(report, ui), character_line(report), whole=not report.problems)

    name = sources.character.name
    check_name(name)
    return CharacterLine(**shelf.add(page_file(name), shown(sources), make))


def _add_style(
    shelf: _Shelf, store: ArtifactStore, name: str, ui: str, toy: str, problems: list[str]
) -> StyleLine | None:

    def make() -> Made:
        report = style_report(store, name)
        assert report is not None, "its artifact was found a moment ago"
        return Made(style_page(report, ui, toy), style_line(report))

    try:
        chosen, made_of = (store.find(style_scope(name), asset) for asset in (SELECTED_STYLE_LORA, STYLE_SET))
        if chosen is None:
            return None
        content = [name, published(chosen), published(made_of), toy]
        return StyleLine(**shelf.add(page_file(name, "styles"), content, make))
    except StorageError as error:
        problems.append(str(error))
        return None


def _add_profile(
    shelf: _Shelf, store: ArtifactStore, name: str, ui: str, toy: str, problems: list[str]
) -> FewStepsLine | None:

    def make() -> Made:
        way = few_steps(store, name)
        assert way is not None, "its artifact was found a moment ago"
        return Made(few_steps_page(way, ui, toy), few_steps_line(way))

    try:
        made = store.find(profile_scope(name), LCM_LORA)
        if made is None:
            return None
        return FewStepsLine(**shelf.add(page_file(name, "profiles"), [name, published(made), toy], make))
    except StorageError as error:
        problems.append(str(error))
        return None
