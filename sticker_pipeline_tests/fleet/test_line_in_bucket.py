"""The whole line with its artifacts in a bucket, on three machines: the same data versions as in a folder.

The second machine is killed in its training; the third goes on.
"""

import io
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import dagster as dg
import pytest

from sticker_pipeline.benchmark.releases import current, releases_folder, whole
from sticker_pipeline.core.storage import ALL, file_sha256
from sticker_pipeline.core.stores import open_store
from sticker_pipeline.definitions import defs
from sticker_pipeline.defs.resources import workspace_from_environment
from sticker_pipeline_tests import chaos
from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.core.object_store.s3_server import S3Server, s3_server
from sticker_pipeline_tests.defs.conftest import SETTINGS, Bench
from sticker_pipeline_tests.test_definitions import LINE


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, server: S3Server) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("fleet")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        patch.setenv("STICKER_CHARACTERS", str(root / "characters"))
        patch.setenv("STICKER_MODELS", str(REPOSITORY / "data" / "models"))
        patch.delenv("STICKER_PROFILE", raising=False)
        yield root


def opened(root: Path, instance: dg.DagsterInstance, artifacts: str, machine: str) -> Bench:
    """A deployment on `machine`, which has its own folder of copies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STICKER_ARTIFACTS", artifacts)
        patch.setenv("STICKER_SCRATCH", str(root / machine))
        return Bench(defs(), instance, workspace_from_environment())


@pytest.fixture(scope="module")
def in_folder(root: Path) -> Iterator[Bench]:
    (root / "history").mkdir(parents=True)
    with dg.DagsterInstance.local_temp(str(root / "history")) as instance:
        bench = opened(root, instance, str(root / "artifacts"), "unused")
        bench.add_character(
            "small", "bram_thistle", SETTINGS.replace("samples_per_epoch: 96", "samples_per_epoch: 240")
        )
        assert bench.update("small")
        yield bench


@pytest.fixture(scope="module")
def said() -> io.StringIO:
    """The output of the third machine."""
    return io.StringIO()


@pytest.fixture(scope="module")
def in_bucket(root: Path, server: S3Server, in_folder: Bench, said: io.StringIO) -> Iterator[Bench]:
    """The dataset made on one machine, half of the training on another, the rest on a third; seen from a fourth."""
    url = f"{server.make_bucket('fleet')}/artifacts"
    (root / "fleet-history").mkdir()
    with dg.DagsterInstance.local_temp(str(root / "fleet-history")) as instance:
        first = opened(root, instance, url, "first")
        instance.add_dynamic_partitions("characters", ["small"])
        dataset = first.definitions.resolve_job_def("dataset_line")
        assert dataset.execute_in_process(instance=instance, partition_key="small").success
        killed_in_training(root, url, "second")
        with redirect_stdout(said):
            assert opened(root, instance, url, "third").update("small")
        yield opened(root, instance, url, "fourth")


def killed_in_training(root: Path, url: str, machine: str) -> None:
    """Start an update on `machine`; kill all its processes once a state of the first epoch is in the bucket."""
    variables = chaos.workspace(root / machine, root / "characters")
    variables |= {"STICKER_ARTIFACTS": url, "STICKER_SCRATCH": str(root / machine)}
    command, store = chaos.start(variables, "small"), open_store(url, root / "watcher")
    try:
        while not list(store.tree("small", ".work/lora").glob("state/*_epoch_0001/*")):
            assert command.process.poll() is None, "".join(command.lines)[-3000:]
            time.sleep(0.2)
    finally:
        for process in command.family():
            process.kill()
    assert chaos.wait_until_gone(command) == []


def test_data_versions_are_those_of_the_folder(in_folder: Bench, in_bucket: Bench) -> None:
    here, there = (
        {asset: bench.store.read("small", asset).data_version for asset in LINE if asset not in chaos.HAVE_TIMES}
        for bench in (in_folder, in_bucket)
    )
    assert there == here
    assert in_bucket.stale("small") == []


def test_the_training_went_on_from_the_state_of_the_killed_machine(in_bucket: Bench, said: io.StringIO) -> None:
    assert in_bucket.store.read("small", "lora").table("log.parquet")["epoch"].unique().tolist() == [1, 2]
    assert "goes on after step" in said.getvalue()


def test_every_file_is_whole_on_another_machine(in_bucket: Bench) -> None:
    for scope, asset in in_bucket.store.artifacts():
        artifact = in_bucket.store.read(scope, asset)
        folder = artifact.fetched()
        assert {name: file_sha256(folder / name) for name in artifact.files} == {
            name: artifact.sha256(name) for name in artifact.files
        }


def test_the_release_is_that_of_the_folder(in_folder: Bench, in_bucket: Bench) -> None:
    releases = [current(releases_folder(bench.store, "small")) for bench in (in_folder, in_bucket)]
    assert releases[0] and releases[1]
    assert releases[0].record.sha256 == releases[1].record.sha256
    assert file_sha256(whole(in_bucket.store, releases[1]).lora) == releases[0].record.sha256


def test_the_report_is_there(in_bucket: Bench) -> None:
    page = in_bucket.store.read(ALL, "report").file("report.html").read_text(encoding="utf-8")
    assert "skv_small" in page


def test_no_unfinished_work_is_left(in_bucket: Bench) -> None:
    assert [name for _, name in in_bucket.store.works()] == []
