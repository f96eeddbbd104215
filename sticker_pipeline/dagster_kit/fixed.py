"""Resources, executor and loggers without configuration: a launch of a run cannot change them.

Whoever may launch a run in the UI would otherwise say where the workspace lies, from where values are unpickled
(`base_dir` of Dagster's own io_manager) and which modules a step's process imports first (`preload_modules`).
"""

from typing import Any, NoReturn

import dagster as dg

NO_CONFIG: dict[str, Any] = {}  # as a schema: a launch that configures it is refused


def fixed(value: Any, description: str) -> dg.ResourceDefinition:
    """Return `value` as a resource that a launch cannot configure."""
    return dg.ResourceDefinition(lambda _: value, config_schema=NO_CONFIG, description=description)


def fixed_executor(settings: dict[str, Any]) -> dg.ExecutorDefinition:
    """Return the executor with a process for each step, with `settings` that a launch cannot change."""
    return dg.multiprocess_executor.configured(lambda _: settings, config_schema=NO_CONFIG, name="multiprocess")


class NoValues(dg.IOManager):
    """Assets are files that `storage.py` keeps; no value is handed from step to step."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Raises TypeError: a step returns no value."""
        _refuse(context.step_key)

    def load_input(self, context: dg.InputContext) -> None:
        """Raises TypeError: a step takes no value."""
        _refuse(context.name)


def _refuse(step: str) -> NoReturn:
    raise TypeError(f"{step}: steps hand on no values; publish files, and return a MaterializeResult.")


NO_VALUES = dg.IOManagerDefinition(lambda _: NoValues(), config_schema=NO_CONFIG)
