"""The files in deploy/: valid for the programs that read them, and without secrets."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type, validate_config
from dagster._core.instance.config import dagster_instance_config, dagster_instance_config_schema
from dagster._core.workspace.load import location_origins_from_yaml_paths

from sticker_pipeline.dagster_kit.pools import GPU, gpu_request
from sticker_pipeline_tests.conftest import REPOSITORY

pytest.importorskip("dagster_ray", reason="needs pip install 'sticker_pipeline[fleet]'")

from dagster_aws.s3.compute_log_manager import S3ComputeLogManager
from dagster_k8s.job import get_user_defined_k8s_config
from dagster_k8s.launcher import K8sRunLauncher
from dagster_postgres import DagsterPostgresStorage
from dagster_ray import RayRunLauncher
from dagster_ray.configs import RayExecutionConfig

DEPLOY = REPOSITORY / "deploy"
FILES = sorted(DEPLOY.rglob("*.yaml"))
SECRET = re.compile(r"(?i)password|secret|token|access_key")
NAMES = {"ray-head", "node", "code", "webserver", "daemon"}  # of our image
FROM_OUTSIDE = re.compile(r"\$\{\w+:\?in \.env\}")


def loaded(path: Path) -> Any:
    *_, last = [part for part in yaml.safe_load_all(path.read_text(encoding="utf-8")) if part]
    return last


def pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Each key with its value, at any depth; also of lists of {name, value}."""
    if isinstance(value, Mapping):
        if "name" in value and "value" in value:
            yield value["name"], value["value"]
        for key, inner in value.items():
            yield str(key), inner
            yield from pairs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from pairs(inner)


def test_there_are_files() -> None:
    assert [str(path.relative_to(DEPLOY)) for path in FILES] == [
        "k8s/values.yaml",
        "ray/compose.yaml",
        "ray/dagster.yaml",
        "ray/raycluster.yaml",
        "ray/workspace.yaml",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_secret_is_written_down(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        for key, value in pairs(document):
            if SECRET.search(key) and isinstance(value, str):
                assert FROM_OUTSIDE.fullmatch(value) or key.endswith("SecretName"), f"{key}: {value}"
            if SECRET.search(key) and isinstance(value, Mapping):
                assert set(value) <= {"env", "name"}, f"{key}: {value}"


def test_ray_shows_no_secret() -> None:
    """Its dashboard has the variables of each job."""
    (launcher,) = [value for key, value in pairs(loaded(DEPLOY / "ray" / "dagster.yaml")) if key == "env_vars"]
    assert not [name for name in launcher if SECRET.search(name)]


@pytest.fixture
def instance_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """deploy/ray/dagster.yaml, as Dagster reads it."""
    for name in compose()["services"]["daemon"]["environment"]:
        monkeypatch.setenv(name, "5432" if name == "POSTGRES_PORT" else "anything")
    (tmp_path / "dagster.yaml").write_bytes((DEPLOY / "ray" / "dagster.yaml").read_bytes())
    settings, _ = dagster_instance_config(str(tmp_path))
    return dict(settings)


def compose() -> Any:
    return loaded(DEPLOY / "ray" / "compose.yaml")


def accepted(configurable: Any, config: Any) -> dict[str, Any]:
    """The configuration after the class's own schema; a failure has its words."""
    found = process_config(resolve_to_config_type(configurable.config_type()), config)
    assert found.success, [error.message for error in found.errors or []]
    return found.value


def test_dagster_accepts_the_settings_and_each_part_its_own(instance_settings: dict[str, Any]) -> None:
    """Each variable that they name is set in compose.yaml, else a part would refuse its settings."""
    storage = accepted(DagsterPostgresStorage, instance_settings["storage"]["postgres"])
    assert storage["postgres_db"]["scheme"] == "postgresql+psycopg2"
    assert accepted(S3ComputeLogManager, instance_settings["compute_logs"]["config"])["bucket"] == "anything"
    launcher = RayRunLauncher(**accepted(RayRunLauncher, instance_settings["run_launcher"]["config"])["ray"])
    assert (launcher.num_cpus, launcher.address) == (0.1, "anything")


def test_one_run_at_a_time_for_each_character(instance_settings: dict[str, Any]) -> None:
    one = {"key": "dagster/partition", "value": {"applyLimitPerUniqueValue": True}, "limit": 1}
    assert instance_settings["concurrency"]["runs"]["tag_concurrency_limits"] == [one]
    values = loaded(DEPLOY / "k8s" / "values.yaml")["dagsterDaemon"]["runCoordinator"]["config"]
    assert values["queuedRunCoordinator"]["tagConcurrencyLimits"] == [one]


def test_the_workspace_is_a_code_server_of_compose() -> None:
    (origin,) = location_origins_from_yaml_paths([str(DEPLOY / "ray" / "workspace.yaml")])
    code = compose()["services"][origin.host]["command"]
    assert str(origin.port) == code[code.index("--port") + 1]


def test_only_the_webserver_is_reached_from_this_machine_and_none_from_another() -> None:
    services = compose()["services"]
    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == {
        "webserver": ["127.0.0.1:3000:3000"]
    }
    environments = [services[name]["environment"] for name in NAMES]
    assert all(one == environments[0] for one in environments)
    _, policy = yaml.safe_load_all((DEPLOY / "ray" / "raycluster.yaml").read_text(encoding="utf-8"))
    assert policy["spec"]["ingress"] == [{"from": [{"podSelector": {}}]}]


def test_the_cluster_runs_our_ray_and_its_head_nothing() -> None:
    cluster, _ = yaml.safe_load_all((DEPLOY / "ray" / "raycluster.yaml").read_text(encoding="utf-8"))
    pins = dict(line.split("==") for line in (REPOSITORY / "constraints.txt").read_text().split())
    assert cluster["spec"]["rayVersion"] == pins["ray"]
    assert cluster["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert "--num-cpus=0" in compose()["services"]["ray-head"]["command"]


def test_the_charts_values_make_settings_that_dagster_accepts() -> None:
    values = loaded(DEPLOY / "k8s" / "values.yaml")
    assert values["runLauncher"]["type"] == K8sRunLauncher.__name__
    settings = {
        "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "QueuedRunCoordinator"},
        **values["additionalInstanceConfig"],
    }
    found = validate_config(dagster_instance_config_schema(), settings)
    assert found.success, found.errors


def test_a_gpu_step_asks_each_engine_for_its_gpu() -> None:
    @dg.op(pool=GPU, tags=gpu_request(GPU, {}))
    def step() -> None: ...

    assert RayExecutionConfig.from_tags(step.tags).num_gpus == 1
    assert get_user_defined_k8s_config(step.tags).container_config == {"resources": {"limits": {"nvidia.com/gpu": 1}}}


def test_the_image_is_no_administrators_and_has_no_secret() -> None:
    lines = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001"]
    assert not [line for line in lines if re.match(r"(ENV|ARG|RUN)\b", line) and SECRET.search(line)]
