"""Edits of files: nothing of a person is lost or written elsewhere."""

import os
from pathlib import Path

import pytest

from sticker_pipeline.desk.edits import Conflict, Edit, EditError, apply, apply_one, content


def test_an_edit_and_its_undoing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one")
    (tmp_path / "a.txt").chmod(0o640)
    edits = [Edit(tmp_path, "a.txt", b"one", b"two"), Edit(tmp_path, "b.txt", None, b"new")]
    assert apply(edits) == (edits, [])
    assert (tmp_path / "a.txt").read_bytes() == b"two"
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640
    made, problems = apply([edit.undone() for edit in edits])
    assert (len(made), problems) == (2, [])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.txt": b"one"}


def test_a_file_that_changed_meanwhile_is_left_and_others_are_written(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"of an editor")
    good = Edit(tmp_path, "b.txt", None, b"new")
    made, problems = apply([Edit(tmp_path, "a.txt", b"one", b"two"), good])
    assert made == [good]
    assert problems == ["a.txt was changed meanwhile, and is left as it is: look at it again."]
    assert (tmp_path / "a.txt").read_bytes() == b"of an editor"
    with pytest.raises(Conflict):
        apply_one(Edit(tmp_path, "b.txt", None, b"newer"))


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    root, outside = tmp_path / "fox", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "a.txt").write_bytes(b"one")
    (root / "folder").symlink_to(outside)
    (root / "a.txt").symlink_to(outside / "a.txt")
    for file in ("folder/a.txt", "a.txt", "folder/new.txt"):
        with pytest.raises(EditError, match="link"):
            apply_one(Edit(root, file, b"one", b"two"))
    with pytest.raises(EditError, match="link"):
        content(root, "a.txt")
    assert (outside / "a.txt").read_bytes() == b"one"


@pytest.mark.parametrize("file", ["../a.txt", "/a.txt", "x/../../a.txt"])
def test_nothing_is_written_outside(tmp_path: Path, file: str) -> None:
    with pytest.raises(EditError):
        apply_one(Edit(tmp_path / "fox", file, None, b"two"))
    assert not list(tmp_path.iterdir())


def test_what_an_editor_saves_during_the_write_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sticker_pipeline.desk import edits as module

    (tmp_path / "a.txt").write_bytes(b"one")
    monkeypatch.setattr(module, "sync_file", lambda path: (tmp_path / "a.txt").write_bytes(b"of an editor"))
    with pytest.raises(Conflict):
        apply_one(Edit(tmp_path, "a.txt", b"one", b"two"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.txt": b"of an editor"}


def test_a_write_protected_file_is_left(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one")
    (tmp_path / "a.txt").chmod(0o444)
    with pytest.raises(EditError, match="write-protected"):
        apply_one(Edit(tmp_path, "a.txt", b"one", b"two"))
