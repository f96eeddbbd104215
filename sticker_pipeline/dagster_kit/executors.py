"""Executors of steps: processes here, or jobs of Ray or Kubernetes.

Dagster's own executors, by configuration alone. They honour each step's request for GPUs (`dagster_kit/pools.py`).
"""

from collections.abc import Mapping

import dagster as dg

from sticker_pipeline.core.texts import UserError, quoted
from sticker_pipeline.dagster_kit.fixed import NO_CONFIG, fixed_executor

VARIABLE = "STICKER_EXECUTOR"
STEP_CPUS = "STICKER_STEP_CPUS"
RAY = (
    "RAY_JOB_STOP_WAIT_TIME_S=120",  # from SIGTERM to SIGKILL: the trainer has three graces; Ray's default is 3 seconds
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=1",  # a step that requests no GPU sees none, else all of its node
)
"""Variables by which Ray starts and ends each step."""


class ExecutorError(UserError):
    """An unusable STICKER_EXECUTOR; the message gives the remedy."""


def chosen_executor(environment: Mapping[str, str]) -> dg.ExecutorDefinition:
    """Return the executor that STICKER_EXECUTOR names; default: local.

    Raises ExecutorError for an unknown name and for a missing package.
    """
    name = environment.get(VARIABLE, "").strip() or "local"
    makers = {"local": _on_this_machine, "ray": _on_ray, "k8s": _on_kubernetes}
    if name not in makers:
        raise ExecutorError(f"{VARIABLE}: {quoted(name)} is no executor. Write local, ray or k8s.")
    try:
        return makers[name](environment)
    except ImportError as error:
        raise ExecutorError(
            f"{VARIABLE}={name} needs the package {error.name}, which is not installed: "
            "pip install 'sticker_pipeline[fleet]'"
        ) from error


def _on_this_machine(environment: Mapping[str, str]) -> dg.ExecutorDefinition:
    """Return an executor with a process per step.

    So its GPU memory is freed. A fork of a process with the loaded definitions starts in a fraction of a second.
    """
    return fixed_executor({"start_method": {"forkserver": {"preload_modules": ["sticker_pipeline.definitions"]}}})


def _on_ray(environment: Mapping[str, str]) -> dg.ExecutorDefinition:
    """Return an executor with a Ray job per step.

    A step inherits the environment variables of dagster.yaml's RayRunLauncher, which dagster-ray gives to runs only.
    Each step requests CPUs, as Ray starts jobs without any request on the head. `resources` are not configured:
    dagster-ray would add one step's to those of the next.
    """
    import ray.job_submission  # noqa: F401  dagster_ray imports it late: when the first step starts
    from dagster_ray import RayRunLauncher, ray_executor

    cpus, start = _cpus(environment), ray_executor.executor_creation_fn
    assert start is not None

    @dg.executor(name="ray", config_schema=NO_CONFIG)
    def on_ray(context: dg.InitExecutorContext) -> dg.Executor:
        launcher = context.instance.run_launcher
        inherited = (launcher.env_vars or []) if isinstance(launcher, RayRunLauncher) else []
        steps = {"num_cpus": cpus, "env_vars": [*inherited, *RAY]}
        config = {"ray": steps, "retries": {"enabled": {}}}
        return start(context._replace(executor_config=config))

    return on_ray


def _cpus(environment: Mapping[str, str]) -> int:
    text = environment.get(STEP_CPUS, "").strip() or "1"
    if not (text.isdecimal() and int(text)):
        raise ExecutorError(f"{STEP_CPUS}: {quoted(text)} is no number of CPUs. Write a whole number from 1 on.")
    return int(text)


def _on_kubernetes(environment: Mapping[str, str]) -> dg.ExecutorDefinition:
    """Return an executor with a Kubernetes job per step.

    Image, environment, secrets and CPUs are those of the run's K8sRunLauncher.
    """
    from dagster_k8s import k8s_job_executor

    return k8s_job_executor.configured(lambda _: {}, config_schema=NO_CONFIG, name="k8s")
