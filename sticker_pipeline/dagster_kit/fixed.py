"""Resources, executor and loggers that a launch cannot configure.

Otherwise a launch in the UI could set the workspace, the folder of unpickled values (`base_dir` of Dagster's
io_manager) and the modules that a step imports first (`preload_modules`).
"""

from typing import Any, NoReturn

import dagster as dg

NO_CONFIG: dict[str, Any] = {}  # a schema that refuses any configuration


def fixed(value: Any, description: str) -> dg.ResourceDefinition:
    """Return `value` as a fixed resource."""
    return dg.ResourceDefinition(lambda _: value, config_schema=NO_CONFIG, description=description)


def fixed_executor(settings: dict[str, Any]) -> dg.ExecutorDefinition:
    """Return an executor with a process per step and fixed `settings`."""
    return dg.multiprocess_executor.configured(lambda _: settings, config_schema=NO_CONFIG, name="multiprocess")


class NoValues(dg.IOManager):
    """An IO manager that refuses values: assets are files, kept by `core/storage.py`."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Raise TypeError: a step returns no value."""
        _refuse(context.step_key)

    def load_input(self, context: dg.InputContext) -> None:
        """Raise TypeError: a step takes no value."""
        _refuse(context.name)


def _refuse(step: str) -> NoReturn:
    raise TypeError(f"{step}: steps hand on no values; publish files, and return a MaterializeResult.")


NO_VALUES = dg.IOManagerDefinition(lambda _: NoValues(), config_schema=NO_CONFIG)
