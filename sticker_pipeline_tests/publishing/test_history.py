"""Release history on the page: from the releases' log; damage is a sentence, never an error."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sticker_pipeline.benchmark.releases import POINTER, RECORD, publish, roll_back
from sticker_pipeline.core.storage import file_sha256
from sticker_pipeline.publishing.history import refused_candidate, release_history
from sticker_pipeline.publishing.report import Check, Release
from sticker_pipeline_tests.publishing.candidates import candidate

DAY = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Releases 1, 2 and 3, a day apart; then back from 3 to 1, and from there to 2."""
    folder = tmp_path / "releases"
    for number in (1, 2, 3):
        made = candidate(tmp_path / "files", f"{number}".encode(), epoch=number)
        publish(folder, made, DAY + timedelta(days=number - 1))
    roll_back(folder, 1, "its eyes are too large.", DAY + timedelta(days=3))
    roll_back(folder, 2, "but the second was good.", DAY + timedelta(days=4))
    return folder


def test_the_log_is_told_the_latest_first(folder: Path) -> None:
    rows, problems = release_history(folder)
    assert problems == []
    figures = "Its similarity was 0.876, the base model's 0.084."
    assert [(row.name, row.accepted, row.current, row.epoch, row.reason) for row in rows] == [
        ("release 3", True, False, 3, "Released on 2026-03-03 in place of release 2. "
         f"Withdrawn on 2026-03-04: its eyes are too large. {figures}"),
        ("release 2", True, True, 2, "Released on 2026-03-02 in place of release 1. "
         f"Rolled back to on 2026-03-05 in place of release 1: but the second was good. {figures}"),
        ("release 1", True, False, 1, "Released on 2026-03-01, the first. "
         "Rolled back to on 2026-03-04 in place of release 3: its eyes are too large. "
         f"Withdrawn on 2026-03-05: but the second was good. {figures}"),
    ]  # fmt: skip
    assert [row.version for row in rows] == [
        file_sha256(folder / f"{number:04d}" / "luma.safetensors") for number in (3, 2, 1)
    ]


def test_nothing_released_is_no_problem(tmp_path: Path) -> None:
    assert release_history(tmp_path / "releases") == ((), [])


@pytest.mark.parametrize("content", [b"{", b"{}", b"\xff\xfe"])
def test_a_damaged_release_is_said_and_the_others_are_shown(folder: Path, content: bytes) -> None:
    (folder / "0003" / RECORD).write_bytes(content)
    rows, (problem,) = release_history(folder)
    assert [row.name for row in rows] == ["release 2", "release 1"]
    assert problem.startswith("release 3: ") and "Bring it back" in problem


def test_a_damaged_log_is_said(folder: Path) -> None:
    (folder / POINTER).write_text("[]")
    rows, (problem,) = release_history(folder)
    assert rows == ()
    assert f"{folder / POINTER} is damaged" in problem
    assert "\n" not in problem


def test_who_removes_an_old_release_is_not_told_so_but_the_current_one_is_missed(folder: Path) -> None:
    shutil.rmtree(folder / "0001")
    rows, problems = release_history(folder)
    assert ([row.name for row in rows], problems) == (["release 3", "release 2"], [])
    shutil.rmtree(folder / "0002")
    rows, (problem,) = release_history(folder)
    assert [row.name for row in rows] == ["release 3"]
    assert "no release 2" in problem


FAILED = Check("benchmark", "no_copies", False, "copies 0.5, must be ≤ 0.2.", blocking=True)


def test_the_gate_refuses_by_its_blocking_checks_alone() -> None:
    checks = [
        FAILED,
        Check("benchmark", "better_than_base", True, "it is.", blocking=True),
        Check("benchmark", "pretty", False, "it is not.", blocking=False),
        Check("training_set", "enough_images", False, "two.", blocking=True),
    ]
    found = refused_candidate(6, "ab", checks, [])
    assert found == Release("candidate", False, False, "no copies: copies 0.5, must be ≤ 0.2.", 6, "ab")
    assert refused_candidate(6, "ab", checks[1:], []) is None


def test_what_was_released_is_no_candidate() -> None:
    assert refused_candidate(6, "ab", [FAILED], [Release("release 1", True, False, "", 6, "ab")]) is None
