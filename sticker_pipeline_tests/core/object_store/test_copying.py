"""Artifacts move between stores with their data versions, again after an interruption, and over nothing else."""

from pathlib import Path

import pytest

from sticker_pipeline.core.copying import copies
from sticker_pipeline.core.storage import ArtifactStore, StorageError
from sticker_pipeline.core.stores import open_store
from sticker_pipeline_tests.core.object_store.s3_server import S3Server
from sticker_pipeline_tests.core.object_store.test_contract import publish, text_of


@pytest.fixture(params=["folder to bucket", "bucket to folder", "folder to folder"])
def both(request: pytest.FixtureRequest, server: S3Server, tmp_path: Path) -> tuple[ArtifactStore, ArtifactStore]:
    names = str(request.param).split(" to ")
    return tuple(_opened(name, server, tmp_path, number) for number, name in enumerate(names))  # type: ignore[return-value]


def _opened(kind: str, server: S3Server, tmp_path: Path, number: int) -> ArtifactStore:
    url = f"{server.make_bucket('tests')}/{tmp_path.name}"
    return open_store(url if kind == "bucket" else str(tmp_path / f"store{number}"), tmp_path / f"scratch{number}")


def release(folder: Path) -> None:
    (folder / "0001").mkdir(parents=True)
    (folder / "0001" / "luma.safetensors").write_bytes(b"x" * (2**20 + 5))
    (folder / "current.json").write_text('{"number": 1}')


def fill(store: ArtifactStore) -> dict[str, str]:
    """Publish two artifacts, a release and a training's state; return the data versions."""
    made = [publish(store, "one"), publish(store, "ink", scope="_styles/ink")]
    store.change("luma", "releases", release)
    with store.working("luma", "lora"):
        (store.work("luma", "lora") / "state").write_text("step 7")
    return {artifact.uri.removeprefix(f"{store.address}/"): artifact.data_version for artifact in made}


def copied(source: ArtifactStore, target: ArtifactStore) -> list[str]:
    return [item for item, copy in copies(source, target).items() if copy()]


def test_everything_moves_with_its_version(both: tuple[ArtifactStore, ArtifactStore]) -> None:
    source, target = both
    versions = fill(source)
    assert sorted(copied(source, target)) == ["_styles/ink/frames", "luma/.work/lora", "luma/frames", "luma/releases"]
    for item, version in versions.items():
        scope, _, asset = item.rpartition("/")
        found, before = target.read(scope, asset), source.read(scope, asset)
        assert (found.data_version, found.inputs, found.files) == (version, before.inputs, before.files)
    assert text_of(target.read("luma", "frames")) == "one"
    folder = target.tree("luma", "releases")
    assert target.bring(folder / "0001" / "luma.safetensors").stat().st_size == 2**20 + 5
    with target.working("luma", "lora"):
        assert (target.work("luma", "lora") / "state").read_text() == "step 7"
    assert copied(source, target) == []


def test_an_interrupted_move_goes_on(both: tuple[ArtifactStore, ArtifactStore]) -> None:
    source, target = both
    fill(source)
    first = next(iter(copies(source, target).values()))
    assert first()
    assert len(copied(source, target)) == 3


def test_another_version_in_the_target_stays(both: tuple[ArtifactStore, ArtifactStore]) -> None:
    source, target = both
    fill(source)
    publish(target, "newer", "v9")
    target.change("luma", "releases", lambda folder: _own_release(folder))
    todo = copies(source, target)
    for item in ("luma/frames", "luma/releases"):
        with pytest.raises(StorageError, match="is another version, and stays"):
            todo[item]()
    assert text_of(target.read("luma", "frames")) == "newer"
    assert (target.tree("luma", "releases") / "current.json").read_text() == "{}"


def _own_release(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "current.json").write_text("{}")


def test_a_damaged_file_is_not_copied(tmp_path: Path) -> None:
    source, target = ArtifactStore(tmp_path / "a"), ArtifactStore(tmp_path / "b")
    (publish(source, "one").folder / "same").write_text("changed")
    with pytest.raises(StorageError, match="is damaged"):
        copies(source, target)["luma/frames"]()
    assert target.find("luma", "frames") is None


def test_an_artifact_between_its_two_renames_is_copied(tmp_path: Path) -> None:
    source, target = ArtifactStore(tmp_path / "a"), ArtifactStore(tmp_path / "b")
    folder = publish(source, "one").folder
    folder.rename(folder.with_name(".frames.old"))
    assert copied(source, target) == ["luma/frames"]
    assert text_of(target.read("luma", "frames")) == "one"


def test_a_link_is_copied_as_its_file(tmp_path: Path) -> None:
    source, target = ArtifactStore(tmp_path / "a"), ArtifactStore(tmp_path / "b")
    path = publish(source, "one").folder / "same"
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    assert copied(source, target) == ["luma/frames"]
    same = target.read("luma", "frames").file("same")
    assert not same.is_symlink() and same.read_text() == "the same in all versions"


def test_a_release_behind_a_link_is_named_and_not_left_out(tmp_path: Path) -> None:
    source, target = ArtifactStore(tmp_path / "a"), ArtifactStore(tmp_path / "b")
    source.change("luma", "releases", release)
    folder = source.tree("luma", "releases") / "0001"
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    with pytest.raises(StorageError, match=r"releases/0001 is a link to a folder, which is not copied\. Put"):
        copied(source, target)
    assert not target.tree("luma", "releases").exists()


def test_a_store_is_copied_to_itself_without_harm(both: tuple[ArtifactStore, ArtifactStore]) -> None:
    source, _ = both
    fill(source)
    assert copied(source, source) == []
    assert text_of(source.read("luma", "frames")) == "one"
