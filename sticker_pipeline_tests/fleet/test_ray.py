"""Runs and steps as jobs of a Ray cluster with a head and two nodes, and Postgres: the results of one machine."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from sticker_pipeline.core.storage import ArtifactStore
from sticker_pipeline_tests.conftest import REPOSITORY
from sticker_pipeline_tests.defs.conftest import SETTINGS
from sticker_pipeline_tests.fleet import parts
from sticker_pipeline_tests.fleet.line import STEPS, defs
from sticker_pipeline_tests.small_character import add_small_character

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a workspace with the character `small`."""
    root = tmp_path_factory.mktemp("workspace")
    add_small_character(root / "characters" / "small", "bram_thistle", SETTINGS)
    return {
        "STICKER_CHARACTERS": str(root / "characters"),
        "STICKER_ARTIFACTS": str(root / "artifacts"),
        "STICKER_MODELS": str(REPOSITORY / "data" / "models"),
        "STICKER_EXECUTOR": "ray",
        "STICKER_STEP_GPUS": "0",
    }


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, variables: dict[str, str]) -> Iterator[parts.Fleet]:
    """Two nodes, which outlive no test: a process that is left is an error."""
    parts.require()
    with parts.fleet(tmp_path_factory.mktemp("fleet"), variables, "sticker_pipeline_tests.fleet.line") as found:
        yield found


@pytest.fixture(scope="module")
def history(fleet: parts.Fleet) -> Iterator[dg.DagsterInstance]:
    with parts.history(fleet) as instance:
        instance.add_dynamic_partitions("characters", ["small"])
        yield instance


def versions(root: Path) -> dict[str, str]:
    return {asset: ArtifactStore(root).read("small", asset).data_version for asset in STEPS}


def test_a_fleet_makes_what_one_machine_makes(
    fleet: parts.Fleet, history: dg.DagsterInstance, variables: dict[str, str], tmp_path: Path
) -> None:
    run = parts.ended(history, fleet.launch("first_steps", "small"))
    assert run.status == dg.DagsterRunStatus.SUCCESS
    (message,) = [log.message for log in history.all_logs(run.run_id) if "step handler" in log.message]
    assert message == "Starting execution with step handler RayStepHandler."
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.local_temp(str(tmp_path)) as here:
        for name, value in {**variables, "STICKER_EXECUTOR": "local", "STICKER_ARTIFACTS": str(tmp_path / "a")}.items():
            patch.setenv(name, value)
        here.add_dynamic_partitions("characters", ["small"])
        job = defs().resolve_job_def("first_steps")
        assert job.execute_in_process(instance=here, partition_key="small").success
    assert versions(Path(variables["STICKER_ARTIFACTS"])) == versions(tmp_path / "a")


def test_cancelling_leaves_time_for_a_checkpoint_and_no_process(
    fleet: parts.Fleet, history: dg.DagsterInstance, variables: dict[str, str]
) -> None:
    """Also without a GPU in the cluster: STICKER_STEP_GPUS is 0."""
    folder = Path(variables["STICKER_ARTIFACTS"]) / "long_training"
    run_id = fleet.launch("training", "small")
    parts.wait_for("the training", (folder / "begun").exists)
    ours = [one for one in fleet.processes() if "slow_trainer" in " ".join(one.cmdline())]
    assert len(ours) == 2  # supervisor and trainer
    family = [*ours, *(child for one in ours for child in one.children(recursive=True))]
    assert history.run_launcher.terminate(run_id)
    assert parts.ended(history, run_id).status == dg.DagsterRunStatus.CANCELED
    parts.wait_for("the end of the training's processes", lambda: not any(one.is_running() for one in family), 60)
    assert (folder / "checkpoint").read_text() == "saved"
