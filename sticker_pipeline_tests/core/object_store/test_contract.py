"""One contract for both stores: whole versions, one winner of a race, nothing lost to faults."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from sticker_pipeline.core.storage import BEGUN, Artifact, ArtifactStore, StorageError, Superseded
from sticker_pipeline.core.stores import open_store
from sticker_pipeline_tests.core.object_store.s3_server import S3Server

WRITERS = 16
Open = Callable[[str], ArtifactStore]  # a store as the machine of this name sees it


@pytest.fixture(params=["folder", "object store"])
def machines(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    if request.param == "folder":
        return lambda machine: open_store(str(tmp_path / "artifacts"), tmp_path / machine)
    server: S3Server = request.getfixturevalue("server")
    url = f"{server.make_bucket('tests')}/{tmp_path.name}"  # a bucket each would use up the server's volumes
    return lambda machine: open_store(url, tmp_path / machine)


def publish(store: ArtifactStore, text: str, source: str = "v1", scope: str = "luma") -> Artifact:
    with store.writing(scope, "frames") as staging:
        return publish_staged(store, staging, text, source, scope)


def publish_staged(store: ArtifactStore, staging: Path, text: str, source: str, scope: str = "luma") -> Artifact:
    (staging / "images").mkdir()
    (staging / "images" / "text").write_text(text)
    (staging / "same").write_text("the same in all versions")
    (staging / "log").write_text(text * 2)
    return store.publish(
        staging, scope, "frames", code_version="7", inputs={"raw_media": source}, settings={"sizes": (1, 2)},
        content=lambda name: name != "log",
    )  # fmt: skip


def text_of(artifact: Artifact) -> str:
    return (artifact.fetched() / "images" / "text").read_text()


def test_an_artifact_is_read_on_another_machine(machines: Open) -> None:
    here, there = machines("a"), machines("b")
    assert there.find("luma", "frames") is None
    assert there.stamp("luma", "frames") == ""
    made = publish(here, "one")
    found = there.read("luma", "frames")
    assert found == made or found.data_version == made.data_version
    assert (found.inputs, found.settings) == ({"raw_media": "v1"}, {"sizes": [1, 2]})
    assert found.content("images/text") == b"one"
    assert found.file("log").read_text() == "oneone"
    assert sorted(path.name for path in found.fetched(["same"]).iterdir() if path.name == "same") == ["same"]
    assert there.characters_with("frames") == ["luma"]
    assert there.stamp("luma", "frames") == here.stamp("luma", "frames") != ""


def test_a_new_version_replaces_the_old_one_everywhere(machines: Open) -> None:
    here, there = machines("a"), machines("b")
    publish(here, "one")
    stamp = there.stamp("luma", "frames")
    assert text_of(there.read("luma", "frames")) == "one"
    publish(here, "two", "v2")
    assert there.stamp("luma", "frames") != stamp
    assert text_of(there.read("luma", "frames")) == "two"


def test_equal_content_has_an_equal_version_in_both(machines: Open, tmp_path: Path) -> None:
    plain = publish(ArtifactStore(tmp_path / "plain"), "one")
    assert publish(machines("a"), "one").data_version == plain.data_version


def test_of_writers_at_once_one_wins_whole(machines: Open) -> None:
    """Each has its own machine: no lock of a file keeps them apart."""
    barrier = threading.Barrier(WRITERS)

    def write(number: int) -> Artifact | None:
        store = machines(f"machine-{number}")
        staging = store.work("luma", f"staging-{number}")  # without the claim of `writing`
        (staging / BEGUN).write_text("")
        barrier.wait()
        try:
            return publish_staged(store, staging, f"text {number}", f"v{number}")
        except Superseded as error:
            assert "'frames' of 'luma'" in str(error)
            return None

    with ThreadPoolExecutor(WRITERS) as pool:
        made = [artifact for artifact in pool.map(write, range(WRITERS)) if artifact]
    assert len(made) == 1
    found = machines("reader").read("luma", "frames")
    assert found.data_version == made[0].data_version
    assert found.inputs["raw_media"] == text_of(found).replace("text ", "v")


def test_writers_of_the_same_get_what_is_there(machines: Open) -> None:
    first, second = machines("a"), machines("b")
    late = second.work("luma", "late")
    (late / BEGUN).write_text("")  # it began before the first
    made = publish(first, "first", "v1")
    got = publish_staged(second, late, "second: another rounding", "v1")
    assert got.data_version == made.data_version
    assert text_of(machines("c").read("luma", "frames")) == "first"


def test_a_writer_that_was_overtaken_replaces_nothing(machines: Open) -> None:
    first, second = machines("a"), machines("b")
    publish(first, "zero", "v0")
    with second.writing("luma", "frames") as old:
        beginning = (old / BEGUN).read_text()
        stays = old.rename(old.with_name("kept"))
    publish(first, "one", "v1")
    assert beginning
    with pytest.raises(Superseded, match="Nothing was replaced"):
        publish_staged(second, stays, "two", "v2")
    assert text_of(second.read("luma", "frames")) == "one"


def test_a_failed_step_leaves_the_version_before(machines: Open) -> None:
    store = machines("a")
    publish(store, "one")
    with pytest.raises(RuntimeError), store.writing("luma", "frames") as staging:
        (staging / "half").write_text("h")
        raise RuntimeError
    assert text_of(store.read("luma", "frames")) == "one"
    assert store.damaged() == []


def test_a_reader_sees_whole_versions_while_they_change(machines: Open) -> None:
    writer, reader, done = machines("a"), machines("b"), threading.Event()
    publish(writer, "0", "v0")
    seen: set[str] = set()

    def read() -> None:
        while not done.is_set():
            found = reader.read("luma", "frames")
            data = found.own_content("images/text")
            assert data is None or found.inputs["raw_media"] == f"v{data.decode()}"
            seen.add(found.inputs["raw_media"])

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        for number in range(1, 12):
            publish(writer, str(number), f"v{number}")
        done.set()
        for one in readers:
            one.result()
    assert reader.read("luma", "frames").inputs["raw_media"] == "v11"
    assert len(seen) > 1


def test_a_tree_changed_by_two_machines_has_both_changes(machines: Open) -> None:
    def add(name: str, folder: Path) -> str:
        count = len(list(folder.glob("*.txt"))) if folder.is_dir() else 0
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.txt").write_text(name)
        return f"{name} after {count}"

    assert not machines("a").tree("luma", "releases").is_dir()
    assert machines("a").change("luma", "releases", partial(add, "first")) == "first after 0"
    assert machines("b").change("luma", "releases", partial(add, "second")) == "second after 1"
    folder = machines("c").tree("luma", "releases")
    assert {path.name: path.read_text() for path in folder.glob("*.txt")} == {
        "first.txt": "first",
        "second.txt": "second",
    }
    assert machines("c").characters_with_tree("releases") == ["luma"]


def test_a_big_file_of_a_tree_comes_when_asked_for(machines: Open) -> None:
    def add(folder: Path) -> None:
        (folder / "0001").mkdir(parents=True)
        (folder / "0001" / "lora.safetensors").write_bytes(b"x" * (2**20 + 1))
        (folder / "current.json").write_text("{}")

    machines("a").change("luma", "releases", add)
    there = machines("b")
    folder = there.tree("luma", "releases")
    assert (folder / "current.json").read_text() == "{}"
    assert there.bring(folder / "0001" / "lora.safetensors").stat().st_size == 2**20 + 1


def test_a_snapshot_reads_each_artifact_once(machines: Open) -> None:
    store = machines("a")
    publish(store, "one")
    snapshot = store.snapshot()
    stamp = snapshot.stamp("luma", "frames")
    assert text_of(snapshot.read("luma", "frames")) == "one"
    publish(machines("b"), "two", "v2")
    assert snapshot.read("luma", "frames").inputs == {"raw_media": "v1"}
    assert snapshot.afresh().stamp("luma", "frames") != stamp
    assert snapshot.afresh().read("luma", "frames").inputs == {"raw_media": "v2"}


def test_a_scope_of_a_style_is_no_character(machines: Open) -> None:
    store = machines("a")
    publish(store, "one", scope="_styles/ink")
    assert store.characters_with("frames") == []
    assert text_of(machines("b").read("_styles/ink", "frames")) == "one"


def test_a_missing_artifact_is_named_with_the_remedy(machines: Open) -> None:
    with pytest.raises(StorageError, match="does not exist: materialize 'frames' of 'luma' first"):
        machines("a").read("luma", "frames")


def test_a_damaged_manifest_is_named_and_harms_no_other(machines: Open, request: pytest.FixtureRequest) -> None:
    from sticker_pipeline.core.object_store.store import ObjectStore

    store = machines("a")
    publish(store, "one", scope="pip")
    publish(store, "one")
    if isinstance(store, ObjectStore):
        store.bucket.put("luma/frames/artifact.json", b"{}")
    else:
        (store.folder("luma", "frames") / "artifact.json").write_text("{}")
    with pytest.raises(StorageError, match="'frames' of 'luma'"):
        machines("b").read("luma", "frames")
    assert [sentence for sentence in machines("b").damaged() if "luma" in sentence]
    assert text_of(machines("b").read("pip", "frames")) == "one"
    publish(store, "again")
    assert text_of(machines("b").read("luma", "frames")) == "again"


def test_unfinished_work_survives_on_the_machine(machines: Open) -> None:
    store = machines("a")
    with pytest.raises(KeyboardInterrupt), store.working("luma", "lora"):
        (store.work("luma", "lora") / "state").write_text("step 7")
        raise KeyboardInterrupt
    with store.working("luma", "lora"):
        assert (store.work("luma", "lora") / "state").read_text() == "step 7"
    store.finish_work("luma", "lora")
    assert list(store.work("luma", "lora").iterdir()) == []


def test_manifests_are_the_same_text_in_both(machines: Open, tmp_path: Path) -> None:
    plain, other = ArtifactStore(tmp_path / "plain"), machines("a")
    texts = [json.loads((publish(store, "one").fetched() / "artifact.json").read_text()) for store in (plain, other)]
    assert texts[0] == texts[1]
