"""Faults of an object store: lost answers, missing buckets, wiped copies, two machines at one training."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import pytest

from sticker_pipeline.core.files.space import SpaceError
from sticker_pipeline.core.object_store import blobs, bucket, collect, store
from sticker_pipeline.core.object_store.bucket import BucketError, open_bucket
from sticker_pipeline.core.object_store.collect import WEEK
from sticker_pipeline.core.object_store.store import ObjectStore
from sticker_pipeline.core.storage import ArtifactStore, StorageError, Superseded
from sticker_pipeline.core.stores import open_store
from sticker_pipeline_tests.core.object_store.s3_server import S3Server, faulty_proxy
from sticker_pipeline_tests.core.object_store.test_contract import publish, text_of


@pytest.fixture
def reach(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[S3Server], None]:
    """Give the process the environment of a server, or of a proxy before it."""

    def to(server: S3Server) -> None:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)

    to(server)
    return to


@pytest.fixture
def url(server: S3Server, reach: object, tmp_path: Path) -> str:
    return f"{server.make_bucket('tests')}/{tmp_path.name}"


def keys(url: str) -> list[str]:
    return [meta.key for meta in open_bucket(url).listed("")]


@pytest.mark.parametrize("kind", ["refuse", "lose"])
def test_every_fifth_request_fails_and_nothing_else_changes(
    url: str, server: S3Server, reach: Callable[[S3Server], None], tmp_path: Path, kind: str
) -> None:
    with (
        faulty_proxy(server, lambda n: kind if n % 5 == 0 else "") as proxy,
        mock.patch.object(bucket, "PAUSES", (0.1,) * 5),
    ):
        reach(proxy)
        here, there = ObjectStore(url, tmp_path / "a"), ObjectStore(url, tmp_path / "b")
        for number in range(6):
            made = publish(here, str(number), f"v{number}")
            found = there.read("luma", "frames")
            assert (found.data_version, text_of(found)) == (made.data_version, str(number))
            here.change("luma", "releases", lambda folder, number=number: (folder / f"{number}").write_text("r"))
        assert len(list(there.tree("luma", "releases").iterdir())) == 6
    reach(server)
    assert text_of(ObjectStore(url, tmp_path / "c").read("luma", "frames")) == "5"


def test_a_server_that_never_answers_well_is_named(
    url: str, server: S3Server, reach: Callable[[S3Server], None], tmp_path: Path
) -> None:
    few = {**bucket.TRIES, "max_retries": 1}
    with (
        faulty_proxy(server, lambda n: "refuse") as proxy,
        mock.patch.object(bucket, "PAUSES", ()),
        mock.patch.object(bucket, "TRIES", few),
    ):
        reach(proxy)
        with pytest.raises(
            BucketError, match=r"luma/frames/artifact\.json: .*Check the address, the network"
        ) as raised:
            ObjectStore(url, tmp_path / "a").read("luma", "frames")
    assert len(str(raised.value)) < 600


def test_a_bucket_that_is_gone_is_an_error_and_no_empty_store(reach: object, tmp_path: Path) -> None:
    gone = ObjectStore("s3://never-made/artifacts", tmp_path)
    for look in (
        lambda: gone.find("luma", "frames"),
        lambda: gone.stamp("luma", "frames"),
        lambda: gone.snapshot().find("luma", "frames"),
        lambda: gone.characters_with("frames"),
        lambda: gone.tree("luma", "releases"),
        lambda: gone.damaged(),
    ):
        with pytest.raises(BucketError, match="NoSuchBucket"):
            look()


@pytest.mark.parametrize(
    "address",
    ["s3://", "ftp://a/b", "file:///etc", "s3:///x", "s3:/a/b", "S3://a", "s3://a//b", "s3://a/../b", "s3://a/b?c=d",
     "s3://a/b%20c", "s3://a b/c", "s3://../a", "s3://name:secret@a/b"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no address of an object store\. Use one as s3:") as raised:
        open_store(address, tmp_path)
    assert "secret" not in str(raised.value)


def test_a_forked_process_is_refused_and_does_not_hang(url: str, tmp_path: Path) -> None:
    publish(ObjectStore(url, tmp_path), "one")
    child = os.fork()
    if child == 0:
        try:
            ObjectStore(url, tmp_path)
        except StorageError as error:
            os._exit(7 if "before a fork" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert text_of(ObjectStore(url, tmp_path).read("luma", "frames")) == "one"


STRANGE = (
    "artifact.json", "x/artifact.json", "a b/c/artifact.json", "UP/frames/artifact.json", "a/b/c/artifact.json",
    "luma/.hidden/artifact.json", "x.json", "releases.json", "luma/.work/a/b.json", "luma/.work/plain",
    "_blobs.json", "_blobs-like/x",
)  # fmt: skip


def test_other_objects_in_the_bucket_are_left_alone(url: str, tmp_path: Path) -> None:
    here = ObjectStore(url, tmp_path)
    publish(here, "one")
    here.change("luma", "releases", lambda folder: (folder / "1").write_text("release"))
    for key in STRANGE:
        here.bucket.put(key, b'{"files": {}}')
    publish(ObjectStore(f"{url}2", tmp_path / "2"), "one", scope="pip")  # the name continues this one's
    assert (here.artifacts(), here.works(), here.damaged()) == ([("luma", "frames")], [], [])
    assert (here.characters_with("frames"), here.characters_with_tree("releases")) == (["luma"], ["luma"])
    assert collect.collect(here.bucket, remove=True).used == 4


def test_names_before_those_of_blobs_are_listed(url: str, tmp_path: Path) -> None:
    here = ObjectStore(url, tmp_path)
    for scope in ("007", "luma", "_all"):
        publish(here, scope, scope=scope)
    assert here.artifacts() == [("007", "frames"), ("_all", "frames"), ("luma", "frames")]
    assert here.characters_with("frames") == ["007", "luma"]
    assert collect.collect(here.bucket, remove=False).used == 7


SOME = hashlib.sha256(b"some").hexdigest()
DAMAGED_FILES = {
    "outside": ({"../../../../../outside": {"bytes": 4, "sha256": SOME}}, "is the name of no file in it"),
    "absolute": ({"/outside": {"bytes": 4, "sha256": SOME}}, "is the name of no file in it"),
    "folder": ({"a/": {"bytes": 4, "sha256": SOME}}, "is the name of no file in it"),
    "itself": ({".": {"bytes": 4, "sha256": SOME}}, "is the name of no file in it"),
    "empty": ({"": {"bytes": 4, "sha256": SOME}}, "is the name of no file in it"),
    "null byte": ({"a\0b": {"bytes": 4, "sha256": SOME}}, "is the name of no file in it"),
    "hash outside": ({"a": {"bytes": 4, "sha256": "../../../outside"}}, "'a' has no SHA-256"),
    "no hash": ({"a": {"bytes": 4, "sha256": ""}}, "'a' has no SHA-256"),
    "number as hash": ({"a": {"bytes": 4, "sha256": 1}}, "it is no manifest"),
    "text as bytes": ({"a": {"bytes": "4", "sha256": SOME}}, "it is no manifest"),
    "no bytes": ({"a": {"sha256": SOME}}, "it has no 'bytes'"),
    "no entry": ({"a": None}, "it is no manifest"),
    "none": (None, "it is no manifest"),
}


@pytest.mark.parametrize("case", DAMAGED_FILES)
def test_a_manifest_never_leads_out_of_the_scratch(url: str, tmp_path: Path, case: str) -> None:
    files, why = DAMAGED_FILES[case]
    here = ObjectStore(url, tmp_path / "around" / "scratch")
    manifest = {"asset": "frames", "code_version": "1", "data_version": "1", "inputs": {}, "settings": {}}
    here.bucket.put(f"_blobs/{SOME}", b"some")
    here.bucket.put("luma/frames/artifact.json", json.dumps({**manifest, "files": files}).encode())
    here.bucket.put("luma/releases.json", json.dumps({"files": files}).encode())
    here.bucket.put("luma/.work/lora.json", json.dumps({"files": files}).encode())
    with pytest.raises(StorageError, match="'frames' of 'luma'") as raised:
        here.read("luma", "frames").fetched()
    assert why in str(raised.value)
    for look in (
        lambda: here.tree("luma", "releases"),
        lambda: here.change("luma", "releases", lambda folder: None),
        lambda: here.working("luma", "lora").__enter__(),
    ):
        with pytest.raises(StorageError, match=r"\.json is damaged: .* Bring an earlier version of it back") as raised:
            look()
        assert why in str(raised.value)
    assert [path.name for path in (tmp_path / "around").iterdir()] == ["scratch"]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == b"some"]


def test_a_link_is_published_as_its_file(url: str, tmp_path: Path) -> None:
    here, there = ObjectStore(url, tmp_path / "a"), ObjectStore(url, tmp_path / "b")
    (tmp_path / "elsewhere").write_text("elsewhere")
    with here.writing("luma", "frames") as staging:
        (staging / "link").symlink_to(tmp_path / "elsewhere")
        here.publish(staging, "luma", "frames", code_version="1", inputs={}, settings={})
    assert not [path for path in (here.root / "_blobs").rglob("*") if path.is_symlink()]
    assert there.read("luma", "frames").content("link") == b"elsewhere"


def test_wrong_keys_are_named_without_the_secret(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    with pytest.raises(BucketError, match="rights of the credentials") as raised:
        ObjectStore(url, tmp_path).find("luma", "frames")
    assert "another-secret" not in str(raised.value)


def test_only_new_files_are_uploaded(url: str, tmp_path: Path) -> None:
    here = ObjectStore(url, tmp_path / "a")
    publish(here, "one")
    uploaded: list[str] = []
    put = bucket.Bucket.put

    def noted(self: bucket.Bucket, key: str, content: bytes | Path) -> None:
        uploaded.append(key)
        put(self, key, content)

    with mock.patch.object(bucket.Bucket, "put", noted):
        publish(here, "two", "v2")
    assert sorted(uploaded) == sorted(
        f"_blobs/{hashlib.sha256(text.encode()).hexdigest()}" for text in ("two", "twotwo")
    )


def test_an_old_blob_is_written_again(url: str, tmp_path: Path) -> None:
    """Its removal as unused may be under way."""
    here = ObjectStore(url, tmp_path / "a")
    publish(here, "one")
    later = datetime.now(UTC).timestamp() + blobs.FRESH + 1
    with mock.patch.object(blobs.time, "time", lambda: later), mock.patch.object(bucket.Bucket, "put") as put:
        publish(here, "one", "v2")
    assert len(put.mock_calls) == 3


def test_an_upload_that_was_cut_publishes_nothing(url: str, tmp_path: Path) -> None:
    here = ObjectStore(url, tmp_path / "a")
    with (
        mock.patch.object(bucket.Bucket, "put", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        publish(here, "one")
    assert keys(url) == []
    assert here.abandoned() == []
    publish(here, "one")
    assert text_of(ObjectStore(url, tmp_path / "b").read("luma", "frames")) == "one"


@pytest.mark.parametrize("what", ["_versions", "_blobs", "."])
def test_wiped_copies_are_fetched_again(url: str, tmp_path: Path, what: str) -> None:
    here = ObjectStore(url, tmp_path / "a")
    artifact = publish(here, "one")
    shutil.rmtree(here.root / what)
    assert text_of(artifact) == "one"
    assert here.read("luma", "frames").content("images/text") == b"one"


def test_a_damaged_copy_is_not_used_again(url: str, tmp_path: Path) -> None:
    here, there = ObjectStore(url, tmp_path / "a"), ObjectStore(url, tmp_path / "b")
    publish(here, "one")
    artifact = there.read("luma", "frames")
    path = artifact.file("images/text")
    path.write_text("eno")  # a hard link: the copy of the blob, too
    with pytest.raises(StorageError, match="is damaged"):
        artifact.content("images/text")
    shutil.rmtree(artifact.folder)
    assert there.read("luma", "frames").content("images/text") == b"one"


def test_a_damaged_blob_is_removed_and_made_again(url: str, tmp_path: Path) -> None:
    here, there = ObjectStore(url, tmp_path / "a"), ObjectStore(url, tmp_path / "b")
    artifact = publish(here, "one")
    key = f"_blobs/{artifact.sha256('images/text')}"
    here.bucket.put(key, b"eno")
    with pytest.raises(StorageError, match="was damaged and is removed: materialize"):
        there.read("luma", "frames").content("images/text")
    with pytest.raises(StorageError, match="is missing: materialize"):
        there.read("luma", "frames").content("images/text")
    publish(here, "one")
    assert there.read("luma", "frames").content("images/text") == b"one"


def test_a_full_disk_is_cleared_of_what_nobody_uses(url: str, tmp_path: Path) -> None:
    here, there = ObjectStore(url, tmp_path / "a"), ObjectStore(url, tmp_path / "b")
    publish(here, "old")
    text_of(there.read("luma", "frames"))
    for folder in (*(there.root / "_versions").iterdir(), *(there.root / "_blobs").glob("*/*")):
        os.utime(folder, (0, 0))
    publish(here, "new", "v2")
    artifact, full = there.read("luma", "frames"), [True]
    download = bucket.Bucket.download

    def fills(self: bucket.Bucket, key: str, path: Path) -> bool:
        if full and len(list((there.root / "_versions").iterdir())) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return download(self, key, path)

    with mock.patch.object(bucket.Bucket, "download", fills):
        assert text_of(artifact) == "new"
    assert len(list((there.root / "_versions").iterdir())) == 1
    with mock.patch.object(bucket.Bucket, "download", side_effect=OSError(errno.ENOSPC, "full")):
        publish(here, "newest", "v3")
        with pytest.raises(SpaceError, match="Make room"):
            there.read("luma", "frames").fetched()


def work_file(store: ArtifactStore, name: str = "state") -> Path:
    return store.work("luma", "lora") / name


def test_a_training_goes_on_on_another_machine(url: str, tmp_path: Path) -> None:
    here, there = ObjectStore(url, tmp_path / "a"), ObjectStore(url, tmp_path / "b")
    with pytest.raises(KeyboardInterrupt), here.working("luma", "lora") as save:
        (work_file(here, "checkpoints")).mkdir()
        work_file(here, "checkpoints/epoch_01").write_text("1")
        save()
        work_file(here).write_text("step 7")
        work_file(here, ".half").write_text("being written")
        raise KeyboardInterrupt
    with there.working("luma", "lora"):
        assert work_file(there).read_text() == "step 7"
        assert work_file(there, "checkpoints/epoch_01").read_text() == "1"
        assert not work_file(there, ".half").exists()
    there.finish_work("luma", "lora")
    assert [key for key in keys(url) if ".work" in key] == []


def test_a_training_that_was_taken_over_ends_and_saves_nothing(url: str, tmp_path: Path) -> None:
    """Its node was given up by the scheduler, and its process lives on."""
    here, there = ObjectStore(url, tmp_path / "a"), ObjectStore(url, tmp_path / "b")
    with (
        pytest.raises(Superseded, match="another run goes on with this work"),
        here.working("luma", "lora") as save,
    ):
        with there.working("luma", "lora") as save_there:
            work_file(there).write_text("successor")
            save_there()
        work_file(here).write_text("zombie")
        save()
    with ObjectStore(url, tmp_path / "c").working("luma", "lora"):
        assert work_file(ObjectStore(url, tmp_path / "c")).read_text() == "successor"


def test_states_that_the_other_machine_removed_are_removed_here(url: str, tmp_path: Path) -> None:
    here, there = ObjectStore(url, tmp_path / "a"), ObjectStore(url, tmp_path / "b")
    with here.working("luma", "lora") as save:
        work_file(here, "step_1").write_text("1")
        save()
    with there.working("luma", "lora") as save:
        work_file(there, "step_1").unlink()
        work_file(there, "step_2").write_text("2")
        save()
    with here.working("luma", "lora"):
        assert sorted(path.name for path in here.work("luma", "lora").iterdir()) == ["step_2"]


def test_a_training_writes_into_no_blob(url: str, tmp_path: Path) -> None:
    here, there = ObjectStore(url, tmp_path / "a"), ObjectStore(url, tmp_path / "b")
    with here.working("luma", "lora"):
        work_file(here).write_text("step 7")
    with there.working("luma", "lora"):
        work_file(there).write_text("step 8")
    blob = blobs.local_blob(there.root, hashlib.sha256(b"step 7").hexdigest())
    assert blob.read_text() == "step 7"


def test_a_training_goes_on_without_a_lost_state(url: str, tmp_path: Path) -> None:
    here, there = ObjectStore(url, tmp_path / "a"), ObjectStore(url, tmp_path / "b")
    with here.working("luma", "lora"):
        work_file(here, "step_1").write_text("1")
        work_file(here, "step_2").write_text("2")
    here.bucket.delete([f"_blobs/{hashlib.sha256(b'2').hexdigest()}"])
    with there.working("luma", "lora"):
        assert [path.name for path in there.work("luma", "lora").iterdir()] == ["step_1"]


def test_what_killed_processes_left_goes_after_a_day(url: str, tmp_path: Path) -> None:
    here = ObjectStore(url, tmp_path)
    for name, age in (("old", blobs.DAY + 60), ("young", 60)):
        left = here.root / blobs.CHANGES / name
        left.mkdir(parents=True)
        changed = datetime.now(UTC).timestamp() - age
        os.utime(left, (changed, changed))
    here.change("luma", "releases", lambda folder: (folder / "1").write_text("release"))
    assert [path.name for path in (here.root / blobs.CHANGES).iterdir()] == ["young"]


def test_saving_now_and_then_uploads_once_in_a_while(url: str, tmp_path: Path) -> None:
    here, now = ObjectStore(url, tmp_path / "a"), [100.0]
    with mock.patch.object(store.time, "monotonic", lambda: now[0]), here.working("luma", "lora") as save:
        save()
        with mock.patch.object(bucket.Bucket, "put") as put:
            work_file(here).write_text("x")
            save()
            assert not put.called
            now[0] += store.WORK_SECONDS
            save()
            assert put.called


def test_unused_blobs_go_after_a_week_and_used_ones_stay(url: str, tmp_path: Path) -> None:
    here = ObjectStore(url, tmp_path / "a")
    publish(here, "old")
    publish(here, "new", "v2")
    here.change("luma", "releases", lambda folder: (folder / "1").write_text("release"))
    with here.working("luma", "lora") as save:
        work_file(here).write_text("state")
        save()
    before = keys(url)
    young = collect.collect(here.bucket, remove=True)
    assert (young.removed, young.young, keys(url)) == (0, 2, before)
    later = datetime.now(UTC).timestamp() + WEEK + 1
    with mock.patch.object(collect.time, "time", lambda: later):
        counted = collect.collect(here.bucket, remove=False)
        assert (counted.removed, counted.used, keys(url)) == (2, 5, before)
        assert collect.collect(here.bucket, remove=True) == counted
    gone = {f"_blobs/{hashlib.sha256(text.encode()).hexdigest()}" for text in ("old", "oldold")}
    assert set(before) - set(keys(url)) == gone
    there = ObjectStore(url, tmp_path / "b")
    assert text_of(there.read("luma", "frames")) == "new"
    assert (there.tree("luma", "releases") / "1").read_text() == "release"


def test_a_blob_that_is_written_again_meanwhile_stays(url: str, tmp_path: Path) -> None:
    """A publication came between the listing and the removal."""
    here = ObjectStore(url, tmp_path / "a")
    publish(here, "old")
    publish(here, "new", "v2")
    before, head = keys(url), bucket.Bucket.head
    later = datetime.now(UTC).timestamp() + WEEK + 1

    def again(self: bucket.Bucket, key: str) -> bucket.Meta | None:
        found = head(self, key)
        return found and replace(found, changed=later)

    with mock.patch.object(collect.time, "time", lambda: later), mock.patch.object(bucket.Bucket, "head", again):
        collect.collect(here.bucket, remove=True)
    assert keys(url) == before


def test_nothing_is_removed_beside_a_damaged_manifest(url: str, tmp_path: Path) -> None:
    here = ObjectStore(url, tmp_path / "a")
    publish(here, "old")
    publish(here, "new", "v2")
    here.bucket.put("pip/frames/artifact.json", b"{")
    later = datetime.now(UTC).timestamp() + WEEK + 1
    with (
        mock.patch.object(collect.time, "time", lambda: later),
        pytest.raises(StorageError, match=r"pip/frames/artifact\.json is no manifest\. Nothing was removed"),
    ):
        collect.collect(here.bucket, remove=True)
    with pytest.raises(ValueError, match="may be in use"):
        collect.collect(here.bucket, remove=True, older=blobs.FRESH)


def test_a_survey_asks_once_for_a_thousand_objects(url: str, tmp_path: Path) -> None:
    here = ObjectStore(url, tmp_path / "a")
    for number in range(20):
        publish(here, "x", scope=f"c{number:02}")
    snapshot = here.snapshot()
    for number in range(20):
        snapshot.find(f"c{number:02}", "frames")  # copies are here by now
    with (
        mock.patch.object(bucket.Bucket, "head") as head,
        mock.patch.object(bucket.Bucket, "get") as get,
    ):
        snapshot = here.snapshot()
        found = [snapshot.read(f"c{number:02}", "frames") for number in range(20)]
        assert all(snapshot.stamp(f"c{number:02}", "frames") for number in range(20))
    assert len(found) == 20
    assert not head.called and not get.called


def test_what_goes_on_is_a_copy_and_may_be_written_again(url: str, tmp_path: Path) -> None:
    here, there = ObjectStore(url, tmp_path / "a"), ObjectStore(url, tmp_path / "b")
    with here.working("luma", "lora"):
        work_file(here).write_text("step 7")
    with there.working("luma", "lora"):
        pass
    with there.working("luma", "lora"):
        work_file(there).write_text("step 8")  # in place: a link would change the copy of the blob
    for machine in ("b", "c"):
        store = ObjectStore(url, tmp_path / machine)
        with store.working("luma", "lora"):
            assert work_file(store).read_text() == "step 8"


def test_unchanged_files_of_a_training_are_hashed_once(url: str, tmp_path: Path) -> None:
    here = ObjectStore(url, tmp_path / "a")
    with mock.patch.object(store, "WORK_SECONDS", 0.0), here.working("luma", "lora") as save:
        work_file(here, "big").write_text("big")
        save()
        with mock.patch.object(store, "_entry", wraps=store._entry) as hashed:
            work_file(here, "log").write_text("1")
            save()
        assert hashed.call_count == 1
