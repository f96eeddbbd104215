"""STICKER_EXECUTOR: three executors of Dagster, and a sentence for everything else."""

import subprocess
import sys

import pytest

from sticker_pipeline.dagster_kit.executors import ExecutorError, chosen_executor

WITHOUT_RAY = """
import sys
sys.modules["dagster_ray"] = None
from sticker_pipeline.dagster_kit.executors import ExecutorError, chosen_executor
try:
    chosen_executor({"STICKER_EXECUTOR": "ray"})
except ExecutorError as error:
    print(error)
"""


@pytest.mark.parametrize("environment", [{}, {"STICKER_EXECUTOR": " "}, {"STICKER_EXECUTOR": "local"}])
def test_steps_run_on_this_machine_by_default(environment: dict[str, str]) -> None:
    assert chosen_executor(environment).name == "multiprocess"


@pytest.mark.parametrize(("name", "package"), [("ray", "dagster_ray"), ("k8s", "dagster_k8s")])
def test_a_fleet_is_named(name: str, package: str) -> None:
    pytest.importorskip(package)
    found = chosen_executor({"STICKER_EXECUTOR": name})
    assert found.name == name
    assert not found.config_schema.as_field().is_required  # and a launch can configure nothing


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ExecutorError) as caught:
        chosen_executor({"STICKER_EXECUTOR": "slurm"})
    assert str(caught.value) == "STICKER_EXECUTOR: 'slurm' is no executor. Write local, ray or k8s."


def test_a_missing_package_is_named_with_its_remedy() -> None:
    printed = subprocess.run([sys.executable, "-c", WITHOUT_RAY], capture_output=True, text=True, check=True).stdout
    assert printed == (
        "STICKER_EXECUTOR=ray needs the package dagster_ray, which is not installed: "
        "pip install 'sticker_pipeline[fleet]'\n"
    )


@pytest.mark.parametrize("cpus", ["0", "half", "-1"])
def test_a_step_requests_a_whole_number_of_cpus(cpus: str) -> None:
    pytest.importorskip("dagster_ray")
    with pytest.raises(ExecutorError, match=r"is no number of CPUs\. Write a whole number from 1 on\."):
        chosen_executor({"STICKER_EXECUTOR": "ray", "STICKER_STEP_CPUS": cpus})
