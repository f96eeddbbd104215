"""Commands on the store: get, gc, move-artifacts, on a folder and on a bucket."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sticker_pipeline.benchmark.releases import publish as publish_release
from sticker_pipeline.cli.commands import main
from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline.core.stores import open_store
from sticker_pipeline_tests.core.object_store.s3_server import S3Server, s3_server
from sticker_pipeline_tests.core.object_store.test_contract import publish
from sticker_pipeline_tests.publishing.candidates import candidate

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STICKER_ARTIFACTS", "artifacts")
    monkeypatch.setenv("STICKER_SCRATCH", "scratch")
    return lambda *arguments: CliRunner().invoke(main, list(arguments))


@pytest.fixture
def url(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"{server.make_bucket('tests')}/{tmp_path.name}"


def test_get_copies_an_artifact_to_a_new_folder(run: Run, tmp_path: Path) -> None:
    publish(ArtifactStore(tmp_path / "artifacts"), "one")
    got = run("get", "luma/frames", "out")
    assert got.exit_code == 0, got.output
    assert got.output == f"out: 3 files of {tmp_path}/artifacts/luma/frames\n"
    assert (tmp_path / "out" / "images" / "text").read_text() == "one"
    again = run("get", "luma/frames", "out")
    assert again.exit_code == 1 and "out exists and is not empty. Choose a new folder." in again.output


@pytest.mark.parametrize("name", ["luma/nothing", "nobody/frames", "frames", "../x/frames", "luma/../etc"])
def test_what_is_not_there_is_one_sentence(run: Run, name: str, tmp_path: Path) -> None:
    publish(ArtifactStore(tmp_path / "artifacts"), "one")
    got = run("get", name, "out")
    assert got.exit_code == 1 and got.output.startswith("Error: ") and got.output.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_damaged_file_is_not_copied(run: Run, tmp_path: Path) -> None:
    (publish(ArtifactStore(tmp_path / "artifacts"), "one").folder / "same").write_text("other")
    got = run("get", "luma/frames", "out")
    assert got.exit_code == 1 and "is damaged" in got.output
    assert not (tmp_path / "out").exists()


def test_everything_moves_to_a_bucket_and_back(
    run: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = ArtifactStore(tmp_path / "artifacts")
    versions = {publish(here, "one").data_version, publish(here, "two", scope="pip").data_version}
    moved = run("move-artifacts", "artifacts", url)
    assert moved.exit_code == 0, moved.output
    assert moved.output.endswith(f"2 items of 2 copied to {url}; 0 were there.\nUse it: STICKER_ARTIFACTS={url}\n")
    assert "0 items of 2 copied" in run("move-artifacts", "artifacts", url).output
    there = open_store(url, tmp_path / "other")
    assert {there.read(scope, "frames").data_version for scope in ("luma", "pip")} == versions
    back = run("move-artifacts", url, "back")
    assert back.exit_code == 0 and "2 items of 2 copied to back" in back.output
    monkeypatch.setenv("STICKER_ARTIFACTS", url)
    assert run("get", "pip/frames", "out").output == f"out: 3 files of {url}/pip/frames\n"
    assert (tmp_path / "out" / "images" / "text").read_text() == "two"


def test_what_could_not_be_moved_is_named_at_the_end(run: Run, tmp_path: Path) -> None:
    publish(ArtifactStore(tmp_path / "artifacts"), "one")
    publish(ArtifactStore(tmp_path / "artifacts"), "one", scope="pip")
    publish(ArtifactStore(tmp_path / "target"), "newer", "v2")
    moved = run("move-artifacts", "artifacts", "target")
    assert moved.exit_code == 1
    assert f"not copied: luma/frames: {tmp_path}/target/luma/frames is another version, and stays" in moved.output
    assert "1 item of 2 copied to target; 0 were there." in moved.output


@pytest.mark.parametrize(
    ("source", "target", "why"),
    [("missing", "target", "missing is no folder."), ("artifacts", "ftp://x/y", "no address of an object store")],
)
def test_a_wrong_place_is_one_sentence(run: Run, tmp_path: Path, source: str, target: str, why: str) -> None:
    publish(ArtifactStore(tmp_path / "artifacts"), "one")
    moved = run("move-artifacts", source, target)
    assert moved.exit_code == 1 and why in moved.output


@pytest.mark.parametrize("name", ["STICKER_CHARACTERS", "STICKER_MODELS"])
def test_characters_and_models_are_in_folders(run: Run, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "s3://stickers/x")
    told = run("doctor")
    assert told.exit_code == 1
    assert told.output == (
        f"Error: {name}=s3://stickers/x: only a folder that this machine mounts. Artifacts may be elsewhere.\n"
    )


def test_gc_counts_and_a_folder_has_nothing_to_collect(
    run: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "is a folder: it has no unused files" in run("gc").output
    store = open_store(url, tmp_path / "scratch")
    publish(store, "one")
    publish(store, "two", "v2")
    monkeypatch.setenv("STICKER_ARTIFACTS", url)
    counted = run("gc", "--remove")
    assert counted.exit_code == 0, counted.output
    assert [" ".join(line.split()) for line in counted.output.splitlines()] == [
        "in use: 3 files, 33 bytes",
        "unused: 0 files, 0 bytes",
        "2 files of the last week: a run may be about to use them",
    ]


def test_what_was_got_may_be_changed(run: Run, tmp_path: Path) -> None:
    artifact = publish(ArtifactStore(tmp_path / "artifacts"), "one")
    assert run("get", "luma/frames", "out").exit_code == 0
    (tmp_path / "out" / "same").write_text("changed")
    assert artifact.content("same") == b"the same in all versions"


def test_get_fills_the_empty_folder_where_it_runs(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(ArtifactStore(tmp_path / "artifacts"), "one")
    monkeypatch.setenv("STICKER_ARTIFACTS", str(tmp_path / "artifacts"))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    got = run("get", "luma/frames", ".")
    assert got.exit_code == 0, got.output
    assert (tmp_path / "empty" / "same").read_text() == "the same in all versions"


def test_a_bucket_that_is_gone_is_one_sentence_in_all_commands(
    run: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STICKER_CHARACTERS", str(tmp_path / "characters"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STICKER_ARTIFACTS", "s3://never-made/artifacts")
    (tmp_path / "characters" / "luma").mkdir(parents=True)
    for command in (
        ["doctor"],
        ["releases", "luma"],
        ["roll-back", "luma", "1"],
        ["gc"],
        ["get", "luma/frames", "out"],
    ):
        said = run(*command)
        assert said.exit_code == 1
        assert "Error: s3://never-made/artifacts/" in said.output and "NoSuchBucket" in said.output, said.output


def test_a_release_in_the_bucket_is_listed_and_rolled_back_to(
    run: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STICKER_ARTIFACTS", url)
    there = open_store(url, tmp_path / "other")
    for content in (b"one", b"two"):
        made = candidate(tmp_path / "made", content * 2**20)
        there.change("luma", "releases", partial(publish_release, candidate=made, time=datetime.now(UTC)))
    listed = run("releases", "luma")
    assert listed.exit_code == 0 and listed.output.count("not on this machine") == 2, listed.output
    back = run("roll-back", "luma", "1")
    assert back.exit_code == 0, back.output
    place = back.output.splitlines()[0].removeprefix("Release 1 of luma is the current one: ")
    assert Path(place).read_bytes() == b"one" * 2**20
    assert run("releases", "luma").output.count("not on this machine") == 1


def test_scratch_among_the_characters_is_named(
    run: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STICKER_CHARACTERS", str(tmp_path / "characters"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STICKER_ARTIFACTS", url)
    monkeypatch.setenv("STICKER_SCRATCH", str(tmp_path / "characters" / "scratch"))
    said = run("doctor")
    assert said.exit_code == 1
    assert said.output.startswith(f"Error: STICKER_SCRATCH={tmp_path}/characters/scratch: it is inside STICKER_CHAR")
