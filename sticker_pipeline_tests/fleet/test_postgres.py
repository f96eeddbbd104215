"""A history in Postgres: what this project asks of a history, and a restart of the server."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from sticker_pipeline.dagster_kit.compat import free_places, keep_text, kept_text, pools, runs_with_places
from sticker_pipeline.dagster_kit.pools import GPU
from sticker_pipeline.definitions import defs
from sticker_pipeline.defs.resources import workspace_from_environment
from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.defs.conftest import Bench
from sticker_pipeline_tests.fleet import parts


@pytest.fixture(scope="module")
def database() -> Iterator[parts.Postgres]:
    parts.require()
    with parts.postgres("postgres alone") as found:
        yield found


@pytest.fixture(scope="module")
def bench(database: parts.Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A workspace with the history of deploy/ray/dagster.yaml, and runs on this machine."""
    root = tmp_path_factory.mktemp("workspace")
    parts.settings_here(root)
    settings = yaml.safe_load((root / "dagster.yaml").read_text())
    del settings["run_launcher"]
    (root / "dagster.yaml").write_text(yaml.safe_dump(settings))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in parts.of_postgres(database).items():
            patch.setenv(name, value)
        for name in ("characters", "artifacts"):
            patch.setenv(f"STICKER_{name.upper()}", str(root / name))
        patch.setenv("STICKER_MODELS", str(REPOSITORY / "data" / "models"))
        with dg.DagsterInstance.from_config(str(root)) as instance:
            found = Bench(defs(), instance, workspace_from_environment())
            found.add_character("small", "bram_thistle")
            yield found


def test_what_was_made_is_current_and_what_changes_is_stale(bench: Bench) -> None:
    """All questions of the automation, in Postgres's own words."""
    job, name = "dataset_line", "small"
    bench.instance.add_dynamic_partitions("characters", [name])
    assert (
        bench.definitions.resolve_job_def(job).execute_in_process(instance=bench.instance, partition_key=name).success
    )
    assert bench.stale(name, job) == []
    settings = bench.folder(name) / "character.yaml"
    settings.write_text(settings.read_text() + "media: {exclude: [art]}\n")
    assert bench.stale(name, job)[:1] == ["raw_media"]


def test_places_in_pools_are_claimed_and_freed(bench: Bench) -> None:
    storage = bench.instance.event_log_storage
    storage.initialize_concurrency_limit_to_default(GPU)
    claims = [storage.claim_concurrency_slot(GPU, run_id, "step").is_claimed for run_id in ("one", "two", "three")]
    assert claims == [True, True, False]  # two GPUs
    assert GPU in pools(bench.instance) and runs_with_places(bench.instance) == {"one", "two", "three"}
    for run_id in ("one", "two", "three"):
        free_places(bench.instance, run_id)
    assert runs_with_places(bench.instance) == set()


def test_a_restart_loses_nothing(bench: Bench, database: parts.Postgres) -> None:
    keep_text(bench.instance, "note", "kept")
    before = [run.run_id for run in bench.instance.get_runs()]
    database.stop()
    database.start()
    assert kept_text(bench.instance, "note") == "kept"
    assert [run.run_id for run in bench.instance.get_runs()] == before


def test_the_password_stands_in_no_file(bench: Bench, tmp_path: Path) -> None:
    assert parts.PASSWORD not in (Path(bench.workspace.artifacts).parent / "dagster.yaml").read_text()
    assert parts.PASSWORD not in str(bench.instance.get_ref())
