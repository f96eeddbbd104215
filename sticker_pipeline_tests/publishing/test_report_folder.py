"""The index stays small and links every page; a page is made again only if its content changes."""

import gc
import shutil
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest

from sticker_pipeline.benchmark.releases import releases_folder, roll_back
from sticker_pipeline.core.character import Character
from sticker_pipeline.core.profile import Profile
from sticker_pipeline.core.storage import ALL, ArtifactStore
from sticker_pipeline.publishing import report_folder
from sticker_pipeline.publishing.contents import LINE, shown, sources_of
from sticker_pipeline.publishing.report import CharacterReport, Check
from sticker_pipeline.publishing.report_folder import PAGES, Before, Written, report_before, write_report
from sticker_pipeline.publishing.report_index import (
    FACES,
    FINE,
    MOST_FACES,
    MOST_PROBLEMS,
    RIVAL,
    CharacterLine,
    character_line,
    index_page,
)
from sticker_pipeline_tests.damage import flip
from sticker_pipeline_tests.publishing.conftest import CHECKS, NAMES
from sticker_pipeline_tests.publishing.example import START, demo_character
from sticker_pipeline_tests.publishing.html_tree import parsed
from sticker_pipeline_tests.some_table import write_rows

CODE = "1"
PAGE = "characters/bram_thistle.html"


@pytest.fixture
def store(example_store: ArtifactStore, tmp_path: Path) -> ArtifactStore:
    """The example's artifacts, to be changed."""
    shutil.copytree(example_store.root, tmp_path / "artifacts")
    return ArtifactStore(tmp_path / "artifacts")


def demo() -> list[tuple[Character, Profile]]:
    return [demo_character(name, "chibi") for name in NAMES]


def made(
    store: ArtifactStore,
    characters: Sequence[tuple[Character, Profile]] | None = None,
    checks: dict[str, list[Check]] | None = None,
    code: str = CODE,
    ui: str = "",
) -> Written:
    """Publish the report anew."""
    before = report_before(store.find(ALL, "report"), code)
    with store.writing(ALL, "report") as staging:
        written = write_report(
            store, staging, demo() if characters is None else characters, checks=checks or CHECKS, ui=ui, before=before
        )
        store.publish(staging, ALL, "report", code_version=code, inputs={}, settings={})
    return written


def files(store: ArtifactStore) -> dict[str, int]:
    """Page of the report -> the number of its file on the disk."""
    folder = store.folder(ALL, "report")
    return {path.relative_to(folder).as_posix(): path.stat().st_ino for path in folder.rglob("*.html")}


def test_every_link_leads_to_a_page_and_every_page_back(example_folder: Path) -> None:
    seen = set()
    for path in example_folder.rglob("*.html"):
        for link in parsed(path.read_text(encoding="utf-8")).all("a"):
            address = link.attributes["href"]
            if not address.startswith(("#", "http://127.0.0.1:3000/")):
                target = (path.parent / unquote(address)).resolve()
                assert target.is_file(), address
                seen.add(target)
    assert seen == {path.resolve() for path in example_folder.rglob("*.html")}


def test_what_did_not_change_is_taken_over(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made(store)
    assert (first.made, first.taken_over) == (5, 0)
    before, version = files(store), store.read(ALL, "report").data_version
    for name in ("character_report", "style_report", "few_steps"):
        monkeypatch.delattr(report_folder, name)  # nothing of these is asked for
    again = made(store)
    assert (again.made, again.taken_over) == (0, 5)
    after = files(store)
    assert after.pop("report.html") != before.pop("report.html")
    assert after == before
    assert store.read(ALL, "report").data_version == version


def test_a_change_of_one_character_makes_one_page(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    made(store)
    before = files(store)
    asked = []
    read = report_folder.character_report
    monkeypatch.setattr(
        report_folder, "character_report", lambda sources: asked.append(sources.character.name) or read(sources)
    )
    other = {**CHECKS, "velvet_moth": [Check("frames", "same_character", False, "it is somebody else")]}
    written = made(store, checks=other)
    assert asked == ["velvet_moth"]
    assert (written.made, written.taken_over) == (1, 4)
    changed = {name for name, number in files(store).items() if before[name] != number}
    assert changed == {"characters/velvet_moth.html", "report.html"}
    folder = store.folder(ALL, "report")
    assert "it is somebody else" in (folder / "characters/velvet_moth.html").read_text(encoding="utf-8")
    assert "of 1 failed" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_character_that_is_removed_has_no_page(store: ArtifactStore) -> None:
    made(store)
    written = made(store, demo()[1:])
    assert (written.made, written.taken_over) == (0, 4)
    assert "characters/velvet_moth.html" not in files(store)
    assert "velvet_moth" not in (store.folder(ALL, "report") / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("what", ["code", "address of the UI", "templates"])
def test_what_all_pages_show_makes_all_again(store: ArtifactStore, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made(store)
    if what == "templates":
        monkeypatch.setattr(report_folder, "templates_hash", lambda: "another")
    ui = "http://127.0.0.1:3000" if what == "address of the UI" else ""
    assert made(store, code="2" if what == "code" else CODE, ui=ui).taken_over == 0


def test_a_damaged_page_is_made_again(store: ArtifactStore) -> None:
    made(store)
    page = store.folder(ALL, "report") / PAGE
    whole = page.read_bytes()
    flip(page, 1000)
    written = made(store)
    assert (written.made, written.taken_over) == (1, 4)
    assert page.read_bytes() == whole


def test_of_a_report_whose_list_is_damaged_nothing_is_taken_over(store: ArtifactStore) -> None:
    made(store)
    flip(store.folder(ALL, "report") / PAGES, 100)
    assert report_before(store.find(ALL, "report"), CODE) == Before()
    assert made(store).made == 5


def test_what_could_not_be_read_is_said_until_it_can_be(store: ArtifactStore) -> None:
    path = store.folder("bram_thistle", "benchmark") / "index.parquet"
    whole = path.read_bytes()
    flip(path, 100)
    assert made(store).made == 5
    assert made(store).made == 1
    folder = store.folder(ALL, "report")
    assert f"{path} is damaged" in (folder / PAGE).read_text(encoding="utf-8")
    assert f"bram_thistle: {path} is damaged" in (folder / "report.html").read_text(encoding="utf-8")
    path.write_bytes(whole)
    assert made(store).made == 1
    assert made(store).made == 0
    assert "is damaged" not in (folder / PAGE).read_text(encoding="utf-8")


def test_a_damaged_style_is_left_out_and_said(store: ArtifactStore) -> None:
    path = store.folder("_styles/chibi", "selected_style_lora") / "goal.parquet"
    flip(path, 100)
    made(store)
    folder = store.folder(ALL, "report")
    assert not (folder / "styles").exists()
    assert f"{path} is damaged" in (folder / "report.html").read_text(encoding="utf-8")


def test_one_character_is_in_memory_at_a_time(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[CharacterReport]] = []
    read = report_folder.character_report

    def counted(sources: object) -> CharacterReport:
        gc.collect()
        assert not [one for one in alive if one() is not None]
        report = read(sources)  # type: ignore[arg-type]
        alive.append(weakref.ref(report))
        return report

    monkeypatch.setattr(report_folder, "character_report", counted)
    made(store)
    assert len(alive) == 3


def content(store: ArtifactStore, checks: Sequence[Check] = (), style: str | None = None) -> object:
    return shown(sources_of(store, *demo_character("bram_thistle", style), checks))


@pytest.mark.parametrize("asset", LINE[: LINE.index("released_lora")])
def test_a_page_shows_something_else_when_an_artifact_is_another(asset: str, store: ArtifactStore) -> None:
    before = content(store)
    assert content(store) == before
    with store.writing("bram_thistle", asset) as staging:
        write_rows(pd.DataFrame({"a": [1]}), staging)
        store.publish(staging, "bram_thistle", asset, code_version="1", inputs={}, settings={})
    assert content(store) != before


def test_a_page_shows_something_else_when_what_is_no_artifact_is_another(store: ArtifactStore) -> None:
    check = Check("frames", "different_enough", True, "they are")
    found = [content(store), content(store, [check]), content(store, [replace(check, verdict=False)])]
    found += [content(store, style="chibi"), content(store, style="ink")]
    roll_back(releases_folder(store, "bram_thistle"), 1, "its eyes are too large.", START)
    found.append(content(store))
    assert all(found.count(one) == 1 for one in found)


@pytest.fixture(scope="module")
def line(example_characters: dict[str, CharacterReport]) -> CharacterLine:
    """The line of a character with every sign, and with the longest words that there are."""
    line = character_line(example_characters["bram_thistle"])
    assert set(line.marks) == {"base", "lora", "released", RIVAL, "reference"} and len(line.faces) == len(FACES)
    return replace(line, refused=True, failed=10, checks=20, problems=[])


def lines_of(line: CharacterLine, count: int) -> list[CharacterLine]:
    return [replace(line, name=f"a_character_{number:04}") for number in range(count)]


@pytest.mark.parametrize("count", [FINE, 1_000, MOST_FACES])
def test_an_index_is_below_two_megabytes(line: CharacterLine, count: int) -> None:
    page = index_page(lines_of(line, count))
    assert page.count("<img ") == count, "each has a face"
    assert len(page.encode()) < 2_000_000


def test_an_index_of_very_many_has_no_faces(line: CharacterLine) -> None:
    page = index_page(lines_of(line, MOST_FACES + 1))
    assert "<img " not in page


def test_faces_and_signs_are_finer_where_there_are_few(line: CharacterLine) -> None:
    few, many = (index_page(lines_of(line, count)) for count in (FINE, FINE + 1))
    assert few.count('class="interval"') == 5 * FINE and many.count('class="interval m-lora"') == FINE + 1
    assert few.count(line.faces[0]) == FINE and many.count(line.faces[1]) == FINE + 1


def test_many_problems_are_counted() -> None:
    problems = [f"{number}: character.yaml is missing" for number in range(MOST_PROBLEMS + 7)]
    found = [problem.text for problem in parsed(index_page([], problems=problems)).with_class("problem")]
    assert found[:-1] == [f"Left out: {problem}" for problem in problems[:MOST_PROBLEMS]]
    assert found[-1] == "Left out: 7 more, which sticker-pipeline doctor lists."
