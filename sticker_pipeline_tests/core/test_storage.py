"""Artifacts appear whole or not at all; versions follow content; hashes are remembered only while valid."""

import csv
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from sticker_pipeline.core import earlier_names, storage
from sticker_pipeline.core.files.space import SpaceError
from sticker_pipeline.core.storage import (
    Artifact,
    ArtifactStore,
    StorageError,
    artifact_of,
    asset_of,
    file_sha256,
    write_csv,
)
from sticker_pipeline_tests.some_table import write_rows


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def publish(store: ArtifactStore, text: str, log: str = "") -> Artifact:
    with store.writing("luma", "frames") as staging:
        write_rows(pd.DataFrame({"x": [1, 2]}), staging)
        (staging / "text").write_text(text)
        (staging / "log").write_text(log)
        return store.publish(
            staging, "luma", "frames", code_version="7", inputs={"raw_media": "v"}, settings={"a": 1},
            content=lambda name: name != "log",
        )  # fmt: skip


def test_an_artifact_says_what_it_is_made_of(store: ArtifactStore) -> None:
    artifact = publish(store, "one")
    assert artifact == store.read("luma", "frames")
    assert artifact.table()["x"].tolist() == [1, 2]
    assert artifact.inputs == {"raw_media": "v"}
    assert artifact.files["text"]["sha256"] == file_sha256(artifact.folder / "text")
    manifest = json.loads((artifact.folder / storage.MANIFEST).read_text())
    assert manifest["software"]["torch"]


def test_own_content_is_that_of_the_manifest(store: ArtifactStore) -> None:
    artifact = publish(store, "one")
    assert artifact.own_content("text") == b"one"
    publish(store, "two")
    assert (artifact.content("text"), artifact.own_content("text")) == (b"two", None)


def test_the_data_version_follows_the_content_and_nothing_else(store: ArtifactStore) -> None:
    one, again, other = publish(store, "one", "slow"), publish(store, "one", "fast"), publish(store, "two", "fast")
    assert one.data_version == again.data_version != other.data_version


def test_a_failed_step_leaves_the_earlier_artifact(store: ArtifactStore) -> None:
    before = publish(store, "one")
    with pytest.raises(RuntimeError), store.writing("luma", "frames") as staging:
        (staging / "text").write_text("half")
        raise RuntimeError
    assert store.read("luma", "frames") == before
    assert sorted(path.name for path in (store.root / "luma").iterdir()) == [".claims", ".frames.lock", "frames"]


def test_what_a_killed_run_left_goes_with_the_next_one(store: ArtifactStore) -> None:
    artifact = publish(store, "one")
    left, others, not_ours = (
        artifact.folder.parent / name for name in (".frames.11111111", ".lora.33333333", ".frames.my_notes")
    )
    for folder in (left, others, not_ours):
        folder.mkdir()
    publish(store, "two")
    assert others.exists() and not_ours.exists() and not left.exists()
    style = store.root / "_styles" / "chibi" / ".style_lora.0123abcd"
    style.mkdir(parents=True)
    with store.writing("luma", "frames") as at_work:
        assert store.abandoned() == [style, others] and at_work.exists()
        assert store.remove_abandoned() == [style, others] and at_work.exists()
    assert store.abandoned() == [] and not others.exists()


@pytest.mark.parametrize("scope", ["../x", "a/../../x", "/x", "", ".", "..", "_styles/../x", "_cache/", "a\nb"])
def test_no_scope_leads_out_of_the_folder(store: ArtifactStore, scope: str) -> None:
    """A partition's key is what anybody who may launch a run says."""
    for act in (store.find, store.folder, store.claim, store.work):
        with pytest.raises(StorageError, match="is the name of no character"):
            act(scope, "frames")
    with pytest.raises(StorageError, match="is the name of no character"), store.writing(scope, "frames"):
        pass


def test_messages_name_the_asset_as_the_ui_does(store: ArtifactStore) -> None:
    with pytest.raises(StorageError, match="materialize 'style/selected_lora' of '_styles/chibi' first"):
        store.read("_styles/chibi", "selected_style_lora")
    with store.writing("_styles/chibi", "selected_style_lora") as folder:
        (folder / "a.txt").write_text("a", encoding="utf-8")
        of = {"scope": "_styles/chibi", "asset": "selected_style_lora"}
        artifact = store.publish(folder, **of, code_version="1", inputs={}, settings={})
    (artifact.folder / "a.txt").write_text("b", encoding="utf-8")
    with pytest.raises(StorageError, match="belongs to 'style/selected_lora' of 'chibi'"):
        artifact.file("a.txt")


@pytest.mark.parametrize("key", ["frames", "style/lora", "profile/lcm_lora"])
def test_an_artifact_is_of_one_asset(key: str) -> None:
    assert asset_of(artifact_of(key)) == key


def test_a_file_in_the_place_of_the_caches_is_one_sentence(store: ArtifactStore) -> None:
    (store.root / "_cache").mkdir(parents=True)
    (store.root / "_cache" / "hashes").write_bytes(b"")
    with pytest.raises(SpaceError, match="hashes cannot be written: there is a file where a folder has to be"):
        store.cache("hashes")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes")
def test_a_pipe_in_the_place_of_a_manifest_is_never_waited_for(store: ArtifactStore) -> None:
    store.folder("luma", "frames").mkdir(parents=True)
    os.mkfifo(store.folder("luma", "frames") / "artifact.json")
    with pytest.raises(StorageError, match=r"artifact\.json is damaged: a named pipe"):
        store.find("luma", "frames")
    assert len(store.damaged()) == 1


def test_one_at_a_time_writes_an_artifact(store: ArtifactStore) -> None:
    """The second one waits, says for whom, and sees what the first one has published."""
    said: list[str] = []
    seen: list[str] = []

    def second() -> None:
        with store.writing("luma", "frames", said.append):
            seen.append(store.read("luma", "frames").data_version)

    with store.writing("luma", "frames", run="cea1f37c-1234") as staging:
        waiting = threading.Thread(target=second)
        waiting.start()
        while not said:
            time.sleep(0.01)
        (staging / "text").write_text("first")
        first = store.publish(staging, "luma", "frames", code_version="1", inputs={}, settings={})
        assert not seen
    waiting.join()
    assert seen == [first.data_version]
    (sentence,) = said
    assert sentence.startswith(f"waiting for frames of luma: run cea1f37c, process {os.getpid()}, since ")


@pytest.mark.parametrize("died_after", ["first rename", "second rename"])
def test_a_crash_between_the_renames_loses_nothing(store: ArtifactStore, died_after: str) -> None:
    artifact = publish(store, "one")
    previous = storage._previous(artifact.folder)
    artifact.folder.rename(previous)
    if died_after == "second rename":
        publish(ArtifactStore(store.root / "elsewhere"), "two").folder.rename(artifact.folder)
    expected = "two" if died_after == "second rename" else "one"
    assert (store.read("luma", "frames").folder / "text").read_text() == expected
    assert not previous.exists()


def test_an_artifact_left_between_two_renames_is_replaced(store: ArtifactStore) -> None:
    folder = publish(store, "one").folder
    folder.rename(folder.with_name(".frames.old"))
    assert publish(store, "two").content("text") == b"two"
    assert store.read("luma", "frames").content("text") == b"two"


def test_readers_and_writers_of_one_artifact_never_meet_a_gap(store: ArtifactStore) -> None:
    """As when the automation and a person make the same asset, while the sensor looks at it."""
    publish(store, "0")

    def write(number: int) -> None:
        for turn in range(20):
            assert publish(store, f"{number} {turn}").data_version

    def read(number: int) -> int:
        texts = [(store.read("luma", "frames").folder / "artifact.json").is_file() for _ in range(300)]
        return len(texts)

    with ThreadPoolExecutor(6) as pool:
        writers, readers = [pool.submit(write, number) for number in range(3)], [pool.submit(read, n) for n in range(3)]
        for future in [*writers, *readers]:
            future.result()
    left = {path.name for path in store.folder("luma", "frames").parent.iterdir() if path.is_dir()}
    assert left == {"frames", ".claims"}


def test_what_is_missing_is_said_with_what_to_do(store: ArtifactStore) -> None:
    assert store.find("luma", "frames") is None
    with pytest.raises(StorageError, match="materialize 'frames' of 'luma' first"):
        store.read("luma", "frames")


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", '=HYPERLINK("http://a","b")', "＝1", "=_="]


def test_no_text_in_a_csv_is_a_formula(tmp_path: Path) -> None:
    """Texts that a spreadsheet would compute begin with an apostrophe; numbers and other texts stay."""
    others = ["smile", "", "'", "1=1", " =1", "a,b", '"', "x\n=1"]
    table = pd.DataFrame({"tag": [*FORMULAS, *others], "frames": -1, "share": -0.5})
    write_csv(table, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header == ["tag", "frames", "share"]
    assert [row[0] for row in rows] == [*(f"'{text}" for text in FORMULAS), *others]
    assert {tuple(row[1:]) for row in rows} == {("-1", "-0.5")}


def test_a_folder_a_file_and_a_link_are_discarded_and_nothing_behind_it(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    (tmp_path / "folder" / "in").mkdir(parents=True)
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    for name in ("folder", "link", "dangling", "file", "nowhere"):
        storage.discard(tmp_path / name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "mine"]


def test_a_table_of_an_earlier_version_has_the_names_of_today(store: ArtifactStore) -> None:
    with store.writing("luma", "frames") as staging:
        pd.DataFrame({"clip_id": ["a.gif"], "metric": ["one_clip_share"], "x": [1]}).to_parquet(
            staging / "index.parquet"
        )
        artifact = store.publish(staging, "luma", "frames", code_version="1", inputs={}, settings={})
    assert artifact.table().to_dict("list") == {"source_id": ["a.gif"], "metric": ["one_source_share"], "x": [1]}


@pytest.mark.parametrize(("earlier", "name"), earlier_names.ARTIFACTS.items())
def test_an_artifact_of_an_earlier_name_is_renamed(store: ArtifactStore, earlier: str, name: str) -> None:
    with store.writing("luma", earlier) as staging:
        (staging / "a.json").write_text("{}")
        before = store.publish(staging, "luma", earlier, code_version="1", inputs={}, settings={})
    assert store.find("bo", name) is None
    assert store.read("luma", name).data_version == before.data_version
    assert not before.folder.exists() and store.find("luma", earlier) is None


def test_an_artifact_of_an_earlier_name_that_cannot_be_renamed_is_named(store: ArtifactStore) -> None:
    ((earlier, name), *_) = earlier_names.ARTIFACTS.items()
    for folder in (store.folder("luma", earlier), store.folder("luma", name)):
        folder.mkdir(parents=True)
        (folder / "mine.txt").write_text("x")
    with pytest.raises(StorageError, match=rf"{earlier} is called {name} now, and cannot be renamed: .*\. Rename it\."):
        store.find("luma", name)
