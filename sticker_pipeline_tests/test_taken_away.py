"""Artifacts deleted, replaced or made read-only during a step: one sentence, nothing incomplete."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from sticker_pipeline.core.files.space import SpaceError
from sticker_pipeline.core.storage import ArtifactStore, StorageError
from sticker_pipeline_tests.some_table import write_rows

TABLE = pd.DataFrame({"value": [1, 2, 3]})


def made(store: ArtifactStore, meanwhile: Callable[[Path], object] = lambda staging: None) -> None:
    """A step that writes a table and, in a folder of its own, another file; `meanwhile` happens between the two."""
    with store.writing("luma", "frames") as staging:
        write_rows(TABLE, staging)
        meanwhile(staging)
        (staging / "later").mkdir(parents=True, exist_ok=True)
        (staging / "later" / "file").write_text("x")
        store.publish(staging, "luma", "frames", code_version="1", inputs={}, settings={})


def replaced(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("in its place")


TAKEN: dict[str, Callable[[Path], object]] = {
    "what is written": lambda staging: shutil.rmtree(staging),
    "all of the character": lambda staging: shutil.rmtree(staging.parent),
    "all artifacts": lambda staging: shutil.rmtree(staging.parent.parent),
    "a file in its place": replaced,
    "a file in the character's place": lambda staging: replaced(staging.parent),
    "a file in the place of all": lambda staging: replaced(staging.parent.parent),
}


@pytest.mark.parametrize("taken", TAKEN.values(), ids=TAKEN)
def test_what_is_taken_away_is_not_published_in_part(taken: Callable[[Path], object], tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "artifacts")
    with pytest.raises((StorageError, SpaceError)) as error:
        made(store, taken)
    sentence = str(error.value)
    assert str(store.root / "luma") in sentence and sentence.endswith("run this again.") and "\n" not in sentence
    for path in (store.root, store.root / "luma"):
        if path.is_file():
            path.unlink()
    assert store.find("luma", "frames") is None
    made(store)
    assert sorted(store.read("luma", "frames").files) == ["index.parquet", "later/file"]


def test_the_artifact_before_stays(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "artifacts")
    made(store)
    before = store.read("luma", "frames")
    with pytest.raises(StorageError, match="nothing was published"):
        made(store, shutil.rmtree)
    assert store.read("luma", "frames") == before and before.table().equals(TABLE)


def test_a_disk_that_becomes_read_only_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ArtifactStore(tmp_path / "artifacts")
    made(store)
    before = store.read("luma", "frames").data_version
    for name in ("write_text", "rename", "unlink"):
        with monkeypatch.context() as patched:

            def refused(self: Path, *_: object, **__: object) -> None:
                raise OSError(errno.EROFS, "Read-only file system", str(self))

            def becomes_read_only(staging: Path, patched: pytest.MonkeyPatch = patched, name: str = name) -> None:
                patched.setattr(Path, name, refused)

            with pytest.raises(SpaceError, match=r"/luma/.* cannot be written: its file system is read-only\. .*"):
                made(store, becomes_read_only)
        assert store.read("luma", "frames").data_version == before
    made(store)


def test_links_in_the_artifacts_lead_nowhere(tmp_path: Path) -> None:
    """Links with the names of killed runs' remains, or of replaced artifacts: they are removed, their targets stay."""
    mine = tmp_path / "mine"
    (mine / "folder").mkdir(parents=True)
    (mine / "folder" / "file").write_text("mine")
    store = ArtifactStore(tmp_path / "artifacts")
    (store.root / "luma").mkdir(parents=True)
    for name in (".frames.0123abcd", ".frames.old", "frames"):
        (store.root / "luma" / name).symlink_to(mine / "folder")
    store.remove_abandoned()
    made(store)
    made(store)
    assert (mine / "folder" / "file").read_text() == "mine"
    assert [path.name for path in (mine / "folder").iterdir()] == ["file"]
    assert (store.root / "luma" / "frames").is_dir() and not (store.root / "luma" / "frames").is_symlink()
    assert not (store.root / "luma" / ".frames.0123abcd").is_symlink()
