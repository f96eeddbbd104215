"""The whole line with its artifacts in a bucket, on two machines: the same data versions as in a folder."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from sticker_pipeline.benchmark.releases import current, releases_folder, whole
from sticker_pipeline.core.storage import ALL, file_sha256
from sticker_pipeline.definitions import defs
from sticker_pipeline.defs.resources import workspace_from_environment
from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.core.object_store.s3_server import S3Server, s3_server
from sticker_pipeline_tests.defs.conftest import Bench
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
        bench.add_character("small", "bram_thistle")
        assert bench.update("small")
        yield bench


@pytest.fixture(scope="module")
def in_bucket(root: Path, server: S3Server, in_folder: Bench) -> Iterator[Bench]:
    """The dataset made on one machine, the rest on another; seen from a third."""
    url = f"{server.make_bucket('fleet')}/artifacts"
    (root / "fleet-history").mkdir()
    with dg.DagsterInstance.local_temp(str(root / "fleet-history")) as instance:
        first = opened(root, instance, url, "first")
        instance.add_dynamic_partitions("characters", ["small"])
        dataset = first.definitions.resolve_job_def("dataset_line")
        assert dataset.execute_in_process(instance=instance, partition_key="small").success
        assert opened(root, instance, url, "second").update("small")
        yield opened(root, instance, url, "third")


def test_data_versions_are_those_of_the_folder(in_folder: Bench, in_bucket: Bench) -> None:
    here = {asset: in_folder.store.read("small", asset) for asset in LINE}
    there = {asset: in_bucket.store.read("small", asset) for asset in LINE}
    assert {asset: artifact.data_version for asset, artifact in there.items()} == {
        asset: artifact.data_version for asset, artifact in here.items()
    }
    assert in_bucket.stale("small") == []


def test_every_file_is_whole_on_a_third_machine(in_bucket: Bench) -> None:
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
