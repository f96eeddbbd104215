"""Who asks for a pack, by character.yaml, and that nobody else gets one."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from sticker_pipeline.core import character as module
from sticker_pipeline.defs.pack import asked
from sticker_pipeline.defs.pack.asked import WHEN_ASKED_FOR, asks
from sticker_pipeline.defs.partitions import CHARACTERS

NOW = datetime(2031, 3, 1, 12, tzinfo=UTC)
SECOND = 1_900_000_000 * 10**9  # a time in nanoseconds


def write(folder: Path, text: str, time_ns: int = SECOND) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "character.yaml"
    path.write_text(text, encoding="utf-8")
    os.utime(path, ns=(time_ns, time_ns))
    return path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read meanwhile."""
    found: list[Path] = []

    def noted(path: Path, roots: object) -> module.Settings:
        found.append(path)
        return module.read_settings(path, roots)  # type: ignore[arg-type]

    monkeypatch.setattr(asked, "read_settings", noted)
    return found


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("trigger: a\n", False),
        ("trigger: a\npack: {}\n", True),
        ("trigger: a\npack: {seeds: 2}\n", True),
        ("trigger: a\npack: {sedes: 2}\n", False),
        ("trigger: a\npack: [\n", False),
        ("pack: {}\n", False),
        ("- a list\n", False),
        ("", False),
    ],
)
def test_a_valid_file_with_pack_asks(tmp_path: Path, text: str, wanted: bool) -> None:
    write(tmp_path / "ada", text)
    assert asks(tmp_path / "ada") == wanted


def test_a_missing_folder_or_file_does_not_ask(tmp_path: Path) -> None:
    assert not asks(tmp_path / "nobody")
    (tmp_path / "empty").mkdir()
    assert not asks(tmp_path / "empty")
    (tmp_path / "file").write_text("")
    assert not asks(tmp_path / "file")


def test_an_edit_within_the_same_second_is_seen_by_its_size(tmp_path: Path) -> None:
    write(tmp_path / "ada", "trigger: a\n")
    assert not asks(tmp_path / "ada")
    write(tmp_path / "ada", "trigger: a\npack: {}\n")
    assert asks(tmp_path / "ada")
    write(tmp_path / "ada", "trigger: a\n")
    assert not asks(tmp_path / "ada")


def test_an_edit_of_the_same_size_is_seen_by_its_time(tmp_path: Path) -> None:
    write(tmp_path / "ada", "trigger: a\npack: {}\n")
    assert asks(tmp_path / "ada")
    write(tmp_path / "ada", "trigger: a\n#ack: {}\n", SECOND + 1)
    assert not asks(tmp_path / "ada")


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, read: list[Path]) -> None:
    path = write(tmp_path / "ada", "trigger: a\npack: {}\n")
    assert [asks(tmp_path / "ada") for _ in range(3)] == [True] * 3
    assert read == [path]
    path.unlink()
    assert not asks(tmp_path / "ada")


def test_a_file_that_was_invalid_is_read_again(tmp_path: Path, read: list[Path]) -> None:
    """It may be a link whose target links.txt allows later."""
    write(tmp_path / "elsewhere", "trigger: a\npack: {}\n")
    (tmp_path / "ada").mkdir()
    link = tmp_path / "ada" / "character.yaml"
    link.symlink_to(tmp_path / "elsewhere" / "character.yaml")
    assert not asks(tmp_path / "ada") and not asks(tmp_path / "ada")
    assert len(read) == 2


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def test_a_thousand_characters_without_pack_get_no_run(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One asset that nothing but the wish holds back."""
    monkeypatch.setenv("STICKER_CHARACTERS", str(tmp_path))
    names = [f"character_{number}" for number in range(1000)]
    for name in names:
        write(tmp_path / name, "trigger: a\n")

    @dg.asset(partitions_def=CHARACTERS, automation_condition=WHEN_ASKED_FOR)
    def made() -> None: ...

    instance.add_dynamic_partitions(str(CHARACTERS.name), names)
    first = dg.evaluate_automation_conditions([made], instance, evaluation_time=NOW)
    assert first.total_requested == 0
    write(tmp_path / names[700], "trigger: a\npack: {}\n")
    second = dg.evaluate_automation_conditions([made], instance, evaluation_time=NOW, cursor=first.cursor)
    assert second.get_requested_partitions(dg.AssetKey("made")) == {names[700]}
