"""Unusable folders: one sentence before any work, and nothing written."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner

from sticker_pipeline.cli import work
from sticker_pipeline.cli.commands import main
from sticker_pipeline.core.files import places as module
from sticker_pipeline.core.files.places import LEAST, Places, check_places, unwritable
from sticker_pipeline.core.files.space import SpaceError
from sticker_pipeline.defs.benchmark.leaderboard import leaderboard
from sticker_pipeline.defs.resources import Workspace
from sticker_pipeline_tests.full_disk import small_disk, with_free


@pytest.fixture
def good(tmp_path: Path) -> Places:
    (tmp_path / "characters").mkdir()
    return Places(tmp_path / "characters", tmp_path / "artifacts", tmp_path / "models", tmp_path / "home")


def said(places: Places) -> str:
    with pytest.raises(SpaceError) as failure:
        check_places(places)
    assert "\n" not in str(failure.value)
    return str(failure.value)


def test_folders_beside_one_another_are_right(good: Places) -> None:
    check_places(good)
    for folder in (good.artifacts, good.models, good.home):
        folder.mkdir()
    check_places(good)
    check_places(replace(good, home=good.artifacts / ".dagster"))
    check_places(replace(good, artifacts=Path("/dev/shm/artifacts")))


OVERLAPS: dict[str, tuple[Callable[[Places], Places], str]] = {
    "equal": (lambda p: replace(p, artifacts=p.characters), "it is STICKER_CHARACTERS, too"),
    "inside": (lambda p: replace(p, artifacts=p.characters / "luma" / "out"), "it is inside STICKER_CHARACTERS="),
    "around": (lambda p: replace(p, artifacts=p.characters.parent), " is inside it"),
    "models": (lambda p: replace(p, artifacts=p.models / "made"), "it is inside STICKER_MODELS="),
    "dots": (lambda p: replace(p, artifacts=p.models / ".." / "characters"), "it is STICKER_CHARACTERS, too"),
    "models in artifacts": (lambda p: replace(p, models=p.artifacts / "models"), "STICKER_MODELS="),
}


@pytest.mark.parametrize("case", OVERLAPS)
def test_artifacts_among_what_a_person_gives(good: Places, case: str) -> None:
    change, expected = OVERLAPS[case]
    places = change(good)
    sentence = said(places)
    assert sentence.startswith(f"STICKER_ARTIFACTS={places.artifacts}: ") and expected in sentence
    assert sentence.endswith("Choose two folders, neither inside the other.")


def test_a_link_hides_nothing(good: Places) -> None:
    good.artifacts.symlink_to(good.characters)
    assert said(good) == (
        f"STICKER_ARTIFACTS={good.artifacts}: it is STICKER_CHARACTERS, too. Choose two folders, neither inside the "
        "other."
    )
    good.artifacts.unlink()
    good.artifacts.symlink_to(good.artifacts.parent / "unmounted")
    assert "it is a link to" in said(good) and "which is not there" in said(good)


def test_history_among_characters(good: Places) -> None:
    assert said(replace(good, home=good.characters / ".dagster")).startswith("DAGSTER_HOME=")


@pytest.mark.parametrize("folder", ["/proc/self/cwd/x", "/proc", "/sys/kernel/x", "/dev/null", "/dev/x"])
@pytest.mark.parametrize("variable", ["artifacts", "characters", "models", "home"])
def test_what_the_system_makes_up(good: Places, folder: str, variable: str) -> None:
    sentence = said(replace(good, **{variable: Path(folder)}))
    assert f"={folder}: it is in /{folder.split('/')[1]}, which holds no real files. Choose another folder." in sentence


def test_a_file_where_a_folder_has_to_be(good: Places) -> None:
    good.artifacts.write_text("a file")
    for folder in (good.artifacts, good.artifacts / "deeper" / "still"):
        assert said(replace(good, artifacts=folder)) == (
            f"STICKER_ARTIFACTS={folder}: {good.artifacts} is a file, and no folder. Move it away, or choose another "
            "folder."
        )
    assert "is a file, and no folder" in said(replace(good, characters=good.artifacts, artifacts=good.home / "x"))


def test_names_that_are_none(good: Places) -> None:
    latin = Path(os.fsdecode(os.fsencode(good.artifacts) + b"\xe9"))
    assert said(replace(good, artifacts=latin)) == (
        f"STICKER_ARTIFACTS={good.artifacts}\\xe9: its name is not UTF-8. Choose another folder."
    )
    good.artifacts.mkdir()
    assert "File name too long" in said(replace(good, artifacts=good.artifacts / ("x" * 300)))


def test_a_full_disk_and_a_read_only_one(good: Places, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 4 * 2**20) as disk:
        places = replace(good, artifacts=disk / "artifacts")
        check_places(places)
        with with_free(disk, LEAST // 2):
            assert said(places) == (
                f"STICKER_ARTIFACTS={disk}/artifacts: its disk is full, 524.3 kB are free. Make room there, or choose "
                "another folder."
            )
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert said(places) == (
            f"STICKER_ARTIFACTS={disk}/artifacts: its file system is read-only. Mount it for writing, or choose "
            "another folder."
        )


def test_a_disk_without_room_for_names(good: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_has_names", lambda folder: False)
    assert "can hold no more files (inodes)" in said(good)


def test_a_folder_that_may_not_be_written(good: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != good.artifacts.parent)
    assert unwritable("STICKER_ARTIFACTS", good.artifacts) == (
        f"STICKER_ARTIFACTS={good.artifacts}: writing to {good.artifacts.parent} is not allowed. Allow it, or choose "
        "another folder."
    )


# --- who says it


@pytest.fixture
def environment(good: Places, monkeypatch: pytest.MonkeyPatch) -> Places:
    (good.characters / "luma" / "stickers").mkdir(parents=True)
    (good.characters / "luma" / "character.yaml").write_text("trigger: skv_luma\n")
    for variable, folder in {
        "DAGSTER_HOME": good.home,
        "STICKER_CHARACTERS": good.characters,
        "STICKER_ARTIFACTS": good.characters / "luma" / "out",
        "STICKER_MODELS": good.models,
    }.items():
        monkeypatch.setenv(variable, str(folder))
    monkeypatch.delenv("STICKER_PROFILE", raising=False)
    return good


@pytest.mark.parametrize(
    "command",
    [
        ["update"],
        ["update", "luma"],
        ["doctor"],
        ["doctor", "--mend"],
        ["fetch-models", "wd14/wd-vit-tagger-v3"],
        ["new-character", "comet", "."],
        ["import-kohya", "comet", "."],
    ],
    ids=" ".join,
)
def test_each_command_says_it_before_any_work(environment: Places, command: list[str]) -> None:
    before = sorted(path for path in environment.characters.parent.rglob("*"))
    result = CliRunner().invoke(work.main if command[0] == "update" else main, command)
    assert result.exit_code == 1
    assert result.output == (
        f"Error: STICKER_ARTIFACTS={environment.characters}/luma/out: it is inside STICKER_CHARACTERS="
        f"{environment.characters}. Choose two folders, neither inside the other.\n"
    )
    assert sorted(path for path in environment.characters.parent.rglob("*")) == before


def test_a_step_says_it_too(environment: Places) -> None:
    workspace = Workspace(
        characters=str(environment.characters),
        artifacts=str(environment.characters / "luma" / "out"),
        models=str(environment.models),
    )
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(SpaceError, match="it is inside STICKER_CHARACTERS"):
        dg.materialize([leaderboard], instance=instance, resources={"workspace": workspace})
    assert not (environment.characters / "luma" / "out").exists()
